"""The instructions of a program: operations of `octavo.nn` for the rows of a batch, compiled.

Each has the name and the numbers, to rounding, of the operation it is the twin of. It takes the address of
the frame (where the buffers are, how many rows there are), that of its own arguments, and the number of the
thread, and does the part of the work that it gets: threads take the next piece until none is left. A piece is
computed the same way whoever computes it and whatever else there is to do, so neither the other rows nor the
number of threads change a bit.

Of a buffer the arguments have three numbers: its own, an offset and the stride from row to row.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numba
import numpy as np

from octavo.fast import lanes
from octavo.fast.lanes import mixture, product, products, scores, tile
from octavo.fast.machine import SIGNATURE, count, longs, power, shorts, singles
from octavo.fast.packed import KINDS, LANES
from octavo.kernels import compiled, narrow, sigmoid, tanh

carray: Any = numba.carray  # type: ignore[attr-defined]
literally: Any = numba.literally  # type: ignore[attr-defined]

# the frame
ROWS, TIME, FIRST, THREADS, SCRATCH, SCRATCH_SIZE, ROOM, POSITIONS, CHUNKS, PARTS, DONE, BUFFERS = range(12)
# the arguments of every instruction: its function, whether it waits for those before it, the counter of its
# pieces, whether it computes the last rows only; then its own
FUNCTION, WAITS, COUNTER, TAIL, OWN = range(5)

FEW = 3  # rows for which a panel is read once each; from there on it is widened once for all
PIECES = 8  # pieces of a product, for each thread
CHUNK = 256  # slots of a cache that attention takes as one
TOGETHER = 3  # heads that share what is read: twelve sums in sixteen registers
SOON = 1.0  # seconds after which one wonders
FAST = {"reassoc", "contract"}  # sums may be taken in any order, which is fixed once it is compiled

GROUPS = np.array([kind.group for kind in KINDS], np.int64)
NIBBLES = np.array([kind.bits == "nibbles" for kind in KINDS])
SIZES = np.array([kind.size for kind in KINDS], np.int64)
SIXTEENTH, ONE, ZERO = np.float32(1 / 16), np.float32(1), np.float32(0)


class Instruction:
    """A function that is called by its address: compiled when that is first asked for, and kept on disk."""

    told = False  # whether the user knows that something is compiled

    def __init__(self, function: Callable[[int, int, int], None]) -> None:
        self.function = function

    @cached_property
    def compiled(self) -> Any:
        """Numba's object, which holds the machine code."""
        timer = threading.Timer(SOON, self.tell)
        timer.start()
        try:
            return numba.cfunc(SIGNATURE, cache=True, error_model="numpy")(self.function)
        finally:
            timer.cancel()

    @property
    def address(self) -> int:
        """Where the machine code is."""
        return int(self.compiled.address)

    @classmethod
    def tell(cls) -> None:
        """Say, once, why it takes so long."""
        if not cls.told:
            cls.told = True
            logging.getLogger("octavo").warning(
                "octavo compiles its kernels for this processor; this takes some seconds, once"
            )


@compiled
def buffer(frame: int, args: int, place: int, row: int) -> Any:
    """The address of a row of the buffer that is `place` among the own arguments."""
    own = longs(args + 8 * (OWN + place))
    return longs(frame)[BUFFERS + own[0]] + 4 * (own[1] + own[2] * row)


@compiled
def columns(frame: int, args: int, place: int, row: int, width: int) -> Any:
    """The same row as an array."""
    return carray(singles(buffer(frame, args, place, row)), (width,))


@compiled
def first_row(frame: int, args: int) -> Any:
    """The first row that the instruction computes."""
    return longs(frame)[FIRST] if longs(args)[TAIL] else 0


@compiled
def piece(args: int) -> Any:
    """The number of the next piece that nobody has taken."""
    return count(longs(args)[COUNTER])


# ---------------------------------------------------------------- products
# own arguments: x, y, panels, how many, blocks, bias or 0


