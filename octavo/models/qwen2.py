"""Qwen 2 and 2.5 (Yang et al. 2024): Llama with biases where queries, keys and values are made.

    q = W_q x + b_q;  k = W_k x + b_k;  v = W_v x + b_v

A config may ask for a window in the layers from `max_window_layers` on.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo import nn
from octavo.checks import require_flags, require_sizes
from octavo.models import llama, rotary, windows
from octavo.nn import Array

FIXED, BUFFERS = llama.FIXED, llama.BUFFERS
PUBLISHED = {"architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu"}


@dataclass(frozen=True)
class Config:
    """The fields of a published config.json that say what is computed, and which tokens frame a text."""

    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 352
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 128
    use_sliding_window: bool = False
    sliding_window: int | None = None
    max_window_layers: int | None = None  # the first layers, which see everything
    layer_types: tuple[str, ...] | None = None  # what the three above come to
    rope_theta: float = 10000.0
    rope_scaling: rotary.Scaling | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        llama.complete(self)
        require_flags(self, "use_sliding_window")
        if self.use_sliding_window and self.layer_types is None:
            require_sizes(self, "max_window_layers")
        first = self.num_hidden_layers if self.max_window_layers is None else self.max_window_layers
        object.__setattr__(self, "max_window_layers", first)  # transformers takes no null
        windows.complete(self, lambda i: self.use_sliding_window and i >= first)

    context = llama.Config.context


initial, init_state, from_published = llama.initial, llama.init_state, llama.from_published


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    found = llama.shapes(c)
    made = [name for name in found if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]
    return found | {name.removesuffix("weight") + "bias": found[name][:1] for name in made}


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    return llama.forward(p, c, tokens, state, windows=windows.of(c))
