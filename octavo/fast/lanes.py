"""Products of packed matrices, as vector instructions: what `octavo.fast.packed` lays out is read here.

Python has no vectors, and what its loops become is up to the optimiser; these functions say which register
holds what. They are written in LLVM's own terms, with 8 or 16 lanes as the processor has them, and LLVM makes
instructions of any processor of them.

A panel is 32 rows of a matrix, a lane each. A lane reads its row from left to right, block by block:

    s = q_0 x_0 + q_1 x_1 + ...    (the columns of a block, one multiplication and addition after the other)
    y = y + d s + m sum(x)         (the block's scale and minimum, where there are any)

That order is the same for one row of x and for six at once, so a row has the same bits in any company. What
differs is how much of a panel is taken at a time: all lanes for one row or two, half of them for more. So the
sums of all rows stay in registers, and a weight is widened once for all of them, which costs next to nothing:
other parts of a processor convert than those that multiply.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from itertools import chain
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir

from octavo.fast import types
from octavo.fast.emitting import cell, counted, outer
from octavo.fast.packed import KINDS, LANES, LINE, STORED, Kind, order
from octavo.fast.types import emitted

WIDE = 16 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 8  # lanes of a register
ROWS = 6  # rows of x that a product takes at once: with half a panel, twelve sums in sixteen registers
FEW = 2  # rows that it takes with a whole panel: eight sums, as many as are added to at the same time
SMALLER = [16.0**-i for i in range(7)] + [1.0]  # what makes nibbles of a word as large as the first
AHEAD = 4096  # bytes by which a product asks for its weights before it reads them: a page of memory
BYTE, SHORT, INT, LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
SINGLE, HALVES = ir.FloatType(), ir.HalfType()


class Writer:
    """Writes vector instructions at the builder's place."""

    def __init__(self, builder: Any, lanes: int = WIDE) -> None:
        self.b, self.lanes = builder, lanes

    def vector(self, element: Any) -> Any:
        """The type of a register of such elements."""
        return ir.VectorType(element, self.lanes)

    def constant(self, value: float, element: Any) -> Any:
        """A register of one value."""
        return ir.Constant(self.vector(element), [value] * self.lanes)

    def zero(self) -> Any:
        """A register of zeros."""
        return self.constant(0.0, SINGLE)

    def variables(self, count: int) -> list[Any]:
        """Places for registers, which the compiler finds registers for."""
        return [cell(self.b, self.vector(SINGLE)) for _ in range(count)]

    def clear(self, variables: list[list[Any]]) -> None:
        """Zeros in all of them."""
        for variable in chain(*variables):
            self.b.store(self.zero(), variable)

    def beyond(self, address: Any, offset: int) -> Any:
        """An address so many bytes on."""
        return self.b.add(address, ir.Constant(LONG, offset))

    def at(self, address: Any, offset: Any, kind: Any) -> Any:
        """A pointer to what is `offset` bytes behind an address."""
        offset = ir.Constant(LONG, offset) if isinstance(offset, int) else offset
        return self.b.inttoptr(self.b.add(address, offset), kind.as_pointer())

    def load(self, address: Any, offset: Any, element: Any) -> Any:
        """A register from memory."""
        found = self.b.load(self.at(address, offset, self.vector(element)))
        found.align = 1
        return found

    def store(self, value: Any, address: Any, offset: Any) -> None:
        """A register to memory."""
        self.b.store(value, self.at(address, offset, value.type)).align = 1

    def spread(self, address: Any, offset: Any) -> Any:
        """One number of memory in every lane."""
        number = self.b.load(self.at(address, offset, SINGLE))
        number.align = 4
        first = ir.Constant(INT, 0)
        single = self.b.insert_element(ir.Constant(self.vector(SINGLE), ir.Undefined), number, first)
        return self.b.shuffle_vector(single, single, self.constant(0, INT))

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """``x y + z``, rounded once where the processor can."""
        type_ = ir.FunctionType(x.type, [x.type] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f32"
        return self.b.call(outer(self.b, type_, name), [x, y, z])

    def fetch(self, address: Any, offset: int) -> None:
        """Ask for what is there, which will be read soon."""
        type_ = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), INT, INT, INT])
        read, near, data = (ir.Constant(INT, n) for n in (0, 3, 1))
        fetch = outer(self.b, type_, "llvm.prefetch.p0")
        self.b.call(fetch, [self.at(address, offset, BYTE), read, near, data])

    def across(self, x: Any) -> Any:
        """The sum of the lanes, half of them added to the other half each time."""
        count = self.lanes
        while count > 1:
            count //= 2
            halves = (ir.Constant(ir.VectorType(INT, count), list(range(n, n + count))) for n in (0, count))
            x = self.b.fadd(*(self.b.shuffle_vector(x, x, half) for half in halves))
        return self.b.extract_element(x, ir.Constant(INT, 0))

    def times(self, index: Any, step: int) -> Any:
        """An offset: `step` bytes for each."""
        return self.b.mul(index, ir.Constant(LONG, step))

    def scales(self, kind: Kind, block: Any, first: int) -> tuple[Any, Any]:
        """The scale and the minimum of a block, for the lanes from `first` on; None where there is none."""
        if kind.scale is None:
            return None, None
        size = 2 if kind.scale == "<f2" else 4

        def read(offset: int) -> Any:
            at = offset + size * first
            if size == 4:
                return self.load(block, at, SINGLE)
            return self.b.fpext(self.load(block, at, HALVES), self.vector(SINGLE))

        scale = read(0)
        if kind.minimum:
            return scale, read(size * LANES)
        if kind.middle:
            return scale, self.b.fmul(scale, self.constant(-float(kind.middle), SINGLE))
        return scale, None

    def added(self, kind: Kind, block: Any, first: int, s: Any, y: Any, sums: Any) -> Any:
        """``y + d s + m sum(x)``."""
        scale, minimum = self.scales(kind, block, first)
        if scale is None:
            return self.b.fadd(y, s)
        y = self.fma(scale, s, y)
        return y if minimum is None else self.fma(minimum, sums, y)

    def eight(self, kind: Kind, weights: Any, lanes: range, x: Any, s: list[list[Any]]) -> None:
        """Add eight columns of a block, some lanes of them, to the sums of each row of x.

        What is used most often is read first and stays in its register: a number of few rows, a weight of
        many.
        """
        read, rows, registers = self.reader(kind, weights), range(len(s)), range(len(lanes))
        few = [(n, register) for register in registers for n in rows]
        many = [(n, register) for n in rows for register in registers]
        for column in range(8):
            weight = cache(partial(read, column))
            number = cache(partial(self.number, x, kind.group, column))
            for n, register in few if len(s) <= FEW else many:
                sum_ = s[n][register]
                found = self.fma(weight(lanes[register]), number(n), self.b.load(sum_))
                self.b.store(found, sum_)

    def number(self, x: Any, group: int, column: int, row: int) -> Any:
        """A number of x [rows, columns of a block] in every lane."""
        return self.spread(x, 4 * (group * row + column))

    def nibble(self, word: Any, place: int) -> Any:
        """Four bits of a word as a number, times 16^place; the highest never are."""
        if place == 7:
            word = self.b.lshr(word, self.constant(28, INT))
        else:
            word = self.b.and_(word, self.constant(15 << 4 * place, INT))
        return self.b.sitofp(word, self.vector(SINGLE))

    def reader(self, kind: Kind, weights: Any) -> Callable[[int, int], Any]:
        """What reads a column of eight in float32, from a lane on.

        Of nibbles, column c is ``16^c`` as large, which saves a shift and is in `x` then.
        """
        b, single, whole = self.b, self.vector(SINGLE), self.vector(INT)
        if kind.bits == "nibbles":
            word = cache(lambda lane: self.load(weights, 4 * lane, INT))
            return lambda column, lane: self.nibble(word(lane), column)

        def stored(element: Any, size: int) -> Callable[[int, int], Any]:
            return lambda column, lane: self.load(weights, size * (LANES * column + lane), element)

        if kind.bits == "bytes":
            read = stored(BYTE, 1)
            return lambda column, lane: b.sitofp(b.sext(read(column, lane), whole), single)
        if kind.bits == "float16":
            read = stored(HALVES, 2)
            return lambda column, lane: b.fpext(read(column, lane), single)
        if kind.bits == "bfloat16":
            read, upper = stored(SHORT, 2), self.constant(16, INT)
            return lambda column, lane: b.bitcast(b.shl(b.zext(read(column, lane), whole), upper), single)
        return stored(SINGLE, 4)


