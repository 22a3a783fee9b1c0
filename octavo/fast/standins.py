"""Stand-ins for activations: what is asked of one is written down, by the names of `octavo.nn`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from octavo import nn
from octavo.fast.recorded import Buffer, Constant, Feed, Operation, Record, Rows, Unrecorded
from octavo.nn import Array

if TYPE_CHECKING:
    from octavo.fast.recording import Inputs, Places, Slots


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
            return row_of(self.record, self.table + row)
        constant = feed(self.record, self.own, Constant(row), self.lead)
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


def row_of(record: Record, table: Array) -> Value:
    """The rows of a table that the ids name."""
    row = feed(record, (table.shape[1],), Rows(table))
    return Value(record, row.buffer, row.own, table=table)


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
