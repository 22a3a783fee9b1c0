"""From logits to the next token: what the published sampling options do, in one pass.

The order is fixed: repetition penalty (Keskar et al. 2019), logit bias, temperature, then the sorted
distribution is cut by top-k (Fan et al. 2018), top-p (Holtzman et al. 2020) and min-p (Nguyen et al.
2024). Sorted ascending, each of the three keeps a suffix. One uniform number per token then goes
through the cumulative distribution of what is left, exactly as ``rng.choice(ids, p=...)`` draws.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypedDict, cast

import numpy as np

from octavo.checks import is_number, is_whole
from octavo.errors import OctavoError
from octavo.nn import Array

RECOMMENDED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
STRONGEST = 1e30  # bias, which float32 holds with any logit
GREEDY = 1e-5  # a temperature so low that dividing by it overflows before it leaves a second choice
MANY = 4096  # tokens of a vocabulary that is not sorted whole for a draw
ABOVE = 512  # of which as many are looked at first
NO_NUMBERS = "the model's logits are not numbers; are its weights damaged?"

Pick = Callable[[Array, Array, np.random.Generator], tuple[int, float]]


class Token(NamedTuple):
    """One token as it was drawn."""

    id: int
    logprob: float  # natural logarithm of its probability under the model, before any sampling option


class SamplingOptions(TypedDict, total=False):
    """The keyword arguments that `Sampling` describes."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    logit_bias: Mapping[int, float] | None
    seed: int | None


def recommended(generation_config: Mapping[str, Any] | None) -> SamplingOptions:
    """The sampling that a model's `generation_config.json` asks for, as the options of `tokens`.

    Parameters
    ----------
    generation_config : mapping or None
        As it stands there. `temperature`, `top_k`, `top_p`, `min_p` and `repetition_penalty` are read; a
        `do_sample` that is false comes to a temperature of 0, and a `top_k` of 0 to none, as in transformers.

    Returns
    -------
    dict
        Only what it says; empty if there is nothing.

    Raises
    ------
    OctavoError
        If a value is none that the option can have.

    Examples
    --------
    >>> recommended({"do_sample": True, "temperature": 0.6, "top_k": 0, "eos_token_id": 2})
    {'temperature': 0.6}
    >>> recommended({"do_sample": False, "top_p": 0.9, "repetition_penalty": 1.1})
    {'temperature': 0.0, 'repetition_penalty': 1.1}
    """
    told = generation_config or {}
    sampled = told.get("do_sample")
    if sampled is not None and not isinstance(sampled, bool):
        found = reprlib.repr(sampled)
        raise OctavoError(f"generation_config.json: do_sample must be true or false, not {found}")
    options = {name: told[name] for name in RECOMMENDED if told.get(name) is not None}
    if sampled is False:  # then the others say nothing
        options = {"temperature": 0.0} | {n: v for n, v in options.items() if n == "repetition_penalty"}
    if type(options.get("top_k")) is int and options["top_k"] == 0:
        del options["top_k"]
    try:
        Sampling(**options)
    except OctavoError as error:
        raise OctavoError(f"generation_config.json: {str(error)[:200]}") from None
    return cast(SamplingOptions, options)


