"""Weights laid out for vector registers: 32 rows of a matrix side by side, a lane each.

A panel holds 32 rows. It is cut into blocks of columns, as wide as those of the format it comes from, and a
block holds the 32 scales, the 32 minima where there are any, and then column after column, or in 4 bits eight
columns at once: a word of a lane has eight nibbles, the first column in the lowest. The integers and the
scales are those of the file, laid out anew and nothing else; a product reads them from one end to the other.

Formats of five bits are held in eight, and what K-quants say in two steps, a scale of scales, is multiplied
out: in float32, as their definition does.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from octavo.blocks import Format
from octavo.fast.mapped import let_go, let_go_file, mapping
from octavo.nn import Array
from octavo.quant import Quantized, are_halves

LANES = 32  # rows in a panel
LINE = 64  # bytes of the cache's lines
PIECE = 2**25  # bytes that are asked of the system at once
SPACED = 8  # numbers from one counter to the next: threads that count are not to share a cache line
AT_ONCE = 2**20  # bytes that a thread lays out before it looks for more
COLUMNS = 32  # columns that float matrices have in a block


class Kind(NamedTuple):
    """How a block of a panel is laid out."""

    bits: str  # "nibbles", "bytes", "float32", "float16" or "bfloat16"
    scale: str | None = None  # the type of the scales and minima
    minimum: bool = False  # whether a minimum is stored
    middle: int = 0  # what is taken from each nibble: the minimum is -middle scales
    group: int = COLUMNS  # columns in a block

    @property
    def record(self) -> np.dtype[np.void]:
        """A block as NumPy sees it."""
        return _record(self)

    @property
    def size(self) -> int:
        """The bytes of a block."""
        return self.record.itemsize

    @property
    def header(self) -> int:
        """The bytes before the weights."""
        return int(self.record.fields["q"][1])  # type: ignore[index]

    @property
    def offsets(self) -> bool:
        """Whether the product needs the sums of x."""
        return self.minimum or self.middle != 0


STORED = {
    "nibbles": ("<u4", 8),
    "bytes": ("i1", 1),
    "float32": ("<f4", 1),
    "float16": ("<f2", 1),
    "bfloat16": ("<u2", 1),
}


@cache
def _record(kind: Kind) -> np.dtype[np.void]:
    fields: list[Any] = [("d", kind.scale, LANES)] if kind.scale else []
    fields += [("m", kind.scale, LANES)] if kind.minimum else []
    stored, columns = STORED[kind.bits]
    return np.dtype([*fields, ("q", stored, (kind.group // columns, LANES))])


PLAIN = {"Q4_0": (1, 4, 4), "Q4_1": (2, 4, 4), "Q8_0": (1, 32, 1)}
"""Block formats whose bytes are those of a panel in another order: halves, other numbers, bytes of these."""

OF_FORMAT = {
    "Q4_0": Kind("nibbles", "<f2", middle=8),
    "Q4_1": Kind("nibbles", "<f2", minimum=True),
    "Q5_0": Kind("bytes", "<f2"),
    "Q5_1": Kind("bytes", "<f2", minimum=True),
    "Q8_0": Kind("bytes", "<f2"),
    "Q2_K": Kind("nibbles", "<f4", minimum=True, group=16),
    "Q3_K": Kind("bytes", "<f4", group=16),
    "Q4_K": Kind("nibbles", "<f4", minimum=True),
    "Q5_K": Kind("bytes", "<f4", minimum=True),
    "Q6_K": Kind("bytes", "<f4", group=16),
    "F16": Kind("float16"),
    "BF16": Kind("bfloat16"),
}
"""The layout of each block format."""

WIDENED = [kind._replace(scale="<f4") for kind in OF_FORMAT.values() if kind.scale]
KINDS = tuple(dict.fromkeys([Kind("float32"), *OF_FORMAT.values(), *WIDENED]))
"""Every layout that there are products for: scales are widened where the processor does not read halves."""


class Packed(NamedTuple):
    """A matrix (out, in) in panels."""

    kind: Kind
    panels: Array  # records [panels, blocks]
    rows: int  # out; the last panel is filled up with zeros
    width: int  # in; so is the last block of float matrices

    def numbers(self) -> Array:
        """The matrix in float32 (out, in)."""
        kind, panels = self.kind, self.panels
        q = panels["q"]  # [panels, blocks, .., lanes]
        if kind.bits == "nibbles":
            shifts = np.arange(0, 32, 4, dtype=np.uint32)[:, None]
            q = (q[..., None, :] >> shifts & 15).reshape(*q.shape[:2], kind.group, LANES)[:, :, natural(kind)]
        elif kind.bits == "bfloat16":
            q = (q.astype(np.uint32) << 16).view(np.float32)
        w = q.astype(np.float32)
        if kind.scale:
            d = panels["d"].astype(np.float32)[:, :, None]
            m = panels["m"].astype(np.float32)[:, :, None] if kind.minimum else -kind.middle * d
            w = w * d + m
        rows = w.transpose(0, 3, 1, 2).reshape(-1, panels.shape[1] * kind.group)
        return rows[: self.rows, : self.width]


def order(kind: Kind) -> Array:
    """The columns of a block in the order in which the product takes them."""
    if kind.bits != "nibbles":
        return np.arange(kind.group)
    half = kind.group // 2  # as in GGML's blocks, a byte holds a column and the one half a block on
    return np.arange(kind.group).reshape(2, half).T.ravel()


def natural(kind: Kind) -> Array:
    """Where in that order each column is."""
    return np.argsort(order(kind))


class Room:
    """Zeros for panels, out of large pieces, which the system gives in huge pages: 2 MB at once, not 4 KB.

    What is to be laid out in them waits until `fill`, for as many threads as there are.
    """

    def __init__(self, threads: int = 1) -> None:
        self.left: Array = np.zeros(0, np.uint8)
        self.threads, self.waiting = threads, list[tuple[Array, tuple[int, ...]]]()

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of its own, which begins with a line of the cache."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size + LINE > self.left.size:
            self.left = np.zeros(max(size + LINE, PIECE), np.uint8)
        start = -address(self.left) % LINE
        taken, self.left = self.left[start : start + size], self.left[start + size :]
        return taken.view(dtype).reshape(shape)

    def lay(self, blocks: Array, panels: Array, numbers: tuple[int, int, int]) -> None:
        """Have blocks [rows, blocks, ..] laid out.

        A block is so many halves and so many other numbers, which have so many bytes each.
        """
        (row, block), rows = blocks.strides[:2], len(blocks)
        step = max(AT_ONCE // (LANES * row), 1)  # panels that a thread takes
        source, to = (address(blocks), row, block, rows), (address(panels), *panels.strides)
        told = (*source, *to, panels.shape[1], *numbers, step, mapping(blocks) is not None)
        self.waiting.append((blocks, told))

    def fill(self) -> None:
        """Lay out what waits."""
        from octavo.fast import code, frame
        from octavo.fast.team import TEAM

        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        counters = np.zeros((len(waiting), SPACED), np.int64)
        own = np.array([told for _, told in waiting], np.int64)
        words = np.zeros((len(waiting), frame.OWN + own.shape[1]), np.int64)
        words[:, frame.FUNCTION] = code.address("lay")
        words[:, frame.COUNTER] = address(counters) + counters.strides[0] * np.arange(len(waiting))
        words[:, frame.OWN :] = own
        shared = np.zeros(frame.BUFFERS, np.int64)
        shared[frame.THREADS] = self.threads
        TEAM.run(TEAM.told(shared, words), self.threads)
        for blocks, _ in waiting:  # the system has read more than it was asked for
            let_go_file(blocks)


def pack(weight: Array | Quantized, halves: bool = True, room: Room | None = None) -> Packed:
    """A matrix (out, in) in panels.

    Parameters
    ----------
    weight : array or Quantized
        In float32, float16 or a block format; numbers in float32 that all are halves are held as such.
    halves : bool
        Whether scales may be halves; otherwise they are widened.
    room : Room, optional
        What the panels lie in, once it is filled. Without one they do when this returns.
    """
    if room is None:
        packed = pack(weight, halves, room := Room())
        room.fill()
        return packed
    if not isinstance(weight, Quantized):
        name = {"float32": "float32", "float16": "float16"}.get(str(weight.dtype))
        if name is None or (name == "float16" and not halves):
            weight, name = np.asarray(weight, np.float32), "float32"
        if name == "float32" and halves and are_halves(weight):
            packed = _pack_floats(weight.astype(np.float16), Kind("float16"), room)
            room.fill()  # so that one copy is there at a time
            return packed
        return _pack_floats(weight, Kind(name), room)
    kind, format = OF_FORMAT[weight.format.name], weight.format
    if kind.scale is None:
        numbers = weight.blocks["x"]
        return _pack_floats(numbers, kind, room) if halves else pack(np.asarray(weight), halves, room)
    if kind.scale == "<f2" and not halves:
        kind = kind._replace(scale="<f4")
    rows, blocks = weight.blocks.shape
    panels = room.take((-(-rows // LANES), blocks * format.items // kind.group), kind.record)
    if format.name in PLAIN and kind.scale == "<f2":
        room.lay(weight.blocks, panels, PLAIN[format.name])
    else:
        step = max(2**10 // max(blocks, 1), 1)
        for first in range(0, len(panels), step):
            some = panels[first : first + step]
            blocks_there = weight.blocks[first * LANES : (first + len(some)) * LANES]
            _pack_blocks(blocks_there, format, kind, some)
            let_go(blocks_there)
    return Packed(kind, panels, rows, blocks * format.items)


def address(array: Array) -> int:
    """Where an array is."""
    return int(array.ctypes.data)


def _pack_floats(numbers: Array, kind: Kind, room: Room) -> Packed:
    rows, width = numbers.shape
    panels = room.take((-(-rows // LANES), -(-width // COLUMNS)), kind.record)
    copied = width % COLUMNS != 0 or numbers.strides[1] != numbers.itemsize
    if copied:
        given, numbers = numbers, np.zeros((rows, panels.shape[1] * COLUMNS), numbers.dtype)
        numbers[:, :width] = given
    room.lay(numbers.reshape(rows, -1, COLUMNS), panels, (0, COLUMNS, numbers.itemsize))
    if copied:
        room.fill()  # so that one copy is there at a time
    return Packed(kind, panels, rows, width)


def _pack_blocks(blocks: Array, format: Format, kind: Kind, panels: Array) -> None:
    """Lay blocks [rows, blocks of a row] out in panels [panels, blocks]."""
    if len(blocks) % LANES:
        blocks = np.concatenate([blocks, np.zeros((-len(blocks) % LANES, blocks.shape[1]), blocks.dtype)])
    shape = (len(panels), LANES, blocks.shape[1])
    if format.name in ("Q4_0", "Q4_1"):  # whose words are ours
        panels["d"] = blocks["d"].reshape(shape).transpose(0, 2, 1)
        if kind.minimum:
            panels["m"] = blocks["m"].reshape(shape).transpose(0, 2, 1)
        words = np.ascontiguousarray(blocks["qs"]).view("<u4").reshape(*shape, 4)
        panels["q"] = words.transpose(0, 2, 3, 1)
        return
    q, d, m = format.parts(blocks)  # [items, rows, blocks], [runs, rows, blocks] twice
    runs = format.items // kind.group

    def laid(part: Array) -> Array:
        """[n * runs, rows, blocks] -> [panels, blocks * runs, n, lanes]."""
        part = part.reshape(runs, -1, *shape)
        return part.transpose(2, 4, 0, 1, 3).reshape(shape[0], shape[2] * runs, -1, LANES)

    panels["d"] = laid(d)[:, :, 0]
    if kind.minimum:
        panels["m"] = laid(m)[:, :, 0]
    q = laid(q)
    if kind.bits == "nibbles":
        pairs = q[:, :, order(kind)].astype(np.uint32).reshape(*q.shape[:2], -1, 8, LANES)
        shifts = np.arange(0, 32, 4, dtype=np.uint32)[:, None]
        q = (pairs << shifts).sum(axis=3, dtype=np.uint32)
    panels["q"] = q
