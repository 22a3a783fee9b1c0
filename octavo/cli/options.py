"""What a command takes, as its function declares it: ``Annotated[int, Option("--limit", "-n", help=...)]``.

`octavo.cli.direct` reads plain command lines by it, and `octavo.cli.program` makes it Typer's for all others.
"""

from __future__ import annotations

from typing import Any

NAMES = ("generate", "chat", "score", "train", "tokenize", "show", "models", "convert", "bench", "plot")
"""The commands; each is a module of its name, with a function `run` or several `COMMANDS`."""


class Option:
    """An option: its names, by default that of the parameter, and Typer's settings for it."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names, self.settings = names, settings


class Argument:
    """An argument that has no name, and Typer's settings for it."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
