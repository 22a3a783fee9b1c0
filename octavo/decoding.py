"""Decoding: a sequence of ids continued one token at a time.

The prompt is read once, in chunks; from then on each token costs one step of the model and one draw.
Steps and draws follow the equations. A process that has written many tokens with recurrent models imports
`octavo.twins`, which compute the same faster; where that needs what is not installed, nothing changes.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, TypedDict

import numpy as np

from octavo import nn
from octavo.checks import is_whole
from octavo.errors import OctavoError
from octavo.model import Model, with_room
from octavo.models import recurrent
from octavo.sample import Sampling

PROMPT_CHUNK = 512  # tokens of the prompt that are read at once
PROMPT_SCORES = 2**22  # attention scores, a head, that doing so may hold
NO_NUMBERS = "the model's logits are not numbers; are its weights damaged?"
FIRST_ROOM = 1024  # tokens to write that the cache has room for at first; it grows
TWINS_PAY = 1000  # tokens: who writes as many may well write the thousands that importing Numba takes
WRITTEN = count(1)  # numbers the tokens that recurrent models write in this process by the equations

Step = Callable[[nn.Array, Any], tuple[nn.Array, Any]]
Pick = Callable[[nn.Array, nn.Array, np.random.Generator], tuple[int, float]]


class Token(NamedTuple):
    """One token as it was drawn."""

    id: int
    logprob: float  # natural logarithm of its probability under the model, before any sampling option


@dataclass
class Memory:
    """What a model has read, for a text that goes on later: its ids, and the state after the last of them.

    A step spends the state and may be interrupted half-way, so it is only here between two of them.
    """

    ids: list[int] = field(default_factory=list)
    state: Any = None

    def keep(self, ids: list[int], state: Any) -> None:
        """Remember a state after a step."""
        self.ids, self.state = ids, state

    def take(self) -> tuple[list[int], Any]:
        """What is here, which nobody else gets."""
        ids, state = self.ids, self.state
        self.ids, self.state = [], None
        return ids, state

    def shared(self, prompt: list[int]) -> tuple[int, Any]:
        """Take a state, and how many ids of the prompt it is after.

        Of a cache, what stands before the first difference is of use; a recurrent state is that of one text
        alone. At least one id of the prompt is left to read: what follows the last one is asked for.
        """
        ids, state = self.take()
        pairs = enumerate(zip(ids, prompt[:-1], strict=False))
        same = next((i for i, (a, b) in pairs if a != b), min(len(ids), len(prompt) - 1))
        if same == len(ids) or state is None:
            return same, state
        if not isinstance(state, nn.Cache) or state.recent:
            return 0, None
        return same, state._replace(position=0 * state.position + same)


class SamplingOptions(TypedDict, total=False):
    """The keyword arguments that `octavo.sample.Sampling` describes."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    logit_bias: Mapping[int, float] | None
    seed: int | None


