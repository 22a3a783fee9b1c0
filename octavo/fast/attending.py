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
from octavo.fast.calls import carray, literally
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
    THREADS,
    TIME,
    TOGETHER,
)
from octavo.fast.instructions import (
    FAST,
    HALF,
    ONE,
    ZERO,
    buffer,
    columns,
    first_row,
    own_rows,
    piece,
)
from octavo.fast.machine import count, longs, narrow, power, shorts, singles
from octavo.fast.scoring import PART, mixture, scores

HEAD = 2  # numbers of a part before its sums
TURN = 12288  # bytes of keys or of values by which they are asked for before they are read
SOON = 4096  # bytes by which they are asked for once more
ENOUGH = 4  # pieces for each thread that are enough to share


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
def score(
    columns: int, half: int, each: int, q: int, k: int, stride: int, count: int, to: int, next: Any
) -> None:
    """The heads of a group, three at a time, with some keys."""
    columns, half = literally(columns), literally(half)
    width, ahead, again = next
    for h in range(0, each, TOGETHER):
        x, y, ahead = q + 4 * h * width, to + 4 * CHUNK * h, ahead * (h == 0)
        if each - h >= 3:
            scores(columns, half, 3, x, k, stride, count, width, y, 4 * CHUNK, ahead, again)
        elif each - h == 2:
            scores(columns, half, 2, x, k, stride, count, width, y, 4 * CHUNK, ahead, again)
        else:
            scores(columns, half, 1, x, k, stride, count, width, y, 4 * CHUNK, ahead, again)


@compiled
def mix(
    columns: int, half: int, each: int, x: int, v: int, stride: int, count: int, to: int, next: Any
) -> None:
    """The heads of a group, three at a time, with some values."""
    columns, half = literally(columns), literally(half)
    width, ahead, again = next
    part = 4 * (HEAD + width)
    for h in range(0, each, TOGETHER):
        w, y, ahead = x + 4 * CHUNK * h, to + part * h, ahead * (h == 0)
        if each - h >= 3:
            mixture(columns, half, 3, w, 4 * CHUNK, v, stride, count, width, y, part, ahead, again)
        elif each - h == 2:
            mixture(columns, half, 2, w, 4 * CHUNK, v, stride, count, width, y, part, ahead, again)
        else:
            mixture(columns, half, 1, w, 4 * CHUNK, v, stride, count, width, y, part, ahead, again)


