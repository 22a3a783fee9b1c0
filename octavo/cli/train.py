"""`octavo train`: a new model from texts."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import octavo
from octavo.cli import loading
from octavo.cli.printing import clock, console, emit, reachable
from octavo.cli.runs import read_run
from octavo.data import read_text
from octavo.errors import OctavoError
from octavo.formats.folder import refuse_existing
from octavo.learn import EVALUATIONS
from octavo.recipe import DEFAULTS, Recipe, Report

if TYPE_CHECKING:
    from rich.progress import Progress

EPILOG = """[bold]Examples[/bold]

octavo train my.txt --out my-model

octavo train a.txt b.txt -m rnn --size units=128,64 --epochs 40 -o my-rnn

octavo train tinyshakespeare -m plain --tokenizer bpe:1024 -o bard2"""

MINUTES = 5.0  # when no budget is given: long enough to read something, short enough to wait for
BUDGET, LEARNING = "Budget (one of them)", "Learning"


def default(name: str) -> str:
    """An option's default in words, ``[default: 0.003 (plain, prenorm: 0.001)]``, safe from rich's markup."""
    general = Recipe.__dataclass_fields__[name].default
    types: dict[Any, list[str]] = {}
    for model_type, own in DEFAULTS.items():
        types.setdefault(own.get(name, general), []).append(model_type)
    commonest = sorted(types.items(), key=lambda item: -len(item[1]))
    first, *others = [(f"{value:g}", ", ".join(names)) for value, names in commonest]
    exceptions = "; ".join(f"{names}: {value}" for value, names in others)
    return rf"\[default: {first[0]}{f' ({exceptions})' if others else ''}]"


def run(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Texts, learned from one after the other, or corpora by name.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="The new model folder.", metavar="FOLDER")],
    model: Annotated[
        Literal["rnn", "gru", "lstm", "plain", "prenorm"],
        typer.Option(
            "--model", "-m", help="rnn, gru, lstm, or a Transformer: plain, prenorm.", metavar="TYPE"
        ),
    ] = "gru",
    tokenizer: Annotated[
        str, typer.Option(help="char, bpe:N (N byte pairs, trained on the text), or a file.", metavar="SPEC")
    ] = "char",
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="A size of the model: units=128,64 or d_model=256. Repeatable. \\[default: the course's]",
            metavar="KEY=VALUE",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON line per evaluation and a last one in summary.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Batches to learn from.", rich_help_panel=BUDGET)] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Times to go through the text.", rich_help_panel=BUDGET)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help=rf"Time to take. \[default: {MINUTES:g}]", rich_help_panel=BUDGET)
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(help=f"Tokens in a window. {default('context')}", rich_help_panel=LEARNING),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help=f"Windows in a step. {default('batch')}", rich_help_panel=LEARNING)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help=f"Highest learning rate. {default('lr')}", rich_help_panel=LEARNING)
    ] = None,
    warmup: Annotated[
        float | None,
        typer.Option(help=f"Share of the budget to rise in. {default('warmup')}", rich_help_panel=LEARNING),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(help=f"Decay of the matrices. {default('weight_decay')}", rich_help_panel=LEARNING),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(help=f"Share of activations zeroed. {default('dropout')}", rich_help_panel=LEARNING),
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(help=f"Greatest norm of a gradient. {default('clip')}", rich_help_panel=LEARNING),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            help=f"Share of the text held out, its end. {default('validation')}", rich_help_panel=LEARNING
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help=f"Of all that is random. {default('seed')}", rich_help_panel=LEARNING)
    ] = None,
) -> None:
    """Train a new model on texts; Ctrl-C ends the run and saves it."""
    budget = given(steps=steps, epochs=epochs, minutes=minutes) or {"minutes": MINUTES}
    recipe = given(
        context=context,
        batch=batch,
        lr=lr,
        warmup=warmup,
        weight_decay=weight_decay,
        dropout=dropout,
        clip=clip,
        validation=validation,
        seed=seed,
    )
    refuse_existing(Path(out))
    text = read_text(files)
    history = History()
    with watched(history, json) as report:
        trained = octavo.train(
            text,
            model_type=model,
            tokenizer=tokenizer,
            sizes=sizes(size),
            out=out,
            report=report,
            command=shlex.join(["octavo", *sys.argv[1:]]),
            **budget,
            **recipe,
        )
    # An interrupt evaluates once more than the reports say.
    history.val_loss = read_run(reachable(out)).val_loss or history.val_loss
    if json:
        emit(history.summary() | {"out": out, "parameters": trained.count()})
    else:
        _print_summary(trained, history, out, text)
    if history.interrupted:
        raise typer.Exit(130)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: the others have their defaults in `octavo.train`."""
    return {name: option for name, option in options.items() if option is not None}


