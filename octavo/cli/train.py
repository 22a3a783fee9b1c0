"""`octavo train`: a new model from texts."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import octavo
from octavo import data, mesh
from octavo.cli import loading
from octavo.cli.options import Argument, Option
from octavo.cli.printing import emit, reachable
from octavo.cli.progress import History, TensorBoard, print_summary, watched
from octavo.cli.runs import read_run
from octavo.cli.shell import INTERRUPTED, nothing_to_lose
from octavo.errors import OctavoError
from octavo.memory import keep_memory
from octavo.recipe import DEFAULTS, Recipe, Report
from octavo.train import SAVE_EVERY

EPILOG = """[bold]Examples[/bold]

octavo train my.txt --out my-model

octavo train a.txt b.txt -m rnn --size units=128,64 --epochs 40 -o my-rnn

octavo train tinyshakespeare -m plain --tokenizer bpe:1024 -o bard2

octavo train my.txt --out my-model --resume"""

MINUTES = 5.0  # when no budget is given: long enough to read something, short enough to wait for
BUDGET, LEARNING, LASTING, DEVICES = "Budget (one of them)", "Learning", "Long runs", "Many devices"


def default(name: str) -> str:
    """An option's default in words, ``[default: 0.003 (plain, prenorm: 0.001)]``, safe from rich's markup."""
    general = Recipe.__dataclass_fields__[name].default
    types: dict[Any, list[str]] = {}
    for model_type, own in DEFAULTS.items():
        types.setdefault(own.get(name, general), []).append(model_type)
    commonest = sorted(types.items(), key=lambda item: -len(item[1]))
    first, *others = [
        (f"{value:g}" if isinstance(value, int | float) else value, ", ".join(names))
        for value, names in commonest
    ]
    exceptions = "; ".join(f"{names}: {value}" for value, names in others)
    return rf"\[default: {first[0]}{f' ({exceptions})' if others else ''}]"


def run(
    files: Annotated[
        list[str],
        Argument(
            help="Texts (.txt, .jsonl, .parquet, .gz), folders, patterns, or corpora by name.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    out: Annotated[str, Option("--out", "-o", help="The new model folder.", metavar="FOLDER")],
    model: Annotated[
        str | None,
        Option(
            "--model",
            "-m",
            help=f"auto (what learns most in that time), {', '.join(DEFAULTS)}. \\[default: auto]",
            metavar="TYPE",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        Option(
            help="char, bpe:N (N byte pairs, trained on the text), or a file. \\[default: char]",
            metavar="SPEC",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        Option(
            help="small, medium, large; or a field: units=128,64, d_model=256. Repeatable.",
            metavar="NAME|KEY=VALUE",
        ),
    ] = None,
    base: Annotated[
        str | None,
        Option("--from", help="A model to train on: its weights, sizes, tokenizer.", metavar="MODEL"),
    ] = None,
    field: Annotated[
        str, Option(help="Field of .jsonl, column of .parquet, with the text.", metavar="NAME")
    ] = "text",
    json: Annotated[
        bool, Option("--json", help="Print a JSON line per evaluation and a last one in summary.")
    ] = False,
    steps: Annotated[int | None, Option(help="Batches to learn from.", rich_help_panel=BUDGET)] = None,
    epochs: Annotated[
        float | None, Option(help="Times to go through the text.", rich_help_panel=BUDGET)
    ] = None,
    minutes: Annotated[
        float | None, Option(help=rf"Time to take. \[default: {MINUTES:g}]", rich_help_panel=BUDGET)
    ] = None,
    context: Annotated[
        int | None,
        Option(help=f"Tokens in a window. {default('context')}", rich_help_panel=LEARNING),
    ] = None,
    batch: Annotated[
        int | None, Option(help=f"Windows in a step. {default('batch')}", rich_help_panel=LEARNING)
    ] = None,
    accumulate: Annotated[
        int | None,
        Option(help=f"Batches that make a step. {default('accumulate')}", rich_help_panel=LEARNING),
    ] = None,
    optimizer: Annotated[
        Literal["adamw", "muon"] | None,
        Option(help=f"adamw or muon. {default('optimizer')}", metavar="NAME", rich_help_panel=LEARNING),
    ] = None,
    lr: Annotated[
        float | None,
        Option(
            help=f"Highest learning rate; less if a Transformer is wide, or with --from. {default('lr')}",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    warmup: Annotated[
        float | None,
        Option(help=f"Share of the budget to rise in. {default('warmup')}", rich_help_panel=LEARNING),
    ] = None,
    weight_decay: Annotated[
        float | None,
        Option(help=f"Decay of the matrices. {default('weight_decay')}", rich_help_panel=LEARNING),
    ] = None,
    dropout: Annotated[
        float | None,
        Option(
            help="Share of activations zeroed. \\[default: what the epochs ask for: 0 to 0.4]",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    clip: Annotated[
        float | None,
        Option(help=f"Greatest norm of a gradient. {default('clip')}", rich_help_panel=LEARNING),
    ] = None,
    validation: Annotated[
        float | None,
        Option(
            help=f"Share of the text held out, its end. {default('validation')}", rich_help_panel=LEARNING
        ),
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        Option(
            help=f"float32 or bfloat16, of activations. {default('precision')}",
            metavar="TYPE",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    seed: Annotated[
        int | None, Option(help=f"Of all that is random. {default('seed')}", rich_help_panel=LEARNING)
    ] = None,
    resume: Annotated[
        bool,
        Option(
            "--resume", help="Go on from the checkpoint in --out, if there is one.", rich_help_panel=LASTING
        ),
    ] = False,
    save_every: Annotated[
        float,
        Option(help="Time between checkpoints.", metavar="SECONDS", min=0, rich_help_panel=LASTING),
    ] = SAVE_EVERY,
    log: Annotated[
        Literal["tensorboard"] | None,
        Option(help="Curves in --out: tensorboard.", metavar="KIND", rich_help_panel=LASTING),
    ] = None,
    mesh_sizes: Annotated[
        str | None,
        Option("--mesh", help="Devices: data=4, or data=2,model=2.", metavar="AXES", rich_help_panel=DEVICES),
    ] = None,
    coordinator: Annotated[
        str | None,
        Option(help="The first of several processes.", metavar="HOST:PORT", rich_help_panel=DEVICES),
    ] = None,
    processes: Annotated[
        int | None, Option(help="How many there are.", metavar="N", min=1, rich_help_panel=DEVICES)
    ] = None,
    process_id: Annotated[
        int | None,
        Option(help="Which one this is, from 0.", metavar="I", min=0, rich_help_panel=DEVICES),
    ] = None,
) -> None:
    """Train a new model on texts; Ctrl-C ends the run and saves it."""
    budget = given(steps=steps, epochs=epochs, minutes=minutes)
    if not budget and not resume:
        budget = {"minutes": MINUTES}
    recipe = given(
        context=context,
        batch=batch,
        accumulate=accumulate,
        optimizer=optimizer,
        lr=lr,
        warmup=warmup,
        weight_decay=weight_decay,
        dropout=dropout,
        clip=clip,
        validation=validation,
        precision=precision,
        seed=seed,
    )
    keep_memory()  # before the first device, whose threads would have memory of their own
    if coordinator is not None or mesh.in_cluster():
        own_stdout()
    mesh.connect(coordinator, processes, process_id)
    history, prompt = History(), opening(files, field)  # now: the files may be gone in the end
    with nothing_to_lose(), suppress(ImportError):  # which `octavo.train` says in a line
        import jax  # noqa: F401
        import optax  # noqa: F401
    with ExitStack() as stack:
        watchers = [stack.enter_context(watched(history, json))]
        if log is not None:
            board = TensorBoard(Path(out))
            stack.callback(board.close)
            watchers.append(board.add)
        trained = octavo.train(
            files,
            model_type=model,
            tokenizer=tokenizer,
            **sizes(size),
            base=base,
            field=field,
            out=out,
            resume=resume,
            mesh_sizes=mesh_sizes,
            report=together(watchers) if mesh.leads() else None,
            samples=not json and sys.stdout.isatty(),
            progress=encoding if sys.stderr.isatty() else None,
            save_every=save_every,
            command=shlex.join(["octavo", *sys.argv[1:]]),
            started=process_start(),
            **budget,
            **recipe,
        )
    if not mesh.leads():
        return
    done = read_run(reachable(out))
    if json:
        emit(done.summary | {"out": out, "parameters": trained.count()})
    else:
        again = [part for part in sys.argv[1:] if part != "--resume"]
        resumed = shlex.join(["octavo", *again, "--resume"])
        print_summary(trained, done, out, prompt, resumed)
    if done.summary["interrupted"]:
        raise SystemExit(INTERRUPTED)


def together(watchers: list[Callable[[Report], None]]) -> Callable[[Report], None]:
    """One report for all of them."""

    def report(now: Report) -> None:
        for watcher in watchers:
            watcher(now)

    return report


def own_stdout() -> None:
    """Keep standard output for Python: libraries in C, which greet their peers there, print as errors."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(own, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)


