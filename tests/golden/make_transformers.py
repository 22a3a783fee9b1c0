"""Make huggingface/*: tiny random checkpoints as transformers saves them, and the logits it computes.

Run from the repository root: ``python tests/golden/make_transformers.py`` (transformers 5, PyTorch 2).
Nothing here imports octavo. Each folder holds what `save_pretrained` wrote, and in `expected.npz` ids
[B, T], their logits in float32 as read whole, and the same read in a prompt and single tokens with a cache.
Texts are longer than the windows, and where rotary positions are scaled than the original length.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

HERE = Path(__file__).parent / "huggingface"
V, TIME, PROMPT = 11, 12, 5

LLAMA = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GPT2 = {"vocab_size": V, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 16}
GROUPED = {"num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 2.0,
    "original_max_position_embeddings": 8,
}
LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0}
GEMMA = GROUPED | {"head_dim": 6, "query_pre_attn_scalar": 9, "num_hidden_layers": 3, "sliding_window": 4}
SLIDING, FULL = "sliding_attention", "full_attention"
TWO_BASES = {SLIDING: {"rope_type": "default", "rope_theta": 50.0}, FULL: LINEAR}
VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def models() -> dict[str, PreTrainedModel]:
    """The models by the names of their folders."""
    tied, windowed = {"tie_word_embeddings": True}, {"use_sliding_window": True, "sliding_window": 4}
    mistral = GROUPED | {"num_hidden_layers": 2}
    gemma = LLAMA | GEMMA
    capped = {
        "final_logit_softcapping": 3.0,
        "layer_types": [FULL, SLIDING, SLIDING],
        "rope_parameters": TWO_BASES,
    }
    both = Gemma3Config(
        text_config=gemma | {"layer_types": [SLIDING, SLIDING, FULL]},
        vision_config=VISION,
        mm_tokens_per_image=1,
        image_token_index=V - 1,
        boi_token_index=V - 2,
        eoi_token_index=V - 3,
    )
    return {
        "llama": LlamaForCausalLM(LlamaConfig(**LLAMA)),
        "llama-tied": LlamaForCausalLM(
            LlamaConfig(**LLAMA, **GROUPED, **tied, rope_theta=500.0, rms_norm_eps=1e-3)
        ),
        "llama-wide": LlamaForCausalLM(LlamaConfig(**LLAMA, num_key_value_heads=1, head_dim=6)),
        "llama-llama3": LlamaForCausalLM(LlamaConfig(**LLAMA | {"head_dim": 12}, rope_parameters=LLAMA3)),
        "llama-linear": LlamaForCausalLM(LlamaConfig(**LLAMA, rope_parameters=LINEAR)),
        "gpt2": GPT2LMHeadModel(GPT2Config(**GPT2, layer_norm_epsilon=1e-3)),
        "gpt2-narrow": GPT2LMHeadModel(GPT2Config(**GPT2, n_inner=24)),
        "mistral": MistralForCausalLM(MistralConfig(**LLAMA | mistral, sliding_window=4)),
        "mistral-all": MistralForCausalLM(
            MistralConfig(**LLAMA | mistral, sliding_window=None, head_dim=6, **tied)
        ),
        "qwen2": Qwen2ForCausalLM(Qwen2Config(**LLAMA | GROUPED)),
        "qwen2-window": Qwen2ForCausalLM(
            Qwen2Config(**LLAMA | GROUPED | {"num_hidden_layers": 3}, **tied, **windowed, max_window_layers=1)
        ),
        "qwen3": Qwen3ForCausalLM(Qwen3Config(**LLAMA | GROUPED, head_dim=6)),
        "qwen3-window": Qwen3ForCausalLM(
            Qwen3Config(
                **LLAMA, **tied, **windowed, num_key_value_heads=4, head_dim=4, layer_types=[SLIDING, FULL]
            )
        ),
        "gemma3": Gemma3ForCausalLM(
            Gemma3TextConfig(**gemma | {"num_hidden_layers": 7}, tie_word_embeddings=True)
        ),
        "gemma3-capped": Gemma3ForCausalLM(Gemma3TextConfig(**gemma, **capped, tie_word_embeddings=False)),
        "gemma3-pictures": Gemma3ForConditionalGeneration(both),
        "olmo2": Olmo2ForCausalLM(Olmo2Config(**LLAMA)),
        "olmo2-tied": Olmo2ForCausalLM(Olmo2Config(**LLAMA | GROUPED, **tied, rope_parameters=LLAMA3)),
    }


@torch.no_grad()
def cached(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """The logits of a prompt, then of one token at a time."""
    step = model(ids[:, :PROMPT], use_cache=True)
    logits = [step.logits]
    for t in range(PROMPT, ids.shape[1]):
        step = model(ids[:, t : t + 1], past_key_values=step.past_key_values, use_cache=True)
        logits.append(step.logits)
    return torch.cat(logits, 1)


@torch.no_grad()
def main() -> None:
    """Write every folder."""
    shutil.rmtree(HERE, ignore_errors=True)
    for number, (name, model) in enumerate(models().items()):
        torch.manual_seed(number)  # so that a new model changes no other
        for parameter in model.parameters():  # larger than they begin, so that everything matters
            parameter.normal_(0, 0.4)
        model.eval().save_pretrained(HERE / name)
        ids = torch.randint(0, V - 3, (2, TIME))  # the last three stand for pictures where there are any
        arrays = {"ids": ids, "logits": model(ids).logits, "cached": cached(model, ids)}
        np.savez(HERE / name / "expected.npz", **{n: a.numpy() for n, a in arrays.items()})
        (HERE / name / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
