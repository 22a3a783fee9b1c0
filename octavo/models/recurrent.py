"""Stacks of recurrent layers: Elman networks, GRUs and LSTMs, between an embedding and dense layers.

    Elman (1990):                   h' = tanh(W x + b + U h)
    GRU (Cho et al. 2014):          z, r = s(W x + b + U h);  h' = z h + (1 - z) tanh(W x + b + U (r h))
      `reset_after`, the course's:  ... tanh(W x + b + r (U h + b'))
    LSTM (Hochreiter 1997):         i, f, c, o = W x + b + U h
                                    m' = s(f) m + s(i) tanh(c);  h' = s(o) tanh(m')

A first layer that is no embedding reads its tokens as one-hot vectors, which makes ``W x`` a column of
W. Rows of W and U are in Keras's order of gates: z r h, and i f c o. Layer and argument names are
Keras's, parameter names PyTorch's.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from octavo import nn
from octavo.activations import ACTIVATIONS
from octavo.checks import require_sizes
from octavo.errors import OctavoError
from octavo.nn import Array

if TYPE_CHECKING:
    from numpy.random import Generator

FIXED = ()
WHOLE = ("layers.0.weight", "layers.0.weight_ih")  # what reads tokens is read by columns
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
KINDS = (*GATES, "embedding", "dense", "activation")

State = tuple[tuple[Array, ...], ...]
"""Per layer: (h,), for an LSTM (h, m), for a layer without memory (); each [B, U]."""


@dataclass(frozen=True)
class Layer:
    """One layer of the stack.

    An `activation` of None means the customary one of the kind: tanh in recurrent layers, none elsewhere.
    An "activation" layer has no units of its own.
    """

    kind: str
    units: int = 0
    activation: str | None = None
    recurrent_activation: str = "sigmoid"
    reset_after: bool = True
    use_bias: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OctavoError(f"a layer is one of {', '.join(KINDS)}, not {reprlib.repr(self.kind)}")
        if self.kind != "activation":
            require_sizes(self, "units")
        elif self.units != 0:
            raise OctavoError(f"an activation has no units of its own, not {reprlib.repr(self.units)}")
        for flag in ("reset_after", "use_bias"):
            if not isinstance(getattr(self, flag), bool):
                raise OctavoError(f"{flag} must be true or false, not {reprlib.repr(getattr(self, flag))}")
        if self.activation is None:
            object.__setattr__(self, "activation", "tanh" if self.kind in GATES else "linear")
        for name in (self.activation, self.recurrent_activation):
            if not isinstance(name, str) or name not in ACTIVATIONS:
                known = ", ".join(ACTIVATIONS)
                raise OctavoError(f"no activation is called {reprlib.repr(name)}; there are {known}")


@dataclass(frozen=True)
class Config:
    """The stack, from the tokens up; its last layer gives the logits."""

    vocab_size: int
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        require_sizes(self, "vocab_size")
        listed = self.layers if isinstance(self.layers, tuple | list) else [None]
        if not all(isinstance(layer, Layer | dict) for layer in listed):
            raise OctavoError(f"layers must be a list of layers, not {reprlib.repr(self.layers)}")
        layers = tuple(layer if isinstance(layer, Layer) else Layer(**layer) for layer in listed)
        object.__setattr__(self, "layers", layers)
        if not any(layer.kind in GATES for layer in layers):
            raise OctavoError("a recurrent model needs a layer of kind rnn, gru or lstm; there is none")
        if any(layer.kind == "embedding" for layer in layers[1:]):
            raise OctavoError("an embedding can only be the first layer")
        if layers[0].kind == "activation":
            raise OctavoError("an activation cannot be the first layer")
        if (last := self.widths()[-1]) != self.vocab_size:
            raise OctavoError(f"the last layer gives {last} logits for a vocabulary of {self.vocab_size}")

    def widths(self) -> list[int]:
        """The width of what each layer puts out."""
        widths = [self.vocab_size]
        for layer in self.layers:
            widths.append(layer.units or widths[-1])
        return widths[1:]


def design(kind: str, vocab_size: int, units: int | tuple[int, ...] = (512,), embedding: int = 0) -> Config:
    """Layers of one kind, `units` wide, below a dense output; one-hot tokens unless embedded."""
    if not isinstance(units, tuple | list):  # the width of a single layer
        units = (units,)
    layers = [Layer("embedding", embedding)] if embedding else []
    layers += [Layer(kind, width) for width in units]
    return Config(vocab_size, (*layers, Layer("dense", vocab_size)))


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    table: dict[str, tuple[int, ...]] = {}
    width = c.vocab_size
    for i, layer in enumerate(c.layers):
        name, units, gates = f"layers.{i}.", layer.units, GATES.get(layer.kind)
        if layer.kind == "embedding":
            table[name + "weight"] = (width, units)
        elif layer.kind == "dense":
            table[name + "weight"] = (units, width)
            if layer.use_bias:
                table[name + "bias"] = (units,)
        elif gates:
            table[name + "weight_ih"] = (gates * units, width)
            table[name + "weight_hh"] = (gates * units, units)
            if layer.use_bias:
                table[name + "bias_ih"] = (gates * units,)
                if layer.kind == "gru" and layer.reset_after:
                    table[name + "bias_hh"] = (gates * units,)
        width = units or width
    return table


def initial(c: Config, name: str, shape: tuple[int, ...], rng: Generator) -> Array:
    """A parameter before training: Glorot's scale, orthogonal recurrence, an open forget gate.

    One column of the matrix that reads one-hot vectors is all that a token says: its entries are as large
    as those of an embedding, since Glorot's scale is for a sum over all columns.
    """
    layer = c.layers[int(name.split(".")[1])]
    if len(shape) == 1:
        bias = nn.zeros(shape)
        if layer.kind == "lstm":
            bias[layer.units : 2 * layer.units] = 1
        return bias
    if name.endswith("weight_hh"):
        return nn.orthogonal(rng, shape)
    if name == "layers.0.weight_ih":
        return nn.normal(rng, shape, 0.5)
    return nn.normal(rng, shape, (2 / (shape[1] + shape[0] // GATES.get(layer.kind, 1))) ** 0.5)


def init_state(c: Config, batch: int, length: int, like: Array) -> State:
    """Zeros. The memory has one size, whatever the `length`."""
    xp = nn.namespace(like)
    count = {"rnn": 1, "gru": 1, "lstm": 2}
    return tuple(
        tuple(xp.zeros((batch, layer.units), like.dtype) for _ in range(count.get(layer.kind, 0)))
        for layer in c.layers
    )


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: State | None = None
) -> tuple[Array, State]:
    """Tokens [B, T] -> logits [B, T, V] and the state after the last of them."""
    p = nn.view(p)
    if state is None:
        state = init_state(c, tokens.shape[0], 0, like=next(iter(p.params.values())))
    memory: list[tuple[Array, ...]] = []
    x = tokens
    for layer, weights, past in zip(c.layers, p.each("layers.", len(c.layers)), state, strict=True):
        if layer.kind == "embedding":
            x = nn.embed(x, weights["weight"])  # [B, T, D]
        elif layer.kind in GATES:
            inputs = project(x, weights["weight_ih"], weights.get("bias_ih"))  # [B, T, gates * U]
            x, past = recurrent(weights, layer, past, inputs)  # [B, T, U]
        else:
            if layer.kind == "dense":
                x = project(x, weights["weight"], weights.get("bias"))  # [B, T, U]
            x = ACTIVATIONS[str(layer.activation)](x)
        x = weights.tap(layer.kind, x)
        memory.append(past)
    return x, tuple(memory)


def project(x: Array, weight: Array, bias: Array | None) -> Array:
    """``W x + b``, for token ids [B, T] too: a one-hot vector picks a column of W."""
    if x.ndim == 3:
        return nn.linear(x, weight, bias)
    column = nn.embed(x, weight.T)
    return column if bias is None else column + bias


def recurrent(
    p: nn.View, layer: Layer, state: tuple[Array, ...], xs: Array
) -> tuple[Array, tuple[Array, ...]]:
    """A recurrent layer over inputs [B, T, gates * U] -> its outputs [B, T, U] and the last state."""
    if layer.kind == "gru" and not layer.reset_after:
        return nn.scan(partial(gru_before, p, layer), state, xs)
    return nn.recur(partial(CELLS[layer.kind], layer), p["weight_hh"], p.get("bias_hh"), state, xs)


def rnn(layer: Layer, state: tuple[Array], x: Array, u: Array) -> tuple[Array]:
    """One Elman step; x [B, U] is ``W x + b`` and u ``U h``."""
    return (ACTIVATIONS[str(layer.activation)](x + u),)


def gru(layer: Layer, state: tuple[Array], x: Array, u: Array) -> tuple[Array]:
    """One GRU step; x [B, 3 U] is ``W x + b`` for z, r and the candidate, and u ``U h + b'``."""
    (h,) = state
    gate, act, n = ACTIVATIONS[layer.recurrent_activation], ACTIVATIONS[str(layer.activation)], layer.units
    zr = gate(x[:, : 2 * n] + u[:, : 2 * n])
    candidate = act(x[:, 2 * n :] + zr[:, n:] * u[:, 2 * n :])
    return (candidate + zr[:, :n] * (h - candidate),)


