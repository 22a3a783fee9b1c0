"""A function while it is translated: its syntax, what its names stand for, where its loops go on."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from octavo.fast.arithmetic import Number

BUILTINS = {"min": min, "max": max, "range": range, "int": int}


class Untranslatable(Exception):  # noqa: N818 (what the program is, not what went wrong)
    """Python that has no meaning here."""


class Compiled(NamedTuple):
    """A function that is written out where it is called; its sums may be taken as `fast` says."""

    function: Callable[..., Any]
    fast: tuple[str, ...]


class Array(NamedTuple):
    """Numbers one behind the other."""

    start: Number
    size: Any


class Range(NamedTuple):
    """What a loop counts through."""

    start: Any
    stop: Any
    step: Any


class Slot(NamedTuple):
    """Where a name's number is that changes."""

    type: Any
    place: Any


def carray(at: Any, shape: tuple[int]) -> Any:
    """The array of so many numbers at an address; `Translator` knows it, Python cannot."""
    raise NotImplementedError


def literally(number: int) -> int:
    """The number, which has to be known."""
    return number


@cache
def syntax(function: Callable[..., Any]) -> tuple[ast.FunctionDef, Counter[str]]:
    """A function's Python, and how often each name is given a value."""
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    (found,) = tree.body
    if not isinstance(found, ast.FunctionDef):
        raise Untranslatable(f"no function: {function}")
    ast.increment_lineno(found, first - 1)
    names = Counter(argument.arg for argument in found.args.args)
    nodes = list(ast.walk(found))
    said = {id(name) for node in nodes if isinstance(node, ast.Assign) for name in said_known(node)}
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in said:
            names[node.id] += 1
    return found, names


def said_known(node: ast.Assign) -> Iterator[ast.expr]:
    """The names of ``a, b = literally(a), literally(b)``, which get no new values."""
    target, value = node.targets[0], node.value
    pairs = [(target, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = list(zip(target.elts, value.elts, strict=True))
    for name, one in pairs:
        if isinstance(one, ast.Call) and ast.unparse(one) == f"literally({ast.unparse(name)})":
            yield name


class Loop(NamedTuple):
    """A loop that is being written out."""

    again: Any  # where it goes on
    end: Any
    read: set[str]  # names whose values were used in it
    changed: set[str]  # names that have other types, or other arrays, than before it


class Call:
    """A function that is being written out."""

    def __init__(self, called: Compiled) -> None:
        self.function, self.fast = called.function, called.fast
        self.tree, self.times = syntax(self.function)
        self.names: dict[str, Any] = {}
        self.slots: dict[tuple[str, Any], Slot] = {}
        self.loops: list[Loop] = []
        self.end: Any = None  # where the callee goes on, if this has returned from its middle
        self.result: Any = None

    def outside(self, name: str) -> Any:
        """What a name is to Python, around the function."""
        code, cells = self.function.__code__, self.function.__closure__ or ()
        if name in code.co_freevars:
            return cells[code.co_freevars.index(name)].cell_contents
        if name in self.function.__globals__:
            return self.function.__globals__[name]
        if name in BUILTINS:
            return BUILTINS[name]
        raise Untranslatable(f"there is no {name}")
