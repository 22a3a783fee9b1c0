"""Training on an accelerator (JAX with CUDA, or whatever `jax.devices()` gives).

    python bench/gpu.py                     tokens per second and model FLOP utilisation, both configurations
    python bench/gpu.py --race 1.4697       seconds of training to that held-out loss, on tiny Shakespeare
    python bench/gpu.py --tiny              the same code, small enough for a CPU

The configurations: `characters`, GPT-2's architecture with 6 layers, 6 heads, width 384, context 256 (10.7 M
parameters; vocabulary 65), batch 64, and `gpt2`, 12 layers, 12 heads, width 768, context 1024 (124 M;
vocabulary 50,304), batch 16; bfloat16. Model FLOPs are 6 a parameter and token, and 12 a layer, width and
position
for attention (Chowdhery et al. 2022, appendix B); the peak is the chip's dense bfloat16 figure, as published.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

import octavo
from octavo import models
from octavo.learn import Learner
from octavo.model import Model
from octavo.recipe import Recipe, Report

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12, "v5e": 197e12}  # FLOP/s
CONFIGURATIONS: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "characters": ({"n_layer": 6, "n_head": 6, "n_embd": 384}, 65, 256, 64),
    "gpt2": ({"n_layer": 12, "n_head": 12, "n_embd": 768}, 50_304, 1024, 16),
}
TINY: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "tiny": ({"n_layer": 2, "n_head": 2, "n_embd": 16}, 65, 16, 2)
}


def peak() -> float | None:
    """The dense bfloat16 FLOP/s of the first device, if it is in the table."""
    import jax

    kind = jax.devices()[0].device_kind
    return next((flops for name, flops in PEAKS.items() if name in kind), None)


def throughput(name: str, sizes: dict[str, Any], vocabulary: int, context: int, batch: int) -> dict[str, Any]:
    """Tokens per second of a training step, the median over steps, and what share of the peak that is."""
    config = models.design("gpt2", vocabulary, context=context, **sizes)
    model = Model("gpt2", config, models.initial_params("gpt2", config, np.random.default_rng(0)))
    learner = Learner(model, Recipe(steps=1, context=context, batch=batch, dropout=0.0, precision="bfloat16"))
    ids = np.random.default_rng(0).integers(0, vocabulary, 1_000_000).astype(np.int32)
    state, seconds = learner.begin(), []
    for count in range(1, 24):
        started = time.perf_counter()
        state, loss = learner.step(state, ids, count, 1e-4)
        float(loss)
        seconds.append(time.perf_counter() - started)
    step = statistics.median(seconds[3:])
    per_token = 6 * model.count() + 12 * config.n_layer * config.n_embd * context
    flops, most = per_token * batch * context / step, peak()
    return {
        "configuration": name,
        "parameters": model.count(),
        "tokens_per_second": batch * context / step,
        "model_flops_per_second": flops,
        "utilisation": None if most is None else flops / most,
        "compiling_seconds": seconds[0],
    }


def race(goal: float, options: dict[str, Any], text: str) -> dict[str, Any]:
    """Seconds of training until the held-out loss has come to the goal, and what the whole run reached."""
    reached: list[float] = []
    first: list[float] = []
    best = [float("inf")]

    def watch(now: Report) -> None:
        if not first:
            first.append(now.seconds)  # compiled
        if now.val_loss is not None:
            best[0] = min(best[0], now.val_loss)
            if now.val_loss <= goal and not reached:
                reached.append(now.seconds - first[0])

    octavo.train(text, report=watch, **options)
    return {"goal": goal, "seconds_of_training": reached[0] if reached else None, "least_val_loss": best[0]}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--race", type=float, metavar="LOSS")
    parser.add_argument("--steps", type=int, default=2000, help="of the race")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    import jax

    print(json.dumps({"device": jax.devices()[0].device_kind, "peak": peak()}), flush=True)
    if args.race is None:
        for name, (sizes, *numbers) in (TINY if args.tiny else CONFIGURATIONS).items():
            print(json.dumps(throughput(name, sizes, *numbers)), flush=True)
        return
    text = octavo.data.corpus("tinyshakespeare")
    options: dict[str, Any] = {"model_type": "gpt2", "size": "medium", "context": 256, "batch": 64}
    if args.tiny:
        options = {"model_type": "gpt2", "sizes": TINY["tiny"][0], "context": 16, "batch": 2}
        text = text[:20_000]
    options |= {"steps": args.steps, "precision": "bfloat16", "optimizer": "muon"}
    print(json.dumps(race(args.race, options, text)), flush=True)


if __name__ == "__main__":
    main()
