"""Make huggingface/*: tiny random checkpoints as transformers saves them, and the logits it computes.

Run from the repository root: ``python tests/golden/make_transformers.py`` (transformers 5, PyTorch 2).
Nothing here imports octavo. Each folder holds what `save_pretrained` wrote, and in `expected.npz` ids
[B, T], their logits in float32 as read whole, and the same read in a prompt and single tokens with a cache.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

HERE = Path(__file__).parent / "huggingface"
V, TIME, PROMPT = 11, 12, 5

LLAMA = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}
GPT2 = {"vocab_size": V, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 16}


def models() -> dict[str, PreTrainedModel]:
    """The models by the names of their folders."""
    grouped = {"num_key_value_heads": 2, "rope_theta": 500.0, "rms_norm_eps": 1e-3}
    wide = {"num_key_value_heads": 1, "head_dim": 6}
    return {
        "llama": LlamaForCausalLM(LlamaConfig(**LLAMA)),
        "llama-tied": LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True, **grouped)),
        "llama-wide": LlamaForCausalLM(LlamaConfig(**LLAMA, **wide)),
        "gpt2": GPT2LMHeadModel(GPT2Config(**GPT2, layer_norm_epsilon=1e-3)),
        "gpt2-narrow": GPT2LMHeadModel(GPT2Config(**GPT2, n_inner=24)),
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
    torch.manual_seed(0)
    shutil.rmtree(HERE, ignore_errors=True)
    for name, model in models().items():
        for parameter in model.parameters():  # larger than they begin, so that everything matters
            parameter.normal_(0, 0.4)
        model.eval().save_pretrained(HERE / name)
        ids = torch.randint(0, V, (2, TIME))
        arrays = {"ids": ids, "logits": model(ids).logits, "cached": cached(model, ids)}
        np.savez(HERE / name / "expected.npz", **{n: a.numpy() for n, a in arrays.items()})
        (HERE / name / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
