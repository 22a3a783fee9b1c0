"""Draws from small vocabularies, compiled: as `octavo.sample.Sampling.pick`, sooner."""

from __future__ import annotations

import numpy as np

from octavo.fast import code, frame
from octavo.fast.packed import address
from octavo.nn import Array
from octavo.sample import GREEDY, Pick, Sampling

FEW = 256  # tokens of a vocabulary that sorting by insertion is the quickest for


def pick(sampling: Sampling, vocab_size: int) -> Pick | None:
    """The twin of `Sampling.pick` for these options, or None where NumPy sorts the tokens quicker.

    Examples
    --------
    >>> logits, rng = np.log(np.array([0.25, 0.75], np.float32)), np.random.default_rng(0)
    >>> token, logprob = pick(Sampling(top_k=1), 2)(logits, np.zeros(2, bool), rng)
    >>> token, round(np.exp(logprob), 3)
    (1, np.float64(0.75))
    """
    if vocab_size > FEW:
        return None
    greedy = sampling.temperature < GREEDY
    logits, own, weights = np.zeros((3, vocab_size), np.float32)
    told = np.zeros(frame.LOGPROB + 1 + vocab_size, np.int64)  # and after what is told, room for ids
    ids = told[frame.LOGPROB + 1 :]
    numbers, draw, at = told.view(np.float64), code.function("draw"), address(told)
    told[: frame.WEIGHTS + 1] = [address(array) for array in (logits, own, ids, weights)]
    told[frame.VOCABULARY] = vocab_size
    told[frame.TOP_K] = 0 if greedy else min(sampling.top_k or vocab_size, vocab_size)
    numbers[frame.TEMPERATURE] = sampling.temperature
    numbers[frame.TOP_P] = 1.0 if sampling.top_p is None else sampling.top_p
    numbers[frame.MIN_P] = 0.0 if sampling.min_p is None else sampling.min_p

    def run(given: Array, seen: Array, rng: np.random.Generator) -> tuple[int, float]:
        if not greedy:
            numbers[frame.NUMBER] = rng.random()
        logits[:], own[:] = sampling.adjust(given, seen), given
        token = draw(at, 0, 0)
        return token, float(numbers[frame.LOGPROB])

    return run