def apart(kind: Kind) -> tuple[int, int]:
    """How many bytes from a lane to the next, and of eight columns."""
    stored, columns = STORED[kind.bits]
    size = np.dtype(stored).itemsize
    return size, size * LANES * 8 // columns


@emitted(None, *[types.LONG] * 5, known=1)
def prepare(builder: Any, number: int, x: Any, blocks: Any, rows: Any, to: Any, sums: Any) -> None:
    """A row of x [in] as products take it, with those that are multiplied at once: one of so many `rows`.

    Columns come in the order of the weights, and what is too large there is as much smaller here.
    """
    kind = KINDS[number]
    w, half = Writer(builder, 8), Writer(builder, 4)
    turns = ir.Constant(ir.VectorType(INT, 8), [0, 4, 1, 5, 2, 6, 3, 7])
    smaller = ir.Constant(w.vector(SINGLE), SMALLER)
    with counted(builder, blocks) as loop:
        here = builder.add(x, w.times(loop, 4 * kind.group))
        row = builder.mul(loop, rows)
        there = builder.add(to, w.times(row, 4 * kind.group))
        total = w.zero()
        for i in range(0, kind.group, 8):
            if kind.bits == "nibbles":
                first, second = (half.load(here, 4 * (i // 2 + n), SINGLE) for n in (0, kind.group // 2))
                numbers = builder.shuffle_vector(first, second, turns)
                w.store(builder.fmul(numbers, smaller), there, 4 * i)
            else:
                numbers = w.load(here, 4 * i, SINGLE)
                w.store(numbers, there, 4 * i)
            total = builder.fadd(total, numbers)
        if kind.offsets:
            builder.store(w.across(total), w.at(sums, w.times(row, 4), SINGLE))


@emitted(None, *[types.LONG] * 3, known=1)
def widen(builder: Any, number: int, block: Any, lane: Any, to: Any) -> None:
    """A lane of a block -> its numbers in float32, in the order of the columns."""
    kind = KINDS[number]
    w = Writer(builder, 1)
    half, single = (builder.add(block, w.times(lane, size)) for size in (2, 4))
    scale, minimum = w.scales(kind, half if kind.scale == "<f2" else single, 0)
    size, eight = apart(kind)
    weights = builder.add(w.beyond(block, kind.header), w.times(lane, size))
    for i, column in enumerate(order(kind).tolist()):
        found = w.reader(kind, w.beyond(weights, eight * (i // 8)))(i % 8, 0)
        if kind.bits == "nibbles":
            found = builder.fmul(found, w.constant(SMALLER[i % 8], SINGLE))
        if scale is not None:
            found = builder.fmul(found, scale)
            found = found if minimum is None else builder.fadd(found, minimum)
        w.store(found, to, 4 * column)


@emitted(None, *[types.LONG] * 7, known=2)
def product(
    builder: Any,
    number: int,
    rows: int,
    panel: Any,
    blocks: Any,
    x: Any,
    sums: Any,
    y: Any,
    stride: Any,
    asks: Any,
) -> None:
    """Some rows of x, prepared, with a panel -> y [32] of each, so many bytes apart.

    x is [blocks, rows, columns of a block], and `sums` [blocks, rows] are those of its blocks. Where it
    `asks`, it is the first to read this panel, and asks for the weights that come next.
    """
    kind = KINDS[number]
    w = Writer(builder)
    taken = LANES if rows <= FEW else min(2 * w.lanes, LANES)
    lanes = range(0, taken, w.lanes)
    size, eight = apart(kind)
    totals, s = ([w.variables(len(lanes)) for _ in range(rows)] for _ in range(2))
    with counted(builder, ir.Constant(LONG, LANES // taken)) as part:
        first = w.times(part, taken)
        begins = builder.icmp_signed("<", first, asks)
        w.clear(totals)
        with counted(builder, blocks) as loop:
            block = builder.add(panel, w.times(loop, kind.size))
            with builder.if_then(begins) if rows > FEW else nullcontext():
                for line in range(0, kind.size, LINE):
                    w.fetch(block, AHEAD + line)
            w.clear(s)
            weights = builder.add(w.beyond(block, kind.header), w.times(first, size))
            here = builder.add(x, w.times(loop, 4 * rows * kind.group))
            if rows == 1:
                for i in range(kind.group // 8):
                    w.eight(kind, w.beyond(weights, eight * i), lanes, w.beyond(here, 4 * 8 * i), s)
            else:
                with counted(builder, ir.Constant(LONG, kind.group // 8)) as i:
                    some, numbers = w.times(i, eight), w.times(i, 4 * 8)
                    w.eight(kind, builder.add(weights, some), lanes, builder.add(here, numbers), s)
            header = builder.add(block, w.times(first, 2 if kind.scale == "<f2" else 4))
            of_block = builder.add(sums, w.times(loop, 4 * rows))
            for n in range(rows):
                summed = w.spread(of_block, 4 * n) if kind.offsets else None
                for lane, sum_, total in zip(lanes, s[n], totals[n], strict=True):
                    found = w.added(kind, header, lane, builder.load(sum_), builder.load(total), summed)
                    builder.store(found, total)
        for n, of_row in enumerate(totals):
            to = builder.add(y, builder.add(w.times(stride, n), w.times(first, 4)))
            for lane, total in zip(lanes, of_row, strict=True):
                w.store(builder.load(total), to, 4 * lane)
