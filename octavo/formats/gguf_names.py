"""What GGUF calls the parameters and config fields of the architectures that octavo shares with it.

The names are those of `gguf-py/gguf/constants.py` and `tensor_mapping.py` in the llama.cpp repository. A
family is a row here and no code: its config's fields, its parameters, and how GGUF's numbers differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Family(NamedTuple):
    """How GGUF tells of an architecture; the keys are octavo's words, the values GGUF's."""

    model_type: str
    fields: Mapping[str, str]  # of the config; GGUF puts the architecture's name before them
    tensors: Mapping[str, str]  # without the number of a layer, ".weight" and ".bias"
    layers: str = "model.layers."  # what stands before the number of a layer
    paired: tuple[str, ...] = ()  # in each head, columns i and i + K/2 are neighbours in GGUF
    added: float = 0.0  # what GGUF adds to gains of norms


DECODER = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
"""The fields of Llama and its kin."""

GEMMA = {
    "sliding_window": "attention.sliding_window",
    "sliding_window_pattern": "attention.sliding_window_pattern",
    "rope_local_base_freq": "rope.freq_base_swa",
    "final_logit_softcapping": "final_logit_softcapping",
}
"""Those that Gemma 3 has besides."""

BRANCHES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""The parameters that Llama and its kin have in common."""

BEFORE = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
AFTER = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}
AROUND = {"input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm", **AFTER}
OF_HEADS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}

GPT2 = Family(
    "gpt2",
    {
        "n_embd": "embedding_length",
        "n_inner": "feed_forward_length",
        "n_layer": "block_count",
        "n_head": "attention.head_count",
        "n_positions": "context_length",
        "layer_norm_epsilon": "attention.layer_norm_epsilon",
    },
    {
        "wte": "token_embd",
        "wpe": "position_embd",
        "ln_f": "output_norm",
        "ln_1": "attn_norm",
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    },
    layers="h.",
)

FAMILIES: dict[str, Family] = {
    "llama": Family("llama", DECODER, BRANCHES | BEFORE, paired=("q_proj", "k_proj")),
    "gpt2": GPT2,
    "qwen2": Family("qwen2", DECODER, BRANCHES | BEFORE),
    "qwen3": Family("qwen3", DECODER, BRANCHES | BEFORE | OF_HEADS),
    "gemma3": Family("gemma3_text", DECODER | GEMMA, BRANCHES | AROUND | OF_HEADS, added=1.0),
    "olmo2": Family("olmo2", DECODER, BRANCHES | AFTER | OF_HEADS),
}
"""By what GGUF calls the architecture."""

BY_TYPE = {family.model_type: name for name, family in FAMILIES.items()} | {"mistral": "llama"}
"""What GGUF calls a model type; a Mistral without a window is a Llama."""

IN_LAYER = re.compile(r"(?P<layers>blk\.|h\.|model\.layers\.)(?P<number>\d+)\.(?P<rest>.+)")
ENDS = (".weight", ".bias")


def to_gguf(family: Family, name: str) -> str:
    """GGUF's name of a parameter.

    Examples
    --------
    >>> to_gguf(GPT2, "h.11.attn.c_attn.bias")
    'blk.11.attn_qkv.bias'
    """
    return _renamed(name, family.tensors, "blk.")


def from_gguf(family: Family, name: str) -> str:
    """The parameter that GGUF calls so; a name it does not know is returned as it is.

    Examples
    --------
    >>> from_gguf(GPT2, "blk.11.attn_qkv.bias"), from_gguf(GPT2, "rope_freqs.weight")
    ('h.11.attn.c_attn.bias', 'rope_freqs.weight')
    """
    return _renamed(name, {theirs: ours for ours, theirs in family.tensors.items()}, family.layers)


def _renamed(name: str, names: Mapping[str, str], layers: str) -> str:
    found = IN_LAYER.fullmatch(name)
    prefix = f"{layers}{found['number']}." if found else ""
    stem, end = (found["rest"] if found else name), ""
    for known in ENDS:
        if stem.endswith(known):
            stem, end = stem.removesuffix(known), known
    return f"{prefix}{names[stem]}{end}" if stem in names else name
