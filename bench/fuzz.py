"""Every reader of files, given damaged ones: each is read, or refused in one line, soon and in little memory.

    python bench/fuzz.py [--seconds 60] [--seed 0] [--reader NAME] [--keep FOLDER]

Readers take turns. Each reads files that are right but for one, whose bytes or whose structure (JSON,
the members of an archive, the header of safetensors) are damaged at random; which, follows from the seed.
They run in a process of their own that may take 2 GB and twenty seconds a file. What ends otherwise is kept
in a folder, with a file `why`, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo import checkpoint, idfile, models, tokenizers
from octavo.errors import OctavoError

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))
from damage import BY_SUFFIX, disturbed  # noqa: E402

GOLDEN = TESTS / "golden"
MEMORY, PATIENCE, TURN = 2 * 2**30, 20.0, 5.0  # bytes, seconds a file may take, seconds a turn
ALPHABET = "abcdefghijk"


@dataclass(frozen=True)
class Reader:
    """Something that reads files: `make` puts good ones into a folder, `read` reads them."""

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]


def copied(pattern: str) -> Callable[[Path], None]:
    """Golden files, in the folder."""

    def make(folder: Path) -> None:
        for path in sorted(GOLDEN.glob(pattern)):
            shutil.copy(path, folder)

    return make


def own_folder(folder: Path) -> None:
    config = models.design("gru", len(ALPHABET), units=(4,))
    params = models.initial_params("gru", config, np.random.default_rng(0))
    made = octavo.Model("gru", config, params, tokenizers.char(ALPHABET))
    octavo.save(made, folder / "model")
    for path in (folder / "model").iterdir():
        path.rename(folder / path.name)
    (folder / "model").rmdir()


def byte_pairs(folder: Path) -> None:
    tokenizers.train_bpe("the theme of the thesis " * 9, 264).save(folder / "tokenizer.json")


def tiktoken_pickle(folder: Path) -> None:
    import tiktoken

    ranks = {bytes([i]): i for i in range(256)} | {b"th": 256, b"the": 257}
    special = {"<|endoftext|>": 258}
    made = tiktoken.Encoding("t", pat_str=tokenizers.GPT2, mergeable_ranks=ranks, special_tokens=special)
    (folder / "encoding.pkl").write_bytes(pickle.dumps(made, 4))


def id_file(folder: Path) -> None:
    with open(folder / "text.ids", "wb") as file:
        writer = idfile.Writer(file, np.dtype("<u2"), "key")
        writer.add(np.arange(300, dtype="<u2").tobytes(), 3, 600)
        writer.close()


def kept_ids(folder: Path) -> None:
    if idfile.kept(folder / "text.ids", "key", lambda share: None) is None:
        raise OctavoError("not as it was written")


def saved_run(folder: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {"a@0:4,0:3": np.ones((4, 3)), "a@4:8,0:3": np.zeros((4, 3)), "b@0:5": np.ones(5)}
    save_file(arrays, folder / "0.safetensors")
    run = {"format": checkpoint.FORMAT, "step": 7}
    (folder / checkpoint.RUN).write_text(json.dumps({"processes": 1}) + "\n" + json.dumps(run))


def whole_run(folder: Path) -> None:
    found = checkpoint.Checkpoint(folder)
    for name in found.names:
        found.read(name)


def keras(pattern: str, *weights: str) -> Reader:
    def read(folder: Path) -> None:
        path = next(folder.glob(pattern))
        octavo.load(path, weights=next((folder / name for name in weights), None))

    def make(folder: Path) -> None:
        for name in (pattern, *weights):
            copied(f"keras2/{name}")(folder)

    return Reader(make, read)


READERS = {
    "folder": Reader(own_folder, octavo.load),
    "llama folder": Reader(copied("huggingface/llama-tied/*"), octavo.load),
    "gpt2 folder": Reader(copied("huggingface/gpt2/*"), octavo.load),
    "npz": Reader(
        copied("torch_plain.npz"),
        lambda folder: octavo.load(folder / "torch_plain.npz", model_type="plain", n_heads=2),
    ),
    "keras h5": keras("gru.h5"),
    "keras archive": keras("gru.keras"),
    "keras json": keras("lstm.json", "lstm_weights.h5"),
    "tokenizer.json": Reader(byte_pairs, lambda folder: tokenizers.open(folder / "tokenizer.json")),
    "tiktoken pickle": Reader(tiktoken_pickle, lambda folder: tokenizers.open(folder / "encoding.pkl")),
    "ids": Reader(id_file, kept_ids),
    "checkpoint": Reader(saved_run, whole_run),
}


# ---------------------------------------------------------------- the process that reads


def damage(folder: Path, rng: random.Random) -> None:
    """Damage one file of a folder, most often in its structure."""
    path = rng.choice(sorted(p for p in folder.iterdir() if p.suffix != ".npz" or p.name != "expected.npz"))
    content = path.read_bytes()
    structured = BY_SUFFIX.get(path.suffix) if rng.random() < 0.7 else None
    path.write_bytes((structured or disturbed)(content, rng))


def prepare(name: str, good: Path, case: Path, number: int, seed: int) -> None:
    """The folder of a case: a copy of the good one, damaged."""
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(good, case)
    damage(case, random.Random(f"{name} {seed} {number}"))


def work_through(name: str, work: Path, first: int, seed: int, seconds: float) -> None:
    """Read damaged files for so long; a line of JSON before and after each."""
    reader = READERS[name]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    end, number, case = time.monotonic() + seconds, first, work / "case"
    while time.monotonic() < end:
        prepare(name, work / "good", case, number, seed)
        print(json.dumps([number, "begun", 0]), flush=True)
        started = time.process_time()
        print(json.dumps([number, outcome(reader, case), time.process_time() - started]), flush=True)
        number += 1


def outcome(reader: Reader, case: Path) -> str:
    """What reading comes to: "read", "refused", or what is wrong."""
    try:
        reader.read(case)
    except OctavoError as error:
        told = str(error)
        return "refused" if "\n" not in told and 0 < len(told) < 2000 else f"refused in these words: {told}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "read"


# ---------------------------------------------------------------- the process that watches


@dataclass
class Tally:
    """What has come of a reader's files."""

    number: int = 0
    read: int = 0
    refused: int = 0
    failed: int = 0
    slowest: float = 0.0
    why: set[str] = field(default_factory=set)


