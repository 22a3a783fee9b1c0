"""Where the program meets the shell: errors and warnings in a line each, exit codes, Ctrl-C.

Exit codes: 0 done, 1 the reader of a pipe went away (or a bug, with its traceback), 2 what was asked
for is refused, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from octavo.cli.printing import paint, say
from octavo.errors import OctavoError

INTERRUPTED = 130


def end(call: Callable[[], Any]) -> NoReturn:
    """Do what a command line asks for and exit, with a line on standard error if something is wrong."""
    # The name of a file may hold bytes that are no text, and a terminal may know few characters.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        with gathered_warnings():
            code = call()
            sys.stdout.flush()
    except OctavoError as error:
        code = _refuse(str(error))
    except MemoryError:
        code = _refuse("there is not enough memory for this; try a smaller model, batch or text")
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        if error.errno == errno.EPIPE:
            _forget_stdout()
            code = 1
        else:
            code = _refuse(_named(error))
    raise SystemExit(code if isinstance(code, int) else 0)


@contextmanager
def nothing_to_lose() -> Iterator[None]:
    """Have Ctrl-C end the process as it stands: libraries that are being imported make other errors of it."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:  # not where somebody has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)


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
    name = paint("octavo:", colour, "bold", err=True)
    say(f"{name} {' '.join(message.split())}", err=True)


def _forget_stdout() -> None:
    """Let what is left to print to a pipe that nobody reads go nowhere, without a word at the end."""
    with suppress(OSError, ValueError):  # that of a test is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _refuse(message: str) -> int:
    complain(message, "red")
    return 2


def _named(error: OSError) -> str:
    """``No space left on device: model.png``."""
    reason = error.strerror or str(error)
    return f"{reason}: {error.filename}" if error.filename else reason