def encoding(what: str, share: float) -> None:
    """Say on the terminal how the encoding of a large text goes."""
    end = "\n" if share >= 1 else ""
    print(f"\r{what} the text: {share:4.0%}", end=end, file=sys.stderr, flush=True)


def process_start() -> float:
    """The reading of `time.perf_counter` when this process began, where the system tells, else now."""
    try:
        after_boot = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - after_boot / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        age = 0.0
    return time.perf_counter() - age


def opening(files: list[str], field: str) -> str:
    """The first words of the texts as they stand there: a prompt that the new model can read."""
    begin = ""
    for text in data.blocks(data.sources(files), field):
        if words := re.search(r"\S+([^\S\n]+\S+){0,2}", text[:10_000]):
            return words[0][:30]
        begin = begin or text[:30]
    return begin


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: the others have their defaults in `octavo.train`."""
    return {name: option for name, option in options.items() if option is not None}


def sizes(items: list[str] | None) -> dict[str, Any]:
    """The size by name and those that ``KEY=VALUE`` items spell."""
    names = [item for item in items or () if "=" not in item]
    if len(names) > 1:
        raise OctavoError(f"--size takes one name, and KEY=VALUE; not {' and '.join(names)}")
    found = loading.pairs("--size", [item for item in items or () if "=" in item])
    if "vocab_size" in found:
        raise OctavoError("the vocabulary has the size that --tokenizer gives it")
    return {"size": names[0] if names else None, "sizes": found}
