"""A draw from a small vocabulary, compiled: the twin of `octavo.sample.Sampling.pick`.

Its argument is the address of the numbers that `octavo.fast.frame` lists for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo.fast.compiling import compiled, named
from octavo.fast.frame import (
    IDS,
    LOGITS,
    LOGPROB,
    MIN_P,
    MODEL,
    NUMBER,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    VOCABULARY,
    WEIGHTS,
)
from octavo.fast.instructions import carray
from octavo.fast.machine import doubles, longs, singles


@compiled
def greatest(x: Any) -> int:
    """The first place of the greatest number of `x` [V]."""
    place = 0
    for i in range(1, x.size):
        if x[i] > x[place]:
            place = i
    return place


@compiled
def log_probability(x: Any, token: int) -> Any:
    """The natural logarithm of the token's probability, from logits [V]."""
    top, total = x[greatest(x)], 0.0
    for i in range(x.size):
        total += np.exp(x[i] - top)
    return x[token] - top - np.log(total)


@compiled
def ascend(x: Any, ids: Any) -> None:
    """The places of the numbers of `x` [V] by ascending number, to `ids`; equal ones in order."""
    for i in range(x.size):
        j = i
        while j > 0 and x[ids[j - 1]] > x[i]:
            ids[j] = ids[j - 1]
            j -= 1
        ids[j] = i


@compiled
def first_survivor(weights: Any, first: int, top_p: float, min_p: float) -> int:
    """The first of the tokens that survive, of ``exp(x - max(x))`` [V], ascending, of which `first` might."""
    if top_p < 1:
        total, above = 0.0, 0.0
        for i in range(weights.size - 1, first - 1, -1):
            total += weights[i]
        end = weights.size
        while end == weights.size or above < top_p * total:
            end -= 1
            above += weights[end]
        first = end
    while weights[first] < min_p:
        first += 1
    return first


@named("draw")
def draw(at: int, _: int, __: int) -> int:
    """A token from adjusted logits [V], by a number below 1; the model's own logits give its probability."""
    size, top_k = longs(at)[VOCABULARY], longs(at)[TOP_K]
    x, own = carray(singles(longs(at)[LOGITS]), (size,)), carray(singles(longs(at)[MODEL]), (size,))
    ids, weights = carray(longs(longs(at)[IDS]), (size,)), carray(singles(longs(at)[WEIGHTS]), (size,))
    token = greatest(x)
    if top_k > 0:
        for i in range(size):
            x[i] /= np.float32(doubles(at)[TEMPERATURE])
        ascend(x, ids)
        for i in range(size):
            weights[i] = np.exp(x[ids[i]] - x[ids[size - 1]])
        first = first_survivor(weights, size - top_k, doubles(at)[TOP_P], doubles(at)[MIN_P])
        total, reached = 0.0, 0.0
        for i in range(first, size):
            total += weights[i]
        for i in range(first, size):
            reached += weights[i]
            if reached > doubles(at)[NUMBER] * total:
                token = ids[i]
                break
    doubles(at)[LOGPROB] = log_probability(own, token)
    return token
