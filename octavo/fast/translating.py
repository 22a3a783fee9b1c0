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
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from octavo.fast.calls import Array, Call, Compiled, Loop, Range, Slot, Untranslatable, carray, literally
from octavo.fast.emitting import cell, outer
from octavo.fast.types import DOUBLE, INT, LONG, SINGLE, Emitted, Pointer, llvm_type

FAILED = -1
CHECKED = bool(os.environ.get("OCTAVO_CHECK_BOUNDS"))  # whether an index outside an array is a failure
DEEPEST = 50  # functions in functions
MATHEMATICS = {np.sqrt: "sqrt", np.exp: "exp", np.log: "log"}
CONVERSIONS = {int: LONG, np.float32: SINGLE, np.float64: DOUBLE, np.int32: INT, np.int64: LONG}


class Translator:
    """Writes functions at the builder's place."""

    def __init__(self, builder: Any) -> None:
        self.b, self.calls = builder, list[Call]()

    @property
    def call(self) -> Call:
        """The function that is being written out."""
        return self.calls[-1]

    def block(self, name: str) -> Any:
        """A new block of instructions."""
        return self.b.append_basic_block(name)

    # ------------------------------------------------------------ names

    def read(self, name: str) -> Any:
        """What a name stands for."""
        call = self.call
        if name not in call.names:
            if name in call.times:
                raise Untranslatable(f"{name} may have no value here, or one of several types")
            return call.outside(name)
        for loop in call.loops:
            loop.read.add(name)
        found = call.names[name]
        return Number(found.type, self.b.load(found.place)) if isinstance(found, Slot) else found

    def give(self, name: str, value: Any) -> None:
        """Give a name a value: a place in memory where it changes, which LLVM makes a register of."""
        call = self.call
        if call.times[name] > 1 and (known(value) or isinstance(value, Number)):
            number = numbered(value)
            slot = call.slots.get((name, number.type)) or self.slot(number.type)
            call.slots[name, number.type] = slot
            self.b.store(number.value, slot.place)
            value = slot
        self.stand(name, value)

    def stand(self, name: str, value: Any) -> None:
        """Let a name stand for something else from here to the end of the block."""
        call = self.call
        if name in call.names and call.names[name] is not value:
            if any(name in loop.read for loop in call.loops):
                raise Untranslatable(f"{name} has several types in a loop")
            for loop in call.loops:
                loop.changed.add(name)
        call.names[name] = value

    def slot(self, type_: Any) -> Slot:
        """A place for a number."""
        return Slot(type_, cell(self.b, llvm_type(type_)))

    # ------------------------------------------------------------ functions

    def inline(self, called: Compiled, values: list[Any]) -> Any:
        """Write a function out -> what it returns."""
        call = Call(called)
        arguments = call.tree.args.args
        if len(arguments) != len(values) or len(self.calls) > DEEPEST:
            raise Untranslatable(
                f"{called.function.__name__} with {len(values)} values, in {len(self.calls)}"
            )
        self.calls.append(call)
        for argument, value in zip(arguments, values, strict=True):
            self.give(argument.arg, value)
        self.run(call.tree.body)
        if call.end:
            if not self.b.block.is_terminated:
                self.b.branch(call.end)
            self.b.position_at_end(call.end)
        result = call.result
        result = Number(result.type, self.b.load(result.place)) if isinstance(result, Slot) else result
        self.calls.pop()
        return result

    def give_back(self, node: ast.Return) -> None:
        """Return: from the end as it is, from elsewhere by way of a slot."""
        call, value = self.call, self.value(node.value) if node.value else None
        if call.end is None and node is call.tree.body[-1]:
            call.result = value
            return
        call.end = call.end or self.block("returned")
        if value is not None:
            number = numbered(value)
            call.result = call.result or self.slot(number.type)
            self.b.store(cast(self.b, number, call.result.type).value, call.result.place)
        self.b.branch(call.end)

    def called(self, node: ast.Call) -> Any:
        """What a call gives."""
        function, values = self.value(node.func), [self.value(part) for part in node.args]
        if node.keywords:
            raise Untranslatable("values without names are asked for")
        if isinstance(function, Compiled):
            return self.inline(function, values)
        if isinstance(function, Emitted):
            return self.emit(function, values)
        if function in (min, max):
            found = values[0]
            for other in values[1:]:
                found = extreme(self.b, "Lt" if function is min else "Gt", found, other)
            return found
        if function is range:
            start, stop, step = (*([0] if len(values) == 1 else []), *values, 1)[:3]
            return Range(start, stop, step)
        if function is carray:
            return Array(values[0], values[1][0])
        if function is literally and known(values[0]):
            return values[0]
        if function in CONVERSIONS:
            return function(values[0]) if known(values[0]) else cast(self.b, values[0], CONVERSIONS[function])
        if function in MATHEMATICS:
            return self.mathematics(MATHEMATICS[function], numbered(values[0]))
        raise Untranslatable(f"{ast.unparse(node.func)} cannot be called")

    def mathematics(self, name: str, x: Number) -> Number:
        """A function of the C library."""
        x = x if x.type == SINGLE else cast(self.b, x, DOUBLE)
        of = llvm_type(x.type)
        name = f"llvm.{name}.f{x.type.bits}"
        function = outer(self.b, ir.FunctionType(of, [of]), name)
        return Number(x.type, self.b.call(function, [x.value], fastmath=self.call.fast))

    def emit(self, function: Emitted, values: list[Any]) -> Any:
        """Write what machine instructions a function is."""
        told, given = values[: function.known], values[function.known :]
        if not all(map(known, told)) or len(given) != len(function.takes):
            raise Untranslatable(f"{function.write.__name__} with {len(values)} values, some to be known")
        args = [cast(self.b, value, to).value for value, to in zip(given, function.takes, strict=True)]
        found = function.write(self.b, *told, *args)
        return None if function.gives is None else Number(function.gives, found)

    # ------------------------------------------------------------ values

    def value(self, node: Any) -> Any:
        """What an expression gives."""
        b = self.b
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self.read(node.id)
            case ast.Tuple():
                return tuple(self.value(part) for part in node.elts)
            case ast.Call():
                return self.called(node)
            case ast.BinOp() if type(node.op).__name__ in CALCULATED:
                x, y = self.value(node.left), self.value(node.right)
                return calculated(b, type(node.op).__name__, x, y, self.call.fast)
            case ast.UnaryOp(op=ast.USub()):
                return negative(b, self.value(node.operand), self.call.fast)
            case ast.UnaryOp(op=ast.Invert()):
                return inverse(b, self.value(node.operand))
            case ast.UnaryOp(op=ast.Not()):
                return chosen(b, self.value(node.operand), False, True)
            case ast.Compare(ops=[op], comparators=[other]):
                return compared(b, type(op).__name__, self.value(node.left), self.value(other))
            case ast.BoolOp():
                return self.logical(isinstance(node.op, ast.And), node.values)
            case ast.IfExp():
                test = self.value(node.test)
                if known(test):
                    return self.value(node.body if test else node.orelse)
                return self.either(test, lambda: self.value(node.body), lambda: self.value(node.orelse))
            case ast.Attribute():
                of = self.value(node.value)
                return of.size if isinstance(of, Array) and node.attr == "size" else getattr(of, node.attr)
            case ast.Subscript():
                return self.subscript(self.value(node.value), node.slice)
        raise Untranslatable(f"{ast.unparse(node)} has no meaning here")

    def logical(self, both: bool, parts: list[Any]) -> Any:
        """``a and b``, or ``a or b``: b is computed where a does not decide."""
        first = self.value(parts[0])
        if len(parts) == 1:
            return bool(first) if known(first) else truth(self.b, first)
        if known(first):
            return self.logical(both, parts[1:]) if bool(first) == both else not both
        ways: list[Callable[[], Any]] = [lambda: self.logical(both, parts[1:]), lambda: not both]
        return self.either(first, *(ways if both else ways[::-1]))

    def either(self, test: Any, then: Callable[[], Any], other: Callable[[], Any]) -> Number:
        """The number of one of two ways, of which only one is taken."""
        b, ends, numbers = self.b, [self.block("then"), self.block("else")], list[Number]()
        after = self.block("either")
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

    def subscript(self, of: Any, node: Any) -> Any:
        """A number at an address, or some of an array."""
        if isinstance(node, ast.Slice):
            return self.part(of, node)
        index = self.value(node)
        if type(of) is tuple or isinstance(of, np.ndarray):
            if not known(index):
                raise Untranslatable("an index of what is known has to be known")
            found = of[index]
            return found.item() if isinstance(found, (np.integer, np.bool_)) else found
        pointer = self.place(of, index)
        return Number(pointer.type.to, self.b.load(pointer.value))

    def place(self, of: Any, index: Any, checked: bool = CHECKED) -> Number:
        """The address of a number behind another, or in an array."""
        start = of.start if isinstance(of, Array) else of
        if not isinstance(start, Number) or not isinstance(start.type, Pointer):
            raise Untranslatable("only addresses and arrays have indexes")
        place = cast(self.b, index, LONG).value
        if checked and isinstance(of, Array):
            with self.b.if_then(self.b.icmp_unsigned(">=", place, cast(self.b, of.size, LONG).value)):
                self.b.ret(ir.Constant(ir.IntType(64), FAILED))
        at = self.b.gep(start.value, [place], inbounds=isinstance(of, Array))
        return Number(start.type, at)

    def part(self, of: Any, node: ast.Slice) -> Array:
        """A slice."""
        if not isinstance(of, Array) or node.step:
            raise Untranslatable("only arrays have slices, of neighbours")
        first = self.value(node.lower) if node.lower else 0
        last = extreme(self.b, "Lt", self.value(node.upper), of.size) if node.upper else of.size
        return Array(self.place(of, first, checked=False), calculated(self.b, "Sub", last, first, ()))

    # ------------------------------------------------------------ statements

    def run(self, nodes: list[ast.stmt]) -> None:
        """Write statements, to the first behind which nothing comes."""
        for node in nodes:
            if self.b.block.is_terminated:
                return
            try:
                self.statement(node)
            except Exception as error:
                error.add_note(f"{self.call.function.__code__.co_filename}, line {node.lineno}")
                raise

    def statement(self, node: ast.stmt) -> None:
        """Write one statement."""
        match node:
            case ast.Assign():
                value = self.value(node.value)
                for target in node.targets:
                    self.assign(target, value)
            case ast.AugAssign():
                self.change(node)
            case ast.Expr():
                self.value(node.value)
            case ast.If():
                self.choose(node)
            case ast.While():
                self.repeat(node)
            case ast.For():
                self.count(node)
            case ast.Return():
                self.give_back(node)
            case ast.Break():
                self.b.branch(self.call.loops[-1].end)
            case ast.Continue():
                self.b.branch(self.call.loops[-1].again)
            case ast.Raise():
                self.b.ret(ir.Constant(ir.IntType(64), FAILED))
            case ast.Pass():
                pass
            case _:
                raise Untranslatable(f"{ast.unparse(node)} has no meaning here")

    def assign(self, target: Any, value: Any) -> None:
        """``a = b``, for all that may be on the left."""
        if isinstance(target, ast.Tuple):
            if type(value) is not tuple:
                raise Untranslatable("there are not as many values as names")
            for part, one in zip(target.elts, value, strict=True):
                self.assign(part, one)
        elif isinstance(target, ast.Name):
            self.give(target.id, value)
        elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Slice):
            array = self.part(self.value(target.value), target.slice)
            for index in self.counted(Range(0, array.size, 1)):
                self.write(self.place(array, index), value)
        elif isinstance(target, ast.Subscript):
            self.write(self.place(self.value(target.value), self.value(target.slice)), value)
        else:
            raise Untranslatable(f"{ast.unparse(target)} takes no value")

    def write(self, pointer: Number, value: Any) -> None:
        """Write a number to an address."""
        self.b.store(cast(self.b, value, pointer.type.to).value, pointer.value)

    def change(self, node: ast.AugAssign) -> None:
        """``a += b`` and its like."""
        name = type(node.op).__name__
        if isinstance(node.target, ast.Name):
            value = calculated(
                self.b, name, self.read(node.target.id), self.value(node.value), self.call.fast
            )
            self.give(node.target.id, value)
        elif isinstance(node.target, ast.Subscript):
            pointer = self.place(self.value(node.target.value), self.value(node.target.slice))
            old = Number(pointer.type.to, self.b.load(pointer.value))
            self.write(pointer, calculated(self.b, name, old, self.value(node.value), self.call.fast))

    def choose(self, node: ast.If) -> None:
        """``if``: names that stand for different things after its branches have no value behind it."""
        test, call = self.value(node.test), self.call
        if known(test):
            self.run(node.body if test else node.orelse)
            return
        ways, after = [self.block("then"), self.block("else")], self.block("endif")
        self.b.cbranch(truth(self.b, test).value, *ways)
        before, found = call.names, list[dict[str, Any]]()
        for way, nodes in zip(ways, (node.body, node.orelse), strict=True):
            self.b.position_at_end(way)
            call.names = dict(before)
            self.run(nodes)
            if not self.b.block.is_terminated:
                self.b.branch(after)
                found.append(call.names)
        self.b.position_at_end(after)
        if not found:
            self.b.unreachable()
            return
        call.names = {
            name: value
            for name, value in found[0].items()
            if all(name in other and other[name] is value for other in found)
        }

    @contextmanager
    def loop(self, again: Any, end: Any) -> Iterator[None]:
        """What is in a loop: names that it gives values to have none behind it."""
        call = self.call
        before, loop = dict(call.names), Loop(again, end, set(), set())
        call.loops.append(loop)
        yield
        call.loops.pop()
        if not self.b.block.is_terminated:
            self.b.branch(again)
        self.b.position_at_end(end)
        call.names = {name: value for name, value in before.items() if name not in loop.changed}

    def repeat(self, node: ast.While) -> None:
        """``while``."""
        again, inside, end = self.block("while"), self.block("do"), self.block("done")
        self.b.branch(again)
        self.b.position_at_end(again)
        with self.loop(again, end):
            self.b.cbranch(truth(self.b, self.value(node.test)).value, inside, end)
            self.b.position_at_end(inside)
            self.run(node.body)

    def count(self, node: ast.For) -> None:
        """``for``."""
        of = self.value(node.iter)
        if not isinstance(of, Range) or not isinstance(node.target, ast.Name) or node.orelse:
            raise Untranslatable(f"for {ast.unparse(node.target)} counts through a range")
        for index in self.counted(of):
            self.stand(node.target.id, index)
            self.run(node.body)

    def counted(self, of: Range) -> Iterator[Number]:
        """Once, what is to be written for every number of a range."""
        start, stop, step = (cast(self.b, part, LONG).value for part in of)
        sign = ">" if known(of.step) and of.step < 0 else "<"
        test, inside, further, end = (self.block(n) for n in ("for", "each", "next", "through"))
        place = self.slot(LONG).place
        self.b.store(start, place)
        self.b.branch(test)
        self.b.position_at_end(test)
        index = self.b.load(place)
        self.b.cbranch(self.b.icmp_signed(sign, index, stop), inside, end)
        self.b.position_at_end(inside)
        with self.loop(further, end):
            yield Number(LONG, index)
        with self.b.goto_block(further):
            self.b.store(self.b.add(index, step, flags=("nsw",)), place)
            self.b.branch(test)


def translated(function: Callable[..., Any], symbol: str, triple: str, layout: str) -> str:
    """LLVM's code of a module in which `symbol` is a function of three whole numbers."""
    module = ir.Module(symbol)
    module.triple, module.data_layout = triple, layout
    long = ir.IntType(64)
    entry = ir.Function(module, ir.FunctionType(long, [long] * 3), symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    body = entry.append_basic_block("body")
    builder.position_at_end(body)
    translator = Translator(builder)
    found = translator.inline(Compiled(function, ()), [Number(LONG, given) for given in entry.args])
    if not builder.block.is_terminated:
        builder.ret(cast(builder, 0 if found is None else found, LONG).value)
    with builder.goto_block(entry.blocks[0]):
        builder.branch(body)
    return str(module)