def watched(command: list[str]) -> Iterator[tuple[int, str, float]]:
    """What a working process says, and last, if it does not end well, how it ended."""
    import select

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        number, state, pending = -1, "ended", b""
        while True:
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE if state == "begun" else 60)
            if not ready:
                process.kill()
                yield number, f"more than {PATIENCE:.0f} s", PATIENCE
                return
            data = os.read(process.stdout.fileno(), 2**16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                number, state, took = json.loads(line)
                if state != "begun":
                    yield number, state, took
        if process.wait() or state == "begun":
            yield number, f"the process died ({process.returncode})", 0.0


def turn(name: str, tally: Tally, seed: int, seconds: float, keep: Path) -> None:
    """A turn of a reader."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "good").mkdir()
        READERS[name].make(work / "good")
        READERS[name].read(work / "good")  # what is right is read
        options = ["--work", folder, "--first", str(tally.number), "--seed", str(seed)]
        command = [sys.executable, __file__, "--reader", name, *options, "--seconds", str(seconds)]
        for number, state, took in watched(command):
            tally.number, tally.slowest = number + 1, max(tally.slowest, took)
            if state in ("read", "refused") and took < PATIENCE:
                setattr(tally, state, getattr(tally, state) + 1)
                continue
            tally.failed += 1
            kind = state.split(":")[0] if state not in ("read", "refused") else f"{took:.0f} s"
            if number >= 0 and kind not in tally.why:  # one of a kind
                kept = keep / f"{name.replace(' ', '-')}-{seed}-{number}"
                prepare(name, work / "good", kept, number, seed)
                (kept / "why").write_text(state + "\n")
            tally.why.add(kind)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=READERS, help="only this one")
    parser.add_argument("--keep", type=Path, default=Path("fuzzed"), help="where what fails is kept")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work_through(options.reader, options.work, options.first, options.seed, options.seconds)
        return
    names = [options.reader] if options.reader else list(READERS)
    tallies = {name: Tally() for name in names}
    end, share = time.monotonic() + options.seconds, min(TURN, options.seconds / len(names))
    while time.monotonic() < end:
        for name, tally in tallies.items():
            turn(name, tally, options.seed, share, options.keep)
    print("| reader | files | read | refused | failed | slowest, s | what failed |")
    print("|---|---|---|---|---|---|---|")
    for name, t in tallies.items():
        total, why = t.read + t.refused + t.failed, "; ".join(sorted(t.why))
        print(f"| {name} | {total:,} | {t.read:,} | {t.refused:,} | {t.failed:,} | {t.slowest:.2f} | {why} |")
    sys.exit(any(t.failed for t in tallies.values()))


if __name__ == "__main__":
    main()
