"""Safetensors: the length of a header, the header in JSON, then the arrays as they are in memory.

A file is mapped, not read: an array of float32 is a view of it, one of half precision is widened by itself.
The header is not believed: what it tells must lie in the file, fit its shape and not overlap.

A quantised matrix stands there as bytes, [rows, bytes of a row], and the file's metadata name its format:
``"blocks.NAME": "Q8_0"``. The bytes are the blocks of `octavo.blocks`, those of a GGUF file. Other programs
find integers of another shape than the model's where it would have floating-point numbers, and refuse.
"""

from __future__ import annotations

import json
import math
import mmap
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from octavo.blocks import FORMATS, Format
from octavo.checks import is_whole, printable
from octavo.errors import OctavoError
from octavo.nn import Array
from octavo.quant import Quantized

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # as NumPy reads them
LARGEST_HEADER = 10**8  # bytes, as the format has it
TILE = 2**15  # numbers that are widened at once, in the nearest caches
SIGN_AND_NUMBER = np.int32(0x8FFFE000 - 2**32)  # of a half, 13 bits up and with its sign in front
BIAS = np.int32((127 - 15) << 23)  # by which exponents differ
EXPONENT, EXPONENTS = np.uint16(0x400), np.uint16(0x7C00)  # of a half: its lowest bit, and all
METADATA, BLOCKS = "__metadata__", "blocks."


class Entry(NamedTuple):
    """One array as a header tells of it; `begin` and `end` count from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Array]:
    """The arrays of a file whose names are `wanted`; those must be of floating-point numbers, or in blocks.

    Raises
    ------
    OctavoError
        If the file is missing, damaged or no safetensors file, or holds other numbers.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise OctavoError(f"{path} is missing") from None
    except (OSError, ValueError) as error:  # a ValueError for an empty file
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    start, entries, formats = _header(path, data)
    return {
        name: _blocks(path, data, name, entry, start + entry.begin, formats[name])
        if name in formats
        else _array(path, data, name, entry, start + entry.begin)
        for name, entry in entries.items()
        if wanted(name)
    }


def stored(params: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, str]]:
    """What a file holds of parameters, some of them in blocks: its arrays, and what its metadata tell."""
    arrays, told = {}, {}
    for name, array in params.items():
        if isinstance(array, Quantized):
            told[BLOCKS + name] = array.format.name
            array = np.ascontiguousarray(array.blocks).view(np.uint8).reshape(len(array), -1)
        arrays[name] = np.ascontiguousarray(array)
    return arrays, told


def widen(array: Array) -> Array:
    """Half precision as float32, because NumPy computes in it many times faster; all else as it is."""
    if array.dtype != np.float16:
        return array
    wide = np.empty(array.shape, np.float32)
    halves, singles = np.ascontiguousarray(array).reshape(-1), wide.reshape(-1)
    for start in range(0, halves.size, TILE):
        _widen(halves[start : start + TILE], singles[start : start + TILE])
    return wide


def _widen(halves: Array, singles: Array) -> None:
    """As NumPy does, in half the time; what has an exponent of all bits or none is left to it."""
    bits = singles.view(np.int32)
    bits[...] = halves.view(np.int16)  # which fills up with the sign
    bits <<= 13
    bits &= SIGN_AND_NUMBER
    bits += BIAS
    exponents = halves.view(np.uint16) + EXPONENT
    exponents &= EXPONENTS - EXPONENT
    odd = np.flatnonzero(exponents == 0)
    singles[odd] = halves[odd]


def _array(path: Path, data: mmap.mmap, name: str, entry: Entry, at: int) -> Array:
    if entry.dtype not in DTYPES:
        raise OctavoError(
            f"{path}: {printable(name)} holds {printable(entry.dtype)}, not floating-point numbers"
        )
    dtype = np.dtype(DTYPES[entry.dtype])
    if math.prod(entry.shape) * dtype.itemsize != entry.end - entry.begin:
        raise _unreadable(path, f"{printable(name)} has another size than its shape {entry.shape}")
    flat = np.frombuffer(data, dtype, math.prod(entry.shape), at).reshape(entry.shape)
    if entry.dtype == "BF16":  # the upper half of a float32
        wide = flat.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return widen(flat if flat.flags.aligned else flat.copy())


def _blocks(path: Path, data: mmap.mmap, name: str, entry: Entry, at: int, format: Format) -> Quantized:
    """A matrix in blocks: a view of the file."""
    width = format.record.itemsize
    whole = entry.dtype == "U8" and len(entry.shape) == 2 and not entry.shape[1] % width
    if not whole or math.prod(entry.shape) != entry.end - entry.begin or 0 in entry.shape:
        raise _unreadable(
            path, f"{printable(name)} is no matrix in blocks of {format.name}, which are {width} bytes each"
        )
    rows, size = entry.shape
    blocks = np.frombuffer(data, format.record, rows * size // width, at)
    return Quantized(blocks.reshape(rows, size // width), format)


def _header(path: Path, data: mmap.mmap) -> tuple[int, dict[str, Entry], dict[str, Format]]:
    """Where the arrays begin, what the header tells of each, and the formats of those in blocks."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(LARGEST_HEADER, len(data) - 8):
        raise _unreadable(path, f"a header of {length} bytes in a file of {len(data)}")
    try:
        told = json.loads(data[8 : 8 + length], object_pairs_hook=_once)
        if not isinstance(told, dict):
            raise OctavoError("its header is no JSON object")
        entries = {name: _entry(name, value) for name, value in told.items() if name != METADATA}
        formats = _formats(told.get(METADATA), entries)
    except (ValueError, RecursionError) as error:  # OctavoError is a ValueError
        raise _unreadable(path, str(error)) from None
    end, last = 0, ""
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin < end:
            raise _unreadable(path, f"{printable(name)} overlaps {printable(last)}")
        end, last = entry.end, name
    if end > len(data) - 8 - length:
        raise _unreadable(path, f"{printable(last)} ends past the end of the file")
    return 8 + length, entries, formats


def _formats(metadata: Any, entries: Mapping[str, Entry]) -> dict[str, Format]:
    """The block format of each array that the metadata name one of."""
    told = metadata if isinstance(metadata, dict) else {}
    found = {}
    for key, format in told.items():
        if not key.startswith(BLOCKS):
            continue
        name = key.removeprefix(BLOCKS)
        if name not in entries:
            raise OctavoError(f"it tells the blocks of {printable(name)}, which is not there")
        if not isinstance(format, str) or format not in FORMATS:
            known = ", ".join(FORMATS)
            raise OctavoError(
                f"{printable(name)} is in blocks of {reprlib.repr(format)}; octavo reads {known}"
            )
        found[name] = FORMATS[format]
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose names stand there once."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise OctavoError(f"{printable(name)} is told twice")
        found[name] = value
    return found


def _entry(name: str, told: Any) -> Entry:
    try:
        dtype, shape, (begin, end) = told["dtype"], told["shape"], told["data_offsets"]
        whole = isinstance(dtype, str) and all(is_whole(n) and n >= 0 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole or begin > end:
        raise OctavoError(f"the header does not tell dtype, shape and place of {printable(name)}")
    return Entry(dtype, tuple(shape), begin, end)


def _unreadable(path: Path, reason: str) -> OctavoError:
    return OctavoError(f"{path} is not a readable safetensors file: {reason}")
