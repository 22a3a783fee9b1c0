"""A small decoder Transformer of Octavo's own, made of what learns most per minute on the CPU of a laptop.

    x = norm(E[t] + G[pair of t and the token before])     (a table of tokens, and one of bigrams)
    h = norm(x);  h = h + conv(h);  x = x + attention(h)   (per layer)
    h = norm(x);  h = h + conv(h);  x = x + mlp(h)
    mlp(h) = W_2 relu(W_0 h)^2
    logits = soft_cap(W norm(x))                           (15 tanh(z / 15))

norm is RMSNorm without gain; nothing has a bias. conv is a depthwise causal convolution over the last
`taps` tokens, and mlp has the squared ReLU (So et al. 2021, Primer, which convolves queries, keys and values
instead). attention sees the last `window` positions; its queries and keys are normalised and then turned,
with a learned scale per head (Henry et al. 2020, query-key normalisation; Su et al. 2021, rotary positions).
The logits are capped as in Gemma 2 (2024). Every branch, every convolution, the bigrams and the head begin
at zero.

A bigram has a row of its own where the table is large enough, and shares one by a hash otherwise. The
first token of a text is paired with token 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from octavo import nn
from octavo.checks import DEEPEST, require_sizes
from octavo.errors import OctavoError
from octavo.nn import Array

if TYPE_CHECKING:
    from numpy.random import Generator

FIXED = ()
EPS, BASE, CAP = 1e-6, 10000.0, 15.0
HASH = 31337


@dataclass(frozen=True)
class Config:
    """Sizes. `bigrams` is how many rows their table has at most, `context` the length it was trained on."""

    vocab_size: int = 1024
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    d_ff: int = 512
    context: int = 256
    window: int = 64
    bigrams: int = 65536
    taps: int = 4

    def __post_init__(self) -> None:
        require_sizes(self, "vocab_size", "d_model", "n_heads", "d_ff", "context", "window", "bigrams")
        require_sizes(self, "n_layers", "taps", most=DEEPEST)
        if self.d_model % (2 * self.n_heads):
            raise OctavoError(
                f"d_model must be a multiple of twice n_heads ({2 * self.n_heads}), not {self.d_model}"
            )


class Past(NamedTuple):
    """What one layer remembers; None where a text begins."""

    keys: Array | None = None  # [B, S, H, K]
    values: Array | None = None  # [B, S, H, K]
    attention: Array | None = None  # [B, taps-1, D], the last inputs of its convolution
    mlp: Array | None = None  # [B, taps-1, D]


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    table: dict[str, tuple[int, ...]] = {
        "word_embedding.weight": (c.vocab_size, c.d_model),
        "bigram_embedding.weight": (min(c.vocab_size**2, c.bigrams), c.d_model),
    }
    for i in range(c.n_layers):
        attention, mlp = f"layers.{i}.attention.", f"layers.{i}.feed_forward."
        table[attention + "conv"] = (c.taps, c.d_model)
        table |= {attention + f"{n}.weight": (c.d_model, c.d_model) for n in ("wq", "wk", "wv", "wo")}
        table[attention + "scale"] = (c.n_heads,)
        table[mlp + "conv"] = (c.taps, c.d_model)
        table[mlp + "0.weight"] = (c.d_ff, c.d_model)
        table[mlp + "2.weight"] = (c.d_model, c.d_ff)
    return table | {"fc_out.weight": (c.vocab_size, c.d_model)}


def initial(c: Config, name: str, shape: tuple[int, ...], rng: Generator) -> Array:
    """A parameter before training: what feeds heads and hidden units fan-in scaled, what follows zero."""
    if name == "word_embedding.weight":
        return nn.normal(rng, shape, 0.5)
    if name.endswith("scale"):
        return nn.ones(shape) * (c.d_model // c.n_heads) ** 0.5
    if name.endswith(("wq.weight", "wk.weight", "wv.weight", "0.weight")):
        return nn.normal(rng, shape, shape[1] ** -0.5)
    return nn.zeros(shape)


def init_state(c: Config, batch: int, length: int, like: Array) -> nn.Cache:
    """An empty cache with room for `length` tokens a row, the token before the first, empty convolutions."""
    xp = nn.namespace(like)
    cache = nn.empty_cache(c.n_layers, batch, length, c.n_heads, c.d_model // c.n_heads, like)
    convs = (xp.zeros((batch, c.taps - 1, c.d_model), like.dtype) for _ in range(2 * c.n_layers))
    return cache._replace(recent=(xp.zeros(batch, xp.int32), *convs))


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    p, tokens = nn.view(p), tokens.astype("int32")
    positions = nn.token_positions(tokens, state)  # [B, T]
    before = nn.follow(state.recent[0][:, None] if state else None, tokens, 1)[:, :-1]  # [B, T]
    x = nn.embed(tokens, p["word_embedding.weight"])  # [B, T, D]
    x = x + nn.embed(pairs(c, tokens, before), p["bigram_embedding.weight"])
    x = p.tap("embedding", nn.rms_norm(x, EPS))
    turn = nn.rotary(positions, nn.frequencies(c.d_model // c.n_heads, BASE), like=x)
    layers = []
    for i, layer in enumerate(p.each("layers.", c.n_layers)):
        past = remembered(state, i) if state else Past()
        h, past = attention(layer.at("attention."), c, nn.rms_norm(x, EPS), positions, turn, past)
        x = x + layer.tap("attention", h)
        h, past = mlp(layer.at("feed_forward."), nn.rms_norm(x, EPS), past)
        x = x + layer.tap("mlp", h)
        layers.append(past)
    logits = nn.soft_cap(nn.linear(nn.rms_norm(x, EPS), p["fc_out.weight"]), CAP)  # [B, T, V]
    keys, values, *convs = zip(*layers, strict=True)
    recent = (tokens[:, -1], *convs[0], *convs[1])
    return logits, nn.Cache(keys, values, positions[:, -1] + 1, recent)


def remembered(state: nn.Cache, i: int) -> Past:
    """What layer i remembers."""
    convs = state.recent[1:]
    return Past(state.keys[i], state.values[i], convs[i], convs[len(state.keys) + i])


def pairs(c: Config, tokens: Array, before: Array) -> Array:
    """The row of each token and the one before, [B, T] and [B, T], in the table of bigrams -> [B, T]."""
    tokens, before = tokens.astype("uint32"), before.astype("uint32")  # whose products wrap around
    if c.vocab_size**2 <= c.bigrams:
        return tokens * c.vocab_size + before
    return (tokens * HASH + before) % c.bigrams


def attention(
    p: nn.View, c: Config, x: Array, positions: Array, turn: tuple[Array, Array], past: Past
) -> tuple[Array, Past]:
    """X [B, T, D] -> what the heads bring [B, T, D], and the memory with the new tokens in it."""
    h, conv = nn.causal_conv(x, p["conv"], past.attention)
    x = x + h
    q, k, v = (nn.split_heads(nn.linear(x, p[n + ".weight"]), c.n_heads) for n in ("wq", "wk", "wv"))
    q = nn.rotate(nn.rms_norm(q, EPS), turn) * p["scale"][:, None]  # [B, T, H, K]
    k = nn.rotate(nn.rms_norm(k, EPS), turn)
    attend = nn.local_attention if past.keys is None else nn.attention
    k, v = nn.extend(past.keys, k, positions), nn.extend(past.values, v, positions)
    mixed = attend(q, k, v, positions, p.tap, c.window)
    return nn.linear(mixed, p["wo.weight"]), past._replace(keys=k, values=v, attention=conv)


def mlp(p: nn.View, x: Array, past: Past) -> tuple[Array, Past]:
    """``W_2 relu(W_0 x)^2`` of x [B, T, D] and its last inputs."""
    h, conv = nn.causal_conv(x, p["conv"], past.mlp)
    h = nn.relu(nn.linear(x + h, p["0.weight"]))
    return nn.linear(p.tap("hidden", h * h), p["2.weight"]), past._replace(mlp=conv)
