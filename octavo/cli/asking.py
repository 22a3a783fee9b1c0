"""Where the turns of a conversation come from: somebody at a terminal, or the lines of a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

from octavo.errors import OctavoError
from octavo.reading import MARK
from octavo.tokenizers.patterns import well_formed

BLOCK = '"""'


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """Ctrl-C where a turn was being typed."""


class Keyboard:
    """Turns typed at a terminal, with the arrow keys where the system has a readline."""

    def __init__(self, *, prompting: bool) -> None:
        self.prompting = prompting and sys.stdout.isatty()
        with suppress(ImportError):
            import readline  # noqa: F401 - `input` finds it

    def turn(self) -> str | None:
        """The next turn; None at the end of the input."""
        try:
            return gathered(self._line)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            raise Interrupted from None

    def _line(self, more: bool) -> str | None:
        try:
            return well_formed(input(("... " if more else "> ") if self.prompting else ""))
        except EOFError:
            if not more:
                sys.stdout.write("\n")
            return None
        except UnicodeDecodeError:
            raise OctavoError("what was typed is not text in this terminal's encoding") from None


class Lines:
    """Turns out of a pipe or a file: a line each, or what `gathered` makes of several."""

    def __init__(self) -> None:
        self.lines = iter(sys.stdin.buffer if sys.stdin is not None else ())
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        """The turns that say something."""
        while (turn := gathered(self._line)) is not None:
            if turn.strip():
                yield turn

    def _line(self, more: bool) -> str | None:
        line = next(self.lines, None)
        self.number += 1
        try:
            text = "" if line is None else line.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise OctavoError(f"line {self.number} of standard input is not UTF-8 text") from None
        return None if line is None else text.removeprefix(MARK if self.number == 1 else "")


def gathered(line: Callable[[bool], str | None]) -> str | None:
    r'''A turn: one line, lines that end in a backslash and the one after them, or those between two of `"""`.

    `line` gives the next line, or None when there is none, and is told whether it continues a turn.

    Examples
    --------
    >>> def typed(*lines):
    ...     rest = iter(lines)
    ...     return lambda more: next(rest, None)
    >>> gathered(typed("a\\", "b")), gathered(typed('"""', "a", "", '"""')), gathered(typed())
    ('a\nb', 'a\n', None)
    '''
    first = line(False)
    if first is None:
        return None
    lines = []
    if first.strip() == BLOCK:
        while (next_line := line(True)) is not None and next_line.strip() != BLOCK:
            lines.append(next_line)
        return "\n".join(lines)
    last: str | None = first
    while last is not None and last.endswith("\\"):
        lines.append(last[:-1])
        last = line(True)
    return "\n".join([*lines, last] if last is not None else lines)
