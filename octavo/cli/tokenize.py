"""`octavo tokenize`: a text as a model sees it."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Annotated

from octavo.cli import loading
from octavo.cli.options import Argument
from octavo.cli.printing import console, emit, piece, visible
from octavo.tokenizers import Tokenizer

if TYPE_CHECKING:
    from rich.console import Console

EPILOG = """[bold]Examples[/bold]

octavo tokenize "What's in a name?"

octavo tokenize --tokenizer bpe1024_enc_full.pkl --json "What's in a name?"

octavo tokenize --model christie-gru < my.txt"""

SHOWN = 240  # tokens; a longer text is counted whole and shown as far as this
COLOURS = ("black on #9ecae9", "black on #ffd27f", "black on #a8dba8", "black on #e4b7e5")


def run(
    text: Annotated[
        str | None,
        Argument(
            help="The text; standard input, exactly as it is, without one or for -.",
            metavar="TEXT",
            show_default=False,
        ),
    ] = None,
    json: loading.JsonOption = False,
    model: loading.ModelOption = "bard",
    weights: loading.WeightsOption = None,
    tokenizer: loading.TokenizerOption = None,
    chars: loading.CharsOption = None,
    settings: loading.SetOption = None,
) -> None:
    r"""Show a text as tokens: their pieces, ids and number.

    With --tokenizer or --chars no model is loaded. A piece that is no whole
    character is written \xNN, byte by byte.
    """
    reader = loading.load_tokenizer(tokenizer, chars)
    if reader is None:
        reader = loading.load_reader(model, weights, settings=settings).text_tokenizer()
    content = loading.text_or_stdin(text, "text")
    ids = reader.encode(content)
    if json:
        emit({"ids": ids, "pieces": [piece(reader.token_bytes(id)) for id in ids]})
    else:
        _print(reader, ids, content)


def _print(reader: Tokenizer, ids: list[int], content: str) -> None:
    screen = console()
    shown = [piece(reader.token_bytes(id)) for id in ids[:SHOWN]]
    _print_pieces(screen, shown)
    _print_ids(screen, ids, shown)
    if len(ids) > SHOWN:
        screen.print(f"... and {len(ids) - SHOWN:,} more; --json prints them all", style="dim")
    characters, size = len(content), len(content.encode("utf-8", "replace"))
    ratio = f", {size / len(ids):.2f} bytes per token" if ids else ""
    screen.print(f"{len(ids):,} tokens, {characters:,} characters, {size:,} bytes{ratio}")


def _print_pieces(screen: Console, pieces: list[str]) -> None:
    """The text with its seams visible: colours on a terminal, bars elsewhere."""
    from rich.text import Text

    line = Text()
    bars = not screen.is_terminal or screen.no_color
    for at, (text, colour) in enumerate(zip(pieces, cycle(COLOURS), strict=False)):
        for part in text.splitlines(keepends=True):
            mark = visible(part.strip("\n")).replace("␣", " ") + "⏎\n" * part.endswith("\n")
            line.append(mark, "" if bars else colour)
        if bars and at + 1 < len(pieces):
            line.append("|", "dim")
    screen.print(line)
    screen.print()


def _print_ids(screen: Console, ids: list[int], pieces: list[str]) -> None:
    from rich.columns import Columns
    from rich.text import Text

    width = len(str(max(ids, default=0)))
    cells = [
        Text.assemble((f"{id:>{width}} ", "cyan"), visible(text))
        for id, text in zip(ids, pieces, strict=False)
    ]
    screen.print(Columns(cells, equal=True, padding=(0, 2)))
    screen.print()
