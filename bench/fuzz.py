"""Every reader of files, given damaged ones: each is read, or refused in one line, soon and in little memory.

    python bench/fuzz.py [--seconds 60] [--seed 0] [--reader NAME] [--keep FOLDER]

Readers take turns. Each reads files that are right but for one, whose bytes or whose structure (JSON,
the members of an archive, the opcodes of a pickle, the headers of safetensors, GGUF and llama2.c, the
pieces of a template) are damaged at random; which, follows from the seed. They run in a process of their
own that may take 2 GB and twenty seconds a file. What ends otherwise is kept in a folder, with a file
`why`, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fuzz_readers import READERS, TESTS, Reader

from octavo.errors import OctavoError

sys.path.insert(0, str(TESTS))
from damage import BY_SUFFIX, disturbed

MEMORY, PATIENCE, TURN = 2 * 2**30, 20.0, 5.0  # bytes, seconds a file may take, seconds a turn


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
