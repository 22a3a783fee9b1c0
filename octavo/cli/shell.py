"""Where the program meets the shell: errors and warnings in a line each, exit codes, Ctrl-C.

Exit codes: 0 done, 1 the reader of a pipe went away (or a bug, with its traceback), 2 what was asked
for is refused, 130 interrupted.
"""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from octavo.cli.printing import paint
from octavo.errors import OctavoError

# Typer does not export this one; a bad parameter is its best known kind.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Program(TyperGroup):
    """The group of all commands; whatever leaves a command passes here on its way out."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command line and exit, with a line on standard error if something is wrong."""
        # A prompt may hold bytes that are no text, and a terminal may know few characters.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        try:
            with gathered_warnings():
                code = super().main(*args, **{**options, "standalone_mode": False})
                sys.stdout.flush()
        except UsageError as error:
            code = _refuse(_with_hint(error))
        except OctavoError as error:
            code = _refuse(str(error))
        except MemoryError:
            code = _refuse("there is not enough memory for this; try a smaller model, batch or text")
        except OSError as error:
            if error.errno == errno.EPIPE:  # typer lets it pass from the last flush only
                sys.stdout = sys.stderr
                code = 1
            else:
                code = _refuse(_named(error))
        raise SystemExit(code if isinstance(code, int) else 0)


@contextmanager
def gathered_warnings() -> Iterator[None]:
    """Octavo's warnings, a line each on standard error after the command: never amid streamed text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"octavo\b")
        try:
            yield
        finally:
            sys.stdout.flush()
            for message in dict.fromkeys(str(warning.message) for warning in caught):
                complain(f"note: {message}", "yellow")


def complain(message: str, colour: str) -> None:
    """One line on standard error: ``octavo: ...``, the name in colour on a terminal."""
    name = paint("octavo:", fg=colour, bold=True)
    typer.echo(f"{name} {' '.join(message.split())}", err=True)


def _refuse(message: str) -> int:
    complain(message, "red")
    return 2


def _with_hint(error: Any) -> str:
    """A usage error and where to read how it is done."""
    command = error.ctx.command_path if error.ctx else "octavo"
    message = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's preface
    return f"{message[:1].lower()}{message[1:]}{'' if message.endswith('?') else '.'} See: {command} --help"


def _named(error: OSError) -> str:
    """``No space left on device: model.png``."""
    reason = error.strerror or str(error)
    return f"{reason}: {error.filename}" if error.filename else reason
