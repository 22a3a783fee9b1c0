"""How a model reads what it is to go on with: in chunks, into a cache, within its context.

What it has read before, of the same text, it need not read again: that is a `Memory`.

Past the context there are three ways. A course model reads on, after a warning. One of a published family is
not let (`Model.enforced`). Or the text slides: what is read of it is what `window` says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from octavo import nn
from octavo.errors import OctavoError
from octavo.model import Model, with_room

PROMPT_CHUNK = 512  # tokens of the prompt that are read at once
PROMPT_SCORES = 2**22  # attention scores, a head, that doing so may hold

Step: TypeAlias = Callable[[nn.Array, Any], tuple[nn.Array, Any]]
"""Ids [B, T] and a state with room for them -> logits [B, T, V] and the state after them."""


@dataclass(frozen=True)
class Reading:
    """Where a model's texts are kept while it goes on with them, and what becomes of long ones.

    Attributes
    ----------
    cache : {"float32", "float16"} or None
        What keys and values are kept in; by default the dtype of the parameters.
    slide : bool
        Whether a text goes on past the context, of which it then reads less (`window`).
    """

    cache: str | None = None
    slide: bool = False

    def check(self, model: Model, length: int, limit: int) -> None:
        """Refuse a prompt of `length` tokens, to be followed by `limit`, that does not fit or is not to."""
        read = length + max(limit - 1, 0)  # the last token that is drawn is read by nobody
        if not self.slide and model.enforced is not None and read > model.enforced:
            raise OctavoError(
                f"a prompt of {length:,} tokens and {limit:,} more do not fit into the model's context of "
                f"{model.enforced:,} tokens: shorten the prompt, lower the limit, or let the text slide "
                "(slide=True, --slide)"
            )
        _check_memory(model, min(length, model.context or length) if self.slide else length, self.cache)

    def unbounded(self, model: Model) -> int | None:
        """The context, where texts are let past it, which is worth a warning."""
        return None if self.slide or model.enforced is not None else model.context

    def empty(self, model: Model, room: int) -> Any:
        """A state that has read nothing."""
        try:
            return model.init_state(1, room, self.cache)
        except MemoryError as error:
            raise OctavoError(f"a text of {room:,} tokens does not fit into memory ({error})") from None

    def keeps(self, state: Any) -> bool:
        """Whether a state is kept as it is to be."""
        return self.cache is None or (isinstance(state, nn.Cache) and state.keys[0].dtype == self.cache)

    def window(self, model: Model, ids: list[int]) -> list[int]:
        """What is read of a text: all of it, or where it slides, what `window` says."""
        if not self.slide or model.context is None or len(ids) <= model.context:
            return ids
        begin = list(model.tokenizer.begins_with) if model.tokenizer else []
        kept = len(begin) if ids[: len(begin)] == begin else 0
        return window(ids, model.context, kept)


def window(ids: list[int], context: int, kept: int = 0) -> list[int]:
    """What is read of a text that slides through a context of C tokens, the first k of which stay.

    With half = max(1, (C - k) // 2), a text of n tokens is read without ``half * ceil((n - C) / half)``
    tokens after the first k. So whenever C tokens have been read and one more comes, the oldest half of them
    is dropped and the rest is read again, from position 0; and a long prompt is read as if it had been
    written token by token.

    Parameters
    ----------
    ids : list of int
        The whole text.
    context : int
        C.
    kept : int, optional
        k, what stands before every text; more than C - 1 of them do not stay.

    Returns
    -------
    list of int
        At most C of the ids, the last one among them.

    Examples
    --------
    >>> [window(list(range(n)), 4) for n in (4, 5, 6, 7)]
    [[0, 1, 2, 3], [2, 3, 4], [2, 3, 4, 5], [4, 5, 6]]
    >>> window(list(range(9)), 5, kept=1)
    [0, 5, 6, 7, 8]
    """
    over = len(ids) - context
    if over <= 0:
        return ids
    kept = kept if kept < context else 0
    half = max((context - kept) // 2, 1)
    return ids[:kept] + ids[kept + -(-over // half) * half :]


def read(step: Step, ids: list[int], state: Any, start: int = 0, room: int = 0) -> tuple[nn.Array, Any]:
    """Read ``ids[start:]``, at least one token, after a state that has read the others.

    Returns the logits [1, T, V] of the last chunk, or of the last token alone where that is less work, and
    the state with room for at least `room` tokens.
    """
    row, step = np.array([ids]), getattr(step, "last", step)
    try:
        state = with_room(state, max(len(ids), room))
        for first, end in chunks(len(ids), start):
            logits, state = step(row[:, first:end], state)
    except MemoryError as error:
        raise OctavoError(f"a prompt of {len(ids):,} tokens does not fit into memory ({error})") from None
    return logits, state


def chunks(length: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Where a prompt is cut: the attention scores of a chunk are bounded, however far it looks back."""
    while start < length:
        end = min(start + max(min(PROMPT_CHUNK, PROMPT_SCORES // (start + PROMPT_CHUNK)), 1), length)
        yield start, end
        start = end


class Later(NamedTuple):
    """A state that is made when somebody asks for it: the one after so many tokens."""

    after: Callable[[int], Any]
    read: int


@dataclass
class Memory:
    """What a model has read, for a text that goes on later: its ids, and the state after the last of them.

    A step spends the state and may be interrupted half-way, so it is only here between two of them.
    """

    ids: list[int] = field(default_factory=list)
    kept: Any = None  # the state, or a `Later`

    @property
    def state(self) -> Any:
        """The state after the last of the ids, None if there are none."""
        return self.kept.after(self.kept.read) if isinstance(self.kept, Later) else self.kept

    def keep(self, ids: list[int], state: Any) -> None:
        """Remember a state after a step."""
        self.ids, self.kept = ids, state

    def take(self) -> tuple[list[int], Any]:
        """What is here, which nobody else gets."""
        ids, state = self.ids, self.state
        self.ids, self.kept = [], None
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
        return same, set_back(state, same)


def set_back(state: nn.Cache, length: int) -> nn.Cache:
    """The cache with the first `length` tokens alone; what is behind them is written over."""
    return state._replace(position=0 * state.position + length)


def _check_memory(model: Model, length: int, cache: str | None) -> None:
    """Refuse a prompt whose cache alone is larger than the machine's memory."""
    state = model.init_state(1, 1, cache)
    if not isinstance(state, nn.Cache):
        return
    need = length * sum(slots.nbytes for slots in (*state.keys, *state.values))
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    if need > have:
        raise OctavoError(
            f"a prompt of {length:,} tokens needs {need / 1e9:.1f} GB of memory and this machine has "
            f"{have / 1e9:.1f} GB; shorten the prompt"
        )
