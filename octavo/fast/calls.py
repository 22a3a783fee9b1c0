"""A function while it is translated: its syntax, what its names stand for, where its loops go on."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from octavo.fast.arithmetic import Number, known, numbered
from octavo.fast.emitting import cell
from octavo.fast.types import llvm_type

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
    """The array of so many numbers at an address; `expressions` knows it, Python cannot."""
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
    """A function that is written out at the builder's place; `inline` writes out those that it calls."""

    def __init__(self, builder: Any, called: Compiled, inline: Callable[[Compiled, list[Any]], Any]) -> None:
        self.b, self.inline = builder, inline
        self.function, self.fast = called.function, called.fast
        self.tree, self.times = syntax(self.function)
        self.names: dict[str, Any] = {}
        self.slots: dict[tuple[str, Any], Slot] = {}
        self.loops: list[Loop] = []
        self.end: Any = None  # where the callee goes on, if this has returned from its middle
        self.result: Any = None

    def read(self, name: str) -> Any:
        """What a name stands for."""
        if name not in self.names:
            if name in self.times:
                raise Untranslatable(f"{name} may have no value here, or one of several types")
            return self.outside(name)
        for loop in self.loops:
            loop.read.add(name)
        found = self.names[name]
        return Number(found.type, self.b.load(found.place)) if isinstance(found, Slot) else found

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

    def give(self, name: str, value: Any) -> None:
        """Give a name a value: a place in memory where it changes, which LLVM makes a register of."""
        if self.times[name] > 1 and (known(value) or isinstance(value, Number)):
            number = numbered(value)
            slot = self.slots.get((name, number.type)) or self.slot(number.type)
            self.slots[name, number.type] = slot
            self.b.store(number.value, slot.place)
            value = slot
        self.stand(name, value)

    def stand(self, name: str, value: Any) -> None:
        """Let a name stand for something else from here to the end of the block."""
        if name in self.names and self.names[name] is not value:
            if any(name in loop.read for loop in self.loops):
                raise Untranslatable(f"{name} has several types in a loop")
            for loop in self.loops:
                loop.changed.add(name)
        self.names[name] = value

    def slot(self, type_: Any) -> Slot:
        """A place for a number."""
        return Slot(type_, cell(self.b, llvm_type(type_)))