@dataclass(frozen=True)
class Sampling:
    """The options of sampling; the defaults draw from the model's own distribution.

    Attributes
    ----------
    temperature : float
        Divides the logits; 0 (any value below 0.00001) takes the likeliest token.
    top_k : int or None
        Keep the k likeliest tokens.
    top_p : float or None
        Keep the fewest tokens whose probabilities reach p.
    min_p : float or None
        Keep the tokens at least p times as likely as the likeliest.
    repetition_penalty : float or None
        Divides the positive logits of tokens already in the text and multiplies the negative ones.
    logit_bias : mapping of id to float, or None
        Added to the logits; minus infinity bans a token.
    seed : int or None
        Of the random numbers; None for other text each time.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[str, Callable[[Any], bool]]] = {
            "temperature": ("a number of at least 0", lambda x: 0 <= x < np.inf),
            "top_k": ("a whole number of at least 1", lambda x: is_whole(x) and x >= 1),
            "top_p": ("a number above 0 and at most 1", lambda x: 0 < x <= 1),
            "min_p": ("a number from 0 to 1", lambda x: 0 <= x <= 1),
            "repetition_penalty": ("a number above 0", lambda x: 0 < x < np.inf),
            "seed": ("a whole number of at least 0", lambda x: is_whole(x) and x >= 0),
        }
        for name, (expected, holds) in bounds.items():
            value = getattr(self, name)
            if value is None and name != "temperature":
                continue
            if not is_number(value) or not holds(value):
                raise OctavoError(f"{name} must be {expected}, not {value!r}")
        if self.logit_bias is not None and not isinstance(self.logit_bias, Mapping):
            found = reprlib.repr(self.logit_bias)
            raise OctavoError(f"logit_bias must be a mapping of token ids to numbers, not {found}")
        for token, bias in (self.logit_bias or {}).items():
            if not is_whole(token) or not is_number(bias) or not (abs(bias) <= STRONGEST or bias == -np.inf):
                raise OctavoError(
                    f"logit_bias gives a token a number (-1e30 to 1e30) or -inf, not {bias!r} to {token!r}"
                )

    def check(self, vocab_size: int) -> None:
        """Refuse a bias of tokens that the model does not have, or of all that it has."""
        biases = self.logit_bias or {}
        for token in biases:
            if not 0 <= token < vocab_size:
                raise OctavoError(f"logit_bias names token {token}, outside the vocabulary of {vocab_size}")
        if list(biases.values()).count(-np.inf) == vocab_size:
            raise OctavoError("logit_bias bans every token; leave at least one")

    def adjust(self, logits: Array, seen: Array) -> Array:
        """The logits [V] after the penalty for the tokens `seen` (booleans [V]) and the bias."""
        if self.repetition_penalty is not None:
            penalised = np.where(
                logits > 0, logits / self.repetition_penalty, logits * self.repetition_penalty
            )
            logits = np.where(seen, penalised, logits)
        if self.logit_bias:
            logits = logits.copy()
            logits[list(self.logit_bias)] += np.array(list(self.logit_bias.values()), logits.dtype)
        return logits

    def distribution(self, logits: Array) -> tuple[Array, Array]:
        """The tokens that survive, by ascending logit, and their probabilities.

        Parameters
        ----------
        logits : array [V]
            Of the next token, adjusted.

        Returns
        -------
        ids, probabilities : arrays [kept]

        Examples
        --------
        >>> ids, p = Sampling(top_k=2).distribution(np.log(np.array([1.0, 2.0, 5.0, 2.0])))
        >>> ids[-1], p.sum()
        (np.int64(2), np.float64(1.0))
        """
        ids, weights = self.survivors(logits)
        return ids, weights / weights.sum()

    def survivors(self, logits: Array) -> tuple[Array, Array]:
        """The tokens that survive, by ascending logit, and ``exp(logit - greatest)`` of each, tempered."""
        if self.temperature < GREEDY:
            return np.array([logits.argmax()]), np.ones(1, logits.dtype)
        x = logits / self.temperature if self.temperature != 1 else logits
        ids = x.argsort()
        if self.top_k is not None:
            ids = ids[-self.top_k :]
        x = x[ids]
        weights = np.exp(x - x[-1])
        if self.top_p is not None:
            from_the_top = weights[::-1].astype(np.float64).cumsum()
            kept = int(from_the_top.searchsorted(self.top_p * from_the_top[-1])) + 1
            ids, weights = ids[-kept:], weights[-kept:]
        if self.min_p is not None:
            first = int(weights.searchsorted(self.min_p))  # the greatest weight is 1
            ids, weights = ids[first:], weights[first:]
        return ids, weights

    def draw(self, logits: Array, rng: np.random.Generator) -> int:
        """One token from logits [V]; greedy sampling uses no random number."""
        if self.temperature < GREEDY:
            return int(logits.argmax())
        number = rng.random()
        token = self.drawn_above(logits, number) if logits.size >= MANY else None
        if token is not None:
            return token
        ids, weights = self.survivors(logits)
        cumulative = weights.astype(np.float64).cumsum()
        return int(ids[cumulative.searchsorted(number * cumulative[-1], side="right")])

    def drawn_above(self, logits: Array, number: float) -> int | None:
        """The token that `number` draws, if it is found among the greatest; the others are not sorted then.

        The same token as by sorting all of them: what lies below counts by the sum of its weights.
        """
        x = logits / self.temperature if self.temperature != 1 else logits
        least = np.partition(x, x.size - ABOVE)[x.size - ABOVE]
        ids = (x >= least).nonzero()[0]
        weights = np.exp(x - x.max())
        total = float(weights.sum(dtype=np.float64))
        if not total < np.inf:  # NaN is the other way's to refuse
            return None
        ids = ids[x[ids].argsort()]
        if self.top_k is not None:
            ids = ids[-self.top_k :]
            if len(ids) < self.top_k:
                return None
            total = float(weights[ids].sum(dtype=np.float64))
        from_the_top = weights[ids[::-1]].astype(np.float64).cumsum()
        kept, cut = len(ids), self.top_k is not None
        if self.top_p is not None:
            kept = int(from_the_top.searchsorted(self.top_p * total)) + 1
            if kept > len(ids) and not cut:
                return None
            kept, cut = min(kept, len(ids)), True
        if self.min_p is not None:
            first = int(weights[ids].searchsorted(self.min_p))
            if first == 0 and not cut:
                return None
            kept, cut = min(kept, len(ids) - first), True
        mass = float(from_the_top[kept - 1]) if cut else total
        reached = number * mass - (mass - float(from_the_top[kept - 1]))
        if reached < 0:
            return None
        cumulative = weights[ids[-kept:]].astype(np.float64).cumsum()
        return int(ids[-kept:][min(int(cumulative.searchsorted(reached, side="right")), kept - 1)])

    def pick(self, logits: Array, seen: Array, rng: np.random.Generator) -> tuple[int, float]:
        """One token, and the logarithm of its probability under the model itself, before any option.

        Parameters
        ----------
        logits : array [V]
            Of the next token, as the model gives them.
        seen : booleans [V]
            The tokens that are in the text.
        rng : numpy.random.Generator
            Gives one number, and none to greedy sampling.

        Returns
        -------
        token : int
        logprob : float
            The natural logarithm; NaN if the logits are not numbers.

        Raises
        ------
        IndexError
            If they are not numbers and the draw depends on them.

        Examples
        --------
        >>> logits, rng = np.log(np.array([0.25, 0.75])), np.random.default_rng(0)
        >>> token, logprob = Sampling(top_k=1).pick(logits, np.zeros(2, bool), rng)
        >>> token, round(np.exp(logprob), 3)
        (1, np.float64(0.75))
        """
        token = self.draw(self.adjust(logits, seen), rng)
        top = float(logits.max())
        return token, float(logits[token]) - top - math.log(np.exp(logits - top).sum())


OPTIONS = tuple(field.name for field in fields(Sampling))
"""The names of the options."""


class Draws:
    """The tokens of one text, drawn one after the other; what a draw depends on beside the logits.

    Examples
    --------
    >>> draws = Draws(Sampling(seed=0), [0], 2)
    >>> draws.next(np.log(np.array([0.25, 0.75]))).id, draws.seen.tolist()
    (1, [True, True])
    """

    def __init__(self, sampling: Sampling, prompt: Array, vocab_size: int) -> None:
        self.sampling = sampling
        self.rng = np.random.default_rng(sampling.seed)
        self.seen = np.zeros(vocab_size, bool)
        self.seen[prompt] = True
        self.pick: Pick = sampling.pick  # or its twin

    def next(self, logits: Array) -> Token:
        """A token from the logits [V] after the last one."""
        try:
            token, logprob = self.pick(np.asarray(logits), self.seen, self.rng)
        except IndexError:  # NaN has no place in a cumulative distribution
            raise OctavoError(NO_NUMBERS) from None
        self.seen[token] = True
        return self.drawn(token, logprob)

    @staticmethod
    def drawn(token: int, logprob: float) -> Token:
        """A token that was drawn, whose probability is a number."""
        if logprob != logprob:
            raise OctavoError(NO_NUMBERS)
        return Token(token, logprob)