def tokens(
    model: Model,
    ids: Sequence[int],
    *,
    limit: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    seed: int | None = None,
    stop: Collection[int] = (),
    memory: Memory | None = None,
) -> Iterator[Token]:
    """Continue a sequence of ids, one token at a time.

    Parameters
    ----------
    model : Model
        What continues it.
    ids : sequence of int
        The prompt, at least one token.
    limit : int
        The most tokens to draw.
    temperature, top_k, top_p, min_p, repetition_penalty, logit_bias, seed
        The sampling options, as `octavo.sample.Sampling` describes them.
    stop : collection of int
        Tokens that end the text; the one that does is not yielded.
    memory : Memory, optional
        What was read before: of the prompt only the rest is. It takes in what is read now, and goes to
        the next call.

    Yields
    ------
    Token
        The id, and the natural logarithm of its probability under the model itself.

    Raises
    ------
    OctavoError
        For an empty prompt, an id outside the vocabulary, an impossible option, or a prompt that
        does not fit into memory; at the call, before anything is drawn.

    Warns
    -----
    UserWarning
        Once, when the text grows longer than the context the model was trained on.

    Examples
    --------
    >>> import octavo
    >>> model = octavo.load("christie-rnn")
    >>> ids = model.tokenizer.encode("poiro")
    >>> [model.tokenizer.decode([token.id]) for token in octavo.tokens(model, ids, limit=1, temperature=0)]
    ['t']
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, logit_bias, seed)
    prompt = np.asarray(ids)
    if prompt.size == 0:
        raise OctavoError("the prompt is empty; give at least one token to continue from")
    if prompt.ndim != 1:
        raise OctavoError(f"a prompt is one sequence of ids, not an array of shape {prompt.shape}")
    model.check(prompt)
    for token in sampling.logit_bias or {}:
        if not 0 <= token < model.vocab_size:
            raise OctavoError(f"logit_bias names token {token}, outside the vocabulary of {model.vocab_size}")
    if list((sampling.logit_bias or {}).values()).count(-np.inf) == model.vocab_size:
        raise OctavoError("logit_bias bans every token; leave at least one")
    if not is_whole(limit) or limit < 0:
        raise OctavoError(f"limit is the number of tokens to write, not {limit!r}")
    if not isinstance(stop, Collection) or not all(is_whole(token) for token in stop):
        raise OctavoError(f"stop is a collection of token ids, not {stop!r}")
    if model.longest is not None:
        nn.require_positions(len(prompt) + max(limit - 1, 0), model.longest)
    _check_memory(model, len(prompt))
    return _draw(model, prompt, limit, frozenset(stop), sampling, memory or Memory())


def _draw(
    model: Model, prompt: nn.Array, limit: int, stop: frozenset[int], sampling: Sampling, memory: Memory
) -> Iterator[Token]:
    rng = np.random.default_rng(sampling.seed)
    logits = prompt
    pick: Pick = sampling.pick
    equations = model.architecture is recurrent and nn.namespace(*model.params.values()) is np
    ids, room = prompt.tolist(), len(prompt) + min(limit, FIRST_ROOM)
    read, state = memory.shared(ids)
    try:
        step = _stepper(model)
        state = with_room(state, room) if read else model.init_state(1, max(room, model.context or 0))
        for start, end in _chunks(len(prompt), read):
            logits, state = step(prompt[None, start:end], state)
    except MemoryError as error:
        raise OctavoError(f"a prompt of {len(prompt):,} tokens does not fit into memory ({error})") from None
    length = len(prompt)
    seen = np.zeros(model.vocab_size, bool)
    seen[prompt] = True
    if model.context is not None and length > model.context:
        _warn(model.context)
    memory.keep(ids, state)
    for drawn in range(limit):
        if equations and ("octavo.twins" in sys.modules or next(WRITTEN) > TWINS_PAY):
            equations = False
            step, pick = _twins(model, sampling, step, pick)
        try:
            token, logprob = pick(np.asarray(logits[0, -1]), seen, rng)
        except IndexError:  # NaN has no place in a cumulative distribution
            raise OctavoError(NO_NUMBERS) from None
        if token in stop:
            return
        if logprob != logprob:
            raise OctavoError(NO_NUMBERS)
        yield Token(token, logprob)
        seen[token] = True
        if length == model.context:
            _warn(model.context)
        length += 1
        if drawn + 1 < limit:
            if memory.take()[1] is not state:
                raise OctavoError("another text took this one's memory; end one before the next begins")
            logits, state = step(np.array([[token]]), with_room(state, length))
            ids.append(token)
            memory.keep(ids, state)


def _chunks(length: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Where a prompt is cut: the attention scores of a chunk are bounded, however far it looks back."""
    while start < length:
        end = min(start + max(min(PROMPT_CHUNK, PROMPT_SCORES // (start + PROMPT_CHUNK)), 1), length)
        yield start, end
        start = end


def _warn(context: int) -> None:
    warnings.warn(
        f"the text is longer than the {context} tokens of context the model was trained on; "
        "what follows may make less sense",
        stacklevel=3,
    )


def _stepper(model: Model) -> Step:
    """``step(tokens, state) -> (logits, state)`` of the architecture."""
    forward, config, p = model.architecture.forward, model.config, nn.View(model.params)
    if nn.namespace(*model.params.values()) is np:
        return lambda tokens, state: forward(p, config, tokens, state)
    import jax

    compiled = jax.jit(lambda params, tokens, state: forward(params, config, tokens, state), donate_argnums=2)
    return lambda tokens, state: compiled(model.params, tokens, state)


def _twins(model: Model, sampling: Sampling, step: Step, pick: Pick) -> tuple[Step, Pick]:
    """The twins of the step and of the draw; either as it is where it has none."""
    try:
        from octavo import twins
    except (ImportError, RuntimeError):  # no Numba, or no folder where it may keep what it compiles
        return step, pick
    return (
        twins.forward(model.config, model.params) or step,
        twins.pick(sampling, model.vocab_size) or pick,
    )


def _check_memory(model: Model, length: int) -> None:
    """Refuse a prompt whose cache alone is larger than the machine's memory."""
    state = model.init_state(1, 1)
    if not isinstance(state, nn.Cache):
        return
    need = length * sum(slots.nbytes for slots in (*state.keys, *state.values))
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    if need > have:
        raise OctavoError(
            f"a prompt of {length:,} tokens needs {need / 1e9:.1f} GB of memory and this machine has "
            f"{have / 1e9:.1f} GB; shorten the prompt"
        )
