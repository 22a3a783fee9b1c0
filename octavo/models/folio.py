"""A small decoder Transformer of Octavo's own, made of what learns most per minute on the CPU of a laptop.

    x = y = norm(E[t] + G2[t and the token before] + G3[t and the two before])   (tables of n-grams)
    x = x + s y                                            (per layer: the text is read again)
    h = norm(x);  h = h + conv(h);  x = x + attention(h)
    h = norm(x);  h = h + conv(h);  x = x + mlp(h)
    mlp(h) = W_2 relu(W_0 h)^2
    logits = soft_cap(W norm(x))                           (15 tanh(z / 15))

norm is RMSNorm without gain; nothing has a bias. conv is a depthwise causal convolution over the last
`taps` tokens, and mlp has the squared ReLU (So et al. 2021, Primer, which convolves queries, keys and values
instead). attention sees the last `window` positions; its queries and keys are normalised and then turned,
with a learned scale per head (Henry et al. 2020, query-key normalisation; Su et al. 2021, rotary positions);
to its values those of the first layer are added, each times a learned weight (Zhou et al. 2024, value
residual learning).
The logits are capped as in Gemma 2 (2024). Every branch, every convolution, s, the n-grams and the head
begin at zero.

An n-gram has a row of its own where the table is large enough, and shares one by a hash otherwise. Before
the first token of a text stands token 0.
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
WHOLE = ("conv",)
EPS, BASE, CAP = 1e-6, 10000.0, 15.0
HASH = 31337


@dataclass(frozen=True)
class Config:
    """Sizes. `bigrams` and `trigrams` are the rows of their tables, at most; `context` is trained on."""

    vocab_size: int = 1024
    d_model: int = 96
    n_layers: int = 2
    n_heads: int = 3
    d_ff: int = 384
    context: int = 256
    window: int = 64
    bigrams: int = 65536
    trigrams: int = 16384
    taps: int = 4

    def __post_init__(self) -> None:
        require_sizes(self, "vocab_size", "d_model", "n_heads", "d_ff", "context", "window")
        require_sizes(self, "bigrams", "trigrams")
        require_sizes(self, "n_layers", "taps", most=DEEPEST)
        if self.d_model % (2 * self.n_heads):
            raise OctavoError(
                f"d_model must be a multiple of twice n_heads ({2 * self.n_heads}), not {self.d_model}"
            )


class Past(NamedTuple):
    """What one layer remembers of a text; None where it begins."""

    keys: Array | None = None  # [B, S, H, K]
    values: Array | None = None  # [B, S, H, K]
    attention: Array | None = None  # [B, taps-1, D], the last inputs of its convolution
    mlp: Array | None = None  # [B, taps-1, D]


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    table: dict[str, tuple[int, ...]] = {
        "word_embedding.weight": (c.vocab_size, c.d_model),
        "bigram_embedding.weight": (min(c.vocab_size**2, c.bigrams), c.d_model),
        "trigram_embedding.weight": (min(c.vocab_size**3, c.trigrams), c.d_model),
    }
    for i in range(c.n_layers):
        attention, mlp = f"layers.{i}.attention.", f"layers.{i}.feed_forward."
        table[f"layers.{i}.skip"] = (c.d_model,)
        table[attention + "conv"] = (c.taps, c.d_model)
        table |= {attention + f"{n}.weight": (c.d_model, c.d_model) for n in ("wq", "wk", "wv", "wo")}
        table[attention + "scale"] = (c.n_heads,)
        table |= {attention + "mix": (c.d_model,)} if i else {}
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
    """An empty cache with room for `length` tokens a row, two tokens before the first, empty convolutions."""
    xp = nn.namespace(like)
    cache = nn.empty_cache(c.n_layers, batch, length, c.n_heads, c.d_model // c.n_heads, like)
    convs = (xp.zeros((batch, c.taps - 1, c.d_model), like.dtype) for _ in range(2 * c.n_layers))
    return cache._replace(recent=(xp.zeros((batch, 2), xp.int32), *convs))


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    p, tokens = nn.view(p), tokens.astype("int32")
    positions = nn.token_positions(tokens, state)  # [B, T]
    read = nn.follow(state.recent[0] if state else None, tokens, 2)  # [B, 2 + T]
    last, before = read[:, 1:-1], read[:, :-2]  # [B, T], the token before each, and the one before that
    x = nn.embed(tokens, p["word_embedding.weight"])  # [B, T, D]
    x = x + nn.embed(ngrams(c, c.bigrams, tokens, last), p["bigram_embedding.weight"])
    x = x + nn.embed(ngrams(c, c.trigrams, tokens, last, before), p["trigram_embedding.weight"])
    x = said = p.tap("embedding", nn.rms_norm(x, EPS))
    turn = nn.rotary(positions, nn.frequencies(c.d_model // c.n_heads, BASE), like=x)
    first, layers = None, []  # the values of the first layer; the memories of all
    for i, layer in enumerate(p.each("layers.", c.n_layers)):
        past = remembered(state, i) if state else Past()
        x = x + layer["skip"] * said
        h, v, past = attention(layer.at("attention."), c, nn.rms_norm(x, EPS), positions, turn, past, first)
        first = v if first is None else first
        x = x + layer.tap("attention", h)
        h, past = mlp(layer.at("feed_forward."), nn.rms_norm(x, EPS), past)
        x = x + layer.tap("mlp", h)
        layers.append(past)
    logits = nn.soft_cap(nn.linear(nn.rms_norm(x, EPS), p["fc_out.weight"]), CAP)  # [B, T, V]
    keys, values, *convs = zip(*layers, strict=True)
    recent = (read[:, -2:], *convs[0], *convs[1])
    return logits, nn.Cache(keys, values, positions[:, -1] + 1, recent)


def remembered(state: nn.Cache, i: int) -> Past:
    """What layer i remembers."""
    convs = state.recent[1:]
    return Past(state.keys[i], state.values[i], convs[i], convs[len(state.keys) + i])


def ngrams(c: Config, rows: int, tokens: Array, *before: Array) -> Array:
    """The row of each token [B, T] and those before it, the nearest first, in a table of `rows` -> [B, T]."""
    fits = c.vocab_size ** (1 + len(before)) <= rows
    row = tokens.astype("uint32")  # whose products wrap around
    for other in before:
        row = row * (c.vocab_size if fits else HASH) + other.astype("uint32")
    return row if fits else row % rows


def attention(
    p: nn.View,
    c: Config,
    x: Array,
    positions: Array,
    turn: tuple[Array, Array],
    past: Past,
    first: Array | None,
) -> tuple[Array, Array, Past]:
    """X [B, T, D] -> what the heads bring [B, T, D], the values, the memory with the new tokens in it."""
    h, conv = nn.causal_conv(x, p["conv"], past.attention)
    x = x + h
    q, k, v = (nn.split_heads(nn.linear(x, p[n + ".weight"]), c.n_heads) for n in ("wq", "wk", "wv"))
    q = nn.rotate(nn.rms_norm(q, EPS), turn) * p["scale"][:, None]  # [B, T, H, K]
    k = nn.rotate(nn.rms_norm(k, EPS), turn)
    if first is not None:
        v = v + nn.split_heads(p["mix"], c.n_heads) * first
    attend = nn.local_attention if past.keys is None else nn.attention
    keys, values = nn.extend(past.keys, k, positions), nn.extend(past.values, v, positions)
    mixed = attend(q, keys, values, positions, p.tap, c.window)
    return nn.linear(mixed, p["wo.weight"]), v, past._replace(keys=keys, values=values, attention=conv)


def mlp(p: nn.View, x: Array, past: Past) -> tuple[Array, Past]:
    """``W_2 relu(W_0 x)^2`` of x [B, T, D] and its last inputs."""
    h, conv = nn.causal_conv(x, p["conv"], past.mlp)
    h = nn.relu(nn.linear(x + h, p["0.weight"]))
    return nn.linear(p.tap("hidden", h * h), p["2.weight"]), past._replace(mlp=conv)
