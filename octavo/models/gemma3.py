"""Gemma 3 (Gemma Team 2025), the text model: norms on both sides of the branches, and two kinds of layers.

    x = sqrt(D) E[tokens]
    x = x + norm(attention(norm(x)));  x = x + norm(mlp(norm(x)))    (per layer)
    mlp(x) = W_down (gelu(W_gate x) * W_up x)             (GELU by its tanh approximation)
    logits = soft_cap(E norm(x))                          (cap tanh(z / cap), where a cap is configured)

norm is RMSNorm with the gain 1 + w. Queries and keys are normalised head by head, and their products scaled
by 1 / sqrt(`query_pre_attn_scalar`). Most layers see a window of positions, which turn by a base of their
own, `rope_local_base_freq`; every sixth, unless said, sees all of them.

The published models of 4 B parameters and more see pictures too. Of those this reads the language model: the
part of their config.json that is about text, and its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from octavo import nn
from octavo.checks import Shape, require_positive, require_sizes
from octavo.models import llama, rotary, windows
from octavo.nn import Array

if TYPE_CHECKING:
    from numpy.random import Generator

FIXED, BUFFERS = llama.FIXED, llama.BUFFERS
PUBLISHED = {
    "architectures": ["Gemma3ForCausalLM"],
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "attn_logit_softcapping": None,
}


@dataclass(frozen=True)
class Config:
    """The fields of a published config.json that say what is computed, and which tokens frame a text."""

    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 352
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    head_dim: int = 32
    query_pre_attn_scalar: int = 32
    max_position_embeddings: int = 128
    sliding_window: int = 64
    sliding_window_pattern: int | None = None  # one layer in so many sees everything, 6 unless said
    layer_types: tuple[str, ...] | None = None  # what that comes to
    rope_theta: float = 1000000.0
    rope_local_base_freq: float = 10000.0
    rope_scaling: rotary.Scaling | None = None  # of the layers that see everything
    rms_norm_eps: float = 1e-6
    final_logit_softcapping: float | None = None
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        llama.complete(self)
        require_sizes(self, "query_pre_attn_scalar")
        require_positive(self, "rope_local_base_freq")
        if self.sliding_window_pattern is not None:
            require_sizes(self, "sliding_window_pattern")
        if self.final_logit_softcapping is not None:
            require_positive(self, "final_logit_softcapping")
        pattern = self.sliding_window_pattern or 6
        windows.complete(self, lambda i: (i + 1) % pattern != 0)

    context = llama.Config.context


init_state = llama.init_state
AFTER = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    norms = ("input_layernorm.weight", "pre_feedforward_layernorm.weight", *AFTER)
    besides: dict[str, Shape] = dict.fromkeys(norms, (c.hidden_size,))
    return llama.table(c, besides | {f"self_attn.{n}_norm.weight": (c.head_dim,) for n in "qk"})


def initial(c: Config, name: str, shape: tuple[int, ...], rng: Generator) -> Array:
    """A parameter before training: fan-in scaled, the gains that end residual branches zero (see `llama`)."""
    if name.endswith(AFTER):
        return nn.ones(shape) * ((2 * c.num_hidden_layers) ** -0.5 if c.tie_word_embeddings else 0) - 1
    if len(shape) == 1:
        return nn.zeros(shape)
    return nn.normal(rng, shape, shape[1] ** (-1 if name == "model.embed_tokens.weight" else -0.5))


def block(p: nn.View, c: Config, x: Array, place: llama.Place) -> tuple[Array, Array, Array]:
    """One layer: two branches, each between two norms."""

    def norm(name: str, x: Array) -> Array:
        return nn.rms_norm(x, c.rms_norm_eps, p[name + "_layernorm.weight"])

    scale = c.query_pre_attn_scalar**-0.5
    h, k, v = llama.attention(p.at("self_attn."), c, norm("input", x), place, scale)
    x = x + p.tap("attention", norm("post_attention", h))
    h = llama.mlp(p.at("mlp."), norm("pre_feedforward", x), nn.gelu_tanh)
    return x + p.tap("mlp", norm("post_feedforward", h)), k, v


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    p = with_gains(nn.view(p))
    positions = nn.token_positions(tokens, state)  # [B, T]
    x = c.hidden_size**0.5 * nn.embed(tokens, p["model.embed_tokens.weight"])  # [B, T, D]
    far = nn.rotary(positions, rotary.rates(c.head_dim, c.rope_theta, c.rope_scaling), like=x)
    near = nn.rotary(positions, rotary.rates(c.head_dim, c.rope_local_base_freq), like=x)
    sees = windows.of(c)
    turns = [far if window is None else near for window in sees]
    x, state = llama.layers(p, c, x, positions, state, block, sees, turns)
    logits = llama.head(p, c, x)  # [B, T, V]
    cap = c.final_logit_softcapping
    return (logits if cap is None else nn.soft_cap(logits, cap)), state


def with_gains(p: nn.View) -> nn.View:
    """The parameters with the gain 1 + w in place of each w of a norm."""
    gains = {name: 1 + w if name.endswith("norm.weight") else w for name, w in p.params.items()}
    return nn.View(gains, p.prefix, p.observe)


# ---------------------------------------------------------------- models that see pictures too

OTHERS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
"""Beginnings of the names of their other weights."""

UNTOLD = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
}
"""What such a config means where it does not say: the sizes that transformers takes for granted."""


def text_part(told: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of the text model in the config.json of a model that sees pictures too."""
    tokens = {name: told[name] for name in ("bos_token_id", "eos_token_id") if name in told}
    part = told.get("text_config")
    return {**UNTOLD, **tokens, **(part if isinstance(part, Mapping) else {}), "model_type": "gemma3_text"}


def from_published(params: dict[str, Array], c: Config) -> dict[str, Array]:
    """The parameters of a file under the names of a text model: others have "language_model." in theirs."""
    renamed = {name.replace("language_model.", "", 1): array for name, array in params.items()}
    return llama.from_published(renamed, c)
