"""OLMo 2 (Walsh et al. 2024): Llama with the norms after the branches, and over all queries and keys.

x = x + norm(attention(x));  x = x + norm(mlp(x))     (per layer; RMSNorm with gain)
q = norm(W_q x);  k = norm(W_k x)                     (over all heads together)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo import nn
from octavo.checks import Shape
from octavo.models import llama
from octavo.nn import Array

if TYPE_CHECKING:
    from numpy.random import Generator

FIXED, BUFFERS = llama.FIXED, llama.BUFFERS
PUBLISHED = {"architectures": ["Olmo2ForCausalLM"], "hidden_act": "silu", "attention_bias": False}

AFTER = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")

Config, init_state, from_published = llama.Config, llama.init_state, llama.from_published


def shapes(c: llama.Family) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    besides: dict[str, Shape] = dict.fromkeys(AFTER, (c.hidden_size,))
    besides["self_attn.q_norm.weight"] = (c.num_attention_heads * c.head_dim,)
    besides["self_attn.k_norm.weight"] = (c.num_key_value_heads * c.head_dim,)
    return llama.table(c, besides)


def initial(c: llama.Family, name: str, shape: tuple[int, ...], rng: Generator) -> Array:
    """A parameter before training: fan-in scaled, the gains that end residual branches zero (see `llama`)."""
    if name.endswith(AFTER):
        return nn.ones(shape) * ((2 * c.num_hidden_layers) ** -0.5 if c.tie_word_embeddings else 0)
    if len(shape) == 2:
        return nn.normal(rng, shape, shape[1] ** -0.5)
    return llama.initial(c, name, shape, rng)


def block(p: nn.View, c: llama.Family, x: Array, place: llama.Place) -> tuple[Array, Array, Array]:
    """One layer: two branches, each with its norm after it."""
    h, k, v = llama.attention(p.at("self_attn."), c, x, place)
    x = x + p.tap("attention", nn.rms_norm(h, c.rms_norm_eps, p["post_attention_layernorm.weight"]))
    h = llama.mlp(p.at("mlp."), x)
    h = nn.rms_norm(h, c.rms_norm_eps, p["post_feedforward_layernorm.weight"])
    return x + p.tap("mlp", h), k, v


def forward(
    p: nn.Params | nn.View, c: llama.Family, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    return llama.forward(p, c, tokens, state, block)
