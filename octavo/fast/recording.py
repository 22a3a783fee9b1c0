"""Recording: a model's own `forward`, called with stand-ins for its ids, its cache and its activations.

Whatever operation of `octavo.nn` is asked of a stand-in is written down instead of computed. A forward that
asks anything else (those of activations are in `octavo.fast.standins`) cannot be recorded, and runs by its
equations.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import numpy as np

from octavo import nn
from octavo.fast.frame import WRAP
from octavo.fast.recorded import Operation, Record, Rows, Unrecorded
from octavo.fast.standins import Stand, Value, feed, row_of
from octavo.nn import Array


class Ids(Stand):
    """The ids [1, 1]; or the ones before, or a sum of these, as `octavo.fast.recorded.Rows` has it.

    Parameters
    ----------
    record : Record
        What they are fed to.
    times : sequence of int
        How often each is in the sum: the id, the one before, and so on.
    modulus : int
        What the sum is divided by.
    wraps : bool
        Whether they have 32 bits and no sign, and may be computed with.
    """

    shape, ndim = (1, 1), 2

    def __init__(
        self, record: Record, times: tuple[int, ...] = (1,), modulus: int = WRAP, wraps: bool = False
    ) -> None:
        self.record, self.times, self.modulus, self.wraps = record, times, modulus, wraps

    def astype(self, dtype: Any) -> Ids:
        """The same as other whole numbers."""
        kind = np.dtype(dtype)
        if kind not in (np.int32, np.uint32) or (self.wraps and kind != np.uint32):
            raise Unrecorded(f"ids in {kind}")
        return Ids(self.record, self.times, self.modulus, kind == np.uint32)

    def __add__(self, other: Any) -> Ids:
        if not isinstance(other, Ids):
            raise Unrecorded("ids and a number")
        pairs = zip_longest(self.times, other.times, fillvalue=0)
        return self.computed(tuple(a + b for a, b in pairs), other)

    def __mul__(self, other: Any) -> Ids:
        return self.computed(tuple(n * other % WRAP for n in self.times))

    def __mod__(self, other: Any) -> Ids:
        made = self.computed(self.times)
        return Ids(made.record, made.times, int(other), made.wraps)

    def computed(self, times: tuple[int, ...], *others: Ids) -> Ids:
        """A sum of them and of others, where what becomes of large ones is known."""
        if any(not ids.wraps or ids.modulus != WRAP for ids in (self, *others)):
            raise Unrecorded("arithmetic of ids that do not wrap around at 32 bits")
        return Ids(self.record, times, self.modulus, self.wraps)


def _embed(ids: Ids, weight: Array) -> Value:
    if (ids.times, ids.modulus) == ((1,), WRAP) and isinstance(weight, np.ndarray):
        return row_of(ids.record, np.ascontiguousarray(weight))
    return feed(ids.record, (weight.shape[1],), Rows(weight, ids.times, ids.modulus))


Ids.ANSWERS = {"embed": _embed, "token_positions": lambda ids, cache: Places(ids.record)}


class Places(Stand):
    """The positions [1, 1]."""

    shape, ndim = (1, 1), 2

    def __init__(self, record: Record) -> None:
        self.record = record

    def __getitem__(self, key: Any) -> Places:
        return self

    def __add__(self, other: Any) -> Places:
        return self


def _rotary(places: Places, rates: Array, like: Value) -> tuple[Value, Value]:
    like_what = np.zeros(0, np.float32)

    def wave(which: int) -> Value:
        return feed(
            places.record,
            (1, len(rates)),
            lambda tokens, positions: nn.rotary(positions, rates, like_what)[which],
        )

    return wave(0), wave(1)


def _sinusoids(places: Places, width: Any, *, interleaved: bool = False) -> Value:
    columns = width if np.ndim(width) == 0 else 2 * len(width)
    return feed(
        places.record,
        (int(columns),),
        lambda tokens, positions: nn.sinusoids(positions, width, interleaved=interleaved),
    )


def _embed_positions(places: Places, weight: Array) -> Value:
    return feed(
        places.record, (weight.shape[1],), lambda tokens, positions: nn.embed_positions(positions, weight)
    )


Places.ANSWERS = {"rotary": _rotary, "sinusoids": _sinusoids, "embed_positions": _embed_positions}


class Slots(Stand):
    """The keys or the values of a layer, [1, S, G, K]."""

    def __init__(self, record: Record, number: int, shape: tuple[int, int]) -> None:
        self.record, self.number, self.own = record, number, shape


def _extend(slots: Slots, new: Value, positions: Places) -> Slots:
    if new.own != slots.own:
        raise Unrecorded(f"slots of {slots.own} for {new.own}")
    operation = Operation("append", (new.buffer,), None, {"slots": slots.number, "width": new.buffer.width})
    slots.record.operations.append(operation)
    return slots


Slots.ANSWERS = {"extend": _extend}


class Recent(Stand):
    """The ids that a cache remembers, [1, steps]."""

    def __init__(self, record: Record, steps: int) -> None:
        self.record, self.steps, self.read = record, steps, False


class Read(Stand):
    """Those ids and the ones that follow them, [1, steps + 1]."""

    def __init__(self, recent: Recent) -> None:
        self.recent = recent

    def __getitem__(self, key: Any) -> Ids | Recent:
        """As many as are read, so many before; or the last, which are remembered."""
        steps = self.recent.steps
        if key == (slice(None), slice(-steps, None)):
            return self.recent
        start, end = key[1].start or 0, key[1].stop or 0
        if key[0] != slice(None) or not 0 <= start <= steps or start - end != steps:
            raise Unrecorded(f"the ids {key}")
        return Ids(self.recent.record, (0,) * (steps - start) + (1,))


def _follow(recent: Recent, ids: Ids, steps: int) -> Read:
    if steps != recent.steps:
        raise Unrecorded(f"{steps} ids of {recent.steps}")
    recent.read = True
    return Read(recent)


Recent.ANSWERS = {"follow": _follow}


class Inputs(Stand):
    """What a convolution remembers, [1, taps - 1, D]."""

    def __init__(self, number: int, shape: tuple[int, ...]) -> None:
        self.number, self.own, self.read = number, shape, False


def record(forward: Callable[..., Any], params: nn.Params, config: Any, state: Any) -> Record:
    """Record a forward for states like this one: a cache, or what a recurrent model remembers.

    Raises
    ------
    Unrecorded
        If it does what there is no instruction for.
    """
    made = Record()
    given = _cache(made, state) if isinstance(state, nn.Cache) else _memory(made, state)
    logits, found = forward(params, config, Ids(made), given)
    if not isinstance(logits, Value) or logits.buffer.offset:
        raise Unrecorded("what forward returns")
    if isinstance(given, nn.Cache):
        if found._replace(position=None) != given._replace(position=None):
            raise Unrecorded("a cache that is not the one it was given")
        if not all(part.read for part in given.recent):
            raise Unrecorded("a memory that nobody reads")
    else:
        made.memory = [[value.buffer for value in layer] for layer in found]
        if any(buffer.offset or buffer in made.past for layer in made.memory for buffer in layer):
            raise Unrecorded("a memory that is part of something, or stays")
        if any(logits.buffer in layer for layer in made.memory):  # those are given away, and this stays
            logits = logits * 1
    made.finish(logits.buffer)
    return made


def _cache(made: Record, cache: nn.Cache) -> nn.Cache:
    shapes = [keys.shape[2:] for keys in cache.keys]
    keys = tuple(Slots(made, 2 * i, shape) for i, shape in enumerate(shapes))
    values = tuple(Slots(made, 2 * i + 1, shape) for i, shape in enumerate(shapes))
    return nn.Cache(keys, values, Places(made), _recent(made, *cache.recent) if cache.recent else ())


def _recent(made: Record, ids: Array, *inputs: Array) -> tuple[Recent | Inputs, ...]:
    if ids.dtype.kind != "i" or any(array.dtype.kind != "f" for array in inputs):
        raise Unrecorded("a memory that is not of ids first, then of convolutions")
    made.before = ids.shape[1]
    return Recent(made, made.before), *(Inputs(i, array.shape[1:]) for i, array in enumerate(inputs))


def _memory(made: Record, state: Any) -> tuple[tuple[Value, ...], ...]:
    def remembered(width: int) -> Value:
        made.past.append(made.buffer(width))
        return Value(made, made.past[-1], (width,), lead=1)

    return tuple(tuple(remembered(array.shape[1]) for array in layer) for layer in state)
