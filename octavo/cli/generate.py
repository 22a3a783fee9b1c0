"""`octavo generate`: write on from a prompt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from octavo.cli import loading, sampling
from octavo.cli.printing import emit, paint
from octavo.generate import Piece, Token, pieces

EPILOG = """[bold]Examples[/bold]

octavo generate "ROMEO:" --limit 200 --temperature 0.8 --seed 1

octavo generate --model christie-gru "poirot " --stop "." --json

echo "To be" | octavo generate --model my-model

octavo generate -m w.npz --tokenizer bpe.pkl --set n_heads=8 "Hark" """


@dataclass
class Continuation:
    """What has been written so far, and how fast."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish_reason: str = "interrupted"
    started: float = field(default_factory=time.perf_counter)
    first: tuple[int, float] = (0, 0.0)  # tokens of the first piece, and when it came
    ended: float = 0.0

    def add(self, piece: Piece) -> None:
        """Take in the next piece."""
        self.ended = time.perf_counter()
        self.text += piece.text
        self.tokens += piece.tokens
        self.finish_reason = piece.finish_reason or self.finish_reason
        if not self.first[1]:
            self.first = len(self.tokens), self.ended

    @property
    def tokens_per_second(self) -> float:
        """After the first piece, whose time is mostly that of reading the prompt."""
        count, since = len(self.tokens) - self.first[0], self.first[1]
        if count <= 0:
            count, since = len(self.tokens), self.started
        return count / max(self.ended - since, 1e-9)


def run(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="The text to continue; standard input without one, or for -.",
            metavar="PROMPT",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", help="Tokens to write at most. \\[default: the rest of the context]"),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End before this text. Repeatable.", metavar="TEXT"),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object at the end. Its speed leaves out the prompt."),
    ] = False,
    temperature: sampling.TemperatureOption = 1.0,
    top_k: sampling.TopKOption = None,
    top_p: sampling.TopPOption = None,
    min_p: sampling.MinPOption = None,
    repetition_penalty: sampling.PenaltyOption = None,
    logit_bias: sampling.BiasOption = None,
    seed: sampling.SeedOption = None,
    model: loading.ModelOption = "bard",
    weights: loading.WeightsOption = None,
    tokenizer: loading.TokenizerOption = None,
    chars: loading.CharsOption = None,
    settings: loading.SetOption = None,
    threads: loading.ThreadsOption = None,
) -> None:
    """Write on from a prompt, each word as soon as it is certain."""
    text = loading.prompt_or_stdin(prompt)
    drawn = pieces(
        loading.load_reader(model, weights, tokenizer, chars, settings, threads),
        text,
        limit=limit,
        stop=stop or (),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        logit_bias=sampling.biases(logit_bias),
        seed=seed,
    )
    written = Continuation()
    follow(drawn, written, (lambda _: None) if json else Pen(text).write)
    if json:
        emit(description(text, written))
    else:
        typer.echo()
    if written.finish_reason == "interrupted":
        raise typer.Exit(130)


def follow(drawn: Iterator[Piece], written: Continuation, show: Callable[[str], None]) -> None:
    """Show each piece as it comes, to the end or until Ctrl-C."""
    try:
        with closing(drawn):  # type: ignore[type-var]
            for piece in drawn:
                written.add(piece)
                show(piece.text)
    except KeyboardInterrupt:
        pass  # `written` holds what there is


class Pen:
    """Writes the prompt, dim, before the first piece: no sooner, as it may yet be refused."""

    def __init__(self, prompt: str) -> None:
        self.prompt: str | None = prompt

    def write(self, text: str) -> None:
        """Write and flush."""
        if self.prompt is not None:
            typer.echo(paint(self.prompt, dim=True), nl=False)
            self.prompt = None
        sys.stdout.write(text)
        sys.stdout.flush()


def description(prompt: str, written: Continuation) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "prompt": prompt,
        "text": written.text,
        "ids": [token.id for token in written.tokens],
        "logprobs": [token.logprob for token in written.tokens],
        "tokens_per_second": written.tokens_per_second,
        "finish_reason": written.finish_reason,
    }
