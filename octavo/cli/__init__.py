"""The command line: one thin file per command, which parses, calls a verb and prints.

Heavy libraries (Typer, rich, matplotlib, JAX, tokenizers) are imported by what needs them, when it needs
them: writing text begins within half a second.
"""

from __future__ import annotations

import gc
import sys
from functools import partial
from typing import Any


def main() -> None:
    """The entry point of the command `octavo`."""
    gc.disable()  # nothing that importing makes is garbage
    from octavo.cli import shell

    shell.end(_run)


def _run() -> Any:
    """Run the command line of this process."""
    from octavo.cli.shell import nothing_to_lose

    with nothing_to_lose():
        from octavo.cli import direct

        call = direct.call(sys.argv[1:])
        if call is None:
            from octavo.cli.program import app

            call = partial(app, prog_name="octavo")
    gc.freeze()
    gc.enable()
    return call()
