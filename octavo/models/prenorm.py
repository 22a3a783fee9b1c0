"""A pre-norm decoder Transformer, the second of the course's two.

    x = E[tokens] + positions                             (sine and cosine interleaved)
    x = x + attention(norm(x));  x = x + mlp(norm(x))     (per layer; RMSNorm without gain)
    mlp(x) = W_2 gelu(W_1 x + b_1) + b_2                  (GELU by its tanh approximation)
    logits = E x                                          (tied to the embedding; no final norm)

Parameter names are those of the course's archive, laid out (out, in) with head h in the h-th run of
rows of W_Q, W_K and W_V and of columns of W_O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo import nn
from octavo.checks import DEEPEST, require_sizes
from octavo.errors import OctavoError
from octavo.nn import Array

if TYPE_CHECKING:
    from numpy.random import Generator

FIXED = ()
EPS = 1e-9


@dataclass(frozen=True)
class Config:
    """Sizes. `context` is the length it was trained on."""

    vocab_size: int = 1024
    d_model: int = 256
    n_layers: int = 4
    n_heads: int = 8
    d_ff: int = 1024
    context: int = 128
    d_head: int | None = None  # d_model / n_heads unless said

    def __post_init__(self) -> None:
        require_sizes(self, "vocab_size", "d_model", "n_heads", "d_ff", "context")
        require_sizes(self, "n_layers", most=DEEPEST)
        if self.d_model % 2:
            raise OctavoError(f"d_model must be even, not {self.d_model}")
        if self.d_head is None:
            if self.d_model % self.n_heads:
                raise OctavoError(
                    f"d_model {self.d_model} is no multiple of n_heads {self.n_heads}; say d_head"
                )
            object.__setattr__(self, "d_head", self.d_model // self.n_heads)
        require_sizes(self, "d_head")


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    heads = c.n_heads * int(c.d_head or 0)
    table: dict[str, tuple[int, ...]] = {"W_E": (c.vocab_size, c.d_model)}
    for i in range(c.n_layers):
        block = f"blocks.{i}."
        table |= {block + name: (heads, c.d_model) for name in ("W_Q", "W_K", "W_V")}
        table |= {block + "W_O": (c.d_model, heads)}
        table |= {block + "W_1": (c.d_ff, c.d_model), block + "b_1": (c.d_ff,)}
        table |= {block + "W_2": (c.d_model, c.d_ff), block + "b_2": (c.d_model,)}
    return table


def initial(c: Config, name: str, shape: tuple[int, ...], rng: Generator) -> Array:
    """A parameter before training: fan-in scaled, each residual branch by the depth besides."""
    if len(shape) == 1:
        return nn.zeros(shape)
    branch_end = name.endswith(("W_O", "W_2"))
    return nn.normal(rng, shape, shape[1] ** -0.5 * ((2 * c.n_layers) ** -0.5 if branch_end else 1))


def init_state(c: Config, batch: int, length: int, like: Array) -> nn.Cache:
    """An empty cache with room for `length` tokens a row."""
    return nn.empty_cache(c.n_layers, batch, length, c.n_heads, int(c.d_head or 0), like)


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    p = nn.view(p)
    positions = nn.token_positions(tokens, state)  # [B, T]
    x = nn.embed(tokens, p["W_E"])  # [B, T, D]
    x = p.tap("embedding", x + nn.sinusoids(positions, c.d_model, interleaved=True).astype(x.dtype))
    keys, values = [], []
    for i, block in enumerate(p.each("blocks.", c.n_layers)):
        past = (state.keys[i], state.values[i]) if state else (None, None)
        h, k, v = attention(block, c, nn.rms_norm(x, EPS), positions, past)
        x = x + block.tap("attention", h)
        x = x + block.tap("mlp", mlp(block, nn.rms_norm(x, EPS)))
        keys.append(k)
        values.append(v)
    return nn.linear(x, p["W_E"]), nn.Cache(tuple(keys), tuple(values), positions[:, -1] + 1)


def attention(
    p: nn.View, c: Config, x: Array, positions: Array, past: tuple[Array | None, Array | None]
) -> tuple[Array, Array, Array]:
    """X [B, T, D] -> what the heads bring [B, T, D], and the keys and values of the cache."""
    q = nn.split_heads(nn.linear(x, p["W_Q"]), c.n_heads)  # [B, T, H, K]
    k = nn.extend(past[0], nn.split_heads(nn.linear(x, p["W_K"]), c.n_heads), positions)
    v = nn.extend(past[1], nn.split_heads(nn.linear(x, p["W_V"]), c.n_heads), positions)
    return nn.linear(nn.attention(q, k, v, positions, p.tap), p["W_O"]), k, v


def mlp(p: nn.View, x: Array) -> Array:
    """``W_2 gelu(W_1 x + b_1) + b_2``."""
    hidden = p.tap("hidden", nn.gelu_tanh(nn.linear(x, p["W_1"], p["b_1"])))
    return nn.linear(hidden, p["W_2"], p["b_2"])
