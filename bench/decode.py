"""Octavo beside llama.cpp and transformers on the same files: what the README says of speed on a CPU.

    python bench/decode.py MODEL.gguf [--threads 2] [--rounds 5] [--lines decode,one,...] [--work FOLDER]
        [--python llama_cpp=PATH] [--python transformers=PATH]

MODEL is a GGUF file of any format; its Q8_0 and F16 are made of it by `octavo.save` where a line asks.
A peer is looked for in this Python, or in the one that `--python` names. All figures of a line are medians of
rounds in which octavo and its peer take turns, each in a fresh process on the same threads (`octavo.bench`).
Octavo draws its tokens and the peers only evaluate them. What the lines are:

    decode    64 tokens after 8, on --threads         together  16 sequences, 64 tokens of each after 32
    one       the same on one thread                  float     decode, transformers in float32 beside it
    long      64 tokens after 2,000                   q8, f16   decode, the same model in another format
    prompt    512 tokens read at once                 first     from the shell to the first token, seconds
    peak      memory at most, bytes

The course's own loops are in bench/course.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import octavo
from octavo.bench import Report, installed, measure


class Line(NamedTuple):
    """A line of the table."""

    what: str
    figure: str
    aim: float  # of the ratio: how many times the peer's speed, or its time or memory at most
    peer: str = "llama_cpp"
    threads: int | None = None  # None: those of --threads
    format: str | None = None  # None: that of the file
    less: bool = False  # less is better: seconds and bytes


LINES = {
    "decode": Line("decode, short context, tokens/s", "decode", 2.0),
    "one": Line("decode, 1 thread, tokens/s", "decode", 1.5, threads=1),
    "long": Line("decode after 2,000 tokens, tokens/s", "long", 1.5),
    "prompt": Line("prompt of 512, tokens/s", "prompt", 1.3),
    "first": Line("load to first token, s", "first", 1.0, less=True),
    "peak": Line("peak memory, MB", "peak", 1.3, less=True),
    "q8": Line("decode, Q8_0, tokens/s", "decode", 1.3, format="Q8_0"),
    "f16": Line("decode, F16, tokens/s", "decode", 1.3, format="F16"),
    "together": Line("16 sequences together, tokens/s", "together", 1.2),
    "float": Line("decode, transformers in float32, tokens/s", "decode", 5.0, peer="transformers"),
}


def row(line: Line, report: Report) -> str:
    """Both medians and their ratio, or why there is none."""
    ours, theirs = (
        next((p for p in report.programs if p.name == name), None) for name in ("octavo", line.peer)
    )
    a = ours.median(line.figure) if ours else None
    b = theirs.median(line.figure) if theirs else None
    scale = 1e6 if line.figure == "peak" else 1.0
    digits = 2 if line.less and scale == 1 else 0
    if a is None or b is None:
        why = (
            theirs.error
            if theirs and theirs.error
            else f"{line.peer} is not installed, or has no such figure"
        )
        shown = "" if a is None else f"{a / scale:,.{digits}f}"
        return f"| {line.what} | {shown} | {why} | | |"
    ratio = a / b
    reached = ratio <= line.aim if line.less else ratio >= line.aim
    aim = f"{'at most' if line.less else 'at least'} {line.aim:g}x{'' if reached else ', missed'}"
    return f"| {line.what} | {a / scale:,.{digits}f} | {b / scale:,.{digits}f} | {ratio:.2f}x | {aim} |"


def made(model: Path, format: str, folder: Path) -> Path:
    """The model in another format, written once."""
    path = folder / f"{model.stem}.{format}.gguf"
    if not path.exists():
        octavo.save(octavo.load(model), path, dtype=format)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", default=",".join(LINES))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH")
    parser.add_argument("--json", type=Path, help="keep every figure of every round there")
    options = parser.parse_args()
    pythons = installed() | dict(item.split("=", 1) for item in options.python)
    lines = [LINES[name] for name in options.lines.split(",")]
    groups: dict[tuple[str | None, int, str], list[Line]] = {}  # what one measurement serves
    for line in lines:
        groups.setdefault((line.format, line.threads or options.threads, line.peer), []).append(line)
    print(f"{options.model.name}, {options.threads} threads, medians of {options.rounds} rounds\n")
    print("| | octavo | peer | ratio | aim |")
    print("|---|---|---|---|---|", flush=True)
    reports = []
    for (format, threads, peer), members in groups.items():
        path = made(options.model, format, options.work) if format else options.model
        asked = sorted({line.figure for line in members} & {"decode", "long", "prompt", "together"})
        own = {name: python for name, python in pythons.items() if name == peer}
        report = measure(path, threads=threads, rounds=options.rounds, asked=asked, pythons=own)
        reports.append(report)
        for line in members:
            print(row(line, report), flush=True)
    report = reports[0]
    speed, streamed = report.programs[0].median("decode"), statistics.median(report.memory)
    if speed:
        read = report.bytes_per_token / 1e6
        share = f"{speed * report.bytes_per_token / streamed:.0%} of {streamed / 1e9:.1f} GB/s"
        print(f"\nA token reads {read:.1f} MB of weights: {share} at that speed.")
    told = {p.name: p.error or f"{p.name} {p.version}" for report in reports for p in report.programs}
    print("; ".join([*told.values(), f"Python {sys.version.split()[0]}"]))
    if options.json:
        options.json.write_text(json.dumps([asdict(report) for report in reports]))


if __name__ == "__main__":
    main()
