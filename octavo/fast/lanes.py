"""Products of packed matrices, as vector instructions: what `octavo.fast.packed` lays out is read here.

Numba has no vectors, and what its loops become is up to the optimiser; these functions say which register
holds what. They are written in LLVM's own terms, with 8 or 16 lanes as the processor has them, and LLVM makes
instructions of any processor of them.

A panel is 32 rows of a matrix, a lane each. A lane reads its row from left to right, block by block:

    s = q_0 x_0 + q_1 x_1 + ...    (the columns of a block, one multiplication and addition after the other)
    y = y + d s + m sum(x)         (the block's scale and minimum, where there are any)

That order is the same for one row of x (`product`) and for many at once (`tile` and `products`), so a row
has the same bits in any company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils as untyped
from numba.core import types

from octavo.fast.compiling import emitted_for_literals
from octavo.fast.machine import outer
from octavo.fast.packed import KINDS, LANES, Kind

cgutils: Any = untyped

WIDE = 16 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 8  # lanes of a register
HALF = 16  # lanes that `products` takes at once
ROWS = 6  # rows of x that `products` takes at once: twelve sums in sixteen registers
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

    def columns(self, kind: Kind, block: Any, exact: bool) -> Iterator[list[Any]]:
        """The columns of a block in float32, each for all lanes of the panel, a register after the other.

        Of nibbles, column c is ``16^(c mod 8)`` as large, which saves a shift and is in `x` then, unless
        it has to be `exact`.
        """
        firsts = range(0, LANES, self.lanes)
        at = kind.header
        for column in range(kind.group):
            if kind.bits == "nibbles":
                nibble = column % 8
                if nibble == 0:
                    row = at + 4 * LANES * (column // 8)
                    words = [self.load(block, row + 4 * first, INT) for first in firsts]
                yield [self.nibble(word, nibble, exact) for word in words]
            else:
                size, read = self.reader(kind)
                yield [read(block, at + size * (LANES * column + first)) for first in firsts]

    def nibble(self, word: Any, place: int, exact: bool) -> Any:
        """Four bits of a word as a number, times 16^place unless `exact`; the highest never are."""
        if exact and place:
            word = self.b.lshr(word, self.constant(4 * place, INT))
            word = self.b.and_(word, self.constant(15, INT)) if place < 7 else word
        elif place == 7:
            word = self.b.lshr(word, self.constant(28, INT))
        else:
            word = self.b.and_(word, self.constant(15 << 4 * place, INT))
        return self.b.sitofp(word, self.vector(SINGLE))

    def reader(self, kind: Kind) -> tuple[int, Callable[[Any, int], Any]]:
        """How many bytes a weight has, and how a register of them is read."""
        b, single, whole = self.b, self.vector(SINGLE), self.vector(INT)
        if kind.bits == "bytes":
            return 1, lambda at, n: b.sitofp(b.sext(self.load(at, n, BYTE), whole), single)
        if kind.bits == "float16":
            return 2, lambda at, n: b.fpext(self.load(at, n, HALVES), single)
        if kind.bits == "bfloat16":
            upper = self.constant(16, INT)
            return 2, lambda at, n: b.bitcast(b.shl(b.zext(self.load(at, n, SHORT), whole), upper), single)
        return 4, lambda at, n: self.load(at, n, SINGLE)


def instructions(build: Callable[..., None]) -> Any:
    """A function of a kind, known when it is compiled, and of addresses and counts, written by `build`."""

    def typed(context: Any, kind: Any, *given: Any) -> Any:
        chosen = KINDS[kind.literal_value]

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            build(builder, chosen, *args[1:])
            return context.get_dummy_value()

        return types.void(kind, *[types.int64] * len(given)), generate

    return typed


@emitted_for_literals
def product(context: Any, kind: Any, panel: Any, blocks: Any, x: Any, sums: Any, y: Any) -> Any:
    """One row of x [in], prepared, with a panel -> y [32]; `sums` are those of each block of x."""
    return instructions(write_product)(context, kind, panel, blocks, x, sums, y)


@emitted_for_literals
def tile(context: Any, kind: Any, panel: Any, blocks: Any, tile: Any) -> Any:
    """A panel widened to float32, without its scales: [2, in, 16], a half of the lanes after the other."""
    return instructions(write_tile)(context, kind, panel, blocks, tile)


@emitted_for_literals
def products(
    context: Any,
    kind: Any,
    panel: Any,
    blocks: Any,
    tile: Any,
    half: Any,
    rows: Any,
    x: Any,
    sums: Any,
    y: Any,
    stride: Any,
    sums_stride: Any,
    y_stride: Any,
) -> Any:
    """Up to six rows of x with half a panel, widened before; strides in bytes."""
    given = (panel, blocks, tile, half, rows, x, sums, y, stride, sums_stride, y_stride)
    return instructions(write_products)(context, kind, *given)


def write_product(builder: Any, kind: Kind, panel: Any, blocks: Any, x: Any, sums: Any, y: Any) -> None:
    w = Writer(builder)
    firsts = range(0, LANES, w.lanes)
    totals = [cgutils.alloca_once_value(builder, w.zero()) for _ in firsts]
    with cgutils.for_range(builder, blocks) as loop:
        block = builder.add(panel, w.times(loop.index, kind.size))
        here = builder.add(x, w.times(loop.index, 4 * kind.group))
        for line in range(0, kind.size, 64):
            w.fetch(block, AHEAD + line)
        s = [w.zero() for _ in firsts]
        for column, weights in enumerate(w.columns(kind, block, exact=False)):
            number = w.spread(here, 4 * column)
            s = [w.fma(weight, number, total) for weight, total in zip(weights, s, strict=True)]
        summed = w.spread(sums, w.times(loop.index, 4)) if kind.offsets else None
        for first, total, found in zip(firsts, totals, s, strict=True):
            builder.store(w.added(kind, block, first, found, builder.load(total), summed), total)
    for first, total in zip(firsts, totals, strict=True):
        w.store(builder.load(total), y, 4 * first)


def write_tile(builder: Any, kind: Kind, panel: Any, blocks: Any, tile: Any) -> None:
    w = Writer(builder)
    other = builder.mul(blocks, ir.Constant(LONG, 4 * HALF * kind.group))  # where the second half begins
    with cgutils.for_range(builder, blocks) as loop:
        block = builder.add(panel, w.times(loop.index, kind.size))
        here = builder.add(tile, w.times(loop.index, 4 * HALF * kind.group))
        there = builder.add(here, other)
        for column, weights in enumerate(w.columns(kind, block, exact=True)):
            for i, weight in enumerate(weights):
                first = i * w.lanes
                w.store(weight, here if first < HALF else there, 4 * (HALF * column + first % HALF))


def write_products(
    builder: Any,
    kind: Kind,
    panel: Any,
    blocks: Any,
    tile: Any,
    half: Any,
    rows: Any,
    x: Any,
    sums: Any,
    y: Any,
    stride: Any,
    sums_stride: Any,
    y_stride: Any,
) -> None:
    w = Writer(builder)
    firsts = range(0, HALF, w.lanes)
    last = builder.sub(rows, ir.Constant(LONG, 1))

    def row(start: Any, step: Any, number: int) -> Any:
        """Where a row is; past the last it is the last once more, which does no harm."""
        n = ir.Constant(LONG, number)
        n = builder.select(builder.icmp_signed("<", n, rows), n, last)
        return builder.add(start, builder.mul(n, step))

    xs = [row(x, stride, n) for n in range(ROWS)]
    sums_of = [row(sums, sums_stride, n) for n in range(ROWS)]
    totals = [[cgutils.alloca_once_value(builder, w.zero()) for _ in firsts] for _ in range(ROWS)]
    s = [[cgutils.alloca_once(builder, w.vector(SINGLE)) for _ in firsts] for _ in range(ROWS)]
    lanes = builder.mul(half, ir.Constant(LONG, HALF))
    with cgutils.for_range(builder, blocks) as loop:
        block = builder.add(panel, w.times(loop.index, kind.size))
        weights = builder.add(tile, w.times(loop.index, 4 * HALF * kind.group))
        place = w.times(loop.index, 4 * kind.group)
        for of_row in s:
            for sum_ in of_row:
                builder.store(w.zero(), sum_)
        steps = ir.Constant(LONG, kind.group // 8)
        with cgutils.for_range(builder, steps) as inner:
            some = builder.add(weights, w.times(inner.index, 4 * HALF * 8))
            at = builder.add(place, w.times(inner.index, 4 * 8))
            for column in range(8):
                found = [w.load(some, 4 * (HALF * column + first), SINGLE) for first in firsts]
                for n in range(ROWS):
                    number = w.spread(builder.add(xs[n], at), 4 * column)
                    for weight, sum_ in zip(found, s[n], strict=True):
                        builder.store(w.fma(weight, number, builder.load(sum_)), sum_)
        # the scales of these lanes: where the header is shifted by half a panel
        width = 2 if kind.scale == "<f2" else 4
        shifted = builder.add(block, builder.mul(lanes, ir.Constant(LONG, width)))
        for n in range(ROWS):
            summed = w.spread(sums_of[n], w.times(loop.index, 4)) if kind.offsets else None
            for i, first in enumerate(firsts):
                total = builder.load(totals[n][i])
                builder.store(
                    w.added(kind, shifted, first, builder.load(s[n][i]), total, summed), totals[n][i]
                )
    to = builder.add(y, builder.mul(lanes, ir.Constant(LONG, 4)))
    for n in range(ROWS):
        for i, first in enumerate(firsts):
            w.store(builder.load(totals[n][i]), row(to, y_stride, n), 4 * first)
