"""The command line: one thin file per command, which parses, calls a verb and prints.

Heavy libraries (Typer, rich, matplotlib, JAX, tokenizers) are imported by what needs them, when it needs
them: writing text begins within half a second.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """The entry point of the command `octavo`."""
    gc.disable()  # nothing that importing makes is garbage
    from octavo.cli import direct, shell

    if (call := direct.call(sys.argv[1:])) is not None:
        shell.end(call)
    from octavo.cli.program import app

    app(prog_name="octavo")
