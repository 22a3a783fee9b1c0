"""Scores beside those of the programs that the protocols come from, on the same model and text.

    python bench/protocols.py MODEL TEXT [--characters 12000] [--window 512] [--gguf FILE]

`strided` is compared with the loop of Hugging Face's guide to perplexity over transformers, `rolling` with
lm-evaluation-harness's own HFLM, and `chunked`, where a GGUF file is named, with llama.cpp's logits of the
same chunks, counted as `llama-perplexity` counts them. MODEL is a folder that transformers reads. What is
not installed is left out, and named.

The guide weighs each window but the first as if it predicted one token less than it does; the sums of its
own losses stand beside its number. Of a quantised file llama.cpp rounds activations to 8 bits, so only one
in float32 shows the protocol alone.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

import octavo
from octavo.model import Model


def row(what: str, ours: float, theirs: float) -> str:
    return f"| {what} | {ours:.5f} | {theirs:.5f} | {abs(ours / theirs - 1):.1e} |"


def strided(folder: Path, model: Model, text: str, window: int) -> list[str]:
    """Hugging Face's guide, with a window and half of it as stride."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stride = window // 2
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(text)["input_ids"]])
    sums, weighted, seen = np.zeros(2), np.zeros(2), 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + window, ids.shape[1])
        labels = ids[:, begin:end].clone()
        labels[:, : seen - begin if begin else 0] = -100
        with torch.no_grad():
            loss = peer(ids[:, begin:end], labels=labels).loss.item()
        predicted, weight = int((labels[:, 1:] != -100).sum()), int((labels != -100).sum()) - 1
        sums += (loss * predicted, predicted) if predicted else 0
        weighted += (loss * weight, weight) if predicted else 0
        seen = end
        if end == ids.shape[1]:
            break
    ours = octavo.score(model, text, protocol="strided", window=window, stride=stride).perplexity
    name = f"strided ({window}, {stride})"
    return [
        row(f"{name}, perplexity: the guide's losses", ours, math.exp(sums[0] / sums[1])),
        row(f"{name}, perplexity: the guide's number", ours, math.exp(weighted[0] / weighted[1])),
    ]


def rolling(folder: Path, model: Model, text: str, window: int) -> list[str]:
    """lm-evaluation-harness, and the metrics of its task wikitext."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks.wikitext.preprocess_wikitext import process_results

    peer = HFLM(pretrained=str(folder), dtype="float32", max_length=window, add_bos_token=False, device="cpu")
    (found,) = peer.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)])
    metrics = process_results({"page": text}, (found,))
    ours = octavo.score(model, text, protocol="rolling", window=window)
    return [
        row(f"rolling ({window}), {name}", getattr(ours, name), math.exp(-found / metrics[name][1]))
        for name in ("word_perplexity", "byte_perplexity")
    ] + [
        row(
            f"rolling ({window}), bits_per_byte",
            ours.bits_per_byte,
            -found / metrics["bits_per_byte"][1] / math.log(2),
        )
    ]


def chunked(gguf: Path, model: Model, text: str, window: int) -> list[str]:
    """llama.cpp: its ids and logits, each chunk from the beginning, its second half."""
    import llama_cpp

    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}  # a cache in float32
    peer = llama_cpp.Llama(str(gguf), n_ctx=window, n_batch=window, logits_all=True, verbose=False, **exact)
    ids = peer.tokenize(text.encode(), add_bos=True, special=False)
    adds = bool(llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(peer.model)))
    nats = np.zeros(0)
    for start in range(0, len(ids) - window + 1, window):
        chunk = [peer.token_bos(), *ids[start + 1 : start + window]] if adds else ids[start : start + window]
        peer.reset()
        peer.eval(chunk)
        logits = peer.scores[window // 2 : window - 1].astype(np.float64)
        top = logits.max(axis=-1, keepdims=True)
        logits -= top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
        nats = np.append(nats, [-p[id] for p, id in zip(logits, chunk[window // 2 + 1 :], strict=True)])
    ours = octavo.score(model, text, protocol="chunked", window=window)
    same = (
        f"{len(nats):,} tokens" if len(nats) == ours.tokens else f"{ours.tokens:,} and {len(nats):,} tokens"
    )
    return [row(f"chunked ({window}), perplexity, {same}", ours.perplexity, math.exp(nats.mean()))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a folder of a published family")
    parser.add_argument("text", type=Path, help="a UTF-8 text file")
    parser.add_argument("--characters", type=int, default=12_000, help="of the text, from the beginning")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--gguf", type=Path, help="a GGUF file, for chunked")
    options = parser.parse_args()
    text = options.text.read_text(encoding="utf-8")[: options.characters]
    model, window = octavo.load(options.model), options.window
    sides: list[tuple[str, Callable[[], list[str]]]] = [
        ("transformers", lambda: strided(options.model, model, text, window)),
        ("lm_eval", lambda: rolling(options.model, model, text, window)),
    ]
    if options.gguf:
        sides.append(("llama_cpp", lambda: chunked(options.gguf, octavo.load(options.gguf), text, window)))
    print("| score | octavo | peer | apart |")
    print("|---|---|---|---|")
    for name, side in sides:
        try:
            print("\n".join(side()), flush=True)
        except ImportError as error:
            print(f"| {name} is not installed ({error.name}) | | | |")


if __name__ == "__main__":
    main()
