"""`octavo score`: how well a model predicts a text."""

from __future__ import annotations

from typing import Annotated, Any

import octavo
from octavo.cli import loading
from octavo.cli.options import Argument, Option
from octavo.cli.printing import console, emit, table
from octavo.data import read_text
from octavo.protocols import NAMES
from octavo.score import Score

PANEL = "Protocol"
EPILOG = """[bold]Protocols[/bold]

whole: the text from its beginning, the state carried along; what a recurrent model does unasked.

strided: overlapping windows, new tokens count; what a Transformer does unasked, by half its context.

rolling: lm-evaluation-harness: disjoint windows, per word and byte of the text too.

chunked: llama.cpp: chunks of 512 tokens, the second half of each counts.

[bold]Examples[/bold]

octavo score tinyshakespeare --limit 5000

octavo score -m gpt2 --protocol strided --window 1024 --stride 512 my.txt

octavo score -m rnn.json --weights rnn.h5 --chars train.txt --chars test.txt test.txt

octavo score --json < my.txt"""


def run(
    files: Annotated[
        list[str] | None,
        Argument(
            help="Texts, read one after the other, or corpora by name; standard input without any, or for -.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, Option("--limit", "-n", help="Predict only the first N tokens.", metavar="N")
    ] = None,
    protocol: Annotated[
        str | None,
        Option(
            help=f"What is read and what counts: {', '.join(NAMES)}.", metavar="NAME", rich_help_panel=PANEL
        ),
    ] = None,
    window: Annotated[
        int | None,
        Option(help="Tokens in a window or chunk.", metavar="N", rich_help_panel=PANEL),
    ] = None,
    stride: Annotated[
        int | None,
        Option(help="Tokens from window to window (strided).", metavar="N", rich_help_panel=PANEL),
    ] = None,
    json: loading.JsonOption = False,
    model: loading.ModelOption = "bard",
    weights: loading.WeightsOption = None,
    tokenizer: loading.TokenizerOption = None,
    chars: loading.CharsOption = None,
    settings: loading.SetOption = None,
    threads: loading.ThreadsOption = None,
) -> None:
    """Measure how well a model predicts a text."""
    if files and files != ["-"]:
        text = read_text(files)
    else:
        text = loading.unmarked(loading.text_or_stdin(None, "text"))
    reader = loading.load_reader(model, weights, tokenizer, chars, settings, threads)
    result = octavo.score(reader, text, protocol=protocol, window=window, stride=stride, limit=limit)
    if json:
        emit(description(result))
    else:
        _print(result)


def description(score: Score) -> dict[str, Any]:
    """What ``--json`` prints."""
    names = ("nats", "tokens", "chars", "bytes", "perplexity", "per_char", "bits_per_byte")
    rolling = ("words", "word_perplexity", "byte_perplexity") if score.words is not None else ()
    protocol = score.protocol
    sizes = {"window": protocol.window, "stride": protocol.stride, "begin": list(protocol.begin) or None}
    return {
        **{name: getattr(score, name) for name in (*names, *rolling)},
        "protocol": protocol.name,
        **{name: value for name, value in sizes.items() if value is not None},
    }


def _print(score: Score) -> None:
    rows = table("", "value", "what it is", numbers=("value",))
    for name, value, meaning in (
        ("protocol", score.protocol.name, _told(score)),
        ("perplexity", f"{score.perplexity:.3f}", "per token: exp(nats / tokens); lower is better"),
        *_per_word(score),
        ("per character", f"{score.per_char:.3f}", "perplexity: exp(nats / characters)"),
        ("bits per byte", f"{score.bits_per_byte:.3f}", "nats / (bytes ln 2); compares any tokenizers"),
        ("nats", f"{score.nats:,.1f}", "-log p of the tokens that count"),
        ("tokens", f"{score.tokens:,}", "that count, each predicted from those before it"),
        ("characters", f"{score.chars:,}", "in those tokens"),
        ("bytes", f"{score.bytes:,}", "in those tokens, as UTF-8"),
    ):
        rows.add_row(name, value, f"[dim]{meaning}[/dim]")
    console().print(rows)


def _told(score: Score) -> str:
    """What the protocol is, in half a line."""
    window, stride = score.protocol.window or 0, score.protocol.stride or 0
    return {
        "whole": "the text from its beginning, in one go",
        "strided": f"windows of {window:,}, {stride:,} further each; new tokens count",
        "rolling": f"disjoint windows of {window:,}, one token of context each",
        "chunked": f"chunks of {window:,} tokens; the second half of each counts",
    }[score.protocol.name]


def _per_word(score: Score) -> list[tuple[str, str, str]]:
    if score.words is None:
        return []
    return [
        ("per word", f"{score.word_perplexity:,.3f}", f"perplexity: of {score.words:,} words"),
        ("per byte", f"{score.byte_perplexity:.3f}", "perplexity: exp(nats / bytes)"),
    ]
