"""Llama (Touvron et al. 2023): a decoder Transformer with rotary positions and gated hidden layers.

    x = E[tokens]
    x = x + attention(norm(x));  x = x + mlp(norm(x))     (per layer; RMSNorm with gain)
    mlp(x) = W_down (silu(W_gate x) * W_up x)             (Shazeer 2020, SwiGLU)
    logits = W norm(x)                                    (W is E where the two are tied)

Positions turn queries and keys (Su et al. 2021), as Llama 3.1 scales them for longer texts where a config
says so. With fewer key and value heads than heads, a run of heads shares one (Ainslie et al. 2023). Names and
layout are those of the published checkpoints in Hugging Face's format.

What other families do besides is here too, where a weight alone says so: biases (`qwen2`), norms of queries
and keys (`qwen3`, `olmo2`). What else they do, they say in files of their own, in the words of this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from octavo import nn
from octavo.activations import silu
from octavo.checks import DEEPEST, Shape, require_flags, require_positive, require_sizes, require_token_ids
from octavo.errors import OctavoError
from octavo.models import published, rotary
from octavo.nn import Array

if TYPE_CHECKING:
    from numpy.random import Generator

FIXED = ()
BUFFERS = (".rotary_emb.inv_freq",)
PUBLISHED = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}

Family: TypeAlias = Any
"""The `Config` of a family of this line: it has the fields of the one here, and may have more."""


@dataclass(frozen=True)
class Config:
    """The fields of a published config.json that say what is computed, and which tokens frame a text."""

    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 352
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None  # num_attention_heads unless said
    head_dim: int | None = None  # hidden_size / num_attention_heads unless said
    max_position_embeddings: int = 128  # the length it was trained on
    rope_theta: float = 10000.0
    rope_scaling: rotary.Scaling | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        complete(self)

    @property
    def context(self) -> int:
        """The length it was trained on."""
        return self.max_position_embeddings


def complete(c: Family) -> None:
    """Refuse impossible values, and fill in what follows from the others."""
    require_sizes(c, "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
    require_sizes(c, "max_position_embeddings")
    require_sizes(c, "num_hidden_layers", most=DEEPEST)
    require_positive(c, "rope_theta", "rms_norm_eps")
    require_flags(c, "tie_word_embeddings")
    require_token_ids(c, "bos_token_id", "eos_token_id")
    if c.hidden_size % c.num_attention_heads:
        raise OctavoError(
            f"hidden_size {c.hidden_size} must be a multiple of num_attention_heads ({c.num_attention_heads})"
        )
    if c.num_key_value_heads is None:
        object.__setattr__(c, "num_key_value_heads", c.num_attention_heads)
    if c.head_dim is None:
        object.__setattr__(c, "head_dim", c.hidden_size // c.num_attention_heads)
    object.__setattr__(c, "rope_scaling", rotary.scaling(c.rope_scaling))
    require_sizes(c, "num_key_value_heads", "head_dim")
    if c.num_attention_heads % c.num_key_value_heads:
        raise OctavoError(
            f"num_attention_heads {c.num_attention_heads} must be a multiple of num_key_value_heads "
            f"({c.num_key_value_heads})"
        )
    if c.head_dim % 2:
        raise OctavoError(f"head_dim must be even, as columns turn in pairs, not {c.head_dim}")


# ---------------------------------------------------------------- parameters


def shapes(c: Family) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    norms = ("input_layernorm.weight", "post_attention_layernorm.weight")
    return table(c, dict.fromkeys(norms, (c.hidden_size,)))


def table(c: Family, besides: Mapping[str, Shape]) -> dict[str, Shape]:
    """The matrices of this line of families and the last norm, with what a layer has `besides`."""
    queries, keys = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    layer: dict[str, Shape] = {
        "self_attn.q_proj.weight": (queries, c.hidden_size),
        "self_attn.k_proj.weight": (keys, c.hidden_size),
        "self_attn.v_proj.weight": (keys, c.hidden_size),
        "self_attn.o_proj.weight": (c.hidden_size, queries),
        "mlp.gate_proj.weight": (c.intermediate_size, c.hidden_size),
        "mlp.up_proj.weight": (c.intermediate_size, c.hidden_size),
        "mlp.down_proj.weight": (c.hidden_size, c.intermediate_size),
        **besides,
    }
    found: dict[str, Shape] = {"model.embed_tokens.weight": (c.vocab_size, c.hidden_size)}
    found |= {
        f"model.layers.{i}.{n}": shape for i in range(c.num_hidden_layers) for n, shape in layer.items()
    }
    found["model.norm.weight"] = (c.hidden_size,)
    return found if c.tie_word_embeddings else found | {"lm_head.weight": (c.vocab_size, c.hidden_size)}


def initial(c: Family, name: str, shape: tuple[int, ...], rng: Generator) -> Array:
    """A parameter before training: fan-in scaled, the ends of residual branches zero.

    Where the head is tied to the embedding they are not: it would begin by repeating each token.
    """
    if len(shape) == 1:
        return nn.zeros(shape) if name.endswith("bias") else nn.ones(shape)
    scale = shape[1] ** -0.5
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        scale *= (2 * c.num_hidden_layers) ** -0.5 if c.tie_word_embeddings else 0.0
    return nn.normal(rng, shape, scale)


def from_published(params: dict[str, Array], c: Family) -> dict[str, Array]:
    """The parameters of a file: the names and the layout are ours."""
    if not c.tie_word_embeddings:
        return params
    return published.without_copy(params, "lm_head.weight", "model.embed_tokens.weight")


# ---------------------------------------------------------------- equations


class Place(NamedTuple):
    """Where a layer stands: the positions of its tokens, how they turn, and what it remembers."""

    positions: Array  # [B, T]
    turn: tuple[Array, Array]  # what `nn.rotary` gives for them
    window: int | None  # positions that a query sees; None: all before it
    keys: Array | None  # [B, S, G, K]; None where a text begins
    values: Array | None  # [B, S, G, K]


Block: TypeAlias = Callable[[nn.View, Family, Array, Place], tuple[Array, Array, Array]]
"""One layer: x [B, T, D] -> x [B, T, D], and the keys and values of the cache."""


def init_state(c: Family, batch: int, length: int, like: Array) -> nn.Cache:
    """An empty cache with room for `length` tokens a row."""
    return nn.empty_cache(c.num_hidden_layers, batch, length, c.num_key_value_heads, c.head_dim, like)


def block(p: nn.View, c: Family, x: Array, place: Place) -> tuple[Array, Array, Array]:
    """One layer: two branches, each with its norm before it."""
    h = nn.rms_norm(x, c.rms_norm_eps, p["input_layernorm.weight"])
    h, k, v = attention(p.at("self_attn."), c, h, place)
    x = x + p.tap("attention", h)
    h = nn.rms_norm(x, c.rms_norm_eps, p["post_attention_layernorm.weight"])
    return x + p.tap("mlp", mlp(p.at("mlp."), h)), k, v


def forward(
    p: nn.Params | nn.View,
    c: Family,
    tokens: Array,
    state: nn.Cache | None = None,
    block: Block = block,
    windows: Sequence[int | None] | None = None,
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it.

    A family whose layers are others, or look back on a window only, says so by `block` and `windows`.
    """
    p = nn.view(p)
    positions = nn.token_positions(tokens, state)  # [B, T]
    x = nn.embed(tokens, p["model.embed_tokens.weight"])  # [B, T, D]
    turn = nn.rotary(positions, rotary.rates(c.head_dim, c.rope_theta, c.rope_scaling), like=x)
    windows = windows or [None] * c.num_hidden_layers
    x, state = layers(p, c, x, positions, state, block, windows, [turn] * len(windows))
    return head(p, c, x), state


