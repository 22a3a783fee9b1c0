"""Attention to some slots of a cache, as vector instructions: scores of keys, and sums of values.

Both are for one to three heads of a group, who share what is read. A score has a lane for every eighth
column, and the lanes are added at the end:

    s_i = q_i k_i + q_(i+8) k_(i+8) + ...    (one multiplication and addition after the other)
    score = ((s_0 + s_2) + (s_1 + s_3)) + ((s_4 + s_6) + (s_5 + s_7))

A column of a sum takes the values in their order. So neither how many slots are taken at once nor who else
asks changes a bit.

Memory is fast for who reads it from one end to the other and asks early, evenly and in order. So while
these slots are read, as many bytes are asked for from `ahead` on, which is read at the next turn, and once
more from `again` on, which is read soon: a processor that is asked for too much at once forgets some of it.
Where `ahead` is 0, nothing is; where it is `PART`, a part of each slot is read, and the same part of a slot
further on is asked for.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from octavo.fast import types
from octavo.fast.emitting import cell, counted
from octavo.fast.lanes import HALVES, INT, LONG, SINGLE, Writer
from octavo.fast.types import emitted

LANES = 8  # columns that a register takes
LINE = 64  # bytes that a processor gets from memory at once
PART = 1  # no address
FURTHER = 8  # slots by which a part of one is asked for before it is read
AT_ONCE = 4  # keys that are scored at once: twelve sums in sixteen registers


class Slots:
    """Reads some columns of keys or of values, and asks for what is read next."""

    def __init__(self, builder: Any, columns: int, half: int) -> None:
        self.w = Writer(builder, min(columns, LANES))
        self.half, self.size, self.columns = half, 2 if half else 4, columns
        self.registers = range(columns // self.w.lanes)

    def steps(self, width: Any) -> Any:
        """How often there are so many columns."""
        return self.w.b.udiv(width, ir.Constant(LONG, self.columns))

    def read(self, slot: Any, step: Any, register: int) -> Any:
        """One register of columns of the slot at an address."""
        at = self.w.b.add(slot, self.w.times(step, self.size * self.columns))
        offset = self.size * self.w.lanes * register
        if self.half:
            return self.w.b.fpext(self.w.load(at, offset, HALVES), self.w.vector(SINGLE))
        return self.w.load(at, offset, SINGLE)

    def ask(self, ahead: tuple[Any, Any], turn: Any, slots: list[Any], step: Any, stride: Any) -> None:
        """Ask for as much as was read of some slots in this turn: in both places ahead, or further on."""
        size = self.size * self.columns
        if self.columns <= LANES:
            return
        b, part = self.w.b, ir.Constant(LONG, PART)
        with b.if_then(b.icmp_unsigned(">", ahead[0], part), likely=True):
            for start in ahead:
                self.lines(b.add(start, self.w.times(turn, size * len(slots))), size * len(slots))
        with b.if_then(b.icmp_unsigned("==", ahead[0], part)):
            beyond = b.add(self.w.times(stride, FURTHER), self.w.times(step, size))
            for slot in slots:
                self.lines(b.add(slot, beyond), size)

    def lines(self, at: Any, size: int) -> None:
        """Ask for so many bytes."""
        for line in range(0, size, LINE):
            self.w.fetch(at, line)


@emitted(None, *[types.LONG] * 9, known=3)
def scores(
    builder: Any,
    columns: int,
    half: int,
    heads: int,
    q: Any,
    keys: Any,
    stride: Any,
    count: Any,
    width: Any,
    to: Any,
    to_stride: Any,
    ahead: Any,
    again: Any,
) -> None:
    """``q . k`` of some heads with `count` keys; some columns at once, in halves or not; strides in bytes.

    Scores come in fours: behind the last of each head there may be more of the same.
    """
    slots = Slots(builder, columns, half)
    w, last = slots.w, builder.sub(count, ir.Constant(LONG, 1))
    sums = [[cell(builder, w.vector(SINGLE)) for _ in range(AT_ONCE)] for _ in range(heads)]
    qs = [builder.add(q, builder.mul(width, ir.Constant(LONG, 4 * head))) for head in range(heads)]
    fours = builder.udiv(builder.add(last, ir.Constant(LONG, AT_ONCE)), ir.Constant(LONG, AT_ONCE))
    with counted(builder, fours) as four:
        places = [builder.add(w.times(four, AT_ONCE), ir.Constant(LONG, n)) for n in range(AT_ONCE)]
        turns = builder.mul(four, slots.steps(width))
        inside = [builder.select(builder.icmp_signed("<", n, last), n, last) for n in places]
        starts = [builder.add(keys, builder.mul(place, stride)) for place in inside]
        for of_head in sums:
            for sum_ in of_head:
                builder.store(w.zero(), sum_)
        with counted(builder, slots.steps(width)) as loop:
            place = w.times(loop, 4 * columns)
            for i in slots.registers:
                x = [w.load(builder.add(start, place), 4 * w.lanes * i, SINGLE) for start in qs]
                for n, start in enumerate(starts):
                    key = slots.read(start, loop, i)
                    for number, of_head in zip(x, sums, strict=True):
                        builder.store(w.fma(number, key, builder.load(of_head[n])), of_head[n])
            slots.ask((ahead, again), builder.add(turns, loop), starts, loop, stride)
        for head, of_head in enumerate(sums):
            row = builder.add(to, w.times(to_stride, head))
            w.store(across(w, [builder.load(sum_) for sum_ in of_head]), row, w.times(four, 4 * AT_ONCE))


def across(w: Writer, sums: list[Any]) -> Any:
    """The sums of the lanes of four registers, as one of four lanes."""

    def chosen(a: Any, b: Any, places: list[int]) -> Any:
        return w.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, len(places)), places))

    def added(a: Any, b: Any, places: list[int], others: list[int]) -> Any:
        return w.b.fadd(chosen(a, b, places), chosen(a, b, others))

    x, y, z, u = sums
    if w.lanes == 1:
        return chosen(chosen(x, y, [0, 1]), chosen(z, u, [0, 1]), [0, 1, 2, 3])
    # lanes of two registers: x y x y | x y x y, then of all four: x y z u | x y z u
    even, odd = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
    a, b = added(x, y, even, odd), added(z, u, even, odd)
    both = added(a, b, [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])
    return added(both, both, [0, 1, 2, 3], [4, 5, 6, 7])


@emitted(None, *[types.LONG] * 10, known=3)
def mixture(
    builder: Any,
    columns: int,
    half: int,
    heads: int,
    weights: Any,
    weights_stride: Any,
    values: Any,
    stride: Any,
    count: Any,
    width: Any,
    y: Any,
    y_stride: Any,
    ahead: Any,
    again: Any,
) -> None:
    """The sum of `count` values for some heads, each by its weight there, is added to y [heads, width]."""
    slots = Slots(builder, columns, half)
    w = slots.w
    sums = [[cell(builder, w.vector(SINGLE)) for _ in slots.registers] for _ in range(heads)]
    rows = [builder.add(weights, w.times(weights_stride, head)) for head in range(heads)]
    with counted(builder, slots.steps(width)) as loop:
        place = w.times(loop, 4 * columns)
        to = [builder.add(y, builder.add(w.times(y_stride, head), place)) for head in range(heads)]
        for start, of_head in zip(to, sums, strict=True):
            for i, sum_ in enumerate(of_head):
                builder.store(w.load(start, 4 * w.lanes * i, SINGLE), sum_)
        with counted(builder, count) as slot:
            numbers = [w.spread(row, w.times(slot, 4)) for row in rows]
            start = builder.add(values, builder.mul(slot, stride))
            for i in slots.registers:
                value = slots.read(start, loop, i)
                for of_head, number in zip(sums, numbers, strict=True):
                    builder.store(w.fma(number, value, builder.load(of_head[i])), of_head[i])
            slots.ask((ahead, again), builder.add(builder.mul(loop, count), slot), [start], loop, stride)
        for start, of_head in zip(to, sums, strict=True):
            for i, sum_ in enumerate(of_head):
                w.store(builder.load(sum_), start, 4 * w.lanes * i)