def gru_before(p: nn.View, layer: Layer, state: tuple[Array], x: Array) -> tuple[Array]:
    """One step of a GRU that resets what it remembers before it is multiplied."""
    (h,) = state
    gate, act, n = ACTIVATIONS[layer.recurrent_activation], ACTIVATIONS[str(layer.activation)], layer.units
    weight = p["weight_hh"]
    zr = gate(x[:, : 2 * n] + nn.linear(h, weight[: 2 * n]))
    candidate = act(x[:, 2 * n :] + nn.linear(zr[:, n:] * h, weight[2 * n :]))
    return (candidate + zr[:, :n] * (h - candidate),)


def lstm(layer: Layer, state: tuple[Array, Array], x: Array, u: Array) -> tuple[Array, Array]:
    """One LSTM step; x [B, 4 U] is ``W x + b`` for i, f, the candidate and o, and u ``U h``."""
    _, m = state
    gate, act, n = ACTIVATIONS[layer.recurrent_activation], ACTIVATIONS[str(layer.activation)], layer.units
    x = x + u
    i_f, o = gate(x[:, : 2 * n]), gate(x[:, 3 * n :])
    m = i_f[:, n:] * m + i_f[:, :n] * act(x[:, 2 * n : 3 * n])
    return o * act(m), m


CELLS: dict[str, Any] = {"rnn": rnn, "gru": gru, "lstm": lstm}
