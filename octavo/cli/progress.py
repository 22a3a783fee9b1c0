"""How a training run looks while it lasts, and in the end: a bar on a terminal, lines elsewhere, JSON."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import octavo
from octavo.cli.printing import clock, console, emit, reachable
from octavo.cli.runs import Run
from octavo.errors import OctavoError
from octavo.recipe import Report
from octavo.run import EVALUATIONS

if TYPE_CHECKING:
    from rich.progress import Progress


@dataclass
class History:
    """What the reports of a run add up to."""

    last: Report | None = None
    val_loss: float = math.nan  # the least so far
    bits: float = math.nan  # per byte, of the same

    def add(self, report: Report) -> bool:
        """Take in a report; whether it is one that is said aloud where there is no bar."""
        before = self.last.progress if self.last else 0.0
        self.last = report
        if report.val_loss is not None and not report.val_loss >= self.val_loss:
            self.val_loss, self.bits = report.val_loss, report.val_bits_per_byte or math.nan
        return report.val_loss is not None or int(report.progress * EVALUATIONS) > int(before * EVALUATIONS)


@contextmanager
def watched(history: History, json: bool) -> Iterator[Callable[[Report], None]]:
    """A `report` that keeps the history and shows it: JSON lines, a bar on a terminal, lines elsewhere."""
    if not json and console().is_terminal:
        with _progress() as progress:
            bar = progress.add_task("", total=1.0, **_cells(None, history))

            def draw(report: Report) -> None:
                history.add(report)
                if report.sample is not None:
                    progress.console.print(quoted(report.sample), style="dim", markup=False, highlight=False)
                progress.update(bar, completed=report.progress, **_cells(report, history))

            yield draw
        return

    def say(report: Report) -> None:
        if not history.add(report):
            return
        with suppress(BrokenPipeError):  # whoever listened has gone; the run goes on, to be saved
            if json:
                entry = {name: value for name, value in asdict(report).items() if name != "sample"}
                emit(entry)
            else:
                print(line(report), flush=True)

    yield say


def line(report: Report) -> str:
    """A report, where there is no terminal to draw a bar on."""
    val_loss = "" if report.val_loss is None else f"val {report.val_loss:.4f}  "
    bits = "" if report.val_bits_per_byte is None else f"{report.val_bits_per_byte:.3f} bits/byte  "
    if report.step == 0:
        return f"before training {val_loss}{bits}".rstrip()
    return (
        f"{report.progress:4.0%} step {report.step:<6,} loss {report.loss:.4f}  {val_loss}{bits}"
        f"{_speed(report)}{_left(report)}"
    )


def quoted(sample: str) -> str:
    """What the model writes by now, a few lines of it beside a rule."""
    lines = [row for row in sample.splitlines() if row.strip()][:4]
    return "\n".join(f"  │ {row if row.isprintable() else ascii(row)[1:-1]}"[:79] for row in lines)


def _progress() -> Progress:
    """A bar that fits into 80 columns together with what it says."""
    from rich.progress import BarColumn, Progress, TextColumn

    columns = ("{task.percentage:>3.0f}%", "{task.fields[loss]}", "[green]{task.fields[val_loss]}[/green]")
    ends = ("[dim]{task.fields[speed]}[/dim]", "{task.fields[left]}")
    texts = [TextColumn(column) for column in (*columns, *ends)]
    return Progress(BarColumn(bar_width=None), *texts, console=console(), expand=True, refresh_per_second=5)


def _cells(report: Report | None, history: History) -> dict[str, Any]:
    """What stands beside the bar."""
    val_loss = ""
    if history.val_loss == history.val_loss:
        val_loss = f"val {history.val_loss:.3f} {history.bits:.2f} bits/byte"
    if report is None or math.isnan(report.loss):  # the first step compiles, which takes seconds
        return {"loss": "compiling", "val_loss": val_loss, "speed": "", "left": ""}
    return {
        "loss": f"loss {report.loss:.3f}",
        "val_loss": val_loss,
        "speed": _speed(report),
        "left": _left(report).strip(),
    }


def _left(report: Report) -> str:
    return "" if math.isnan(report.seconds_left) else f" {clock(report.seconds_left)} left"


def _speed(report: Report) -> str:
    speed = report.tokens_per_second
    if math.isnan(speed):
        return "compiled"
    return f"{speed / 1000:.1f}k tok/s" if speed >= 10_000 else f"{speed:,.0f} tok/s"


def print_summary(model: octavo.Model, run: Run, out: str, opening: str, again: str) -> None:
    """What became of a run, and what to do next."""
    screen, facts = console(), run.summary
    if facts["interrupted"]:
        screen.print(f"stopped after {facts['steps']:,} steps; saved what there is", style="yellow")
        screen.print(f"go on: {again}", markup=False, soft_wrap=True)
    loss = facts["val_loss"]
    if loss is not None:
        bits = facts["val_bits_per_byte"]
        screen.print(
            f"validation loss {loss:.4f} nats per token (perplexity {math.exp(loss):.3f}), "
            f"{bits:.3f} bits per byte",
            style="bold",
            soft_wrap=True,
        )
    if run.in_vain:
        screen.print(
            f"no less than before: {out} holds the weights that the run began from, {out}/last the new ones; "
            "try a lower --lr",
            style="yellow",
            markup=False,
        )
    screen.print(f"{facts['steps']:,} steps, {facts['tokens']:,} tokens, {clock(facts['seconds'])}")
    screen.print(
        f"{out}: {model.model_type}, {model.count():,} parameters, vocabulary {model.vocab_size:,}",
        markup=False,
    )
    words = ["--", opening] if opening.startswith("-") else [opening]  # which is no option
    command = shlex.join(["octavo", "generate", "--model", reachable(out), *words])
    screen.print(f"next: {command}", markup=False, soft_wrap=True)


@dataclass
class TensorBoard:
    """Curves for TensorBoard in ``FOLDER/tensorboard``, from when the folder is there."""

    out: Path
    waiting: list[Report] = field(default_factory=list)
    writer: Any = None

    def __post_init__(self) -> None:
        try:
            import tensorboardX  # noqa: F401  (said before the run, rather than in the middle)
        except ImportError:
            raise OctavoError("--log tensorboard needs tensorboardX: pip install tensorboardX") from None

    def add(self, report: Report) -> None:
        """Take in a report."""
        self.waiting.append(report)
        if self.writer is None and (self.out / octavo.formats.folder.CONFIG).exists():
            self._open()
        if self.writer is not None:
            self._write()

    def close(self) -> None:
        """Write what is left."""
        if self.writer is None and self.waiting and self.out.is_dir():  # of a refused run nothing waits
            self._open()
        if self.writer is not None:
            self._write()
            self.writer.close()

    def _open(self) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(self.out / "tensorboard"))

    def _write(self) -> None:
        for report in self.waiting:
            values = {
                "loss/train": report.loss,
                "loss/validation": report.val_loss,
                "bits per byte/validation": report.val_bits_per_byte,
                "learning rate": report.lr,
                "tokens per second": report.tokens_per_second,
            }
            for name, value in values.items():
                if value is not None and math.isfinite(value):
                    self.writer.add_scalar(name, value, report.step)
        self.waiting.clear()
