"""What minutes of training buy on tiny Shakespeare by characters: 90 % trains, the last 10 % measures.

    python bench/learn.py speedrun --seconds 80 --seeds 3
    python bench/learn.py speedrun --nanogpt PATH --seeds 3
    python bench/learn.py types --minutes 1 --processor 0
    python bench/learn.py steps

`speedrun`: the default recipe of `octavo train` in a given time, from the start of the process to its end,
compiling and measuring included; with the path of a nanoGPT checkout, in the time that its CPU recipe (4
layers, 4 heads, width 128, context 64, batch 12, 2,000 steps) takes on this machine, run just before, and
measured by the same rule. Losses are nats per character over the whole of the last 10 %, in disjoint
windows of a model's own context.
`types`: every model type in so many minutes, and how fast what was learned then writes; on one processor,
if its number is given, by the time that it works for us: what else runs there takes none of our minutes.
`steps`: a training step against PyTorch, eager and compiled: the same model, batch and optimizer, turn and
turn about in one run (needs PyTorch).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo.data import corpus
from octavo.learn import Learner
from octavo.model import Model
from octavo.recipe import DEFAULTS, Recipe

OCTAVO = [sys.executable, "-m", "octavo"]
OCTAVO_BY_PROCESSOR_TIME = """
import time
time.perf_counter = time.process_time
from octavo.cli import train
train.process_start = lambda: 0.0
from octavo.__main__ import main
main()
"""
NANOGPT = [
    *("config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20"),
    *("--log_interval=100", "--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4"),
    *("--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"),
    "--always_save_checkpoint=True",
]
MEASURE_NANOGPT = """
import sys, numpy as np, torch
sys.path.insert(0, ".")
from model import GPT, GPTConfig
kept = torch.load(sys.argv[1] + "/ckpt.pt", map_location="cpu", weights_only=False)
model = GPT(GPTConfig(**kept["model_args"]))
model.load_state_dict(kept["model"])
model.eval()
ids = torch.from_numpy(np.fromfile(sys.argv[2], np.uint16).astype(np.int64))
total = 0.0
for at in range(0, len(ids) - 1, 64):
    window = ids[at : at + 65]
    with torch.no_grad():
        total += float(model(window[None, :-1], window[None, 1:])[1]) * (len(window) - 1)
print(total / (len(ids) - 1))
"""


# ---------------------------------------------------------------- speedrun


def train(minutes: float, *options: str, command: list[str] = OCTAVO) -> tuple[dict[str, Any], float, Model]:
    """The summary of a run in a process of its own, the seconds it took, and its model."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        whole = [*command, "train", "tinyshakespeare", "--minutes", f"{minutes:.5f}", "--json"]
        out = subprocess.run(
            [*whole, "--out", f"{folder}/model", *options], stdout=subprocess.PIPE, check=True
        )
        seconds = time.perf_counter() - started
        return json.loads(out.stdout.splitlines()[-1]), seconds, octavo.load(f"{folder}/model")


