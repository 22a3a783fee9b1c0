"""Compiled operations: the step of a recurrent cell and the draw of a token, for NumPy arrays in float32.

`octavo.models.recurrent` and `octavo.sample` hold the equations; what stands here under the same names
computes the same numbers, to rounding. `octavo.twins` puts the operations together to the twins of whole
functions, and its test holds them equal to their specifications. Two things differ from the equations:

- A matrix may be stored as halves, which are widened as they are read: half the bytes to fetch.
- Every row of a batch is reduced alone, in one order: it gets the same bits in any company.

Numba compiles each function when it is first called, and keeps the machine code on disk, beside this file
or else in the user's own cache. Nothing is shared and no threads are started: any thread may call.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import llvmlite.binding
import llvmlite.ir
import numba
import numpy as np
from numba.core import config
from numba.extending import intrinsic

from octavo.nn import Array
from octavo.sample import GREEDY

if getattr(config, "DISABLE_JIT", False):
    raise ImportError("Numba is told not to compile")

F = TypeVar("F", bound=Callable[..., Any])
TOLD = [getattr(config, name, None) for name in ("CPU_NAME", "CPU_FEATURES")]  # to compile for another
HALVES = platform.machine() in ("arm64", "aarch64") or (
    TOLD == [None, None] and bool(llvmlite.binding.get_host_cpu_features().get("f16c"))
)
"""Whether the processor converts halves by itself; where it does not, compiling that would crash."""

# tanh(x) / x as a quotient of polynomials of x^2, highest power first: the fit that Eigen uses
# (Eigen/src/Core/MathFunctionsImpl.h), good to some units in the last place.
P6, P5, P4, P3, P2, P1, P0 = np.array(
    [
        *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
        *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
    ],
    np.float32,
)
Q3, Q2, Q1, Q0 = np.array(
    [1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03], np.float32
)
BLOCK = 32  # rows of a matrix at a time
REACH, HALF = np.float32(7.90531110763549805), np.float32(0.5)  # from there tanh is 1


def compiled(function: F, **options: Any) -> F:
    """The function as machine code: made when it is first called, and kept on disk."""
    found: F = numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    return found


def emitted(build: Callable[..., Any]) -> Any:
    """A function of machine instructions, from its type and the LLVM code that `build` gives."""
    return intrinsic(build)


def emitted_for_literals(build: Callable[..., Any]) -> Any:
    """The same; numbers among its arguments that are written out, `build` is told."""
    return intrinsic(prefer_literal=True)(build)


# ---------------------------------------------------------------- numbers


@emitted
def widen(_: Any, weight: Any) -> Any:
    """A weight in float32: of float32 as it is, of 16 bits read as a half."""
    if weight == numba.float32:
        return numba.float32(weight), lambda context, builder, signature, args: args[0]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], llvmlite.ir.HalfType()), llvmlite.ir.FloatType())

    return numba.float32(numba.uint16), generate


@emitted
def narrow(_: Any, weight: Any) -> Any:
    """The 16 bits of the half that is nearest to a weight in float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], llvmlite.ir.HalfType()), llvmlite.ir.IntType(16))

    return numba.uint16(numba.float32), generate


@compiled
def halve(weight: Array, halves: Array) -> bool:
    """Write a matrix as halves; whether all its numbers are the same still."""
    for i in range(weight.shape[0]):
        changed = 0
        for k in range(weight.shape[1]):
            halves[i, k] = narrow(weight[i, k])
            changed += widen(halves[i, k]) != weight[i, k]
        if changed:
            return False
    return True


@compiled
def tanh(x: Any) -> Any:
    """``tanh(x)`` in float32."""
    x = -REACH if x < -REACH else (REACH if x > REACH else x)
    s = x * x
    p = (((((P6 * s + P5) * s + P4) * s + P3) * s + P2) * s + P1) * s + P0
    return x * p / (((Q3 * s + Q2) * s + Q1) * s + Q0)