def sizes(items: list[str] | None) -> dict[str, Any]:
    """The sizes that ``KEY=VALUE`` items spell; `units` is a width per layer, even if it is one."""
    found = loading.pairs("--size", items)
    if "vocab_size" in found:
        raise OctavoError("the vocabulary has the size that --tokenizer gives it")
    if "units" in found and not isinstance(found["units"], tuple):
        found["units"] = (found["units"],)
    return found


@dataclass
class History:
    """What the reports of a run add up to."""

    last: Report | None = None
    val_loss: float = math.nan

    def add(self, report: Report) -> bool:
        """Take in a report; whether it closes one of the stretches after which the run is evaluated."""
        before = self.last.progress if self.last else 0.0
        self.last = report
        if report.val_loss is not None:
            self.val_loss = min(
                report.val_loss, self.val_loss if self.val_loss == self.val_loss else math.inf
            )
        return int(report.progress * EVALUATIONS) > int(before * EVALUATIONS)

    @property
    def interrupted(self) -> bool:
        """Whether the budget was not spent."""
        return self.last is None or self.last.progress < 1

    def summary(self) -> dict[str, Any]:
        """The last line of ``--json``."""
        last = self.last
        return {
            "val_loss": self.val_loss,
            "loss": last.loss if last else math.nan,
            "steps": last.step if last else 0,
            "tokens": last.tokens if last else 0,
            "seconds": last.seconds if last else 0.0,
            "interrupted": self.interrupted,
        }


@contextmanager
def watched(history: History, json: bool) -> Iterator[Callable[[Report], None]]:
    """A `report` that keeps the history and shows it: JSON lines, a bar on a terminal, lines elsewhere."""
    if not json and console().is_terminal:
        with _progress() as progress:
            bar = progress.add_task("", total=1.0, **_cells(None, history))

            def draw(report: Report) -> None:
                history.add(report)
                progress.update(bar, completed=report.progress, **_cells(report, history))

            yield draw
        return

    def say(report: Report) -> None:
        if not history.add(report):
            return
        with suppress(BrokenPipeError):  # whoever listened has gone; the run goes on, to be saved
            if json:
                emit(asdict(report) | {"tokens_per_second": report.tokens_per_second})
            else:
                print(line(report), flush=True)

    yield say


def line(report: Report) -> str:
    """An evaluation, where there is no terminal to draw a bar on."""
    val_loss = "" if report.val_loss is None else f"validation {report.val_loss:.4f}  "
    return (
        f"{report.progress:4.0%}  step {report.step:<7,} loss {report.loss:.4f}  {val_loss}"
        f"{_speed(report)}  {clock(report.seconds_left)} left"
    )


def _progress() -> Progress:
    """A bar that fits into 80 columns together with what it says."""
    from rich.progress import BarColumn, Progress, TextColumn

    columns = ("{task.percentage:>3.0f}%", "{task.fields[loss]}", "[green]{task.fields[val_loss]}[/green]")
    ends = ("[dim]{task.fields[speed]}[/dim]", "{task.fields[left]}")
    texts = [TextColumn(column) for column in (*columns, *ends)]
    return Progress(BarColumn(bar_width=None), *texts, console=console(), expand=True, refresh_per_second=5)


def _cells(report: Report | None, history: History) -> dict[str, Any]:
    """What stands beside the bar."""
    if report is None or math.isnan(report.loss):  # the first step compiles, which takes seconds
        return {"loss": "compiling", "val_loss": "", "speed": "", "left": ""}
    val_loss = f"val {history.val_loss:.3f}" if history.val_loss == history.val_loss else ""
    left = f"{clock(report.seconds_left)} left"
    return {"loss": f"loss {report.loss:.3f}", "val_loss": val_loss, "speed": _speed(report), "left": left}


def _speed(report: Report) -> str:
    speed = report.tokens_per_second
    return f"{speed / 1000:.1f}k tokens/s" if speed >= 10_000 else f"{speed:,.0f} tokens/s"


def _print_summary(model: octavo.Model, history: History, out: str, text: str) -> None:
    facts = history.summary()
    screen = console()
    if history.interrupted:
        screen.print(f"stopped after {facts['steps']:,} steps; saved what there is", style="yellow")
    loss = facts["val_loss"]
    if loss == loss:
        screen.print(
            f"validation loss {loss:.4f} nats per token (perplexity {math.exp(loss):.3f})", style="bold"
        )
    screen.print(f"{facts['steps']:,} steps, {facts['tokens']:,} tokens, {clock(facts['seconds'])}")
    screen.print(
        f"{out}: {model.model_type}, {model.count():,} parameters, vocabulary {model.vocab_size:,}",
        markup=False,
    )
    command = shlex.join(["octavo", "generate", "--model", reachable(out), _opening(text)])
    screen.print(f"next: {command}", markup=False, soft_wrap=True)


def _opening(text: str) -> str:
    """The first words of the text: a prompt that the new model can read."""
    first = next((row for row in text.splitlines() if row.strip()), text)
    return " ".join(first.split()[:3])[:30]