def nanogpt(checkout: Path, seed: int) -> tuple[float, float]:
    """The held-out loss of nanoGPT's CPU recipe, and the seconds that its training takes."""
    text = corpus("tinyshakespeare")
    known = sorted(set(text))
    ids = np.array([known.index(c) for c in text], np.uint16)
    folder = checkout / "data" / "shakespeare_char"
    ids[: int(0.9 * len(ids))].tofile(folder / "train.bin")
    ids[int(0.9 * len(ids)) :].tofile(folder / "val.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": len(known)}))  # as it asks for it
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        options = [*NANOGPT, f"--out_dir={out}"]
        source = (checkout / "train.py").read_text().replace("manual_seed(1337", f"manual_seed({1337 + seed}")
        (Path(out) / "train.py").write_text(source)
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        subprocess.run(
            [sys.executable, f"{out}/train.py", *options],
            cwd=checkout,
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds = time.perf_counter() - started
        measure = [sys.executable, "-c", MEASURE_NANOGPT, out, str(folder / "val.bin")]
        loss = subprocess.run(measure, cwd=checkout, stdout=subprocess.PIPE, check=True).stdout
    return float(loss.split()[-1]), seconds  # its model greets first


def speedrun(args: argparse.Namespace) -> None:
    print("| run | seed | seconds | steps | nats per character |")
    print("|---|---|---|---|---|")
    for seed in range(args.seeds):
        seconds = args.seconds
        if args.nanogpt is not None:
            loss, seconds = nanogpt(args.nanogpt.absolute(), seed)
            print(f"| nanoGPT, its CPU recipe | {seed} | {seconds:.1f} | 2,000 | {loss:.4f} |", flush=True)
        facts, took, _ = train(seconds / 60, "--seed", str(seed), *args.options)
        steps = f"{facts['steps']:,}"
        print(f"| octavo train | {seed} | {took:.1f} | {steps} | {facts['val_loss']:.4f} |", flush=True)


# ---------------------------------------------------------------- every type


def types(args: argparse.Namespace) -> None:
    command, clock = OCTAVO, time.perf_counter
    if args.processor is not None:
        os.sched_setaffinity(0, {args.processor})  # which the runs inherit
        command, clock = [sys.executable, "-c", OCTAVO_BY_PROCESSOR_TIME], time.process_time
    print("| type | minutes | parameters | nats per character | bits per byte | writes, characters/s |")
    print("|---|---|---|---|---|---|")
    for minutes in args.minutes:
        for model_type in args.types:
            facts, _, model = train(minutes, "--model", model_type, *args.options, command=command)
            print(
                f"| `{model_type}` | {minutes:g} | {model.count():,} | {facts['val_loss']:.4f} "
                f"| {facts['val_bits_per_byte']:.3f} | {writing_speed(model, clock):,.0f} |",
                flush=True,
            )


def writing_speed(model: Model, clock: Callable[[], float], rounds: int = 5) -> float:
    """Characters per second, after the first, within the model's context; the median of some rounds."""
    count = min(model.context or 2000, 2000) - 10
    ids = model.text_tokenizer().encode("ROMEO:\nBut")[:10]
    found = []
    for seed in range(rounds + 1):
        started = clock()
        written = sum(1 for _ in octavo.tokens(model, ids, limit=count, seed=seed))
        found.append(written / (clock() - started))
    return statistics.median(found[1:])


# ---------------------------------------------------------------- a step


def steps(args: argparse.Namespace) -> None:
    print("| model | octavo, tokens/s | PyTorch eager | ratio | PyTorch compiled | ratio |")
    print("|---|---|---|---|---|---|")
    cases: dict[str, tuple[str, dict[str, Any], int, int]] = {
        "plain, 13.6 M, 8 x 128": ("plain", {"context": 128}, 8, 1024),
        "gru, 512 units, 32 x 128": ("gru", {"units": (512,)}, 32, 65),
    }
    for name, (kind, sizes, batch, vocabulary) in cases.items():
        ours = octavo_step(kind, sizes, batch, vocabulary)
        theirs = {
            how: torch_step(kind, batch, vocabulary, compiled=compiled)
            for how, compiled in (("eager", False), ("compiled", True))
        }
        speeds: dict[str, list[float]] = {"ours": [], "eager": [], "compiled": []}
        for _ in range(args.rounds):
            for how, step in {"ours": ours, **theirs}.items():
                started = time.perf_counter()
                for _ in range(args.steps):
                    step()
                speeds[how].append(args.steps * batch * 128 / (time.perf_counter() - started))
        middle = {how: statistics.median(found) for how, found in speeds.items()}
        ratios = {
            how: statistics.median(a / b for a, b in zip(speeds["ours"], speeds[how], strict=True))
            for how in theirs
        }
        print(
            f"| {name} | {middle['ours']:,.0f} | {middle['eager']:,.0f} | {ratios['eager']:.2f}x "
            f"| {middle['compiled']:,.0f} | {ratios['compiled']:.2f}x |",
            flush=True,
        )


def octavo_step(kind: str, sizes: dict[str, Any], batch: int, vocabulary: int) -> Callable[[], None]:
    """A training step of ours, compiled."""
    from octavo import mesh, models
    from octavo.memory import keep_memory

    keep_memory()
    config = models.design(kind, vocabulary, **sizes)
    model = Model(kind, config, models.initial_params(kind, config, np.random.default_rng(0)))
    where = mesh.make(mesh.own(batch))
    learner = Learner(model, Recipe(steps=1, context=128, batch=batch, dropout=0.0), where)
    ids = np.random.default_rng(0).integers(0, vocabulary, 100_000).astype(np.int32)
    state, count = learner.begin(), 0

    def step() -> None:
        nonlocal state, count
        count += 1
        state, loss = learner.step(state, ids, count, 1e-3)
        float(loss)

    step()
    step()
    return step


def torch_step(kind: str, batch: int, vocabulary: int, *, compiled: bool) -> Callable[[], None]:
    """The same in PyTorch: its own GRU and attention, its fused AdamW, gradients clipped."""
    import torch
    import torch.nn.functional as F  # noqa: N812 - its customary name
    from torch import nn

    torch.manual_seed(0)

    class Layer(nn.Module):
        def __init__(self, width: int = 512, heads: int = 8) -> None:
            super().__init__()
            self.heads = heads
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.up, self.down = nn.Linear(width, 2048, bias=False), nn.Linear(2048, width, bias=False)

        def forward(self, x: Any) -> Any:
            b, t, d = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
            return x + self.down(F.relu(self.up(x)))

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 512)
            angles = torch.arange(128)[:, None] * 10000.0 ** (-torch.arange(0, 512, 2) / 512)
            self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], -1))
            self.layers = nn.Sequential(*[Layer() for _ in range(4)])
            self.head = nn.Linear(512, vocabulary)

        def forward(self, ids: Any) -> Any:
            return self.head(self.layers(self.embed(ids) + self.positions))

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(vocabulary, 512, batch_first=True)
            self.head = nn.Linear(512, vocabulary)

        def forward(self, ids: Any) -> Any:
            return self.head(self.gru(F.one_hot(ids, vocabulary).float())[0])

    module: Any = Plain() if kind == "plain" else Recurrent()
    rule = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    model = torch.compile(module) if compiled else module
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, vocabulary, 100_000))

    def step() -> None:
        starts = torch.randint(len(ids) - 129, (batch,))
        windows = ids[starts[:, None] + torch.arange(129)]
        logits = model(windows[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        rule.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        rule.step()
        assert math.isfinite(float(loss.detach()))

    step()
    step()
    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("speedrun")
    run.add_argument("--seconds", type=float, default=80)
    run.add_argument("--nanogpt", type=Path, help="a checkout; PyTorch is needed")
    run.add_argument("--seeds", type=int, default=3)
    every = commands.add_parser("types")
    every.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 20])
    every.add_argument("--types", nargs="+", default=list(DEFAULTS))
    every.add_argument("--processor", type=int, help="the number of the only processor")
    for sub in (run, every):
        sub.add_argument("options", nargs="*", help="after --: further options of octavo train")
    pace = commands.add_parser("steps")
    pace.add_argument("--rounds", type=int, default=5)
    pace.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    {"speedrun": speedrun, "types": types, "steps": steps}[args.command](args)


if __name__ == "__main__":
    main()