def layers(
    p: nn.View,
    c: Family,
    x: Array,
    positions: Array,
    state: nn.Cache | None,
    block: Block,
    windows: Sequence[int | None],
    turns: Sequence[tuple[Array, Array]],
) -> tuple[Array, nn.Cache]:
    """The stack: embeddings [B, T, D] through every layer, each with its own window and turn."""
    x = p.tap("embedding", x)
    keys, values = [], []
    for i, layer in enumerate(p.each("model.layers.", c.num_hidden_layers)):
        past = (state.keys[i], state.values[i]) if state else (None, None)
        x, k, v = block(layer, c, x, Place(positions, turns[i], windows[i], *past))
        keys.append(k)
        values.append(v)
    return x, nn.Cache(tuple(keys), tuple(values), positions[:, -1] + 1)


def head(p: nn.View, c: Family, x: Array) -> Array:
    """The logits [B, T, V] of x [B, T, D]: the weight of the head, or where there is none the embedding."""
    weight = p.get("lm_head.weight")
    x = nn.rms_norm(x, c.rms_norm_eps, p["model.norm.weight"])
    return nn.linear(x, p["model.embed_tokens.weight"] if weight is None else weight)


def attention(
    p: nn.View, c: Family, x: Array, place: Place, scale: float | None = None
) -> tuple[Array, Array, Array]:
    """X [B, T, D] -> what the heads bring [B, T, D], and the keys and values of the cache."""
    q = nn.split_heads(normed(p, c, "q_norm", p.linear("q_proj", x)), c.num_attention_heads)  # [B, T, H, K]
    k = nn.split_heads(normed(p, c, "k_norm", p.linear("k_proj", x)), c.num_key_value_heads)  # [B, T, G, K]
    v = nn.split_heads(p.linear("v_proj", x), c.num_key_value_heads)
    k = nn.extend(place.keys, nn.rotate(k, place.turn), place.positions)  # [B, S, G, K]
    v = nn.extend(place.values, v, place.positions)
    q = nn.rotate(q, place.turn)
    mixed = nn.attention(q, k, v, place.positions, p.tap, place.window, scale)
    return p.linear("o_proj", mixed), k, v


def normed(p: nn.View, c: Family, name: str, x: Array) -> Array:
    """RMSNorm of x [B, T, H*K] over as many columns as its gain has, a head's or all; none without a gain."""
    gain = p.get(name + ".weight")
    if gain is None:
        return x
    return nn.rms_norm(x.reshape(*x.shape[:-1], -1, len(gain)), c.rms_norm_eps, gain).reshape(x.shape)


def mlp(p: nn.View, x: Array, activation: Callable[[Array], Array] = silu) -> Array:
    """``W_down (silu(W_gate x) * W_up x)``, or with another activation."""
    gate = activation(p.linear("gate_proj", x))
    return p.linear("down_proj", p.tap("hidden", gate * p.linear("up_proj", x)))
