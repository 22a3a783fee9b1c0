"""What the commands share in printing: JSON that every program reads, tables, tokens made visible."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLES = {"bold": 1, "dim": 2, "red": 31, "yellow": 33}  # ECMA-48's numbers
MARKS = str.maketrans({"\n": "⏎", "\r": "␍", "\t": "⇥", " ": "␣"})


def emit(document: dict[str, Any]) -> None:
    """One JSON object on one line, at once; numbers that JSON does not have become null."""
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")  # what cannot be written is escaped
    sys.stdout.write(json.dumps(_finite(document), ensure_ascii=plain, allow_nan=False) + "\n")
    sys.stdout.flush()


def _finite(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _finite(part) for key, part in item.items()}
    if isinstance(item, list | tuple):
        return [_finite(part) for part in item]
    return None if isinstance(item, float) and not math.isfinite(item) else item


def reachable(folder: str) -> str:
    """How to name a folder to `--model`: one that is called like a shipped model is ``./name``."""
    from octavo.storage import bundled

    return f"./{folder}" if folder in bundled() else folder


def paint(text: str, *styles: str, err: bool = False) -> str:
    """The text in `STYLES`, for who sees them and has not asked for no colour (no-color.org)."""
    seen = (sys.stderr if err else sys.stdout).isatty() and not os.environ.get("NO_COLOR")
    return "".join(f"\x1b[{STYLES[style]}m" for style in styles) + text + "\x1b[0m" if seen else text


def say(text: str = "", *, end: str = "\n", err: bool = False) -> None:
    """Print at once."""
    stream = sys.stderr if err else sys.stdout
    if sys.platform == "win32" and stream.isatty():  # whose terminals may not know styles
        import typer

        typer.echo(text + end, nl=False, err=err)
        return
    stream.write(text + end)
    stream.flush()


def console() -> Console:
    """Rich's printer on standard output, without its guesses at what numbers and names mean."""
    from rich.console import Console

    return Console(highlight=False)


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """An empty table with a rule below its head; the columns in `numbers` align right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", show_footer=False)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def piece(token: bytes) -> str:
    r"""The text of a token; bytes that are no whole character appear as ``\xNN``.

    Examples
    --------
    >>> piece(b" rose"), piece(b"\xe2\x80")
    (' rose', '\\xe2\\x80')
    """
    return token.decode("utf-8", "backslashreplace")


def visible(text: str) -> str:
    r"""The text with marks for white space, and escapes for what does not print.

    Examples
    --------
    >>> visible(" a\n"), visible("\x00")
    ('␣a⏎', '\\x00')
    """
    marked = text.translate(MARKS)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in marked)


def size(count: float) -> str:
    """A number of bytes as people say it.

    Examples
    --------
    >>> size(3481764)
    '3.5 MB'
    """
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def clock(seconds: float) -> str:
    """A duration.

    Examples
    --------
    >>> clock(75), clock(7384)
    ('1:15', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
