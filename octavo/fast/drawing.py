"""A draw, compiled: the twin of `octavo.sample.Sampling.pick`.

Its argument is the address of the numbers that `octavo.fast.frame` lists for it. Tokens are put in order,
the likeliest first, only as far as the draw depends on their order: of each block of tokens the likeliest is
known how likely the likeliest is; the best of those is next, and its block is looked through once more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from octavo.fast.attending import exponential
from octavo.fast.calls import carray
from octavo.fast.compiling import compiled, named
from octavo.fast.frame import (
    BESTS,
    BIAS,
    BLOCK,
    IDS,
    LOGITS,
    LOGPROB,
    MIN_P,
    MODEL,
    NUMBER,
    PENALTY,
    SEEN,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    VOCABULARY,
    WEIGHTS,
)
from octavo.fast.instructions import FAST, ZERO
from octavo.fast.machine import doubles, longs, octets, singles

RUN = 256  # numbers whose sum may be taken in float32


@partial(compiled, fastmath=FAST | {"nnan"})
def highest(x: Any) -> Any:
    """The greatest number of `x`; any, where some are not numbers."""
    top = x[0]
    for i in range(1, x.size):
        top = max(top, x[i])
    return top


@compiled
def first_of(x: Any, number: Any) -> int:
    """The first place in `x` [V] of a number that is there."""
    for i in range(x.size):
        if x[i] == number:
            return i
    return 0


@partial(compiled, fastmath=FAST)
def some_mass(x: Any, top: Any) -> Any:
    """The sum of ``exp(x - top)`` of a few numbers; NaN if one is not, or greater than `top`."""
    total = ZERO
    for i in range(x.size):
        below = x[i] - top
        total += exponential(below) if below <= 0 else np.float32(np.nan)
    return total


@compiled
def mass(x: Any, top: Any) -> Any:
    """The same of all logits [V]."""
    total = 0.0
    for start in range(0, x.size, RUN):
        total += some_mass(x[start : start + RUN], top)
    return total


@compiled
def log_probability(x: Any, token: int) -> Any:
    """The natural logarithm of the token's probability, from logits [V]."""
    top = highest(x)
    return x[token] - top - np.log(mass(x, top))


@compiled
def adjust(at: int, own: Any, x: Any) -> None:
    """As `Sampling.adjust`: the model's own logits [V] after penalty and bias, to `x`."""
    seen, bias, penalty = octets(longs(at)[SEEN]), longs(at)[BIAS], np.float32(doubles(at)[PENALTY])
    for i in range(x.size):
        x[i] = own[i]
    if penalty != 1:
        for i in range(x.size):
            if seen[i]:
                x[i] = x[i] / penalty if x[i] > 0 else x[i] * penalty
    if bias:
        for i in range(x.size):
            x[i] += singles(bias)[i]


@compiled
def order(x: Any, ids: Any, weights: Any, bests: Any, block: int, top: Any, have: int, want: int) -> int:
    """Put tokens in order until `want` of them are, of which `have` were -> how many are.

    Of equally likely ones the last comes first. Their places in `x` get minus infinity: what is as likely
    never comes.
    """
    while have < want:
        best = 0
        for b in range(1, bests.size):
            if bests[b] >= bests[best]:
                best = b
        if not bests[best] > -np.inf:
            return have
        start, end = best * block, min((best + 1) * block, x.size)
        token = end - 1
        while token > start and x[token] != bests[best]:
            token -= 1
        ids[have], weights[have] = token, exponential(bests[best] - top)
        have += 1
        x[token] = -np.inf
        bests[best] = highest(x[start:end])
    return have


@compiled
def sample(at: int, x: Any) -> int:
    """A token from adjusted logits [V], which are used up."""
    size, block, top_k = x.size, longs(at)[BLOCK], longs(at)[TOP_K]
    ids, weights = carray(longs(longs(at)[IDS]), (size,)), carray(singles(longs(at)[WEIGHTS]), (size,))
    bests = carray(singles(longs(at)[BESTS]), ((size + block - 1) // block,))
    top_p, min_p, number = doubles(at)[TOP_P], doubles(at)[MIN_P], doubles(at)[NUMBER]
    for i in range(size):
        x[i] /= np.float32(doubles(at)[TEMPERATURE])
    for b in range(bests.size):
        bests[b] = highest(x[b * block : min((b + 1) * block, size)])
    top, have, total = highest(bests), 0, 0.0
    if top_k < size:
        have = order(x, ids, weights, bests, block, top, 0, top_k)
        for i in range(have):
            total += weights[i]
    else:
        total = mass(x, top)
    kept = top_k
    if top_p < 1 or min_p > 0:
        kept, above = 0, 0.0
        while kept < top_k and above < top_p * total:
            have = order(x, ids, weights, bests, block, top, have, kept + 1)
            if have == kept or weights[kept] < min_p:
                break
            above += weights[kept]
            kept += 1
        total = above
    # by ascending weight, the sum reaches `number` of the whole where from the top it reaches the rest
    token, reached = 0, 0.0
    for i in range(kept):
        have = order(x, ids, weights, bests, block, top, have, i + 1)
        if have == i:
            break
        token = ids[i]
        reached += weights[i]
        if reached >= (1 - number) * total:
            break
    return token


@compiled
def drawn(at: int) -> int:
    """A token by the model's logits, whose own give its probability."""
    size = longs(at)[VOCABULARY]
    own, x = carray(singles(longs(at)[MODEL]), (size,)), carray(singles(longs(at)[LOGITS]), (size,))
    adjust(at, own, x)
    token = sample(at, x) if longs(at)[TOP_K] else first_of(x, highest(x))
    doubles(at)[LOGPROB] = log_probability(own, token)
    return token


@named("draw")
def draw(at: int, _: int, __: int) -> int:
    """A token from logits."""
    return drawn(at)