@compiled
def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))`` in float32."""
    return HALF * tanh(HALF * x) + HALF


# ---------------------------------------------------------------- products


# The order of additions within a row is whatever fills the registers, the same wherever this is called.
@partial(compiled, fastmath={"reassoc", "contract"})
def rows(x: Array, weight: Array, y: Array, first: int, end: int) -> None:
    """Some rows of ``y = W x``: x [in], weight (out, in), y [out]."""
    for i in range(first, end):
        total = np.float32(0)
        for k in range(weight.shape[1]):
            total += widen(weight[i, k]) * x[k]
        y[i] = total


@compiled
def multiply(x: Array, weight: Array) -> Array:
    """``x W^T``: x [B, in], weight (out, in) -> [B, out]; each weight is fetched once."""
    batch, count = x.shape[0], weight.shape[0]
    y = np.empty((batch, count), np.float32)
    block = BLOCK if batch > 1 else count
    for first in range(0, count, block):
        for b in range(batch):
            rows(x[b], weight, y[b], first, min(first + block, count))
    return y


@compiled
def linear(x: Array, weight: Array, bias: Array) -> Array:
    """``x W^T + b``: x [B, in], weight (out, in), bias (out,) -> [B, out]."""
    y = multiply(x, weight)
    for b in range(y.shape[0]):
        for i in range(y.shape[1]):
            y[b, i] += bias[i]
    return y


# ---------------------------------------------------------------- cells: x is W x + b, weight is U


@compiled
def rnn(x: Array, weight: Array, h: Array) -> Array:
    """One Elman step; x and h [B, U], weight (U, U)."""
    y = multiply(h, weight)
    for b in range(h.shape[0]):
        for i in range(h.shape[1]):
            y[b, i] = tanh(x[b, i] + y[b, i])
    return y


@compiled
def gru_after(x: Array, weight: Array, bias: Array, h: Array) -> Array:
    """One GRU step that resets after the product; x [B, 3 U] for z, r and the candidate, weight (3 U, U)."""
    n, u, y = h.shape[1], multiply(h, weight), np.empty_like(h)
    for b in range(h.shape[0]):
        for i in range(n):
            j, k = n + i, 2 * n + i
            z = sigmoid(x[b, i] + (u[b, i] + bias[i]))
            r = sigmoid(x[b, j] + (u[b, j] + bias[j]))
            candidate = tanh(x[b, k] + r * (u[b, k] + bias[k]))
            y[b, i] = candidate + z * (h[b, i] - candidate)
    return y


@compiled
def gru_before(x: Array, weight: Array, h: Array) -> Array:
    """One GRU step that resets before the product; x [B, 3 U] for z, r and the candidate, weight (3 U, U)."""
    n, y = h.shape[1], np.empty_like(h)
    u = multiply(h, weight[: 2 * n])
    for b in range(h.shape[0]):
        for i in range(n):
            y[b, i] = sigmoid(x[b, n + i] + u[b, n + i]) * h[b, i]
    v = multiply(y, weight[2 * n :])
    for b in range(h.shape[0]):
        for i in range(n):
            z, candidate = sigmoid(x[b, i] + u[b, i]), tanh(x[b, 2 * n + i] + v[b, i])
            y[b, i] = candidate + z * (h[b, i] - candidate)
    return y


@compiled
def lstm(x: Array, weight: Array, h: Array, m: Array) -> tuple[Array, Array]:
    """One LSTM step; x [B, 4 U] for i, f, the candidate and o, weight (4 U, U), h and m [B, U]."""
    n, u, y, memory = h.shape[1], multiply(h, weight), np.empty_like(h), np.empty_like(m)
    for b in range(h.shape[0]):
        for i in range(n):
            kept = sigmoid(x[b, n + i] + u[b, n + i]) * m[b, i]
            added = sigmoid(x[b, i] + u[b, i]) * tanh(x[b, 2 * n + i] + u[b, 2 * n + i])
            memory[b, i] = kept + added
            y[b, i] = sigmoid(x[b, 3 * n + i] + u[b, 3 * n + i]) * tanh(memory[b, i])
    return y, memory


# ---------------------------------------------------------------- a draw


@compiled
def ascending(x: Array) -> Array:
    """The places of the numbers of `x` [V] by ascending number; equal ones in order."""
    places = np.empty(x.size, np.int64)
    for i in range(x.size):
        j = i
        while j > 0 and x[places[j - 1]] > x[i]:
            places[j] = places[j - 1]
            j -= 1
        places[j] = i
    return places


@compiled
def survivors(x: Array, top_k: int, top_p: float, min_p: float) -> tuple[Array, Array]:
    """The tokens that survive, of tempered logits `x` [V], ascending, and ``exp(x - max(x))`` of each."""
    ids = ascending(x)[-top_k:]
    weights = np.exp(x[ids] - x[ids[-1]])
    if top_p < 1:
        total = 0.0
        for weight in weights[::-1]:
            total += weight
        kept, above = 0, 0.0
        while kept == 0 or above < top_p * total:
            kept += 1
            above += weights[-kept]
        ids, weights = ids[-kept:], weights[-kept:]
    first = 0
    while weights[first] < min_p:
        first += 1
    return ids[first:], weights[first:]


@compiled
def greatest(x: Array) -> int:
    """The first place of the greatest number of `x` [V]."""
    place = 0
    for i in range(1, x.size):
        if x[i] > x[place]:
            place = i
    return place


@compiled
def log_probability(x: Array, token: int) -> Any:
    """The natural logarithm of the token's probability, from logits [V]."""
    top, total = x[greatest(x)], 0.0
    for logit in x:
        total += np.exp(logit - top)
    return x[token] - top - np.log(total)


@compiled
def draw(
    x: Array, own: Array, temperature: float, top_k: int, top_p: float, min_p: float, number: float
) -> tuple[int, float]:
    """A token from adjusted logits `x` [V], by a `number` below 1, and its log-probability in `own` [V]."""
    if temperature < GREEDY:
        token = greatest(x)
        return token, log_probability(own, token)
    ids, weights = survivors(x / np.float32(temperature), top_k, top_p, min_p)
    total, reached = 0.0, 0.0
    for weight in weights:
        total += weight
    for i in range(ids.size):
        reached += weights[i]
        if reached > number * total:
            return ids[i], log_probability(own, ids[i])
    raise IndexError("NaN has no place in a cumulative distribution")
