"""The course's own loops beside octavo's, on the same weights, in one run.

    python bench/course.py

The baseline is our transcription of the two assignments' loops, from their description: for the
Transformer, a NumPy forward pass over the whole text so far for every new token; for the GRU, a step
that multiplies with one-hot vectors, gate by gate. Each is timed twice. "As typed" leaves the types to
NumPy, which computes in float64 because `np.arange` and `np.zeros` do; "in float32" is the same loop
with every such place cast by hand, and the harder one to beat. Both sides draw 118 tokens (2,000
characters) with the same seeds, turn and turn about, and the medians are compared. Rounding may part two
texts at a close draw; fewer than nine tokens in ten alike, and there is no comparison. Before each turn the
machine rests for half a second: the threads of NumPy's products spin for a tenth of one after the last, and
whoever comes next would find half of two processors taken.

Octavo's models are timed as a process that writes much runs them, by compiled programs, also with their
weights in 8 bits, which the course's loop is given widened; with ``--equations``, or without LLVM, as a
process begins.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

import octavo
from octavo import twins
from octavo.model import Model
from octavo.quant import widened

IDLE = 0.5  # seconds
PROMPT = "ANTONIO:\nDo you not hear me speak?"


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def course_sinusoids(inv_freq: np.ndarray, length: int) -> np.ndarray:
    angles = np.arange(length)[:, None] * inv_freq
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def course_forward(
    w: dict[str, np.ndarray], ids: list[int], n_layers: int, n_heads: int, dtype: type
) -> np.ndarray:
    """Logits [T, V] of a whole text: the course's Transformer, written as its formulas."""
    x = w["word_embedding.weight"][ids]
    x = x + course_sinusoids(w["position_embedding.inv_freq"], len(ids)).astype(dtype)
    length, width = x.shape
    head = width // n_heads
    mask = np.triu(np.full((length, length), -np.inf, dtype=x.dtype), k=1)
    for i in range(n_layers):
        layer = f"layers.{i}."
        q = x @ w[layer + "attention.wq.weight"].T
        k = x @ w[layer + "attention.wk.weight"].T
        v = x @ w[layer + "attention.wv.weight"].T
        heads = []
        for h in range(n_heads):
            part = slice(h * head, (h + 1) * head)
            scores = q[:, part] @ k[:, part].T / np.sqrt(np.float32(head)) + mask
            heads.append(softmax(scores) @ v[:, part])
        x = x + np.concatenate(heads, axis=-1) @ w[layer + "attention.wo.weight"].T
        hidden = np.maximum(x @ w[layer + "feed_forward.0.weight"].T, 0)
        x = x + hidden @ w[layer + "feed_forward.2.weight"].T
    return x @ w["fc_out.weight"].T + w["fc_out.bias"]


def course_topk_sample(logits: np.ndarray, k: int, temperature: float, rng: np.random.Generator) -> int:
    order = np.argsort(logits / temperature)[-k:]
    return int(order[rng.choice(k, p=softmax((logits / temperature)[order]))])


def course_transformer(model: Model, ids: list[int], new: int, k: int, seed: int, dtype: type) -> list[int]:
    """The second assignment's loop: everything is computed again for every token."""
    rng = np.random.default_rng(seed)
    ids = list(ids)
    for _ in range(new):
        logits = course_forward(model.params, ids, model.config.n_layers, model.config.n_heads, dtype)
        ids.append(course_topk_sample(logits[-1], k, 1.0, rng))
    return ids[-new:]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def course_gru(model: Model, ids: list[int], new: int, k: int, seed: int, dtype: type) -> list[int]:
    """The first assignment's loop: one-hot inputs, one matrix a gate."""
    p, units = model.params, model.config.layers[0].units
    w = [p["layers.0.weight_ih"][g * units : (g + 1) * units] for g in range(3)]
    u = [p["layers.0.weight_hh"][g * units : (g + 1) * units] for g in range(3)]
    b = [p["layers.0.bias_ih"][g * units : (g + 1) * units] for g in range(3)]
    c = [p["layers.0.bias_hh"][g * units : (g + 1) * units] for g in range(3)]
    rng = np.random.default_rng(seed)
    h = np.zeros(units, dtype)
    written: list[int] = []
    for position in range(len(ids) + new - 1):
        x = np.zeros(model.vocab_size, dtype)
        x[ids[position] if position < len(ids) else written[-1]] = 1
        z = sigmoid(w[0] @ x + b[0] + u[0] @ h + c[0])
        r = sigmoid(w[1] @ x + b[1] + u[1] @ h + c[1])
        candidate = np.tanh(w[2] @ x + b[2] + r * (u[2] @ h + c[2]))
        h = z * h + (1 - z) * candidate
        if position >= len(ids) - 1:
            logits = p["layers.1.weight"] @ h + p["layers.1.bias"]
            written.append(course_topk_sample(logits, k, 1.0, rng))
    return written


def compare(
    name: str,
    model: Model,
    loop: Callable[..., list[int]],
    ids: list[int],
    new: int,
    k: int,
    rounds: int,
    dtype: type,
) -> str:
    """A row of the table: both speeds, medians over the rounds, and their ratio round by round."""
    theirs, ours, ratios = [], [], []
    plain = model.with_params(widened(model.params))
    for seed in range(rounds):
        time.sleep(IDLE)
        started = time.perf_counter()
        expected = loop(plain, ids, new, k, seed, dtype)
        ended = time.perf_counter()
        theirs.append(new / (ended - started))
        time.sleep(IDLE)
        started = time.perf_counter()
        found = [t.id for t in octavo.tokens(model, ids, limit=new, top_k=k, seed=seed)]
        ours.append(new / (time.perf_counter() - started))
        same = sum(a == b for a, b in zip(expected, found, strict=True))
        if same < 0.9 * new:
            raise SystemExit(f"{name}: only {same} of {new} tokens agree; there is nothing to compare")
        ratios.append(ours[-1] / theirs[-1])
    medians = (statistics.median(theirs), statistics.median(ours), statistics.median(ratios))
    return f"| {name} | {medians[0]:,.0f} | {medians[1]:,.0f} | {medians[2]:.1f}x |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--equations", action="store_true", help="leave Octavo's compiled programs out")
    options = parser.parse_args()
    rounds = options.rounds
    twins.LOADING_PAYS = twins.MAKING_PAYS = sys.maxsize if options.equations else 0
    kinds: tuple[str | None, ...] = (None, "q8")
    bard, small_bard = (octavo.load("bard", quantize=kind) for kind in kinds)
    christie, small_christie = (octavo.load("christie-gru", quantize=kind) for kind in kinds)
    for model in (bard, small_bard, christie, small_christie):
        list(octavo.tokens(model, [0], limit=9))  # compiles, or reads what an earlier run compiled
    print("| model | course, tokens/s | octavo, tokens/s | ratio |")
    print("|---|---|---|---|")
    prompt = bard.text_tokenizer().encode(PROMPT)[:10]
    poirot = christie.text_tokenizer().encode("poirot ")
    for how, dtype in (("as typed", np.float64), ("in float32", np.float32)):
        for kind, model in (("", bard), (" in 8 bits", small_bard)):
            name = f"bard{kind}, 118 tokens after 10; the course's loop {how}"
            print(compare(name, model, course_transformer, prompt, 118, 5, rounds, dtype), flush=True)
        for kind, model in (("", christie), (" in 8 bits", small_christie)):
            name = f"christie-gru{kind}, 2,000 characters; the course's loop {how}"
            print(compare(name, model, course_gru, poirot, 2000, 41, rounds, dtype), flush=True)


if __name__ == "__main__":
    main()
