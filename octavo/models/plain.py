"""A decoder Transformer without any normalisation, the first of the course's two.

    x = E[tokens] + positions               (all sines, then all cosines)
    x = x + attention(x);  x = x + mlp(x)   (per layer; ReLU; no biases; packed heads)
    logits = W x + b

After Vaswani et al. 2017, decoder side, with the layer norms left out. Parameter names are those of
the course's archive. `position_embedding.inv_freq` holds the frequencies of the positions: it is
stored with the weights and never trained.
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

FIXED = ("position_embedding.inv_freq",)


@dataclass(frozen=True)
class Config:
    """Sizes; the defaults are the course's. `context` is the length it was trained on."""

    vocab_size: int = 1024
    d_model: int = 512
    n_layers: int = 4
    n_heads: int = 8
    d_ff: int = 2048
    context: int = 128

    def __post_init__(self) -> None:
        require_sizes(self, "vocab_size", "d_model", "n_heads", "d_ff", "context")
        require_sizes(self, "n_layers", most=DEEPEST)
        if self.d_model % self.n_heads or self.d_model % 2:
            raise OctavoError(
                f"d_model must be even and a multiple of n_heads ({self.n_heads}), not {self.d_model}"
            )


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    table: dict[str, tuple[int, ...]] = {
        "word_embedding.weight": (c.vocab_size, c.d_model),
        "position_embedding.inv_freq": (c.d_model // 2,),
    }
    for i in range(c.n_layers):
        for name in ("wq", "wk", "wv", "wo"):
            table[f"layers.{i}.attention.{name}.weight"] = (c.d_model, c.d_model)
        table[f"layers.{i}.feed_forward.0.weight"] = (c.d_ff, c.d_model)
        table[f"layers.{i}.feed_forward.2.weight"] = (c.d_model, c.d_ff)
    return table | {"fc_out.weight": (c.vocab_size, c.d_model), "fc_out.bias": (c.vocab_size,)}


def initial(c: Config, name: str, shape: tuple[int, ...], rng: Generator) -> Array:
    """A parameter before training: fan-in scaled, each residual branch by the depth besides.

    The output layer begins at zero: the first prediction is the uniform one.
    """
    if name == "position_embedding.inv_freq":
        return nn.frequencies(c.d_model).astype("float32")
    if name.startswith("fc_out."):
        return nn.zeros(shape)
    branch_end = name.endswith(("wo.weight", "feed_forward.2.weight"))
    return nn.normal(rng, shape, shape[1] ** -0.5 * ((2 * c.n_layers) ** -0.5 if branch_end else 1))


def init_state(c: Config, batch: int, length: int, like: Array) -> nn.Cache:
    """An empty cache with room for `length` tokens a row."""
    return nn.empty_cache(c.n_layers, batch, length, c.n_heads, c.d_model // c.n_heads, like)


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    p = nn.view(p)
    positions = nn.token_positions(tokens, state)  # [B, T]
    x = nn.embed(tokens, p["word_embedding.weight"])  # [B, T, D]
    x = x + nn.sinusoids(positions, p["position_embedding.inv_freq"]).astype(x.dtype)
    x = p.tap("embedding", x)
    keys, values = [], []
    for i, layer in enumerate(p.each("layers.", c.n_layers)):
        past = (state.keys[i], state.values[i]) if state else (None, None)
        h, k, v = attention(layer.at("attention."), c, x, positions, past)
        x = x + layer.tap("attention", h)
        x = x + layer.tap("mlp", mlp(layer.at("feed_forward."), x))
        keys.append(k)
        values.append(v)
    logits = nn.linear(x, p["fc_out.weight"], p["fc_out.bias"])  # [B, T, V]
    return logits, nn.Cache(tuple(keys), tuple(values), positions[:, -1] + 1)


def attention(
    p: nn.View, c: Config, x: Array, positions: Array, past: tuple[Array | None, Array | None]
) -> tuple[Array, Array, Array]:
    """X [B, T, D] -> what the heads bring [B, T, D], and the keys and values of the cache."""
    q = nn.split_heads(nn.linear(x, p["wq.weight"]), c.n_heads)  # [B, T, H, K]
    k = nn.extend(past[0], nn.split_heads(nn.linear(x, p["wk.weight"]), c.n_heads), positions)
    v = nn.extend(past[1], nn.split_heads(nn.linear(x, p["wv.weight"]), c.n_heads), positions)
    return nn.linear(nn.attention(q, k, v, positions, p.tap), p["wo.weight"]), k, v


def mlp(p: nn.View, x: Array) -> Array:
    """``W_2 relu(W_0 x)``."""
    return nn.linear(p.tap("hidden", nn.relu(nn.linear(x, p["0.weight"]))), p["2.weight"])
