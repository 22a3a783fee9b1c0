"""The command line: one thin file per command, which parses, calls a verb and prints.

Heavy libraries (rich, matplotlib, JAX, tokenizers) are imported by the commands that need them, when
they need them: writing text begins well within a second.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any, cast

import typer

from octavo.cli.shell import Program
from octavo.version import __version__

NAMES = ("generate", "chat", "score", "train", "tokenize", "show", "models", "convert", "bench", "plot")
EPILOG = """[bold]Begin with[/bold]

octavo generate "ANTONIO: Do you not hear me speak?"

octavo train my.txt --out my-model --minutes 5

octavo COMMAND --help tells more."""


class Commands(Program):
    """The commands by name; the module of one is imported when it is asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast(MutableMapping[str, Any], dict.fromkeys(NAMES))  # what "did you mean" goes by

    def list_commands(self, context: Any) -> list[str]:
        """All names, in the order of help."""
        return list(NAMES)

    def get_command(self, context: Any, name: str) -> Any:
        """The command of a name, or None."""
        return command(name) if name in NAMES else None


@cache
def command(name: str) -> Any:
    """A command, made from its module: a function `run`, or an `app` of several."""
    module = import_module(f"octavo.cli.{name}")
    if hasattr(module, "app"):
        made = typer.main.get_command(module.app)
    else:
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
        alone.command(name, epilog=module.EPILOG)(module.run)
        made = typer.main.get_command(alone)
    made.name = name
    return made


app = typer.Typer(
    cls=Commands,
    epilog=EPILOG,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def octavo(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Language models in a handy format: write, score, train, look inside."""
    if version:
        typer.echo(f"octavo {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """The entry point of the command `octavo`."""
    app(prog_name="octavo")