@compiled
def attend(
    columns: int, half: int, q: int, k: int, v: int, seen: int, to: int, after: int, other: Any
) -> None:
    """The heads of some groups to `seen` slots -> a part for each of them.

    Where these are all groups, slots are read from one end to the other, some at a turn, and meanwhile those
    of the next turn are asked for; `after` is what is read after the values, 0 where nobody knows. Of a part
    of each slot, what is further on is.
    """
    columns, half = literally(columns), literally(half)
    each, groups, width, stride, scale, scratch = other
    part, size = 4 * (HEAD + width), 2 * width if half else 4 * width
    whole = groups * size == stride
    turn = 4 * max(TURN // (4 * groups * size), 1)
    for start in range(0, seen, turn):
        some, at = min(turn, seen - start), k + start * stride
        next = at + turn * stride if start + turn < seen else v
        for group in range(groups):
            passed = group * some * size
            ahead, again = (next + passed) * (next != 0) if whole else PART, at + passed + SOON
            x, y = q + 4 * group * each * width, scratch + 4 * (CHUNK * group * each + start)
            score(columns, half, each, x, at + group * size, stride, some, y, (width, ahead, again))
    for head in range(groups * each):
        x, numbers = singles(scratch + 4 * CHUNK * head), carray(singles(to + part * head), (HEAD + width,))
        weigh(carray(x, (seen,)), scale, numbers)
        numbers[HEAD:] = ZERO
    for start in range(0, seen, turn):
        some, at = min(turn, seen - start), v + start * stride
        next = at + turn * stride if start + turn < seen else after
        for group in range(groups):
            passed = group * some * size
            ahead, again = (next + passed) * (next != 0) if whole else PART, at + passed + SOON
            x, y = scratch + 4 * (CHUNK * group * each + start), to + part * group * each + 4 * HEAD
            mix(columns, half, each, x, at + group * size, stride, some, y, (width, ahead, again))


@compiled
def join(parts: int, many: int, apart: int, width: int, scale: Any, y: Any) -> None:
    """The parts of a head, in the order of the chunks, as one: each counts by its own maximum."""
    top = singles(parts)[0]
    for c in range(1, many):
        top = max(top, singles(parts + apart * c)[0])
    total = ZERO
    y[:] = ZERO
    for c in range(many):
        found = carray(singles(parts + apart * c), (HEAD + width,))
        weight = exponential((found[0] - top) * scale)
        total += weight * found[1]
        for i in range(width):
            y[i] += weight * found[HEAD + i]
    for i in range(width):
        y[i] /= total


@compiled
def shares(groups: int, pieces: int, threads: int) -> int:
    """Into how many parts all groups are cut: a piece that is alone in as many as there are threads."""
    wanted = threads if pieces == 1 else ENOUGH * threads
    parts = min((wanted + pieces - 1) // pieces, groups)
    while groups % parts:
        parts += 1
    return parts


@compiled
def attention(frame: int, args: int, thread: int, columns: int, half: int) -> None:
    """As `octavo.nn.attention`, of each row to the slots that it sees, in chunks counted from the first.

    A piece is one chunk, or of many rows all chunks, for the heads of some groups: of one, who share what is
    read of it, or, where a row has one token, of as many as leave pieces enough for all threads, so that
    slots are read whole, or much of each. A chunk gives each head a part: its maximum, the sum of the
    weights, and K weighted sums. Whoever computes the last part of a row's groups joins them.
    """
    columns, half = literally(columns), literally(half)
    own = longs(args + 8 * OWN)
    keys, values, heads, groups, width, window = own[6], own[7], own[8], own[9], own[10], own[11]
    scale, shared = singles(own[12])[0], longs(frame)[PARTS]
    scratch = longs(frame)[SCRATCH] + thread * longs(frame)[SCRATCH_SIZE]
    size, of_part = 2 if half else 4, 4 * (HEAD + width)
    stride = size * groups * width
    rows, chunks = longs(frame)[ROWS] - first_row(frame, args), longs(frame)[CHUNKS]
    pieces = chunks if shared else 1  # of a row and its groups
    several = shared or longs(frame)[TIME] == 1
    some = groups // shares(groups, rows * pieces, longs(frame)[THREADS]) if several else 1
    each = heads // groups * some
    skipped = longs(frame)[THREADS] if shared else 1  # chunks to the next of this thread, likely
    beyond = skipped * CHUNK * stride
    while True:
        taken = piece(args)
        r, start = first_row(frame, args) + taken % rows, taken // rows // (groups // some)
        group = taken // rows % (groups // some) * some
        if start >= pieces:
            return
        end = longs(longs(frame)[POSITIONS])[r] + 1
        first = max(end - window, 0) if window else 0
        many = (end - first + CHUNK - 1) // CHUNK
        if start >= many:
            continue
        slot = r // longs(frame)[TIME] * longs(frame)[ROOM] + first
        k = longs(frame)[BUFFERS + keys] + slot * stride + size * group * width
        v = longs(frame)[BUFFERS + values] + slot * stride + size * group * width
        head = group * (heads // groups)
        q, y = buffer(frame, args, 0, r) + 4 * head * width, buffer(frame, args, 3, r) + 4 * head * width
        alone = not shared or many == 1
        apart = of_part * (each if alone else heads)
        parts = scratch + 4 * CHUNK * each if alone else shared + of_part * (chunks * r * heads + head)
        other = heads // groups, some, width, stride, scale, scratch
        for c in range(start, start + 1 if shared else many):
            seen, at = min(end - first - c * CHUNK, CHUNK), c * CHUNK * stride
            after = (k + at + beyond) * (c + skipped < many)
            attend(columns, half, q, k + at, v + at, seen, parts + apart * c, after, other)
        if not alone:
            done = longs(frame)[DONE] + 8 * (r * groups + group)
            if count(done) < many - 1:
                continue
            longs(done)[0] = 0
        for h in range(each):
            joined = carray(singles(y + 4 * h * width), (width,))
            join(parts + of_part * h, many, apart, width, scale, joined)


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
