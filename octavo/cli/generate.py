"""`octavo generate`: write on from a prompt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from octavo.cli import loading, sampling
from octavo.cli.options import Argument, Option
from octavo.cli.printing import emit, paint, say
from octavo.cli.shell import INTERRUPTED
from octavo.decoding import DecodingOptions
from octavo.errors import OctavoError
from octavo.generate import Piece, Token, pieces
from octavo.lookup import Lookup

FILES = "Many prompts"
EPILOG = """[bold]Examples[/bold]

octavo generate "ROMEO:" --limit 200 --temperature 0.8 --seed 1

octavo generate --model christie-gru "poirot " --stop "." --json

echo "To be" | octavo generate --model my-model

octavo generate -m w.npz --tokenizer bpe.pkl --set n_heads=8 "Hark"

octavo generate --prompts prompts.jsonl --out answers.jsonl --batch 16

[bold]Many prompts[/bold]

A line of the file is a JSON object: {"prompt": "To be", "limit": 20, "seed": 1}

With "messages" in place of the prompt, it is answered as in a conversation.

Its "id" and "metadata" go with its answer.

The same command again goes on where it was stopped."""


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
        Argument(
            help="The text to continue; standard input without one, or for -.",
            metavar="PROMPT",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        Option("--limit", "-n", help="Tokens to write at most. \\[default: the rest of the context]"),
    ] = None,
    stop: Annotated[
        list[str] | None,
        Option(help="End before this text. Repeatable.", metavar="TEXT"),
    ] = None,
    json: Annotated[
        bool,
        Option("--json", help="Print one JSON object at the end. Its speed leaves out the prompt."),
    ] = False,
    prompts: Annotated[
        Path | None,
        Option(help="A file of prompts, a JSON object a line.", metavar="FILE", rich_help_panel=FILES),
    ] = None,
    out: Annotated[
        Path | None,
        Option(help="Where their answers go, a line each.", metavar="FILE", rich_help_panel=FILES),
    ] = None,
    batch: Annotated[
        int | None,
        Option(
            help="How many are continued at a time. \\[default: 16]",
            metavar="N",
            min=1,
            rich_help_panel=FILES,
        ),
    ] = None,
    temperature: sampling.TemperatureOption = 1.0,
    top_k: sampling.TopKOption = None,
    top_p: sampling.TopPOption = None,
    min_p: sampling.MinPOption = None,
    repetition_penalty: sampling.PenaltyOption = None,
    logit_bias: sampling.BiasOption = None,
    seed: sampling.SeedOption = None,
    slide: sampling.SlideOption = False,
    cache: sampling.CacheOption = None,
    lookup: sampling.LookupOption = False,
    model: loading.ModelOption = "bard",
    weights: loading.WeightsOption = None,
    tokenizer: loading.TokenizerOption = None,
    chars: loading.CharsOption = None,
    settings: loading.SetOption = None,
    threads: loading.ThreadsOption = None,
) -> None:
    """Write on from a prompt, each word as soon as it is certain."""
    options: DecodingOptions = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "logit_bias": sampling.biases(logit_bias),
        "seed": seed,
        "slide": slide,
        "cache": cache,
    }
    if prompts is not None:
        _check_files(prompt, out, lookup)
    elif out is not None or batch is not None:
        raise OctavoError("--out and --batch go with --prompts FILE")
    text = "" if prompts is not None else loading.prompt_or_stdin(prompt)
    reader = loading.load_reader(model, weights, tokenizer, chars, settings, threads)
    if prompts is not None and out is not None:
        from octavo.cli import many
        from octavo.promptfile import Answering

        answering = Answering(reader, prompts, out, limit=limit, stop=stop or (), options=options)
        return many.answer(answering, 16 if batch is None else batch, json=json)
    counted = Lookup() if lookup else None
    options["lookup"] = counted or False
    drawn = pieces(reader, text, limit=limit, stop=stop or (), **options)
    written = Continuation()
    follow(drawn, written, (lambda _: None) if json else Pen(text).write)
    if json:
        emit(description(text, written) | ({"lookup": asdict(counted)} if counted else {}))
    else:
        say()
    if written.finish_reason == "interrupted":
        raise SystemExit(INTERRUPTED)
    return None


def _check_files(prompt: str | None, out: Path | None, lookup: bool) -> None:
    """Refuse what does not go with a file of prompts."""
    if prompt is not None:
        raise OctavoError("say a prompt or --prompts FILE, not both")
    if out is None:
        raise OctavoError("--prompts needs --out FILE, where the answers go")
    if lookup:
        raise OctavoError("--lookup is for one text at a time; leave it out")


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
            say(paint(self.prompt, "dim"), end="")
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