@partial(compiled, fastmath=FAST)
def prepare(x: Any, kind: int, blocks: int, scaled: bool, to: Any, sums: Any) -> None:
    """A row as the products take it: the order of the columns, what nibbles are too large by, and sums."""
    group = GROUPS[kind]
    for block in range(blocks):
        at = block * group
        if NIBBLES[kind]:
            for word in range(group // 8):
                scale = ONE
                for i in range(8):
                    number = x[at + 4 * word + i // 2 + group // 2 * (i % 2)]
                    to[at + 8 * word + i] = number * scale if scaled and i < 7 else number
                    scale *= SIXTEENTH
        else:
            for i in range(group):
                to[at + i] = x[at + i]
        total = ZERO
        for i in range(group):
            total += x[at + i]
        sums[block] = total


@compiled
def prepare_rows(frame: int, args: int, kind: int, few: bool, prepared: int, sums: int) -> None:
    """All rows as the products take them."""
    blocks, first = longs(args)[OWN + 8], first_row(frame, args)
    width = blocks * GROUPS[kind]
    for r in range(longs(frame)[ROWS] - first):
        to = carray(singles(prepared + 4 * r * width), (width,))
        of_blocks = carray(singles(sums + 4 * r * blocks), (blocks,))
        prepare(columns(frame, args, 0, first + r, width), kind, blocks, few, to, of_blocks)


@compiled
def multiply(frame: int, args: int, thread: int, kind: int) -> None:
    """``x W^T + b`` of rows that are filled up with zeros to whole blocks."""
    kind = literally(kind)
    own = longs(args + 8 * OWN)
    panels, many, blocks, bias = own[6], own[7], own[8], own[9]
    width, first = blocks * GROUPS[kind], first_row(frame, args)
    rows = longs(frame)[ROWS] - first
    few = rows < FEW
    step = max(many // (PIECES * longs(frame)[THREADS]), 1) if few else 1
    widened = longs(frame)[SCRATCH] + thread * longs(frame)[SCRATCH_SIZE]
    prepared = widened if few else widened + 4 * LANES * width
    sums = prepared + 4 * rows * width
    ready = False
    while True:
        start = piece(args) * step
        if start >= many:
            return
        if not ready:
            prepare_rows(frame, args, kind, few, prepared, sums)
            ready = True
        y, stride = buffer(frame, args, 3, first), 4 * longs(args)[OWN + 5]
        for panel in range(start, min(start + step, many)):
            at, to = panels + panel * blocks * SIZES[kind], y + 4 * LANES * panel
            if few:
                for r in range(rows):
                    x = prepared + 4 * r * width
                    product(kind, at, blocks, x, sums + 4 * r * blocks, to + r * stride)
            else:
                tile(kind, at, blocks, widened)
                for half in range(2):
                    part = widened + 4 * half * lanes.HALF * width
                    for r in range(0, rows, lanes.ROWS):
                        some = min(lanes.ROWS, rows - r)
                        x, of_x = prepared + 4 * r * width, sums + 4 * r * blocks
                        z, a, b = to + r * stride, 4 * width, 4 * blocks
                        products(kind, at, blocks, part, half, some, x, of_x, z, a, b, stride)
            if bias:
                offset = singles(bias + 4 * LANES * panel)
                for r in range(rows):
                    for i in range(LANES):
                        singles(to + r * stride)[i] += offset[i]


def multiply_by_kind(kind: int) -> Instruction:
    """The product with matrices of a kind, which is known when it is compiled."""

    def multiply_kind(frame: int, args: int, thread: int) -> None:
        multiply(frame, args, thread, kind)

    return Instruction(multiply_kind)


MULTIPLY = [multiply_by_kind(kind) for kind in range(len(KINDS))]


# ---------------------------------------------------------------- norms and positions
# own arguments: x, y, width of a part, parts of a row, where epsilon is, gain or 0, bias


@partial(compiled, fastmath=FAST)
def mean(x: Any) -> Any:
    """The mean."""
    total = ZERO
    for i in range(x.size):
        total += x[i]
    return total / np.float32(x.size)


@partial(compiled, fastmath=FAST)
def mean_of_squares(x: Any, offset: Any) -> Any:
    """The mean of ``(x - offset)^2``."""
    total = ZERO
    for i in range(x.size):
        total += (x[i] - offset) * (x[i] - offset)
    return total / np.float32(x.size)


@Instruction
def rms_norm(frame: int, args: int, thread: int) -> None:
    """As `octavo.nn.rms_norm`, of each part of a row."""
    own = longs(args + 8 * OWN)
    width, parts, eps, gain = own[6], own[7], own[8], own[9]
    while True:
        r = first_row(frame, args) + piece(args)
        if r >= longs(frame)[ROWS]:
            return
        x, y = columns(frame, args, 0, r, width * parts), columns(frame, args, 3, r, width * parts)
        for part in range(0, width * parts, width):
            a, b = x[part : part + width], y[part : part + width]
            scale = ONE / np.sqrt(mean_of_squares(a, ZERO) + singles(eps)[0])
            for i in range(width):
                b[i] = a[i] * scale
            if gain:
                for i in range(width):
                    b[i] *= singles(gain)[i]


@Instruction
def layer_norm(frame: int, args: int, thread: int) -> None:
    """As `octavo.nn.layer_norm`."""
    own = longs(args + 8 * OWN)
    width, eps, gain, bias = own[6], own[8], own[9], own[10]
    while True:
        r = first_row(frame, args) + piece(args)
        if r >= longs(frame)[ROWS]:
            return
        x, y = columns(frame, args, 0, r, width), columns(frame, args, 3, r, width)
        middle = mean(x)
        scale = ONE / np.sqrt(mean_of_squares(x, middle) + singles(eps)[0])
        for i in range(width):
            y[i] = (x[i] - middle) * scale * singles(gain)[i] + singles(bias)[i]


@Instruction
def rotate(frame: int, args: int, thread: int) -> None:
    """As `octavo.nn.rotate`; own arguments: x, cosines, sines, y, K, heads."""
    width, heads = longs(args)[OWN + 12], longs(args)[OWN + 13]
    half = width // 2
    while True:
        r = first_row(frame, args) + piece(args)
        if r >= longs(frame)[ROWS]:
            return
        x, y = columns(frame, args, 0, r, width * heads), columns(frame, args, 9, r, width * heads)
        cos, sin = columns(frame, args, 3, r, half), columns(frame, args, 6, r, half)
        for h in range(0, width * heads, width):
            for i in range(half):
                a, b = x[h + i], x[h + half + i]
                y[h + i] = a * cos[i] - b * sin[i]
                y[h + half + i] = b * cos[i] + a * sin[i]


# ---------------------------------------------------------------- number by number
# own arguments: x, y where there are two, result, width, where a number is

PAIRS, SINGLES = ("add", "multiply_by"), ("silu", "sigmoid", "tanh", "relu", "gelu_tanh", "soft_cap")
ADD, SILU, SIGMOID, TANH, RELU, GELU = 0, 0, 1, 2, 3, 4
GELU_RATE, GELU_CUBE, HALF = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715), np.float32(0.5)


@compiled
def single(which: int, x: Any, number: Any) -> Any:
    """A function of one number, which `SINGLES` names."""
    if which == SILU:
        return x * sigmoid(x)
    if which == SIGMOID:
        return sigmoid(x)
    if which == TANH:
        return tanh(x)
    if which == RELU:
        return max(x, ZERO)
    if which == GELU:
        return HALF * x * (ONE + tanh(GELU_RATE * (x + GELU_CUBE * (x * x * x))))
    return number * tanh(x / number)


def single_by_number(which: int) -> Instruction:
    """An activation of every column."""

    def single_which(frame: int, args: int, thread: int) -> None:
        width, at = longs(args)[OWN + 6], longs(args)[OWN + 7]
        number = singles(at)[0] if at else ZERO
        while True:
            r = first_row(frame, args) + piece(args)
            if r >= longs(frame)[ROWS]:
                return
            x, y = columns(frame, args, 0, r, width), columns(frame, args, 3, r, width)
            for i in range(width):
                y[i] = single(which, x[i], number)

    return Instruction(single_which)


def pair_by_number(which: int) -> Instruction:
    """The sum or the product of two rows."""

    def pair_which(frame: int, args: int, thread: int) -> None:
        width = longs(args)[OWN + 9]
        while True:
            r = first_row(frame, args) + piece(args)
            if r >= longs(frame)[ROWS]:
                return
            x, y = columns(frame, args, 0, r, width), columns(frame, args, 3, r, width)
            z = columns(frame, args, 6, r, width)
            for i in range(width):
                z[i] = x[i] + y[i] if which == ADD else x[i] * y[i]

    return Instruction(pair_which)


EACH = {name: single_by_number(i) for i, name in enumerate(SINGLES)}
EACH |= {name: pair_by_number(i) for i, name in enumerate(PAIRS)}


# ---------------------------------------------------------------- attention
# own arguments of append: x, slots, width of a row
# own arguments of attention: q, y, keys, values, heads, groups, K, window or 0, where the scale is


@compiled
def append(frame: int, args: int, half: int) -> None:
    """Write keys or values to their slots, as `octavo.nn.extend`."""
    slots, width = longs(frame)[BUFFERS + longs(args)[OWN + 3]], longs(args)[OWN + 4]
    while True:
        r = piece(args)
        if r >= longs(frame)[ROWS]:
            return
        slot = r // longs(frame)[TIME] * longs(frame)[ROOM] + longs(longs(frame)[POSITIONS])[r]
        x = columns(frame, args, 0, r, width)
        if half:
            halves = carray(shorts(slots + 2 * slot * width), (width,))
            for i in range(width):
                halves[i] = narrow(x[i])
        else:
            y = carray(singles(slots + 4 * slot * width), (width,))
            for i in range(width):
                y[i] = x[i]


@compiled
def exponential(x: Any) -> Any:
    """``exp(x)`` in float32, for x up to 0 (Cephes, expf: 2^n times a polynomial)."""
    x = max(x, np.float32(-87))
    n = np.int32(x * np.float32(1.44269504) - HALF)
    x = x - np.float32(n) * np.float32(0.693359375) + np.float32(n) * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * x + np.float32(1.3981999507e-3)
    p = p * x + np.float32(8.3334519073e-3)
    p = p * x + np.float32(4.1665795894e-2)
    p = p * x + np.float32(1.6666665459e-1)
    p = p * x + np.float32(5.0000001201e-1)
    return (p * x * x + x + ONE) * power(n)


@partial(compiled, fastmath=FAST)
def weigh(x: Any, scale: Any, part: Any) -> None:
    """``exp((x - top) scale)`` in place -> the part's numbers: the maximum, and the sum of the weights."""
    top = x[0]
    for s in range(x.size):
        top = max(top, x[s])
    total = ZERO
    for s in range(x.size):
        x[s] = exponential((x[s] - top) * scale)
        total += x[s]
    part[0], part[1] = top, total


@compiled
def attend(
    columns: int, half: int, heads: int, q: int, k: int, v: int, seen: int, to: int, other: Any
) -> None:
    """Some heads of a group, one to three, to `seen` slots -> a part for each of them."""
    columns, half, heads = literally(columns), literally(half), literally(heads)
    stride, width, scale, scratch, apart = other
    scores(columns, half, heads, q, k, stride, seen, width, scratch, 4 * CHUNK)
    for head in range(heads):
        x, part = singles(scratch + 4 * CHUNK * head), singles(to + apart * head)
        weigh(carray(x, (seen,)), scale, carray(part, (2,)))
    mixture(columns, half, heads, scratch, 4 * CHUNK, v, stride, seen, width, to + 8, apart)


@compiled
def join(parts: int, many: int, width: int, scale: Any, y: Any) -> None:
    """The parts of a head, in the order of the chunks, as one: each counts by its own maximum."""
    found = carray(singles(parts), (many, 2 + width))
    top = found[0, 0]
    for c in range(1, many):
        top = max(top, found[c, 0])
    total = ZERO
    y[:] = ZERO
    for c in range(many):
        weight = exponential((found[c, 0] - top) * scale)
        total += weight * found[c, 1]
        for i in range(width):
            y[i] += weight * found[c, 2 + i]
    for i in range(width):
        y[i] /= total


@compiled
def attention(frame: int, args: int, thread: int, columns: int, half: int) -> None:
    """As `octavo.nn.attention`, of each row to the slots that it sees, in chunks counted from the first.

    A piece is one chunk for the heads of a group, who share what is read of it; of many rows it is all
    chunks. A chunk gives each head a part: its maximum, the sum of the weights, and K weighted sums. Whoever
    computes the last part of a row's group joins them.
    """
    columns, half = literally(columns), literally(half)
    own = longs(args + 8 * OWN)
    keys, values, heads, groups, width, window = own[6], own[7], own[8], own[9], own[10], own[11]
    scale, shared = singles(own[12])[0], longs(frame)[PARTS]
    each, scratch = heads // groups, longs(frame)[SCRATCH] + thread * longs(frame)[SCRATCH_SIZE]
    size, of_part = 2 if half else 4, 4 * (2 + width)
    stride = size * groups * width
    rows, chunks = longs(frame)[ROWS] - first_row(frame, args), longs(frame)[CHUNKS]
    while True:
        taken = piece(args)
        r, start = first_row(frame, args) + taken % rows, taken // rows // groups
        group = taken // rows % groups
        if start >= (chunks if shared else 1):
            return
        end = longs(longs(frame)[POSITIONS])[r] + 1
        first = max(end - window, 0) if window else 0
        many = (end - first + CHUNK - 1) // CHUNK
        if start >= many:
            continue
        slot = r // longs(frame)[TIME] * longs(frame)[ROOM] + first
        k = longs(frame)[BUFFERS + keys] + slot * stride + size * group * width
        v = longs(frame)[BUFFERS + values] + slot * stride + size * group * width
        head = group * each
        q, y = buffer(frame, args, 0, r) + 4 * head * width, buffer(frame, args, 3, r) + 4 * head * width
        alone = not shared or many == 1
        parts = scratch + 4 * CHUNK * TOGETHER if alone else shared + of_part * chunks * (r * heads + head)
        other = stride, width, scale, scratch, of_part * many
        for c in range(start, start + 1 if shared else many):
            seen, at = min(end - first - c * CHUNK, CHUNK), c * CHUNK * stride
            for h in range(0, each, TOGETHER):
                x, to = q + 4 * h * width, parts + of_part * (h * many + c)
                if each - h >= 3:
                    attend(columns, half, 3, x, k + at, v + at, seen, to, other)
                elif each - h == 2:
                    attend(columns, half, 2, x, k + at, v + at, seen, to, other)
                else:
                    attend(columns, half, 1, x, k + at, v + at, seen, to, other)
        if not alone:
            done = longs(frame)[DONE] + 8 * (r * groups + group)
            if count(done) < many - 1:
                continue
            longs(done)[0] = 0
        for h in range(each):
            joined = carray(singles(y + 4 * h * width), (width,))
            join(parts + of_part * h * many, many, width, scale, joined)


def append_by_size(half: int) -> Instruction:
    """Writing to a cache of halves, or not."""

    def append_size(frame: int, args: int, thread: int) -> None:
        append(frame, args, half)

    return Instruction(append_size)


def attention_by_size(columns: int, half: int) -> Instruction:
    """Attention that takes so many columns of a head at once, to a cache of halves, or not."""

    def attention_size(frame: int, args: int, thread: int) -> None:
        attention(frame, args, thread, columns, half)

    return Instruction(attention_size)


APPEND = {"float32": append_by_size(0), "float16": append_by_size(1)}
AT_ONCE = (32, 8, 1)  # columns of a head
ATTENTION = {
    (name, columns): attention_by_size(columns, half)
    for half, name in enumerate(APPEND)
    for columns in AT_ONCE
}
