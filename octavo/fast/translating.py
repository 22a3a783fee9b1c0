"""Translating: a function's Python as LLVM's code, all that it calls written out in its place.

Python means here what it always means, for a part of it: numbers, and arrays of them at addresses; `if`,
`while` and `for` over ranges; `+`, `<` and their like; functions. Names may be given tuples, arrays and other
functions' results. What is known now (what is written out, and what follows from it) is computed now, and of
an `if` about that only the branch that is taken is looked at. What differs from Python:

- `and` and `or` are true or false, and indexes count from the start;
- the step of a range is positive, unless it is written out;
- a name has one type wherever it may have come from two places, and no value after the block that gave it;
- `raise` ends the function that was asked for, with -1.

Numba, which does this for all of Python, took five times as long and wanted to be installed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir

from octavo.fast.arithmetic import Number, calculated, cast, known, numbered, truth
from octavo.fast.calls import Call, Compiled, Loop, Range, Slot, Untranslatable
from octavo.fast.expressions import FAILED, part, place, value_of
from octavo.fast.types import LONG

DEEPEST = 50  # functions in functions


def inline(b: Any, called: Compiled, values: list[Any], depth: int = 0) -> Any:
    """Write a function out -> what it returns."""
    call = Call(b, called, partial(inline, b, depth=depth + 1))
    arguments = call.tree.args.args
    if len(arguments) != len(values) or depth > DEEPEST:
        raise Untranslatable(f"{called.function.__name__} with {len(values)} values, in {depth}")
    for argument, value in zip(arguments, values, strict=True):
        call.give(argument.arg, value)
    run(call, call.tree.body)
    if call.end:
        if not b.block.is_terminated:
            b.branch(call.end)
        b.position_at_end(call.end)
    result = call.result
    return Number(result.type, b.load(result.place)) if isinstance(result, Slot) else result


def give_back(call: Call, node: ast.Return) -> None:
    """Return: from the end as it is, from elsewhere by way of a slot."""
    b, value = call.b, value_of(call, node.value) if node.value else None
    if call.end is None and node is call.tree.body[-1]:
        call.result = value
        return
    call.end = call.end or b.append_basic_block("returned")
    if value is not None:
        number = numbered(value)
        call.result = call.result or call.slot(number.type)
        if number.type != call.result.type:
            raise Untranslatable(f"{call.function.__name__} returns numbers of several types")
        b.store(number.value, call.result.place)
    b.branch(call.end)


def run(call: Call, nodes: list[ast.stmt]) -> None:
    """Write statements, to the first behind which nothing comes."""
    for node in nodes:
        if call.b.block.is_terminated:
            return
        try:
            statement(call, node)
        except Exception as error:
            error.add_note(f"{call.function.__code__.co_filename}, line {node.lineno}")
            raise


def statement(call: Call, node: ast.stmt) -> None:
    """Write one statement."""
    match node:
        case ast.Assign():
            value = value_of(call, node.value)
            for target in node.targets:
                assign(call, target, value)
        case ast.AugAssign():
            change(call, node)
        case ast.Expr():
            value_of(call, node.value)
        case ast.If():
            choose(call, node)
        case ast.While():
            repeat(call, node)
        case ast.For():
            count(call, node)
        case ast.Return():
            give_back(call, node)
        case ast.Break():
            call.b.branch(call.loops[-1].end)
        case ast.Continue():
            call.b.branch(call.loops[-1].again)
        case ast.Raise():
            call.b.ret(ir.Constant(ir.IntType(64), FAILED))
        case ast.Pass():
            pass
        case _:
            raise Untranslatable(f"{ast.unparse(node)} has no meaning here")


def assign(call: Call, target: Any, value: Any) -> None:
    """``a = b``, for all that may be on the left."""
    if isinstance(target, ast.Tuple):
        if type(value) is not tuple:
            raise Untranslatable("there are not as many values as names")
        for name, one in zip(target.elts, value, strict=True):
            assign(call, name, one)
    elif isinstance(target, ast.Name):
        call.give(target.id, value)
    elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Slice):
        array = part(call, value_of(call, target.value), target.slice)
        for index in counted(call, Range(0, array.size, 1)):
            write(call.b, place(call.b, array, index), value)
    elif isinstance(target, ast.Subscript):
        write(call.b, place(call.b, value_of(call, target.value), value_of(call, target.slice)), value)
    else:
        raise Untranslatable(f"{ast.unparse(target)} takes no value")


def write(b: Any, pointer: Number, value: Any) -> None:
    """Write a number to an address."""
    b.store(cast(b, value, pointer.type.to).value, pointer.value)


def change(call: Call, node: ast.AugAssign) -> None:
    """``a += b`` and its like."""
    b, name = call.b, type(node.op).__name__
    if isinstance(node.target, ast.Name):
        old = call.read(node.target.id)
        call.give(node.target.id, calculated(b, name, old, value_of(call, node.value), call.fast))
    elif isinstance(node.target, ast.Subscript):
        pointer = place(b, value_of(call, node.target.value), value_of(call, node.target.slice))
        old = Number(pointer.type.to, b.load(pointer.value))
        write(b, pointer, calculated(b, name, old, value_of(call, node.value), call.fast))
    else:
        raise Untranslatable(f"{ast.unparse(node.target)} takes no value")


def choose(call: Call, node: ast.If) -> None:
    """``if``: names that stand for different things after its branches have no value behind it."""
    b, test = call.b, value_of(call, node.test)
    if known(test):
        run(call, node.body if test else node.orelse)
        return
    *ways, after = (b.append_basic_block(name) for name in ("then", "else", "endif"))
    b.cbranch(truth(b, test).value, *ways)
    before, found = call.names, list[dict[str, Any]]()
    for way, nodes in zip(ways, (node.body, node.orelse), strict=True):
        b.position_at_end(way)
        call.names = dict(before)
        run(call, nodes)
        if not b.block.is_terminated:
            b.branch(after)
            found.append(call.names)
    b.position_at_end(after)
    if not found:
        b.unreachable()
        return
    call.names = {
        name: value
        for name, value in found[0].items()
        if all(name in other and other[name] is value for other in found)
    }


@contextmanager
def loop(call: Call, again: Any, end: Any) -> Iterator[None]:
    """What is in a loop: names that it gives values to have none behind it."""
    b, before, here = call.b, dict(call.names), Loop(again, end, set(), set())
    call.loops.append(here)
    yield
    call.loops.pop()
    if not b.block.is_terminated:
        b.branch(again)
    b.position_at_end(end)
    call.names = {name: value for name, value in before.items() if name not in here.changed}


def repeat(call: Call, node: ast.While) -> None:
    """``while``."""
    if node.orelse:
        raise Untranslatable("a while that has an else")
    b = call.b
    again, inside, end = (b.append_basic_block(name) for name in ("while", "do", "done"))
    b.branch(again)
    b.position_at_end(again)
    with loop(call, again, end):
        b.cbranch(truth(b, value_of(call, node.test)).value, inside, end)
        b.position_at_end(inside)
        run(call, node.body)


def count(call: Call, node: ast.For) -> None:
    """``for``."""
    of = value_of(call, node.iter)
    if not isinstance(of, Range) or not isinstance(node.target, ast.Name) or node.orelse:
        raise Untranslatable(f"for {ast.unparse(node.target)} counts through a range")
    for index in counted(call, of):
        call.stand(node.target.id, index)
        run(call, node.body)


def counted(call: Call, of: Range) -> Iterator[Number]:
    """Once, what is to be written for every number of a range."""
    b = call.b
    start, stop, step = (cast(b, number, LONG).value for number in of)
    sign = ">" if known(of.step) and of.step < 0 else "<"
    test, inside, further, end = (b.append_basic_block(name) for name in ("for", "each", "next", "through"))
    counter = call.slot(LONG).place
    b.store(start, counter)
    b.branch(test)
    b.position_at_end(test)
    index = b.load(counter)
    b.cbranch(b.icmp_signed(sign, index, stop), inside, end)
    b.position_at_end(inside)
    with loop(call, further, end):
        yield Number(LONG, index)
    with b.goto_block(further):
        b.store(b.add(index, step, flags=("nsw",)), counter)
        b.branch(test)


def translated(function: Callable[..., Any], symbol: str, triple: str, layout: str) -> str:
    """LLVM's code of a module in which `symbol` is a function of three whole numbers."""
    module = ir.Module(symbol)
    module.triple, module.data_layout = triple, layout
    long = ir.IntType(64)
    entry = ir.Function(module, ir.FunctionType(long, [long] * 3), symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    body = entry.append_basic_block("body")
    builder.position_at_end(body)
    found = inline(builder, Compiled(function, ()), [Number(LONG, given) for given in entry.args])
    if not builder.block.is_terminated:
        builder.ret(cast(builder, 0 if found is None else found, LONG).value)
    with builder.goto_block(entry.blocks[0]):
        builder.branch(body)
    return str(module)
