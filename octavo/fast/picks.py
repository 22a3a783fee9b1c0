"""Draws, compiled: as `octavo.sample.Sampling.pick`, sooner."""

from __future__ import annotations

import math

import numpy as np

from octavo.fast import code, frame
from octavo.fast.packed import address
from octavo.nn import Array
from octavo.sample import GREEDY, Sampling


class Draw:
    """The twin of `Sampling.pick` for some options: the same tokens for the same random numbers, to rounding.

    Examples
    --------
    >>> logits, rng = np.log(np.array([0.25, 0.75], np.float32)), np.random.default_rng(0)
    >>> token, logprob = Draw(Sampling(top_k=1), 2)(logits, np.zeros(2, bool), rng)
    >>> token, round(np.exp(logprob), 3)
    (1, np.float64(0.75))
    """

    def __init__(self, sampling: Sampling, vocab_size: int) -> None:
        self.greedy = sampling.temperature < GREEDY
        block = math.isqrt(vocab_size)
        self.told = told = np.zeros(frame.LOGPROB + 1, np.int64)
        self.at, self.numbers, self.run = address(told), told.view(np.float64), code.function("draw")
        biases = np.zeros(vocab_size, np.float32)
        for token, bias in (sampling.logit_bias or {}).items():
            biases[token] = bias
        room = [np.zeros(vocab_size, kind) for kind in (np.float32, np.int64, np.float32)]
        self.own = np.zeros(vocab_size, np.float32)
        self.kept = [biases, *room, np.zeros(-(-vocab_size // block), np.float32)]
        told[frame.BIAS : frame.BESTS + 1] = [address(array) for array in self.kept]
        if not sampling.logit_bias:
            told[frame.BIAS] = 0
        told[frame.VOCABULARY], told[frame.BLOCK] = vocab_size, block
        told[frame.TOP_K] = 0 if self.greedy else min(sampling.top_k or vocab_size, vocab_size)
        self.numbers[frame.PENALTY : frame.MIN_P + 1] = [
            1.0 if sampling.repetition_penalty is None else sampling.repetition_penalty,
            sampling.temperature,
            1.0 if sampling.top_p is None else sampling.top_p,
            sampling.min_p or 0.0,
        ]

    def __call__(self, logits: Array, seen: Array, rng: np.random.Generator) -> tuple[int, float]:
        """A token from logits [V], and the logarithm of its probability."""
        self.own[...] = logits
        self.tell(address(self.own), seen)
        if not self.greedy:
            self.numbers[frame.NUMBER] = rng.random()
        return self.run(self.at, 0, 0), float(self.numbers[frame.LOGPROB])

    def tell(self, logits: int, seen: Array) -> None:
        """Where the model's logits will be, and which tokens have been seen."""
        self.told[frame.MODEL], self.told[frame.SEEN] = logits, address(seen)
