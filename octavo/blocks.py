"""Block formats: how weights stand in a few bits each, as GGUF files hold them.

A block is a run of neighbouring weights of one row with what they share: integers q, a scale d and often a
minimum m, so that a weight is ``d q`` or ``d q + m``. A K-quant is a block of 256 in runs of 16 or 32, each
with a scale of its own in a few bits, and one scale of those scales. A half-precision number is a block of
one.

The layouts are those of GGML's `ggml-common.h`, written as NumPy record types; the numbers are to the bit
those of its reference `dequantize_row_*`, and quantising rounds as its `quantize_row_*_ref` does. Items come
first here: blocks of shape S hold numbers [items, *S], because NumPy is fast along the last axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from octavo.nn import Array

SUPER = 256  # weights in a block of a K-quant


Parts: TypeAlias = tuple[Array, Array | None, Array | None]
"""Of blocks [*S]: integers [items, *S], and the scale and the minimum of each run of them, [runs, *S]."""


class Format(NamedTuple):
    """How the weights of a block are held."""

    name: str
    code: int  # GGML's number for it
    items: int  # weights in a block
    record: np.dtype[np.void]
    parts: Callable[[Array], Parts]
    quantise: Callable[[Array], Array] | None = None  # float32 [N, items] -> blocks [N]

    def numbers(self, blocks: Array) -> Array:
        """Blocks [*S] -> float32 [items, *S]."""
        q, scale, minimum = self.parts(blocks)
        if scale is None:
            return q
        runs = q.reshape(len(scale), -1, *scale.shape[1:]) * scale[:, None]
        if minimum is not None:
            runs += minimum[:, None]  # in place: a tile is larger than the nearest cache already
        return runs.reshape(q.shape)


def _first(field: Array) -> Array:
    """A field of blocks, [*S, bytes], as [bytes, *S]."""
    return np.ascontiguousarray(np.moveaxis(field, -1, 0))


def _single(field: Array) -> Array:
    """A field of one half-precision number a block, in float32, as a run."""
    return field.astype(np.float32, order="C")[None]


# ---------------------------------------------------------------- one number a block


def _f16(blocks: Array) -> Parts:
    return blocks["x"].astype(np.float32)[None], None, None


def _to_f16(x: Array) -> Array:
    return _records(_F16, x=x[:, 0].astype(np.float16))


def _bf16(blocks: Array) -> Parts:
    """The upper half of a float32."""
    return (blocks["x"].astype(np.uint32) << 16).view(np.float32)[None], None, None


def _to_bf16(x: Array) -> Array:
    """Rounded to the nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(x[:, 0], np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return _records(_BF16, x=np.where(np.isnan(x[:, 0]), (bits >> 16) | 64, rounded))


# ---------------------------------------------------------------- blocks of 32, in 4, 5 and 8 bits


def _nibbles(packed: Array) -> Array:
    """Bytes [n, *S] as their lower halves, then their upper halves: [2n, *S]."""
    return np.concatenate([packed & 15, packed >> 4])


def _fives(blocks: Array) -> Array:
    """Integers of 5 bits: four in `qs`, the fifth in `qh`, one bit for each item."""
    fifth = _shifted(_first(blocks["qh"]), 4, 1).reshape(32, *blocks.shape)
    return _nibbles(_first(blocks["qs"])) | fifth << 4


def _q4_0(blocks: Array) -> Parts:
    return _nibbles(_first(blocks["qs"])).view(np.int8) - np.int8(8), _single(blocks["d"]), None


def _q4_1(blocks: Array) -> Parts:
    return _nibbles(_first(blocks["qs"])), _single(blocks["d"]), _single(blocks["m"])


def _q5_0(blocks: Array) -> Parts:
    return _fives(blocks).view(np.int8) - np.int8(16), _single(blocks["d"]), None


def _q5_1(blocks: Array) -> Parts:
    return _fives(blocks), _single(blocks["d"]), _single(blocks["m"])


def _q8_0(blocks: Array) -> Parts:
    return _first(blocks["qs"]), _single(blocks["d"]), None


def _to_q8_0(x: Array) -> Array:
    d = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    scaled = x * _inverse(d)
    whole = np.trunc(scaled)  # to the nearest, halves away from zero, as C rounds
    whole += np.trunc(2 * (scaled - whole))
    return _records(_Q8_0, d=d[:, 0], qs=whole.astype(np.int8))


def _to_symmetric(x: Array, bits: int) -> tuple[Array, Array]:
    """The scale that puts the largest weight at the lowest integer, and the integers, from 0."""
    half = 1 << (bits - 1)
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    d = largest / np.float32(-half)
    # in float64, as the reference's multiplication and addition are one rounding on most machines
    q = np.trunc(x.astype(np.float64) * _inverse(d).astype(np.float64) + (half + 0.5))
    return d[:, 0], q.astype(np.uint8).clip(0, 2 * half - 1)


def _to_ranged(x: Array, bits: int) -> tuple[Array, Array, Array]:
    """The scale and the minimum that span the weights, and the integers, from 0."""
    low, most = x.min(axis=1, keepdims=True), (1 << bits) - 1
    d = (x.max(axis=1, keepdims=True) - low) / np.float32(most)
    q = np.trunc((x - low) * _inverse(d) + np.float32(0.5))
    return d[:, 0], low[:, 0], q.astype(np.uint8).clip(0, most)


def _inverse(d: Array) -> Array:
    """``1 / d``, and 0 of 0: of a block of zeros."""
    return np.divide(1, d, out=np.zeros_like(d), where=d != 0)


def _packed(q: Array) -> Array:
    """The lower four bits of 32 integers in 16 bytes."""
    return q[:, :16] & 15 | (q[:, 16:] & 15) << 4


def _fifths(q: Array) -> Array:
    """The fifth bits of 32 integers in 4 bytes."""
    return np.packbits(q >> 4, axis=1, bitorder="little")


def _to_q4_0(x: Array) -> Array:
    d, q = _to_symmetric(x, 4)
    return _records(_Q4_0, d=d, qs=_packed(q))


def _to_q4_1(x: Array) -> Array:
    d, m, q = _to_ranged(x, 4)
    return _records(_Q4_1, d=d, m=m, qs=_packed(q))


def _to_q5_0(x: Array) -> Array:
    d, q = _to_symmetric(x, 5)
    return _records(_Q5_0, d=d, qh=_fifths(q), qs=_packed(q))


def _to_q5_1(x: Array) -> Array:
    d, m, q = _to_ranged(x, 5)
    return _records(_Q5_1, d=d, m=m, qh=_fifths(q), qs=_packed(q))


def _records(record: np.dtype[np.void], **fields: Array) -> Array:
    blocks = np.empty(len(next(iter(fields.values()))), record)
    for name, values in fields.items():
        blocks[name] = values
    return blocks


# ---------------------------------------------------------------- K-quants: runs in blocks of 256


def _shifted(packed: Array, groups: int, bits: int) -> Array:
    """Integers of `bits`, which stand in the same bits of `groups` runs of bytes before the next bits.

    packed [n, *S] -> [groups, 8 / bits, n / groups, *S].
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(-1, *[1] * packed.ndim)
    runs = packed.reshape(groups, 1, -1, *packed.shape[1:])
    return runs >> shifts & np.uint8((1 << bits) - 1)


def _q2_k(blocks: Array) -> Parts:
    scales = _first(blocks["scales"])
    scale, minimum = _single(blocks["d"]) * (scales & 15), -_single(blocks["m"]) * (scales >> 4)
    return _whole(_shifted(_first(blocks["qs"]), 2, 2)), scale, minimum


def _q3_k(blocks: Array) -> Parts:
    packed = _first(blocks["scales"])
    upper = _shifted(packed[8:], 1, 2).reshape(16, *packed.shape[1:])
    scales = (_nibbles(packed[:8]) | upper << 4).view(np.int8) - np.int8(32)
    third = _shifted(_first(blocks["qh"]), 1, 1).reshape(2, 4, 32, *packed.shape[1:])
    q = (_shifted(_first(blocks["qs"]), 2, 2) | third << 2).view(np.int8) - np.int8(4)
    return _whole(q), _single(blocks["d"]) * scales, None


def _scales_and_minima(blocks: Array) -> tuple[Array, Array]:
    """The 8 scales and 8 minima of Q4_K and Q5_K, each of 6 bits, in 12 bytes."""
    low, middle, last = np.split(_first(blocks["scales"]), 3)
    scales = np.concatenate([low & 63, last & 15 | low >> 6 << 4])
    minima = np.concatenate([middle & 63, last >> 4 | middle >> 6 << 4])
    return _single(blocks["d"]) * scales, -_single(blocks["m"]) * minima


def _q4_k(blocks: Array) -> Parts:
    return _whole(_shifted(_first(blocks["qs"]), 4, 4)), *_scales_and_minima(blocks)


def _q5_k(blocks: Array) -> Parts:
    qs = _first(blocks["qs"])
    fifth = _shifted(_first(blocks["qh"]), 1, 1).reshape(4, 2, 32, *qs.shape[1:])
    return _whole(_shifted(qs, 4, 4) | fifth << 4), *_scales_and_minima(blocks)


def _q6_k(blocks: Array) -> Parts:
    ql = _first(blocks["ql"])
    lower = _shifted(ql, 2, 4).reshape(2, 4, 32, *ql.shape[1:])
    q = (lower | _shifted(_first(blocks["qh"]), 2, 2) << 4).view(np.int8) - np.int8(32)
    return _whole(q), _single(blocks["d"]) * _first(blocks["scales"]), None


def _whole(q: Array) -> Array:
    """The integers of a block in one run, [256, *S], from [a, b, c, *S]."""
    return q.reshape(SUPER, *q.shape[3:])


# ---------------------------------------------------------------- the table

_F16, _BF16 = np.dtype([("x", "<f2")]), np.dtype([("x", "<u2")])
_D, _M, _NIBBLES, _FIFTHS = ("d", "<f2"), ("m", "<f2"), ("qs", "u1", 16), ("qh", "u1", 4)
_Q4_0, _Q4_1 = np.dtype([_D, _NIBBLES]), np.dtype([_D, _M, _NIBBLES])
_Q5_0, _Q5_1 = np.dtype([_D, _FIFTHS, _NIBBLES]), np.dtype([_D, _M, _FIFTHS, _NIBBLES])
_Q8_0 = np.dtype([_D, ("qs", "i1", 32)])
_Q2_K = np.dtype([("scales", "u1", 16), ("qs", "u1", 64), _D, _M])
_Q3_K = np.dtype([("qh", "u1", 32), ("qs", "u1", 64), ("scales", "u1", 12), _D])
_Q4_K = np.dtype([_D, _M, ("scales", "u1", 12), ("qs", "u1", 128)])
_Q5_K = np.dtype([_D, _M, ("scales", "u1", 12), ("qh", "u1", 32), ("qs", "u1", 128)])
_Q6_K = np.dtype([("ql", "u1", 128), ("qh", "u1", 64), ("scales", "i1", 16), _D])

FORMATS = {
    format.name: format
    for format in (
        Format("F16", 1, 1, _F16, _f16, _to_f16),
        Format("Q4_0", 2, 32, _Q4_0, _q4_0, _to_q4_0),
        Format("Q4_1", 3, 32, _Q4_1, _q4_1, _to_q4_1),
        Format("Q5_0", 6, 32, _Q5_0, _q5_0, _to_q5_0),
        Format("Q5_1", 7, 32, _Q5_1, _q5_1, _to_q5_1),
        Format("Q8_0", 8, 32, _Q8_0, _q8_0, _to_q8_0),
        Format("Q2_K", 10, SUPER, _Q2_K, _q2_k),
        Format("Q3_K", 11, SUPER, _Q3_K, _q3_k),
        Format("Q4_K", 12, SUPER, _Q4_K, _q4_k),
        Format("Q5_K", 13, SUPER, _Q5_K, _q5_k),
        Format("Q6_K", 14, SUPER, _Q6_K, _q6_k),
        Format("BF16", 30, 1, _BF16, _bf16, _to_bf16),
    )
}
"""Every block format by its name in GGML."""
