"""The command line as Typer has it: help, mistakes, and whatever `octavo.cli.direct` does not read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, MutableMapping
from functools import cache, wraps
from importlib import import_module
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperGroup

from octavo.cli import direct, shell
from octavo.cli.options import NAMES, Argument
from octavo.errors import OctavoError
from octavo.version import __version__

EPILOG = """[bold]Begin with[/bold]

octavo generate "ANTONIO: Do you not hear me speak?"

octavo train my.txt --out my-model --minutes 5

octavo COMMAND --help tells more."""

# Typer does not export this one; a bad parameter is its best known kind.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
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

    def main(self, args: Any = None, *others: Any, **options: Any) -> Any:
        """Run a command line and exit, with a line on standard error if something is wrong."""

        def read() -> Any:
            try:
                return super(Commands, self).main(args, *others, **{**options, "standalone_mode": False})
            except UsageError as error:
                raise OctavoError(_with_hint(error)) from None

        shell.end(lambda: (direct.call(args or ()) or read)())


@cache
def command(name: str) -> Any:
    """A command, made from its module: a function `run`, or several of them in `COMMANDS`."""
    module = import_module(f"octavo.cli.{name}")
    if not hasattr(module, "run"):
        several = typer.Typer(
            add_completion=False,
            rich_markup_mode="rich",
            pretty_exceptions_enable=False,
            invoke_without_command=True,
            help=module.HELP,
        )
        several.callback()(helpful)
        for run, epilog in module.COMMANDS.items():
            several.command(epilog=epilog)(typed(run))
        made = typer.main.get_command(several)
    else:
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
        alone.command(name, epilog=module.EPILOG)(typed(module.run))
        made = typer.main.get_command(alone)
    made.name = name
    return made


def typed(run: Callable[..., None]) -> Callable[..., None]:
    """The function of a command with its options and arguments as Typer's."""

    @wraps(run)
    def same(**given: Any) -> None:
        run(**given)

    hints = {name: _typed(hint) for name, hint in get_type_hints(run, include_extras=True).items()}
    own = inspect.signature(run)
    of_typer = [p.replace(annotation=hints[p.name]) for p in own.parameters.values()]
    same.__annotations__ = hints
    same.__signature__ = own.replace(parameters=of_typer)  # type: ignore[attr-defined]
    return same


def _typed(hint: Any) -> Any:
    if get_origin(hint) is not Annotated:
        return hint
    kind, declared = get_args(hint)
    if isinstance(declared, Argument):
        return Annotated[kind, typer.Argument(**declared.settings)]
    return Annotated[kind, typer.Option(*declared.names, **declared.settings)]


def helpful(context: typer.Context) -> None:
    """Print help where no command is named."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


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
    else:
        helpful(context)


def _with_hint(error: Any) -> str:
    """A usage error and where to read how it is done."""
    command = error.ctx.command_path if error.ctx else "octavo"
    message = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's preface
    return f"{message[:1].lower()}{message[1:]}{'' if message.endswith('?') else '.'} See: {command} --help"
