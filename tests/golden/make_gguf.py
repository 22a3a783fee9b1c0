"""Make gguf/*: blocks of every format with their numbers, and tiny models, by the `gguf` package.

Run from the repository root: ``python tests/golden/make_gguf.py`` (gguf 0.19, safetensors, NumPy).
Nothing here imports octavo. The models are those of `huggingface/`, whose logits transformers computed.
"""

import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file

HERE = Path(__file__).parent
MODELS = ("llama", "llama-tied", "llama-wide", "llama-linear", "gpt2", "gpt2-narrow")
MODELS += ("qwen2", "qwen3", "gemma3", "olmo2")
WRITTEN = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
READ = {"Q2_K": (84, 80), "Q3_K": (110, 108), "Q4_K": (144, 0), "Q5_K": (176, 0), "Q6_K": (210, 208)}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
AFTER = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "transformer.wte.weight": "token_embd.weight",
    "transformer.wpe.weight": "position_embd.weight",
    "transformer.ln_f.weight": "output_norm.weight",
    "transformer.ln_f.bias": "output_norm.bias",
}


def blocks() -> None:
    """A matrix and its blocks for the formats that are written, random blocks for the others."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((6, 64)).astype(np.float32)
    matrix[1], matrix[2, :32], matrix[3, 5:40], matrix[4] = 0, 0.5, np.arange(35), matrix[4].round(1)
    arrays = {"matrix": matrix}
    for name in WRITTEN:
        kind = GGMLQuantizationType[name]
        raw = np.ascontiguousarray(quantize(matrix, kind)).view(np.uint8).reshape(len(matrix), -1)
        arrays |= {name: raw, f"{name} numbers": dequantize(raw, kind).astype(np.float32)}
    for name, (size, scales) in READ.items():
        raw = rng.integers(0, 256, (2, 2, size), dtype=np.uint8)
        count = 1 if size - scales == 2 else 2
        halves = rng.standard_normal((2, 2, count)).astype(np.float16)
        raw[..., scales : scales + 2 * count] = halves.view(np.uint8)
        raw = raw.reshape(2, -1)
        arrays |= {name: raw, f"{name} numbers": dequantize(raw, GGMLQuantizationType[name])}
    rope = {"rope_theta": 5e5, "factor": 32, "low_freq_factor": 1, "high_freq_factor": 4}
    arrays["llama3 factors"] = factors(rope | {"original_max_position_embeddings": 8192}, 64)
    np.savez_compressed(HERE / "gguf" / "blocks.npz", **arrays)


def paired(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of heads as GGUF has them: i and i + K/2 side by side."""
    return array.reshape(heads, 2, -1, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)


def factors(rope: dict[str, float], width: int) -> np.ndarray:
    """What llama.cpp's converter makes of Llama 3's scaling: a divisor for every frequency."""
    found = []
    for i in range(0, width, 2):
        length = 2 * np.pi * rope["rope_theta"] ** (i / width)
        trained, factor = rope["original_max_position_embeddings"], rope["factor"]
        low, high = trained / rope["low_freq_factor"], trained / rope["high_freq_factor"]
        between = (trained / length - rope["low_freq_factor"]) / (
            rope["high_freq_factor"] - rope["low_freq_factor"]
        )
        smooth = 1 / ((1 - between) / factor + between)
        found.append(1 if length < high else factor if length > low else smooth)
    return np.array(found, np.float32)


def model(name: str) -> None:
    """A folder of `huggingface/` as a GGUF file, float32."""
    folder = HERE / "huggingface" / name
    config, params = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    kind = config["model_type"]
    arch = {"gemma3_text": "gemma3"}.get(kind, kind)
    writer = GGUFWriter(HERE / "gguf" / f"{name}.gguf", arch)
    if kind != "gpt2":
        heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_head_count(heads)
        writer.add_head_count_kv(groups)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        rope, width = config["rope_parameters"], config.get("head_dim") or config["hidden_size"] // heads
        if arch == "gemma3":
            writer.add_sliding_window(config["sliding_window"])
            writer.add_float32("gemma3.rope.freq_base_swa", rope["sliding_attention"]["rope_theta"])
            rope = rope["full_attention"]
        writer.add_rope_freq_base(rope["rope_theta"])
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_dimension_count(width)
        writer.add_key_length(width)
        writer.add_value_length(width)
    else:
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
        writer.add_block_count(config["n_layer"])
        writer.add_context_length(config["n_positions"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    for key, array in params.items():
        if key in TOP:
            plus = arch == "gemma3" and key == "model.norm.weight"
            writer.add_tensor(TOP[key], array + np.float32(1) if plus else array)
            continue
        _, _, number, rest = key.split(".", 3)  # model.layers.0. or transformer.h.0.
        stem, _, end = rest.rpartition(".")
        if kind == "gpt2" and end == "weight" and array.ndim == 2:
            array = np.ascontiguousarray(array.T)
        if arch == "gemma3" and stem.endswith("norm"):
            array = array + np.float32(1)
        if arch == "llama" and stem.endswith("q_proj"):
            array = paired(array, heads)
        if arch == "llama" and stem.endswith("k_proj"):
            array = paired(array, groups)
        names = LAYER | {"olmo2": AFTER, "gemma3": AFTER | {"pre_feedforward_layernorm": "ffn_norm"}}.get(
            arch, {}
        )
        writer.add_tensor(f"blk.{number}.{names[stem]}.{end}", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    (HERE / "gguf").mkdir(exist_ok=True)
    blocks()
    for name in MODELS:
        model(name)
