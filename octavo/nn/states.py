"""States as values: copied to branch, and put together of rows and taken apart.

A state is a `Cache`, or a tuple of tuples of arrays [B, ...] for recurrent layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from octavo.nn.attending import Cache, with_slots
from octavo.nn.operations import Array, namespace


def copy_state(state: Any, rows: Sequence[int] | None = None) -> Any:
    """A state of its own, which goes on while the original is spent, or the other way round.

    Parameters
    ----------
    state
        What `Model.forward` returned, or `Model.init_state`.
    rows : sequence of int, optional
        Which rows of it the copy has, in which order; one may be there several times. All by default.

    Returns
    -------
    state
        Of ``len(rows)`` rows, with as much room as the original.

    Examples
    --------
    >>> import octavo
    >>> model = octavo.load("bard")
    >>> _, state = model.forward([[3, 1, 4]])  # one prompt, read once
    >>> logits, three = model.forward([[1], [5], [9]], copy_state(state, rows=[0, 0, 0]))
    >>> logits.shape, three.position.tolist(), state.position.tolist()
    ((3, 1, 1024), [4, 4, 4], [3])
    """
    chosen = slice(None) if rows is None else np.asarray(rows, np.intp)
    if not isinstance(state, Cache) or namespace(*state.keys) is not np:
        return of_arrays(lambda x: namespace(x).array(x[chosen]), state)
    filled = int(state.position[chosen].max(initial=0))

    def copied(x: Array) -> Array:  # room that nothing was written to costs no memory
        part = x[chosen, :filled]
        new = np.zeros((len(part), *x.shape[1:]), x.dtype)
        new[:, :filled] = part
        return new

    others = of_arrays(lambda x: x[chosen].copy(), (state.position, state.recent))
    return Cache(tuple(map(copied, state.keys)), tuple(map(copied, state.values)), *others)


def join_states(states: Sequence[Any], room: int = 0) -> Any:
    """One state of the rows of several, with room for the longest and for `room`; they stay as they are."""

    def joined(*parts: Array) -> Array:
        return namespace(*parts).concatenate(parts)

    if not isinstance(states[0], Cache):
        return of_arrays(joined, *states)
    room = max(room, *(state.room for state in states))

    def slots(*parts: Array) -> Array:  # of one layer after the other: all of them widened are as much again
        return joined(*(with_slots(x, room) for x in parts))

    keys = tuple(map(slots, *(state.keys for state in states)))
    values = tuple(map(slots, *(state.values for state in states)))
    return Cache(keys, values, *of_arrays(joined, *((state.position, state.recent) for state in states)))


def write_row(state: Any, row: int, source: Any, source_row: int = 0) -> Any:
    """The state with a row in place of one of its own; NumPy writes into it.

    A cache has at least as much room as the row is long. Slots behind it become 0: attention gives them
    no weight, but 0 times what was no number is none.
    """
    filled = int(source.position[source_row]) if isinstance(source, Cache) else None

    def written(x: Array, y: Array, slots: int | None = None) -> Array:
        if slots is None:
            return put(x, row, y[source_row])
        return put(put(x, (row, slice(slots)), y[source_row, :slots]), (row, slice(slots, None)), 0)

    def put(x: Array, at: Any, new: Any) -> Array:
        if namespace(x) is not np:
            return x.at[at].set(new)
        x[at] = new
        return x

    if not isinstance(state, Cache):
        return of_arrays(written, state, source)
    others = of_arrays(written, (state.position, state.recent), (source.position, source.recent))
    keys = (written(x, y, filled) for x, y in zip(state.keys, source.keys, strict=True))
    values = (written(x, y, filled) for x, y in zip(state.values, source.values, strict=True))
    return Cache(tuple(keys), tuple(values), *others)


def first_rows(state: Any, count: int) -> Any:
    """The first rows of a state, which share its memory in NumPy."""
    return of_arrays(lambda x: x[:count], state)


def of_arrays(function: Callable[..., Array], *states: Any) -> Any:
    """A state made of what a function gives for each array of a state, or of several alike."""
    first = states[0]
    if not isinstance(first, tuple):
        return function(*states)
    parts = [of_arrays(function, *parts) for parts in zip(*states, strict=True)]
    return Cache(*parts) if isinstance(first, Cache) else tuple(parts)
