"""The command line: one thin file per command, which parses, calls a verb and prints.

Heavy libraries (rich, matplotlib, JAX, tokenizers) are imported by the commands that need them, when
they need them: writing text begins well within a second.
"""

from __future__ import annotations

from typing import Annotated

import typer

from octavo.cli import chat, convert, generate, models, plot, score, show, tokenize, train
from octavo.cli.shell import Program
from octavo.version import __version__

EPILOG = """[bold]Begin with[/bold]

octavo generate "ANTONIO: Do you not hear me speak?"

octavo train my.txt --out my-model --minutes 5

octavo COMMAND --help tells more."""

app = typer.Typer(
    cls=Program,
    epilog=EPILOG,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for module in (generate, chat, score, train, tokenize, show, models, convert):
    app.command(module.__name__.rpartition(".")[2], epilog=module.EPILOG)(module.run)
app.add_typer(plot.app, name="plot")


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
