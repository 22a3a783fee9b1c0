"""Plain command lines, read without Typer, which takes a fifth of a second to import and to set up.

What is not plain (help, a mistake, a value that begins with a dash, a rare kind of option) is left to Typer,
and so is every complaint. What is read here, Typer would read as the same; a test holds the two equal.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from octavo.cli.options import NAMES, Argument, Option

SHOWN = {"help", "metavar", "rich_help_panel", "show_default"}
"""Settings that change no value."""

PLAIN: dict[Any, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    str: (re.compile(r"(?s)[^-].*"), str),
    Path: (re.compile(r"(?s)[^-].*"), Path),
    int: (re.compile(r"[0-9]{1,18}"), int),
    float: (re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?"), float),
}
"""By what a value is to be: what a plain one looks like, and what makes it."""


def call(words: Sequence[str]) -> Callable[[], Any] | None:
    """What a plain command line asks for, ready to be called; None for any other."""
    if sys.platform == "win32" or not words or words[0] not in NAMES:  # patterns of files mean files there
        return None
    run = getattr(import_module(f"octavo.cli.{words[0]}"), "run", None)
    found = None if run is None else arguments(run, words[1:])
    return None if run is None or found is None else partial(run, **found)


def arguments(run: Callable[..., Any], words: Sequence[str]) -> dict[str, Any] | None:
    """What a plain command line gives the function of a command; None for any other.

    Examples
    --------
    >>> def run(
    ...     text: Annotated[str, Argument()], limit: Annotated[int | None, Option("--limit", "-n")] = None
    ... ) -> None: ...
    >>> arguments(run, ["-n", "3", "To be"]), arguments(run, ["--limit=3"])
    ({'limit': 3, 'text': 'To be'}, None)
    """
    places, options = dict[str, Any](), dict[str, tuple[str, Any]]()  # by parameter, and by name
    for parameter, hint in get_type_hints(run, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        kind, declared = get_args(hint)
        if isinstance(declared, Argument):
            places[parameter] = kind
        elif declared.settings.keys() <= SHOWN:
            options |= dict.fromkeys(names(parameter, kind, declared), (parameter, kind))
    try:
        "".join(words).encode()
        found = _read(words, places, options)
    except (ValueError, KeyError, StopIteration):  # not plain, no option, no value, or no text
        return None
    missing = (p for p in inspect.signature(run).parameters.values() if p.default is p.empty)
    return None if any(p.name not in found for p in missing) else found


def names(parameter: str, kind: Any, declared: Option) -> tuple[str, ...]:
    """What an option is called; a flag without names of its own has an opposite, which is not plain."""
    own = () if kind is bool else (f"--{parameter.replace('_', '-')}",)
    return declared.names or own


def _read(
    words: Sequence[str], places: dict[str, Any], options: dict[str, tuple[str, Any]]
) -> dict[str, Any]:
    found, alone, rest = dict[str, Any](), list[str](), iter(words)
    for word in rest:
        if not word.startswith("-"):
            alone.append(word)
            continue
        name, equals, given = word.partition("=")
        if equals and not name.startswith("--"):
            raise ValueError(word)
        parameter, kind = options[name]
        if kind is bool and not equals:
            found[parameter] = True
            continue
        value = _value(kind, given if equals else next(rest))
        if isinstance(value, list):
            found[parameter] = [*found.get(parameter, ()), *value]
        elif found.setdefault(parameter, value) is not value:
            raise ValueError(word)
    if len(alone) > len(places):
        raise ValueError(alone)
    pairs = zip(alone, places.items(), strict=False)
    return found | {parameter: _value(kind, word) for word, (parameter, kind) in pairs}


def _value(kind: Any, word: str) -> Any:
    """What a word gives a parameter; a list of it, where the parameter takes several."""
    if isinstance(kind, UnionType):
        (kind,) = {*get_args(kind)} - {NoneType}
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
        return [_value(kind, word)]
    looks, make = PLAIN[kind]
    if not looks.fullmatch(word):
        raise ValueError(word)
    return make(word)
