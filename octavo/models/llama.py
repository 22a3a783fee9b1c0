"""Llama (Touvron et al. 2023): a decoder Transformer with rotary positions and gated hidden layers.

    x = E[tokens]
    x = x + attention(norm(x));  x = x + mlp(norm(x))     (per layer; RMSNorm with gain; no biases)
    mlp(x) = W_down (silu(W_gate x) * W_up x)             (Shazeer 2020, SwiGLU)
    logits = W norm(x)                                    (W is E where the two are tied)

Positions turn queries and keys (Su et al. 2021). With fewer key and value heads than heads, a run of heads
shares one (Ainslie et al. 2023). Names and layout are those of the published checkpoints in Hugging
Face's format. Not here: scaled rotary positions (Llama 3.1 and later), biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo import nn
from octavo.activations import silu
from octavo.checks import DEEPEST, require_sizes
from octavo.errors import OctavoError
from octavo.models import published
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
    "rope_scaling": None,
}


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
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require_sizes(self, "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
        require_sizes(self, "max_position_embeddings")
        require_sizes(self, "num_hidden_layers", most=DEEPEST)
        published.require_positive(self, "rope_theta", "rms_norm_eps")
        published.require_flags(self, "tie_word_embeddings")
        published.require_token_ids(self, "bos_token_id", "eos_token_id")
        if self.hidden_size % self.num_attention_heads:
            raise OctavoError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads "
                f"({self.num_attention_heads})"
            )
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        if self.head_dim is None:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        require_sizes(self, "num_key_value_heads", "head_dim")
        if self.num_attention_heads % self.groups:
            raise OctavoError(
                f"num_attention_heads {self.num_attention_heads} must be a multiple of num_key_value_heads "
                f"({self.groups})"
            )
        if self.width % 2:
            raise OctavoError(f"head_dim must be even, as columns turn in pairs, not {self.width}")

    @property
    def context(self) -> int:
        """The length it was trained on."""
        return self.max_position_embeddings

    @property
    def groups(self) -> int:
        """G, how many heads of keys and values there are."""
        return int(self.num_key_value_heads or 0)

    @property
    def width(self) -> int:
        """K, the width of a head."""
        return int(self.head_dim or 0)


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    table: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c.vocab_size, c.hidden_size)}
    for i in range(c.num_hidden_layers):
        layer = f"model.layers.{i}."
        table[layer + "input_layernorm.weight"] = (c.hidden_size,)
        table[layer + "self_attn.q_proj.weight"] = (c.num_attention_heads * c.width, c.hidden_size)
        table[layer + "self_attn.k_proj.weight"] = (c.groups * c.width, c.hidden_size)
        table[layer + "self_attn.v_proj.weight"] = (c.groups * c.width, c.hidden_size)
        table[layer + "self_attn.o_proj.weight"] = (c.hidden_size, c.num_attention_heads * c.width)
        table[layer + "post_attention_layernorm.weight"] = (c.hidden_size,)
        table[layer + "mlp.gate_proj.weight"] = (c.intermediate_size, c.hidden_size)
        table[layer + "mlp.up_proj.weight"] = (c.intermediate_size, c.hidden_size)
        table[layer + "mlp.down_proj.weight"] = (c.hidden_size, c.intermediate_size)
    table["model.norm.weight"] = (c.hidden_size,)
    return table if c.tie_word_embeddings else table | {"lm_head.weight": (c.vocab_size, c.hidden_size)}


def initial(c: Config, name: str, shape: tuple[int, ...], rng: Generator) -> Array:
    """A parameter before training: fan-in scaled, the ends of residual branches zero.

    Where the head is tied to the embedding they are not: it would begin by repeating each token.
    """
    if len(shape) == 1:
        return nn.ones(shape)
    scale = shape[1] ** -0.5
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        scale *= (2 * c.num_hidden_layers) ** -0.5 if c.tie_word_embeddings else 0.0
    return nn.normal(rng, shape, scale)


def init_state(c: Config, batch: int, length: int, like: Array) -> nn.Cache:
    """An empty cache with room for `length` tokens a row."""
    return nn.empty_cache(c.num_hidden_layers, batch, length, c.groups, c.width, like)


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    p = nn.view(p)
    positions = nn.token_positions(tokens, state)  # [B, T]
    embedding = p["model.embed_tokens.weight"]
    x = p.tap("embedding", nn.embed(tokens, embedding))  # [B, T, D]
    turn = nn.rotary(positions, c.width, c.rope_theta, like=x)
    keys, values = [], []
    for i, layer in enumerate(p.each("model.layers.", c.num_hidden_layers)):
        past = (state.keys[i], state.values[i]) if state else (None, None)
        h = nn.rms_norm(x, c.rms_norm_eps, layer["input_layernorm.weight"])
        h, k, v = attention(layer.at("self_attn."), c, h, positions, turn, past)
        x = x + layer.tap("attention", h)
        h = nn.rms_norm(x, c.rms_norm_eps, layer["post_attention_layernorm.weight"])
        x = x + layer.tap("mlp", mlp(layer.at("mlp."), h))
        keys.append(k)
        values.append(v)
    x = nn.rms_norm(x, c.rms_norm_eps, p["model.norm.weight"])
    head = p.get("lm_head.weight")
    logits = nn.linear(x, embedding if head is None else head)  # [B, T, V]
    return logits, nn.Cache(tuple(keys), tuple(values), positions[:, -1] + 1)


def attention(
    p: nn.View,
    c: Config,
    x: Array,
    positions: Array,
    turn: tuple[Array, Array],
    past: tuple[Array | None, Array | None],
) -> tuple[Array, Array, Array]:
    """X [B, T, D] -> what the heads bring [B, T, D], and the keys and values of the cache."""
    q = nn.rotate(nn.split_heads(p.linear("q_proj", x), c.num_attention_heads), turn)  # [B, T, H, K]
    k = nn.rotate(nn.split_heads(p.linear("k_proj", x), c.groups), turn)  # [B, T, G, K]
    k = nn.extend(past[0], k, positions)  # [B, S, G, K]
    v = nn.extend(past[1], nn.split_heads(p.linear("v_proj", x), c.groups), positions)
    return p.linear("o_proj", nn.attention(q, k, v, positions, p.tap)), k, v


def mlp(p: nn.View, x: Array) -> Array:
    """``W_down (silu(W_gate x) * W_up x)``."""
    return p.linear("down_proj", p.tap("hidden", silu(p.linear("gate_proj", x)) * p.linear("up_proj", x)))


def from_published(params: dict[str, Array], c: Config) -> dict[str, Array]:
    """The parameters of a file: the names and the layout are ours."""
    if not c.tie_word_embeddings:
        return params
    return published.without_copy(params, "lm_head.weight", "model.embed_tokens.weight")
