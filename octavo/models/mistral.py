"""Mistral (Jiang et al. 2023): Llama whose queries see a window of the positions before them.

    a position sees itself and the `sliding_window` - 1 before it, in every layer (Beltagy et al. 2020)

Later versions (7B v0.2, Nemo) have no window, and are Llama.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo import nn
from octavo.checks import require_sizes
from octavo.models import llama, rotary
from octavo.nn import Array

FIXED, BUFFERS = llama.FIXED, llama.BUFFERS
PUBLISHED = {"architectures": ["MistralForCausalLM"], "hidden_act": "silu"}


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
    sliding_window: int | None = 64  # None: all positions are seen
    rope_theta: float = 10000.0
    rope_scaling: rotary.Scaling | None = None
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        llama.complete(self)
        if self.sliding_window is not None:
            require_sizes(self, "sliding_window")

    context = llama.Config.context


shapes, initial, from_published = llama.shapes, llama.initial, llama.from_published
init_state = llama.init_state


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    return llama.forward(p, c, tokens, state, windows=[c.sliding_window] * c.num_hidden_layers)
