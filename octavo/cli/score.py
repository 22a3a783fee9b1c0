"""`octavo score`: how well a model predicts a text."""

from __future__ import annotations

from typing import Annotated

import typer

import octavo
from octavo.cli import loading
from octavo.cli.printing import console, emit, table
from octavo.data import read_text
from octavo.score import Score

EPILOG = """[bold]Examples[/bold]

octavo score tinyshakespeare --limit 5000

octavo score -m rnn.json --weights rnn.h5 --chars train.txt --chars test.txt test.txt

octavo score --json < my.txt"""


def run(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts, read one after the other, or corpora by name; standard input without any.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", help="Predict only the first N tokens.", metavar="N")
    ] = None,
    json: loading.JsonOption = False,
    model: loading.ModelOption = "bard",
    weights: loading.WeightsOption = None,
    tokenizer: loading.TokenizerOption = None,
    chars: loading.CharsOption = None,
    settings: loading.SetOption = None,
) -> None:
    """Measure how well a model predicts a text."""
    text = read_text(files) if files else loading.text_or_stdin(None, "text")
    result = octavo.score(loading.load_reader(model, weights, tokenizer, chars, settings), text, limit=limit)
    if json:
        emit(description(result))
    else:
        _print(result)


def description(score: Score) -> dict[str, float]:
    """What ``--json`` prints."""
    names = ("nats", "tokens", "chars", "bytes", "perplexity", "per_char", "bits_per_byte")
    return {name: getattr(score, name) for name in names}


def _print(score: Score) -> None:
    rows = table("", "value", "what it is", numbers=("value",))
    for name, number, meaning in (
        ("perplexity", f"{score.perplexity:.3f}", "per token: exp(nats / tokens); lower is better"),
        ("per character", f"{score.per_char:.3f}", "perplexity: exp(nats / characters)"),
        ("bits per byte", f"{score.bits_per_byte:.3f}", "nats / (bytes ln 2); compares any tokenizers"),
        ("nats", f"{score.nats:,.1f}", "-log p of the text after its first token"),
        ("tokens", f"{score.tokens:,}", "predicted: all but the first"),
        ("characters", f"{score.chars:,}", "in those tokens"),
        ("bytes", f"{score.bytes:,}", "in those tokens, as UTF-8"),
    ):
        rows.add_row(name, number, f"[dim]{meaning}[/dim]")
    console().print(rows)
