"""What the commands share: the options that name a model, and texts from arguments or standard input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import octavo
from octavo.cli.options import Argument, Option
from octavo.errors import OctavoError

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

PANEL = "Model"
NOT_FIELDS = ("path", "weights", "tokenizer", "model_type", "quantize", "threads")
"""No fields of a config but other arguments of `octavo.load`."""

ModelOption = Annotated[
    str,
    Option(
        "--model",
        "-m",
        help="A shipped model, a model folder, a file, or hub:owner/name.",
        metavar="MODEL",
        rich_help_panel=PANEL,
    ),
]
ModelArgument = Annotated[
    str,
    Argument(
        help="A shipped model, a model folder, a file, or hub:owner/name.",
        metavar="MODEL",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    str | None,
    Option("--weights", help="Weights (.h5) of a Keras .json.", metavar="FILE", rich_help_panel=PANEL),
]
TokenizerOption = Annotated[
    str | None,
    Option(
        "--tokenizer", help="tokenizer.json, or a tiktoken pickle.", metavar="FILE", rich_help_panel=PANEL
    ),
]
CharsOption = Annotated[
    list[str] | None,
    Option(
        "--chars",
        help="Tokens are the characters of this text. Repeatable.",
        metavar="FILE",
        rich_help_panel=PANEL,
    ),
]
SetOption = Annotated[
    list[str] | None,
    Option(
        "--set",
        help="A config field the file does not tell: n_heads=8. Repeatable.",
        metavar="KEY=VALUE",
        rich_help_panel=PANEL,
    ),
]
ThreadsOption = Annotated[
    int | None,
    Option(
        "--threads",
        help="Threads that compiled code may use. \\[default: all processors]",
        metavar="N",
        rich_help_panel=PANEL,
    ),
]
JsonOption = Annotated[bool, Option("--json", help="Print one JSON object, for programs.")]


def load_model(
    model: str,
    weights: str | None = None,
    tokenizer: str | None = None,
    chars: list[str] | None = None,
    settings: list[str] | None = None,
    threads: int | None = None,
    quantize: str | None = None,
) -> octavo.Model:
    """The model that the loading options name."""
    reader = load_tokenizer(tokenizer, chars)
    options = {"threads": threads, "quantize": quantize, **fields(settings)}
    return octavo.load(model, weights=weights, tokenizer=reader, **options)


def load_reader(
    model: str,
    weights: str | None = None,
    tokenizer: str | None = None,
    chars: list[str] | None = None,
    settings: list[str] | None = None,
    threads: int | None = None,
) -> octavo.Model:
    """Like `load_model`, for commands that need the tokenizer too."""
    loaded = load_model(model, weights, tokenizer, chars, settings, threads)
    if loaded.tokenizer is None:
        raise OctavoError(
            f"{model} has no tokenizer; name one with --tokenizer FILE or its text with --chars FILE"
        )
    return loaded


def load_tokenizer(tokenizer: str | None, chars: list[str] | None) -> Tokenizer | None:
    """The tokenizer of a file, or of the characters of texts taken together; None if neither is named."""
    if tokenizer and chars:
        raise OctavoError("say --tokenizer or --chars, not both")
    if chars:
        from octavo.data import read_text

        return octavo.tokenizers.char(read_text(chars))
    return octavo.tokenizers.open(tokenizer) if tokenizer else None


def fields(settings: list[str] | None) -> dict[str, Any]:
    """The config fields of ``--set``."""
    found = pairs("--set", settings)
    if wrong := [name for name in found if name in NOT_FIELDS]:
        raise OctavoError(f"--set gives fields of a config; {wrong[0]} is none")
    return found


def pairs(option: str, items: list[str] | None) -> dict[str, Any]:
    """Repeated ``KEY=VALUE`` items as a mapping, each value a number, several, or a word."""
    found: dict[str, Any] = {}
    for item in items or ():
        key, equals, text = item.partition("=")
        if not (key and equals and text):
            raise OctavoError(f"{option} takes KEY=VALUE, not {item!r}")
        found[key.strip().replace("-", "_")] = value(text)
    return found


def value(text: str) -> Any:
    """A whole number, a number, true or false, several of them between commas, or the text itself.

    Examples
    --------
    >>> value("8"), value("1e-3"), value("128,64"), value("tanh")
    (8, 0.001, (128, 64), 'tanh')
    """
    if "," in text:
        return tuple(value(part) for part in text.split(",") if part)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def text_or_stdin(text: str | None, what: str) -> str:
    """The argument, or, without one or for ``-``, standard input as it is."""
    if text is not None and text != "-":
        return utf_8(text, what)
    if sys.stdin is None or (text is None and sys.stdin.isatty()):
        raise OctavoError(f"there is no {what}: give it as an argument, or pipe it in")
    try:
        return sys.stdin.buffer.read().decode("utf-8")  # as it is: no newline is translated
    except UnicodeDecodeError as error:
        raise OctavoError(f"standard input is not UTF-8 text: byte {error.start} cannot be decoded") from None


def prompt_or_stdin(prompt: str | None) -> str:
    """Like `text_or_stdin`, without the mark and the newline that programs put around what is piped in."""
    text = text_or_stdin(prompt, "prompt")
    return text if prompt not in (None, "-") else unmarked(text).removesuffix("\n").removesuffix("\r")


def unmarked(text: str) -> str:
    """A text from standard input without the mark that says it is UTF-8, as files are read."""
    from octavo.reading import MARK

    return text.removeprefix(MARK)


def utf_8(text: str, what: str) -> str:
    """A text of the command line, if its bytes were text: those that were not are lone surrogates here."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = len(text[: error.start].encode())
        raise OctavoError(f"the {what} is not UTF-8 text: byte {byte} cannot be decoded") from None
    return text
