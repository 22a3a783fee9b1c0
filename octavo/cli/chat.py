"""`octavo chat`: a conversation in the terminal, or a turn for each line of a pipe."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from octavo.chat import Conversation
from octavo.cli import loading, sampling
from octavo.cli.asking import Keyboard, Lines
from octavo.cli.options import Option
from octavo.cli.session import Session
from octavo.errors import OctavoError
from octavo.templates import LARGEST, libraries

EPILOG = """[bold]Examples[/bold]

octavo chat --model my-model --system "You answer in one sentence."

octavo chat -m my-model --template my.jinja --temperature 0.7 --top-p 0.9

printf 'Who wrote Hamlet?\\nWhen?\\n' | octavo chat -m my-model --json

In a conversation, /help lists what else there is."""


def run(
    model: loading.ModelOption,
    system: Annotated[
        str | None, Option(help="What the model is told first.", metavar="TEXT", show_default=False)
    ] = None,
    template: Annotated[
        Path | None,
        Option(help="A Jinja template in place of the model's own.", metavar="FILE"),
    ] = None,
    max_tokens: Annotated[
        int | None,
        Option(
            "--max-tokens", "-n", help="Tokens an answer has at most. \\[default: the rest of the context]"
        ),
    ] = None,
    stop: Annotated[
        list[str] | None,
        Option(help="End an answer before this text. Repeatable.", metavar="TEXT"),
    ] = None,
    json: Annotated[bool, Option("--json", help="Print one JSON object per turn.")] = False,
    temperature: sampling.OwnTemperatureOption = None,
    top_k: sampling.TopKOption = None,
    top_p: sampling.TopPOption = None,
    min_p: sampling.MinPOption = None,
    repetition_penalty: sampling.PenaltyOption = None,
    logit_bias: sampling.BiasOption = None,
    seed: sampling.SeedOption = None,
    slide: sampling.SlideOption = False,
    cache: sampling.CacheOption = None,
    lookup: sampling.LookupOption = False,
    weights: loading.WeightsOption = None,
    tokenizer: loading.TokenizerOption = None,
    chars: loading.CharsOption = None,
    settings: loading.SetOption = None,
    threads: loading.ThreadsOption = None,
) -> None:
    """Talk with a model, in the words that its own chat template puts around yours.

    What the model's generation_config.json says of sampling holds, except where an option says otherwise.
    """
    loaded = loading.load_reader(model, weights, tokenizer, chars, settings, threads)
    talk = Conversation(loaded, template=None if template is None else _text(template))
    talk.require_template()
    libraries()  # what is missing is said before somebody has typed
    chosen = sampling.chosen(
        loaded,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        logit_bias=sampling.biases(logit_bias),
        seed=seed,
        slide=slide,
        cache=cache,
        lookup=lookup,
    )
    say = partial(talk.say, limit=max_tokens, stop=stop or (), **chosen)
    session = Session(talk, say, as_json=json, sampling=sampling.described(chosen))
    session.system(loading.utf_8(system or "", "system message"))
    if sys.stdin is not None and sys.stdin.isatty():
        session.converse(Keyboard(prompting=not json))
    else:
        session.follow(Lines())


def _text(path: Path) -> str:
    """The content of a template file."""
    try:
        if path.stat().st_size > 4 * LARGEST:
            raise OctavoError(f"{path} is too large for a chat template")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise OctavoError(f"{path} is not UTF-8 text: byte {error.start} cannot be decoded") from None
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror}") from None
