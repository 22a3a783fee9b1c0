"""The instructions of attention: writing to a cache, and reading what is there.

Their manner is that of `octavo.fast.instructions`, and their numbers, to rounding, are those of
`octavo.nn.extend` and `octavo.nn.attention` (Vaswani et al. 2017, eq. 1). A long cache is read in chunks,
whose parts are joined in their order (Milakov and Gimelshein 2018, section 3.1).

Own arguments of append: x, slots, width of a row.
Own arguments of attention: q, y, keys, values, heads, groups, K, window or 0, where the scale is.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from octavo.fast import frame as names
from octavo.fast.compiling import compiled, named
from octavo.fast.frame import (
    AT_ONCE,
    BUFFERS,
    CACHES,
    CHUNK,
    CHUNKS,
    DONE,
    OWN,
    PARTS,
    POSITIONS,
    ROOM,
    ROWS,
    SCRATCH,
    SCRATCH_SIZE,
    TIME,
    TOGETHER,
)
from octavo.fast.instructions import (
    FAST,
    HALF,
    ONE,
    ZERO,
    buffer,
    carray,
    columns,
    first_row,
    literally,
    own_rows,
    piece,
)
from octavo.fast.lanes import mixture, scores
from octavo.fast.machine import count, longs, narrow, power, shorts, singles


@compiled
def append(frame: int, args: int, thread: int, half: int) -> None:
    """Write keys or values to their slots, as `octavo.nn.extend`."""
    slots, width = longs(frame)[BUFFERS + longs(args)[OWN + 3]], longs(args)[OWN + 4]
    for r in own_rows(frame, args, thread):
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


def append_by_size(half: int) -> None:
    """Writing to a cache of halves, or not."""

    @named(names.append(CACHES[half]))
    def append_size(frame: int, args: int, thread: int) -> None:
        append(frame, args, thread, half)


def attention_by_size(columns: int, half: int) -> None:
    """Attention that takes so many columns of a head at once, to a cache of halves, or not."""

    @named(names.attention(CACHES[half], columns))
    def attention_size(frame: int, args: int, thread: int) -> None:
        attention(frame, args, thread, columns, half)


for half in range(len(CACHES)):
    append_by_size(half)
    for at_once in AT_ONCE:
        attention_by_size(at_once, half)
