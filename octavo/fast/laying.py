"""Laying numbers out, compiled: those of 32 rows side by side, as `octavo.fast.packed` has it."""

from __future__ import annotations

from octavo.fast.compiling import compiled, named
from octavo.fast.frame import BLOCKS, BLOCKS_STEP, BYTES, LAID, LAID_STEP, LINES, ROW_STEP, SOURCE, TIMES
from octavo.fast.instructions import literally
from octavo.fast.machine import longs, octets, shorts, words
from octavo.fast.packed import LANES


@compiled
def move(size: int, source: int, to: int) -> None:
    """Copy one number of 1, 2 or 4 bytes."""
    if size == 1:
        octets(to)[0] = octets(source)[0]
    elif size == 2:
        shorts(to)[0] = shorts(source)[0]
    else:
        words(to)[0] = words(source)[0]


@compiled
def lay_numbers(at: int, size: int) -> None:
    """The same number of every row of a panel, lane by lane; rows that there are not are left out."""
    size, told = literally(size), longs(at)
    for first in range(0, told[LINES], LANES):
        lanes = min(told[LINES] - first, LANES)
        for block in range(told[BLOCKS]):
            to = told[LAID] + (first // LANES * told[BLOCKS] + block) * told[LAID_STEP]
            for lane in range(lanes):
                source = told[SOURCE] + (first + lane) * told[ROW_STEP] + block * told[BLOCKS_STEP]
                for i in range(told[TIMES]):
                    move(size, source + size * i, to + size * (LANES * i + lane))


@named("lay")
def lay(at: int, _: int, __: int) -> None:
    """What the frame lists for it: numbers of so many bytes each."""
    size = longs(at)[BYTES]
    if size == 1:
        lay_numbers(at, 1)
    elif size == 2:
        lay_numbers(at, 2)
    else:
        lay_numbers(at, 4)
