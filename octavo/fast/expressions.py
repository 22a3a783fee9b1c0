"""Expressions of a function that is translated: the code of each, and the value it gives.

A value is a number that is known now, one that the machine will know, an array of these, a tuple, or a
function. `octavo.fast.translating` says what differs from Python.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from octavo.fast.arithmetic import (
    CALCULATED,
    Number,
    calculated,
    cast,
    chosen,
    common,
    compared,
    extreme,
    inverse,
    known,
    negative,
    numbered,
    truth,
)
from octavo.fast.calls import Array, Call, Compiled, Range, Untranslatable, carray, literally
from octavo.fast.emitting import outer
from octavo.fast.types import DOUBLE, INT, LONG, SINGLE, Emitted, Pointer, llvm_type

FAILED = -1
CHECKED = bool(os.environ.get("OCTAVO_CHECK_BOUNDS"))  # whether an index outside an array is a failure
MATHEMATICS = {np.sqrt: "sqrt", np.exp: "exp", np.log: "log"}
CONVERSIONS = {int: LONG, np.float32: SINGLE, np.float64: DOUBLE, np.int32: INT, np.int64: LONG}


def value_of(call: Call, node: Any) -> Any:
    """What an expression gives."""
    b = call.b
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return call.read(node.id)
        case ast.Tuple():
            return tuple(value_of(call, part) for part in node.elts)
        case ast.Call():
            return called(call, node)
        case ast.BinOp() if type(node.op).__name__ in CALCULATED:
            x, y = value_of(call, node.left), value_of(call, node.right)
            return calculated(b, type(node.op).__name__, x, y, call.fast)
        case ast.UnaryOp(op=ast.USub()):
            return negative(b, value_of(call, node.operand), call.fast)
        case ast.UnaryOp(op=ast.Invert()):
            return inverse(b, value_of(call, node.operand))
        case ast.UnaryOp(op=ast.Not()):
            return chosen(b, value_of(call, node.operand), False, True)
        case ast.Compare(ops=[op], comparators=[other]):
            return compared(b, type(op).__name__, value_of(call, node.left), value_of(call, other))
        case ast.BoolOp():
            return logical(call, isinstance(node.op, ast.And), node.values)
        case ast.IfExp():
            test = value_of(call, node.test)
            if known(test):
                return value_of(call, node.body if test else node.orelse)
            return either(b, test, lambda: value_of(call, node.body), lambda: value_of(call, node.orelse))
        case ast.Attribute():
            of = value_of(call, node.value)
            return of.size if isinstance(of, Array) and node.attr == "size" else getattr(of, node.attr)
        case ast.Subscript():
            return subscript(call, value_of(call, node.value), node.slice)
    raise Untranslatable(f"{ast.unparse(node)} has no meaning here")


def logical(call: Call, both: bool, parts: list[Any]) -> Any:
    """``a and b``, or ``a or b``: b is computed where a does not decide."""
    first = value_of(call, parts[0])
    if len(parts) == 1:
        return bool(first) if known(first) else truth(call.b, first)
    if known(first):
        return logical(call, both, parts[1:]) if bool(first) == both else not both
    ways: list[Callable[[], Any]] = [lambda: logical(call, both, parts[1:]), lambda: not both]
    return either(call.b, first, *(ways if both else ways[::-1]))


def either(b: Any, test: Any, then: Callable[[], Any], other: Callable[[], Any]) -> Number:
    """The number of one of two ways, of which only one is taken."""
    ends, numbers = [b.append_basic_block(name) for name in ("then", "else")], list[Number]()
    after = b.append_basic_block("either")
    b.cbranch(truth(b, test).value, *ends)
    for i, compute in enumerate((then, other)):
        b.position_at_end(ends[i])
        numbers.append(numbered(compute()))
        ends[i] = b.block
    type_ = numbers[0].type if numbers[0].type == numbers[1].type else common(*numbers)
    found = list[Any]()
    for end, number in zip(ends, numbers, strict=True):
        b.position_at_end(end)
        found.append(cast(b, number, type_).value)
        b.branch(after)
    b.position_at_end(after)
    joined = b.phi(llvm_type(type_))
    for end, value in zip(ends, found, strict=True):
        joined.add_incoming(value, end)
    return Number(type_, joined)


def subscript(call: Call, of: Any, node: Any) -> Any:
    """A number at an address, or some of an array."""
    if isinstance(node, ast.Slice):
        return part(call, of, node)
    index = value_of(call, node)
    if type(of) is tuple or isinstance(of, np.ndarray):
        if not known(index):
            raise Untranslatable("an index of what is known has to be known")
        found = of[index]
        return found.item() if isinstance(found, (np.integer, np.bool_)) else found
    pointer = place(call.b, of, index)
    return Number(pointer.type.to, call.b.load(pointer.value))


def place(b: Any, of: Any, index: Any, checked: bool = CHECKED) -> Number:
    """The address of a number behind another, or in an array."""
    start = of.start if isinstance(of, Array) else of
    if not isinstance(start, Number) or not isinstance(start.type, Pointer):
        raise Untranslatable("only addresses and arrays have indexes")
    offset = cast(b, index, LONG).value
    if checked and isinstance(of, Array):
        with b.if_then(b.icmp_unsigned(">=", offset, cast(b, of.size, LONG).value)):
            b.ret(ir.Constant(ir.IntType(64), FAILED))
    at = b.gep(start.value, [offset], inbounds=isinstance(of, Array))
    return Number(start.type, at)


def part(call: Call, of: Any, node: ast.Slice) -> Array:
    """A slice."""
    if not isinstance(of, Array) or node.step:
        raise Untranslatable("only arrays have slices, of neighbours")
    b, first = call.b, value_of(call, node.lower) if node.lower else 0
    last = extreme(b, "Lt", value_of(call, node.upper), of.size) if node.upper else of.size
    return Array(place(b, of, first, checked=False), calculated(b, "Sub", last, first, ()))


def called(call: Call, node: ast.Call) -> Any:
    """What a call gives."""
    b, function, values = call.b, value_of(call, node.func), [value_of(call, part) for part in node.args]
    if node.keywords:
        raise Untranslatable("values without names are asked for")
    if isinstance(function, Compiled):
        return call.inline(function, values)
    if isinstance(function, Emitted):
        return emit(b, function, values)
    if function in (min, max):
        found = values[0]
        for other in values[1:]:
            found = extreme(b, "Lt" if function is min else "Gt", found, other)
        return found
    if function is range:
        start, stop, step = (*([0] if len(values) == 1 else []), *values, 1)[:3]
        return Range(start, stop, step)
    if function is carray:
        return Array(values[0], values[1][0])
    if function is literally and known(values[0]):
        return values[0]
    if function in CONVERSIONS:
        return function(values[0]) if known(values[0]) else cast(b, values[0], CONVERSIONS[function])
    if function in MATHEMATICS:
        return mathematics(b, MATHEMATICS[function], numbered(values[0]), call.fast)
    raise Untranslatable(f"{ast.unparse(node.func)} cannot be called")


def mathematics(b: Any, name: str, x: Number, fast: tuple[str, ...]) -> Number:
    """A function of the C library."""
    x = x if x.type == SINGLE else cast(b, x, DOUBLE)
    of = llvm_type(x.type)
    name = f"llvm.{name}.f{x.type.bits}"
    function = outer(b, ir.FunctionType(of, [of]), name)
    return Number(x.type, b.call(function, [x.value], fastmath=fast))


def emit(b: Any, function: Emitted, values: list[Any]) -> Any:
    """Write what machine instructions a function is."""
    told, given = values[: function.known], values[function.known :]
    if not all(map(known, told)) or len(given) != len(function.takes):
        raise Untranslatable(f"{function.write.__name__} with {len(values)} values, some to be known")
    args = [cast(b, value, to).value for value, to in zip(given, function.takes, strict=True)]
    found = function.write(b, *told, *args)
    return None if function.gives is None else Number(function.gives, found)
