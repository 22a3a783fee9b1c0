"""GGUF files that octavo writes, opened by llama.cpp: the logits of a text, and what it writes on.

    python bench/llama_cpp_reads.py [--dtype F32] [--tokens 40] [--model FOLDER_OR_FILE ...]

Without models, a small one of random weights of every family that GGUF knows is made, in which nothing is
zero and texts are longer than the windows. llama.cpp computes in its own order, takes GELU from a table in
half precision (gpt2, gemma3) and rounds activations to 8 bits where weights are in blocks, so logits agree to
such rounding; the text is the same as long as no two tokens are that close. Needs llama-cpp-python.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo import models, quant, tokenizers
from octavo.model import Model

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 9
PROMPTS = ("It was the", "the worst of times, it was the age of wisdom", "best")
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256},
    "llama": SIZES,
    "mistral": SIZES | {"sliding_window": None},  # GGUF has no window for it
    "qwen2": SIZES,
    "qwen3": SIZES | {"head_dim": 32},
    # llama.cpp: every sixth layer looks back on everything, and local ones turn by 10,000
    "gemma3_text": SIZES
    | {"num_hidden_layers": 7, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16},
    "olmo2": SIZES | {"num_key_value_heads": 4},
}


def small(family: str) -> Model:
    """A model of random weights, of a size at which each of them tells."""
    tokenizer = tokenizers.train_bpe(TEXT, 287)
    config = models.configure(family, {"vocab_size": len(tokenizer), **FAMILIES[family]})
    rng = np.random.default_rng(0)
    params = {}
    for name, shape in models.architecture(family).shapes(config).items():
        scale = 0.3 if len(shape) == 1 else 2 / np.sqrt(shape[-1])
        centre = 1.0 if len(shape) == 1 and name.endswith("weight") and family != "gemma3_text" else 0.0
        params[name] = (centre + scale * rng.standard_normal(shape)).astype(np.float32)
    return Model(family, config, params, tokenizer)


def rows(name: str, model: Model, file: Path, count: int) -> Iterator[str]:
    """A row for each prompt."""
    import llama_cpp

    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}  # a cache in float32
    peer = llama_cpp.Llama(str(file), n_ctx=256, n_batch=256, logits_all=True, verbose=False, **exact)
    for prompt in PROMPTS:
        ids = model.text_tokenizer().encode(prompt)
        same = peer.tokenize(prompt.encode(), add_bos=False, special=False) == ids
        drawn = octavo.tokens(model, ids, limit=count, temperature=0, stop=())
        ours = [token.id for token in drawn]
        peer.reset()
        peer.eval([*ids, *ours])
        logits = np.array(peer.scores[: peer.n_tokens])
        mine = model.forward([*ids, *ours])[0]
        theirs = logits[len(ids) - 1 : -1].argmax(axis=-1).tolist()
        until = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(ours))
        apart = np.abs(mine - logits).max() / np.abs(mine).max()
        yield f"| {name} | {'same' if same else 'OTHER'} | {apart:.1e} | {until} of {len(ours)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", default="F32", help="of the matrices in the file")
    parser.add_argument("--tokens", type=int, default=40, help="to write after each prompt")
    parser.add_argument("--model", action="append", help="a model to write as GGUF. Repeatable.")
    options = parser.parse_args()
    given = {name: octavo.load(name) for name in options.model or ()}
    made = given or {family: small(family) for family in FAMILIES}
    print("| model | ids | largest difference of logits, of the largest logit | same greedy tokens |")
    print("|---|---|---|---|")
    for name, model in made.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.gguf"
            octavo.save(model, file, dtype=options.dtype)
            model = octavo.load(file)
            model = model.with_params(quant.widened(model.params))
            for row in rows(name, model, file, options.tokens):
                print(row, flush=True)


if __name__ == "__main__":
    main()
