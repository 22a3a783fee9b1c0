"""`octavo bench`: how fast a model is here, beside the programs that are installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from octavo.bench import Measured, Report, measure
from octavo.cli import loading
from octavo.cli.options import Argument, Option
from octavo.cli.printing import console, emit, size, table

EPILOG = """[bold]What is measured[/bold]

Every figure comes from a fresh process; a round starts octavo and each peer once, in turn. The peers are
llama-cpp-python for GGUF files, and transformers on PyTorch in float32, where they are installed.

[bold]Examples[/bold]

octavo bench bard

octavo bench my-model.gguf --threads 2 --rounds 5 --json"""

FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "prompt": ("read {prompt} tokens, tokens/s", lambda x: f"{x:,.0f}"),
    "decode": ("write {decode} tokens, tokens/s", lambda x: f"{x:,.1f}"),
    "long": ("write them after {long}, tokens/s", lambda x: f"{x:,.1f}"),
    "load": ("start to open, s", lambda x: f"{x:.2f}"),
    "first": ("start to first token, s", lambda x: f"{x:.2f}"),
    "peak": ("memory at most", size),
}


def run(
    model: Annotated[
        str,
        Argument(help="A shipped model, a model folder, a file, or hub:owner/name.", metavar="MODEL"),
    ] = "bard",
    rounds: Annotated[int, Option(help="How often everything is measured.", metavar="N")] = 3,
    json: loading.JsonOption = False,
    threads: loading.ThreadsOption = None,
) -> None:
    """Measure speed, memory and load time, beside the peers that are installed."""
    report = measure(model, threads=threads, rounds=rounds, progress=_progress)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if json:
        emit(description(report))
    else:
        _print(report)


def description(report: Report) -> dict[str, Any]:
    """What ``--json`` prints: all that was measured, and the medians."""
    told = asdict(report)
    for program, measured in zip(told["programs"], report.programs, strict=True):
        program["medians"] = {name: measured.median(name) for name in FIGURES}
    return told | {"memory_share": share(report)}


def share(report: Report) -> float | None:
    """The weights that octavo reads a second, as a part of what the machine's memory streams."""
    speed, streamed = report.programs[0].median("decode"), Measured("", "", {"memory": report.memory})
    most = streamed.median("memory")
    return speed * report.bytes_per_token / most if speed and most else None


def _progress(round: int, rounds: int, name: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[Kround {round} of {rounds}: {name}")
        sys.stderr.flush()


def _print(report: Report) -> None:
    screen = console()
    screen.print(
        f"[bold]{Path(report.model).name}[/bold]: {report.model_type}, {report.parameters:,} parameters in "
        f"{report.weights}, {size(report.file_bytes)}"
    )
    rounds = "one round" if report.rounds == 1 else f"medians of {report.rounds} rounds"
    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads"
    screen.print(f"{threads}, {rounds}, every figure from fresh processes\n")
    shown = [program for program in report.programs if program.figures]
    rows = table("", *(p.name for p in shown), numbers=tuple(p.name for p in shown))
    counts = {
        "prompt": report.prompt_tokens,
        "decode": report.decode_tokens,
        "long": f"{report.long_tokens:,}",
    }
    for figure, (label, show) in FIGURES.items():
        medians = [program.median(figure) for program in shown]
        if any(medians):
            rows.add_row(label.format(**counts), *("" if m is None else show(m) for m in medians))
    screen.print(rows)
    screen.print()
    for note in notes(report):
        screen.print(note, markup=False)


def notes(report: Report) -> list[str]:
    """What a reader must know of the figures."""
    streamed = Measured("", "", {"memory": report.memory}).median("memory") or 0.0
    percent = f"{share(report) or 0:.0%} of the {streamed / 1e9:.1f} GB/s"
    found = [
        f"A token reads {size(report.bytes_per_token)} of weights; octavo's speed makes that {percent} that "
        "NumPy reads here of a large array. More than all of it: caches hold a part."
    ]
    if len(report.programs) > 1:
        found.append("Octavo's speed includes the draw of each token; a peer's is its evaluation alone.")
    return found + [program.error or f"{program.name}: {program.version}" for program in report.programs]
