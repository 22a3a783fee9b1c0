"""Laying weights out, compiled: 32 rows of a matrix side by side, as `octavo.fast.packed` has it.

An instruction like those of a program: threads take the next panels until none is left.
"""

from __future__ import annotations

from mmap import PAGESIZE

import numpy as np

from octavo.fast.calls import literally
from octavo.fast.compiling import compiled, named
from octavo.fast.frame import OWN
from octavo.fast.instructions import piece
from octavo.fast.machine import forget, longs, octets, shorts, words
from octavo.fast.packed import LANES

EVEN, LOW, BYTE, HALF = np.uint32(0x00FF00FF), np.uint32(0xFFFF), np.uint32(8), np.uint32(16)


@compiled
def move(size: int, source: int, to: int) -> None:
    """Copy one number of 2 or 4 bytes."""
    if size == 2:
        shorts(to)[0] = shorts(source)[0]
    else:
        words(to)[0] = words(source)[0]


@compiled
def lay_bytes(source: int, row: int, to: int, times: int) -> None:
    """The bytes of 32 rows, four of four rows at a time: the columns of four words become words."""
    for lane in range(0, LANES, 4):
        at = source + lane * row
        for i in range(times // 4):
            a, b = words(at)[i], words(at + row)[i]
            c, d = words(at + 2 * row)[i], words(at + 3 * row)[i]
            ab, odd_ab = a & EVEN | (b & EVEN) << BYTE, a >> BYTE & EVEN | b & ~EVEN
            cd, odd_cd = c & EVEN | (d & EVEN) << BYTE, c >> BYTE & EVEN | d & ~EVEN
            here = to + lane + 4 * LANES * i
            words(here)[0] = ab & LOW | cd << HALF
            words(here + LANES)[0] = odd_ab & LOW | odd_cd << HALF
            words(here + 2 * LANES)[0] = ab >> HALF | cd & ~LOW
            words(here + 3 * LANES)[0] = odd_ab >> HALF | odd_cd & ~LOW


@compiled
def lay_panel(
    source: int,
    row: int,
    block: int,
    to: int,
    record: int,
    lanes: int,
    blocks: int,
    halves: int,
    times: int,
    size: int,
) -> None:
    """A panel: of each block the halves of every row, lane by lane, and so many numbers of each."""
    halves, times, size = literally(halves), literally(times), literally(size)
    for b in range(blocks):
        start, end = source + b * block, to + b * record
        for lane in range(lanes):
            at, here = start + lane * row, end + 2 * lane
            for i in range(halves):
                shorts(here + 2 * LANES * i)[0] = shorts(at + 2 * i)[0]
            at, here = at + 2 * halves, end + 2 * LANES * halves + size * lane
            if size > 1:
                for i in range(times):
                    move(size, at + size * i, here + size * LANES * i)
            elif lanes < LANES:
                for i in range(times):
                    octets(here + LANES * i)[0] = octets(at + i)[0]
        if size == 1 and lanes == LANES:
            lay_bytes(start + 2 * halves, row, end + 2 * LANES * halves, times)


@named("lay")
def lay(frame: int, args: int, _: int) -> None:
    """Own arguments: as `octavo.fast.packed.Room` writes them down."""
    own = longs(args + 8 * OWN)
    source, row, block, rows = own[0], own[1], own[2], own[3]
    to, panel, record, blocks = own[4], own[5], own[6], own[7]
    halves, size, step, mapped = own[8], own[10], own[11], own[12]
    while True:
        first = piece(args) * step * LANES
        if first >= rows:
            return
        for start in range(first, min(first + step * LANES, rows), LANES):
            at, here = source + start * row, to + start // LANES * panel
            lanes = min(rows - start, LANES)
            if halves == 2:
                lay_panel(at, row, block, here, record, lanes, blocks, 2, 4, 4)
            elif halves == 1 and size == 4:
                lay_panel(at, row, block, here, record, lanes, blocks, 1, 4, 4)
            elif halves == 1:
                lay_panel(at, row, block, here, record, lanes, blocks, 1, 32, 1)
            elif size == 4:
                lay_panel(at, row, block, here, record, lanes, blocks, 0, 32, 4)
            else:
                lay_panel(at, row, block, here, record, lanes, blocks, 0, 32, 2)
        begin = (source + first * row + PAGESIZE - 1) // PAGESIZE * PAGESIZE  # pages of nobody else
        end = (source + min(first + step * LANES, rows) * row) // PAGESIZE * PAGESIZE
        if mapped and begin < end:
            forget(begin, end)
