"""Recording: a model's own `forward`, called with stand-ins for its ids, its cache and its activations.

Whatever operation of `octavo.nn` is asked of a stand-in is written down instead of computed. A forward that
asks anything else of its activations cannot be recorded, and runs by its equations.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from octavo import nn
from octavo.fast.recorded import Buffer, Feed, Operation, Record, Rows, Unrecorded
from octavo.nn import Array


class Stand:
    """A stand-in: it answers operations of `octavo.nn` by writing them down."""

    ANSWERS: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __operation__(self, name: str) -> Callable[..., Any]:
        """What takes the place of the operation."""
        answer = self.ANSWERS.get(name)
        if answer is None:
            raise Unrecorded(f"{name} of {type(self).__name__}")
        return answer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array_") and name != "__array_namespace__":
            raise AttributeError(name)
        raise Unrecorded(f"{name} of {type(self).__name__}")


class Value(Stand):
    """An activation [1, 1, ...], or of one token [1, ...]."""

    __array_ufunc__ = None
    dtype = np.dtype(np.float32)

    def __init__(
        self,
        record: Record,
        buffer: Buffer,
        shape: tuple[int, ...],
        lead: int = 2,
        table: Array | None = None,
    ) -> None:
        self.record, self.buffer, self.own, self.lead = record, buffer, shape, lead
        self.table = table  # of which it is a row

    @property
    def shape(self) -> tuple[int, ...]:
        """As NumPy would have it for one row and one token."""
        return (1,) * self.lead + self.own

    @property
    def ndim(self) -> int:
        """How many axes."""
        return self.lead + len(self.own)

    def astype(self, dtype: Any) -> Value:
        """Itself: everything is float32."""
        if np.dtype(dtype) != self.dtype:
            raise Unrecorded(f"an activation in {dtype}")
        return self

    def reshape(self, *shape: int) -> Value:
        """The same numbers in another shape."""
        whole = np.empty(self.shape, np.uint8).reshape(*shape).shape
        if whole[: self.lead] != (1,) * self.lead:
            raise Unrecorded(f"the shape {whole}")
        return Value(self.record, self.buffer, whole[self.lead :], self.lead)

    def __getitem__(self, key: Any) -> Value:
        """A run of heads, or of columns; or the only token, and back."""
        every = slice(None)
        if (self.lead, key) in ((2, (every, 0)), (1, (every, None))):
            return Value(self.record, self.buffer, self.own, 3 - self.lead, self.table)
        if not (isinstance(key, tuple) and key[:-1] == (every,) * self.lead and isinstance(key[-1], slice)):
            raise Unrecorded(f"the part {key}")
        start, stop, step = key[-1].indices(self.own[0])
        if step != 1:
            raise Unrecorded(f"the part {key}")
        each = math.prod(self.own[1:])
        part = Buffer(self.buffer.number, self.buffer.offset + start * each, (stop - start) * each)
        return Value(self.record, part, (stop - start, *self.own[1:]), self.lead)

    def __add__(self, other: Any) -> Value:
        return self.with_other("add", other)

    def __sub__(self, other: Any) -> Value:
        return self.with_other("subtract", other)

    def __mul__(self, other: Any) -> Value:
        last = self.record.operations[-1] if self.record.operations else None
        gate = isinstance(other, Value) and last and last.name == "sigmoid" and last.write == other.buffer
        if last and gate and last.reads[0] == self.buffer:  # x sigmoid(x)
            self.record.operations.pop()
            return write("silu", (self,), self.own)
        return self.with_other("multiply_by", other)

    __radd__, __rmul__ = __add__, __mul__

    def other(self, *_: Any) -> Value:
        """Arithmetic that no published forward does."""
        raise Unrecorded("arithmetic")

    __neg__ = __rsub__ = __truediv__ = __rtruediv__ = __pow__ = other

    def with_other(self, name: str, other: Any) -> Value:
        """An operation on two activations of one shape, or on one and a constant row."""
        if isinstance(other, Value):
            if other.own != self.own:
                raise Unrecorded(f"{name} of {self.own} and {other.own}")
            return write(name, (self, other), self.own)
        row = np.broadcast_to(np.asarray(other, np.float32), self.own).ravel()
        if self.table is not None and name == "add":
            return _row_of(self.record, self.table + row)
        constant = feed(self.record, self.own, lambda ids, positions: row, self.lead)
        return write(name, (self, constant), self.own)


def write(name: str, reads: tuple[Value, ...], shape: tuple[int, ...], **constants: Any) -> Value:
    """Write an operation down -> what it will give."""
    record = reads[0].record
    made = Value(record, record.buffer(math.prod(shape)), shape, reads[0].lead)
    record.operations.append(Operation(name, tuple(x.buffer for x in reads), made.buffer, constants))
    return made


def feed(record: Record, shape: tuple[int, ...], compute: Feed, lead: int = 2) -> Value:
    """What NumPy will compute of ids and positions."""
    made = Value(record, record.buffer(math.prod(shape)), shape, lead)
    record.feeds.append((made.buffer, compute))
    return made


def _linear(x: Value, weight: Array, bias: Array | None = None) -> Value:
    if x.buffer.offset or len(x.own) != 1:
        raise Unrecorded("a product of a part")
    return write("linear", (x,), (weight.shape[0],), weight=weight, bias=bias)


def _rms_norm(x: Value, eps: float, gain: Array | None = None) -> Value:
    return write("rms_norm", (x,), x.own, width=x.own[-1], eps=eps, gain=gain)


def _layer_norm(x: Value, eps: float, gain: Array, bias: Array) -> Value:
    return write("layer_norm", (x,), x.own, width=x.own[-1], eps=eps, gain=gain, bias=bias)


def _rotate(x: Value, turn: tuple[Value, Value]) -> Value:
    return write("rotate", (x, *turn), x.own, width=x.own[1], heads=x.own[0])


def _attention(
    q: Value,
    k: Slots,
    v: Slots,
    positions: Places,  # those of the frame
    tap: nn.Tap,  # nobody looks
    window: int | None = None,
    scale: float | None = None,
) -> Value:
    heads, width = q.own
    return write(
        "attention",
        (q,),
        (heads * width,),
        keys=k.number,
        values=v.number,
        heads=heads,
        groups=k.own[0],
        width=width,
        window=window or 0,
        scale=width**-0.5 if scale is None else scale,
    )


def _causal_conv(x: Value, weight: Array, past: Inputs) -> tuple[Value, Inputs]:
    if past.read or past.own != (len(weight) - 1, *x.own):
        raise Unrecorded(f"a convolution of {len(weight)} taps after inputs of {past.own}")
    past.read = True
    return write("causal_conv", (x,), x.own, weight=weight, inputs=past.number), past


def _split_heads(x: Value, heads: int) -> Value:
    return x.reshape(1, 1, heads, -1)


def _unary(name: str) -> Callable[[Value], Value]:
    return lambda x: write(name, (x,), x.own)


Value.ANSWERS = {
    "linear": _linear,
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "rotate": _rotate,
    "attention": _attention,
    "causal_conv": _causal_conv,
    "split_heads": _split_heads,
    "soft_cap": lambda x, cap: write("soft_cap", (x,), x.own, cap=cap),
    **{name: _unary(name) for name in ("relu", "gelu_tanh", "sigmoid", "tanh")},
}


class Ids(Stand):
    """The ids [1, 1]; or others, or numbers made of them.

    Parameters
    ----------
    record : Record
        What they are fed to.
    made : callable, optional
        What makes them of the ids that are fed; they are those, unless said.
    """

    shape, ndim = (1, 1), 2

    def __init__(self, record: Record, made: Callable[[Array], Array] | None = None) -> None:
        self.record, self.made = record, made

    def of(self, fed: Array) -> Array:
        """They, of the ids that are fed."""
        return self.made(fed) if self.made else fed

    def astype(self, dtype: Any) -> Ids:
        """The same as other whole numbers."""
        kind = np.dtype(dtype)
        return Ids(self.record, lambda fed: self.of(fed).astype(kind)) if kind != np.int32 else self

    def __add__(self, other: Any) -> Ids:
        return self.with_other(operator.add, other)

    def __mul__(self, other: Any) -> Ids:
        return self.with_other(operator.mul, other)

    def __mod__(self, other: Any) -> Ids:
        return self.with_other(operator.mod, other)

    def with_other(self, how: Callable[[Any, Any], Any], other: Any) -> Ids:
        """Arithmetic with others, or with a number."""
        if isinstance(other, Ids):
            return Ids(self.record, lambda fed: how(self.of(fed), other.of(fed)))
        return Ids(self.record, lambda fed: how(self.of(fed), other))


def _embed(ids: Ids, weight: Array) -> Value:
    if isinstance(weight, np.ndarray) and not ids.made:
        return _row_of(ids.record, np.ascontiguousarray(weight))
    if not ids.made:
        return feed(ids.record, (weight.shape[1],), Rows(weight))
    return feed(ids.record, (weight.shape[1],), lambda fed, positions: nn.embed(ids.of(fed), weight))


def _row_of(record: Record, table: Array) -> Value:
    row = feed(record, (table.shape[1],), Rows(table))
    return Value(record, row.buffer, row.own, table=table)


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
        if key[0] != slice(None) or start < 0 or start - end != steps:
            raise Unrecorded(f"the ids {key}")
        return Ids(self.recent.record, lambda fed: fed[:, start : fed.shape[1] + end])


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
    before = made.before
    ids = Ids(made, (lambda fed: fed[:, before:]) if before else None)
    logits, found = forward(params, config, ids, given)
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
