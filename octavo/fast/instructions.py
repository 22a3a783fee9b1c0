"""The instructions of a program: operations of `octavo.nn` for the rows of a batch, compiled.

Each has the name and the numbers, to rounding, of the operation it is the twin of. It takes the address of
the frame (where the buffers are, how many rows there are), that of its own arguments, and the number of the
thread, and does the part of the work that it gets: threads take the next piece until none is left. A piece is
computed the same way whoever computes it and whatever else there is to do, so neither the other rows nor the
number of threads change a bit.

Of a buffer the arguments have three numbers: its own, an offset and the stride from row to row.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from octavo.fast import frame as names
from octavo.fast import lanes
from octavo.fast.calls import carray, literally
from octavo.fast.compiling import compiled, named
from octavo.fast.frame import (
    BUFFERS,
    COUNTER,
    FIRST,
    OWN,
    PAIRS,
    PIECES,
    ROWS,
    SCRATCH,
    SCRATCH_SIZE,
    SINGLES,
    TAIL,
    THREADS,
)
from octavo.fast.lanes import prepare, product, widen
from octavo.fast.machine import count, longs, singles
from octavo.fast.packed import KINDS, LANES

FAST = {"reassoc", "contract"}  # sums may be taken in any order, which is fixed once it is compiled

GROUPS = np.array([kind.group for kind in KINDS], np.int64)
SIZES = np.array([kind.size for kind in KINDS], np.int64)
ONE, ZERO = np.float32(1), np.float32(0)


@compiled
def buffer(frame: int, args: int, place: int, row: int) -> Any:
    """The address of a row of the buffer that is `place` among the own arguments."""
    own = longs(args + 8 * (OWN + place))
    return longs(frame)[BUFFERS + own[0]] + 4 * (own[1] + own[2] * row)


@compiled
def columns(frame: int, args: int, place: int, row: int, width: int) -> Any:
    """The same row as an array."""
    return carray(singles(buffer(frame, args, place, row)), (width,))


@compiled
def first_row(frame: int, args: int) -> Any:
    """The first row that the instruction computes."""
    return longs(frame)[FIRST] if longs(args)[TAIL] else 0


@compiled
def own_rows(frame: int, args: int, thread: int) -> Any:
    """The rows of a thread: always the same, so that none waits for another between two such uses."""
    first, threads = first_row(frame, args), longs(frame)[THREADS]
    return range(first + (thread - first) % threads, longs(frame)[ROWS], threads)


@compiled
def piece(args: int) -> Any:
    """The number of the next piece that nobody has taken."""
    return count(longs(args)[COUNTER])


# ---------------------------------------------------------------- products
# own arguments: x, y, panels, how many, blocks, bias or 0


@compiled
def together(rows: int, first: int) -> Any:
    """How many rows from `first` on are multiplied at once, of so many: all such parts are about as large."""
    parts = (rows - first + lanes.ROWS - 1) // lanes.ROWS
    return (rows - first + parts - 1) // parts


@compiled
def prepare_rows(frame: int, args: int, kind: int, prepared: int, sums: int) -> None:
    """All rows as the products take them: those that are multiplied at once side by side."""
    kind = literally(kind)
    blocks, first = longs(args)[OWN + 8], first_row(frame, args)
    group, rows, r = GROUPS[kind], longs(frame)[ROWS] - first, 0
    while r < rows:
        some = together(rows, r)
        for i in range(some):
            to, of_blocks = prepared + 4 * group * (blocks * r + i), sums + 4 * (blocks * r + i)
            prepare(kind, buffer(frame, args, 0, first + r + i), blocks, some, to, of_blocks)
        r += some


@compiled
def multiply_rows(
    most: int, kind: int, rows: int, at: int, blocks: int, x: int, sums: int, y: int, stride: int, asks: int
) -> None:
    """One row to `most` with a panel: how many is known where the product is written out."""
    most, kind = literally(most), literally(kind)
    if most == 1 or rows == most:
        product(kind, most, at, blocks, x, sums, y, stride, asks)
    else:
        multiply_rows(most - 1, kind, rows, at, blocks, x, sums, y, stride, asks)


@compiled
def multiply(frame: int, args: int, thread: int, kind: int) -> None:
    """``x W^T + b`` of rows that are filled up with zeros to whole blocks."""
    kind = literally(kind)
    own = longs(args + 8 * OWN)
    panels, many, blocks, bias = own[6], own[7], own[8], own[9]
    width, first = blocks * GROUPS[kind], first_row(frame, args)
    rows = longs(frame)[ROWS] - first
    step = max(many // (PIECES * longs(frame)[THREADS]), 1) if rows <= lanes.FEW else 1
    prepared = longs(frame)[SCRATCH] + thread * longs(frame)[SCRATCH_SIZE]
    sums = prepared + 4 * rows * width
    ready = False
    while True:
        start = piece(args) * step
        if start >= many:
            return
        if not ready:
            prepare_rows(frame, args, kind, prepared, sums)
            ready = True
        y, stride = buffer(frame, args, 3, first), 4 * longs(args)[OWN + 5]
        for panel in range(start, min(start + step, many)):
            at, to = panels + panel * blocks * SIZES[kind], y + 4 * LANES * panel
            r = 0
            while r < rows:
                some, x, of_x = together(rows, r), prepared + 4 * r * width, sums + 4 * r * blocks
                multiply_rows(
                    lanes.ROWS, kind, some, at, blocks, x, of_x, to + r * stride, stride, int(r == 0)
                )
                r += some
            if bias:
                offset = singles(bias + 4 * LANES * panel)
                for row in range(rows):
                    for i in range(LANES):
                        singles(to + row * stride)[i] += offset[i]


def multiply_by_kind(kind: int) -> None:
    """The product with matrices of a kind, which is known when it is compiled."""

    @named(names.multiply(kind))
    def multiply_kind(frame: int, args: int, thread: int) -> None:
        multiply(frame, args, thread, kind)


def widen_by_kind(kind: int) -> None:
    """A row of matrices of a kind in float32: the panels, the blocks of a row, and where it goes are told."""

    @named(names.widen(kind))
    def widen_kind(told: int, row: int, _: int) -> None:
        panels, blocks, to = longs(told)[0], longs(told)[1], longs(told)[2]
        at = panels + row // LANES * blocks * SIZES[kind]
        for block in range(blocks):
            widen(kind, at + block * SIZES[kind], row % LANES, to + 4 * block * GROUPS[kind])


for kind in range(len(KINDS)):
    multiply_by_kind(kind)
    widen_by_kind(kind)


# ---------------------------------------------------------------- norms and positions
# own arguments: x, y, width of a part, parts of a row, where epsilon is, gain or 0, bias


@partial(compiled, fastmath=FAST)
def mean(x: Any) -> Any:
    """The mean."""
    total = ZERO
    for i in range(x.size):
        total += x[i]
    return total / np.float32(x.size)


@partial(compiled, fastmath=FAST)
def mean_of_squares(x: Any, offset: Any) -> Any:
    """The mean of ``(x - offset)^2``."""
    total = ZERO
    for i in range(x.size):
        total += (x[i] - offset) * (x[i] - offset)
    return total / np.float32(x.size)


@named("rms_norm")
def rms_norm(frame: int, args: int, thread: int) -> None:
    """As `octavo.nn.rms_norm`, of each part of a row."""
    own = longs(args + 8 * OWN)
    width, parts, eps, gain = own[6], own[7], own[8], own[9]
    for r in own_rows(frame, args, thread):
        x, y = columns(frame, args, 0, r, width * parts), columns(frame, args, 3, r, width * parts)
        for part in range(0, width * parts, width):
            a, b = x[part : part + width], y[part : part + width]
            scale = ONE / np.sqrt(mean_of_squares(a, ZERO) + singles(eps)[0])
            for i in range(width):
                b[i] = a[i] * scale
            if gain:
                for i in range(width):
                    b[i] *= singles(gain)[i]


@named("layer_norm")
def layer_norm(frame: int, args: int, thread: int) -> None:
    """As `octavo.nn.layer_norm`."""
    own = longs(args + 8 * OWN)
    width, eps, gain, bias = own[6], own[8], own[9], own[10]
    for r in own_rows(frame, args, thread):
        x, y = columns(frame, args, 0, r, width), columns(frame, args, 3, r, width)
        middle = mean(x)
        scale = ONE / np.sqrt(mean_of_squares(x, middle) + singles(eps)[0])
        for i in range(width):
            y[i] = (x[i] - middle) * scale * singles(gain)[i] + singles(bias)[i]


@named("rotate")
def rotate(frame: int, args: int, thread: int) -> None:
    """As `octavo.nn.rotate`; own arguments: x, cosines, sines, y, K, heads."""
    width, heads = longs(args)[OWN + 12], longs(args)[OWN + 13]
    half = width // 2
    for r in own_rows(frame, args, thread):
        x, y = columns(frame, args, 0, r, width * heads), columns(frame, args, 9, r, width * heads)
        cos, sin = columns(frame, args, 3, r, half), columns(frame, args, 6, r, half)
        for h in range(0, width * heads, width):
            a, b, c, d = x[h : h + half], x[h + half : h + width], y[h : h + half], y[h + half : h + width]
            for i in range(half):  # one result in each loop: of two, the compiler makes no vectors
                c[i] = a[i] * cos[i] - b[i] * sin[i]
            for i in range(half):
                d[i] = b[i] * cos[i] + a[i] * sin[i]


# ---------------------------------------------------------------- number by number
# own arguments: x, y where there are two, result, width, where a number is

ADD, MULTIPLY, SILU, SIGMOID, TANH, RELU, GELU = 0, 1, 0, 1, 2, 3, 4
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
REACH = np.float32(7.90531110763549805)  # from there tanh is 1
GELU_RATE, GELU_CUBE, HALF = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715), np.float32(0.5)


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


@compiled
def single(which: int, x: Any, number: Any) -> Any:
    """A function of one number, which `SINGLES` names."""
    if which == SILU:
        return x * sigmoid(x)
    if which == SIGMOID:
        return sigmoid(x)
    if which == TANH:
        return tanh(x)
    if which == RELU:
        return max(x, ZERO)
    if which == GELU:
        return HALF * x * (ONE + tanh(GELU_RATE * (x + GELU_CUBE * (x * x * x))))
    return number * tanh(x / number)


def single_by_number(which: int) -> None:
    """An activation of every column."""

    @named(SINGLES[which])
    def single_which(frame: int, args: int, thread: int) -> None:
        width, at = longs(args)[OWN + 6], longs(args)[OWN + 7]
        number = singles(at)[0] if at else ZERO
        for r in own_rows(frame, args, thread):
            x, y = columns(frame, args, 0, r, width), columns(frame, args, 3, r, width)
            for i in range(width):
                y[i] = single(which, x[i], number)


def pair_by_number(which: int) -> None:
    """The sum, the product or the difference of two rows."""

    @named(PAIRS[which])
    def pair_which(frame: int, args: int, thread: int) -> None:
        width = longs(args)[OWN + 9]
        for r in own_rows(frame, args, thread):
            x, y = columns(frame, args, 0, r, width), columns(frame, args, 3, r, width)
            z = columns(frame, args, 6, r, width)
            for i in range(width):
                if which == ADD:
                    z[i] = x[i] + y[i]
                elif which == MULTIPLY:
                    z[i] = x[i] * y[i]
                else:
                    z[i] = x[i] - y[i]


for which in range(len(SINGLES)):
    single_by_number(which)
for which in range(len(PAIRS)):
    pair_by_number(which)
