"""`octavo generate --prompts`: a file of prompts answered in another, and how that looks while it lasts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo.cli.printing import clock, console, emit, say
from octavo.cli.shell import INTERRUPTED, complain
from octavo.completions import Ready
from octavo.promptfile import Answering


@dataclass
class Work:
    """How far the answers are."""

    prompts: int
    before: int  # answered by an earlier command
    answered: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.perf_counter)

    @property
    def share(self) -> float:
        """Of all prompts, those that are answered."""
        return (self.before + self.answered) / self.prompts

    @property
    def seconds(self) -> float:
        """Since this command began to answer."""
        return max(time.perf_counter() - self.started, 1e-9)

    def line(self) -> str:
        """What is said of it."""
        left = self.prompts - self.before - self.answered
        rest = self.seconds / self.answered * left if self.answered else 0.0
        ends = f"  {clock(rest)} left" if self.answered and left else ""
        return (
            f"{self.before + self.answered:,} of {self.prompts:,} answered  "
            f"{self.tokens / self.seconds:,.0f} tok/s{ends}"
        )


def answer(answering: Answering, batch: int, *, json: bool) -> None:
    """Answer what is left, to the end or until Ctrl-C, which leaves whole lines."""
    work = Work(len(answering.lines), answering.answered)
    interrupted = False
    try:
        with shown(json) as show:
            waiting = list(_prepared(answering, show))
            work.started = time.perf_counter()
            for _, found in answering.run(waiting, batch):
                work.answered += 1
                work.tokens += len(found.tokens)
                show(work.line(), work.share)
    except KeyboardInterrupt:
        interrupted = True
    _report(work, answering.out, interrupted, json)
    if interrupted:
        raise SystemExit(INTERRUPTED)


def _prepared(answering: Answering, show: Callable[[str, float], None]) -> Iterator[Ready]:
    """What is left, as ids; with messages that takes a while."""
    total = max(len(answering.lines) - answering.answered, 1)
    for count, one in enumerate(answering.prepare(), 1):
        show(f"{count:,} of {total:,} prompts read", 0.0)
        yield one


@contextmanager
def shown(json: bool) -> Iterator[Callable[[str, float], None]]:
    """What shows a line and a share: a bar on a terminal, ten lines elsewhere, nothing with JSON."""
    if json:
        yield lambda line, share: None
        return
    if not console().is_terminal:
        tenths = 0

        def say(line: str, share: float) -> None:
            nonlocal tenths
            if int(share * 10) > tenths:
                tenths = int(share * 10)
                print(f"{share:4.0%} {line}", flush=True)

        yield say
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console(), expand=True, refresh_per_second=5) as progress:
        bar = progress.add_task("", total=1.0)
        yield lambda line, share: progress.update(bar, completed=share, description=line)


def _report(work: Work, out: Path, interrupted: bool, json: bool) -> None:
    """What became of it, and how it goes on."""
    facts: dict[str, Any] = {
        "prompts": work.prompts,
        "answered": work.before + work.answered,
        "tokens": work.tokens,
        "seconds": work.seconds,
        "out": str(out),
        "finish_reason": "interrupted" if interrupted else "done",
    }
    if json:
        emit(facts)
    elif interrupted:
        complain(f"stopped at {facts['answered']:,} of {work.prompts:,}; the same command goes on", "yellow")
    else:
        before = f", {work.before:,} of them by an earlier command" if work.before else ""
        say(f"{out}: {facts['answered']:,} answers{before}; {work.tokens:,} tokens, {clock(work.seconds)}")
