"""Qwen 3 (Yang et al. 2025): Llama whose queries and keys are normalised, head by head.

    q = norm(W_q x);  k = norm(W_k x)                     (RMSNorm with gain, over the K columns of a head)

A config may ask for a window in some layers, in the same words as one of Qwen 2.
"""

from __future__ import annotations

from octavo.models import llama, qwen2

FIXED, BUFFERS = llama.FIXED, llama.BUFFERS
PUBLISHED = {"architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu", "attention_bias": False}

initial, init_state, from_published = llama.initial, llama.init_state, llama.from_published
Config, forward = qwen2.Config, qwen2.forward


def shapes(c: llama.Family) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    layer = [f"model.layers.{i}.self_attn." for i in range(c.num_hidden_layers)]
    return llama.shapes(c) | {f"{at}{n}_norm.weight": (c.head_dim,) for at in layer for n in "qk"}
