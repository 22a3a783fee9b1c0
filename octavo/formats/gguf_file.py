"""The container GGUF, versions 2 and 3: metadata by name, and tensors that are mapped, not read.

The layout is that of `docs/gguf.md` in the ggml repository: header, metadata, a table of the tensors, then
their bytes, each tensor's aligned. Counts are held against the bytes that are left before anything is made of
them, so that no file can ask for more time or memory than its own size. Not read: version 1, big-endian
files, arrays of arrays, models that are split into several files.
"""

from __future__ import annotations

import math
import mmap
import reprlib
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from octavo.blocks import FORMATS, Format
from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.nn import Array
from octavo.quant import Quantized

MAGIC, VERSIONS, VERSION = b"GGUF", (2, 3), 3
ALIGNMENT = 32  # unless `general.alignment` says another
MOST_ENTRIES = 2**16  # of metadata, and of tensors
MOST_ITEMS = 2**22  # strings of an array; the largest vocabulary has a quarter of a million
USUAL = 32  # bytes that a token of a vocabulary takes at most, on the average
LONGEST_NAME = 2**16 - 1
MOST_AXES = 4

NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?"}
NUMBERS |= {10: "<u8", 11: "<i8", 12: "<f8"}
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT64 = 4, 6, 7, 8, 9, 11
F32 = 0  # the one type of tensors that is no block format
BY_CODE = {format.code: format for format in FORMATS.values()}


class Contents(NamedTuple):
    """What a file holds."""

    metadata: dict[str, Any]  # numbers, flags, str, lists of str, NumPy arrays
    tensors: dict[str, Array]  # float32 arrays and `Quantized` ones, in the order of the file


class Entry(NamedTuple):
    """A row of the table of tensors."""

    name: str
    shape: tuple[int, ...]
    format: Format | None  # None: float32
    start: int  # counted from the beginning of the data
    size: int


def read(path: Path) -> Contents:
    """The metadata and the tensors of a file; matrices are mapped.

    Parameters
    ----------
    path : Path
        The file stays mapped as long as one of its matrices is in use.

    Returns
    -------
    Contents
        Text that is no UTF-8 keeps its bytes as surrogates. Matrices in half precision or in blocks
        are `Quantized`, all else is float32.

    Raises
    ------
    OctavoError
        If the file is damaged, cut short, or holds what octavo does not read.
    """
    try:
        with path.open("rb") as file:
            return _Reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).contents()
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None
    except (OSError, ValueError, OverflowError) as error:  # ValueError: an empty file cannot be mapped
        reason = error.strerror if isinstance(error, OSError) else error
        raise OctavoError(f"{path} is not a readable GGUF file: {printable(str(reason))}") from None


class _Reader:
    """One pass over the bytes of a file, from the first on."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def contents(self) -> Contents:
        if self.take(4) != MAGIC:
            raise OctavoError("this is no GGUF file: it does not begin with GGUF")
        version = self.whole("<I")
        if version not in VERSIONS:
            swapped = version.to_bytes(4, "big") in (v.to_bytes(4, "little") for v in VERSIONS)
            what = "big-endian GGUF" if swapped else f"GGUF of version {version}"
            raise OctavoError(f"this is {what}; octavo reads little-endian versions 2 and 3")
        tensors, entries = self.count("tensors", 24), self.count("entries of metadata", 13)
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self.name()
            if key in metadata:
                raise OctavoError(f"it has two entries {printable(key)}")
            metadata[key] = self.value(key, self.whole("<I"))
        table = [self.entry() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or alignment not in (2**n for n in range(3, 17)):
            raise OctavoError(f"general.alignment is {printable(repr(alignment))}, no power of two from 8 on")
        begin = -(-self.place // alignment) * alignment
        _require_apart(table, alignment, len(self.data) - begin)
        room = np.frombuffer(self.data, np.uint8)[begin:]
        return Contents(metadata, {entry.name: _tensor(entry, room) for entry in table})

    # ------------------------------------------------------------ bytes, and their bounds

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self.place + size
        if end > len(self.data):
            raise OctavoError(f"the GGUF file is damaged or cut short: it goes on to byte {end:,} at least")
        taken = self.data[self.place : end]
        self.place = end
        return taken

    def whole(self, form: str) -> int:
        """The next whole number."""
        number: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return number

    def count(self, what: str, least: int, most: int = MOST_ENTRIES) -> int:
        """How many things of at least so many bytes follow; there must be room for them."""
        count = self.whole("<Q")
        if count > min(most, (len(self.data) - self.place) // least):
            raise OctavoError(f"the GGUF file is damaged or cut short: it claims {count:,} {what}")
        return count

    def text(self) -> str:
        size = self.whole("<Q")
        return self.take(size).decode("utf-8", "surrogateescape")

    def texts(self, count: int) -> list[str]:
        """As many texts."""
        found = self.texts_at_once(count)
        return [self.text() for _ in range(count)] if found is None else found

    def texts_at_once(self, count: int) -> list[str] | None:
        """The same of a vocabulary, which has a hundred thousand; None where that takes one after the other.

        Lengths are found as what they are nearly always: bytes that six zeros follow. That each begins
        where the text before it ends proves them right.
        """
        data = np.frombuffer(self.data, np.uint8)[self.place :][: count * USUAL]
        zero = data == 0
        zero = zero[:-1] & zero[1:]
        zero = zero[:-4] & zero[2:-2] & zero[4:]  # here and five bytes on
        starts = np.flatnonzero(zero[2:-1] & ~zero[3:])[:count]
        ends = starts + 8 + data[starts] + 256 * data[starts + 1].astype(np.int64)
        begin_so = len(starts) == count > 0 and not starts[0] and (starts[1:] == ends[:-1]).all()
        if not begin_so or ends[-1] > len(data):
            return None
        joined = data[: ends[-1]].copy()
        joined[starts] = joined[starts + 1] = 0
        if len(joined) - np.count_nonzero(joined) > 8 * count:  # a text has zeros of its own
            return None
        try:
            found = joined.tobytes().decode().split("\0" * 8)[1:]
        except UnicodeDecodeError:
            return None
        self.place += int(ends[-1])
        return found

    def name(self) -> str:
        name = self.text()
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise OctavoError(f"the GGUF file is damaged: it has the name {reprlib.repr(name)}")
        return name

    # ------------------------------------------------------------ metadata and tensors

    def value(self, key: str, kind: int) -> Any:
        """A value of metadata as plain Python, an array of numbers as NumPy's."""
        if kind == STRING:
            return self.text()
        if kind in NUMBERS:
            number = self.numbers(kind, 1)[0]
            return float(str(number)) if kind == FLOAT32 else number.item()  # 1e-05, not its 17 digits
        if kind != ARRAY:
            raise OctavoError(f"{printable(key)} is of the unknown type {kind}; the file may be damaged")
        kind = self.whole("<I")
        if kind == STRING:
            return self.texts(self.count(f"strings in {printable(key)}", 8, MOST_ITEMS))
        if kind not in NUMBERS:
            raise OctavoError(
                f"{printable(key)} is an array of the type {kind}; octavo reads numbers and text"
            )
        size = np.dtype(NUMBERS[kind]).itemsize
        return self.numbers(kind, self.count(f"numbers in {printable(key)}", size, 2**62)).copy()

    def numbers(self, kind: int, count: int) -> Array:
        dtype = np.dtype(NUMBERS[kind])
        found = np.frombuffer(self.take(count * dtype.itemsize), np.uint8 if kind == BOOL else dtype)
        return found != 0 if kind == BOOL else found

    def entry(self) -> Entry:
        """The next row of the table; GGUF counts axes from the innermost."""
        name = self.name()
        axes = self.whole("<I")
        if not 1 <= axes <= MOST_AXES:
            raise OctavoError(f"{printable(name)} has {axes} axes, which no tensor of GGUF has")
        shape = tuple(self.whole("<Q") for _ in range(axes))[::-1]
        code, start = self.whole("<I"), self.whole("<Q")
        format = BY_CODE.get(code)
        if format is None and code != F32:
            known = ", ".join(["F32", *FORMATS])
            raise OctavoError(f"{printable(name)} is of GGML's type {code}; octavo reads {known}")
        items, record = (format.items, format.record.itemsize) if format else (1, 4)
        if not all(shape) or math.prod(shape) >= 2**56 or shape[-1] % items:
            raise OctavoError(f"{printable(name)} cannot have the shape {shape}, in blocks of {items}")
        return Entry(name, shape, format, start, math.prod(shape) // items * record)


def _tensor(entry: Entry, data: Array) -> Array:
    """A tensor as float32, or a matrix in another format as `Quantized`; a view of the file."""
    raw = data[entry.start : entry.start + entry.size]
    if entry.format is None:
        return raw.view("<f4").reshape(entry.shape)
    blocks = raw.view(entry.format.record)
    matrix = Quantized(blocks.reshape(-1, entry.shape[-1] // entry.format.items), entry.format)
    return matrix if len(entry.shape) == 2 else np.asarray(matrix).reshape(entry.shape)


def _require_apart(table: list[Entry], alignment: int, room: int) -> None:
    """Refuse tensors of one name, out of the file, not aligned, or in each other's bytes."""
    (name, times), *_ = Counter(entry.name for entry in table).most_common(1) or [("", 0)]
    if times > 1:
        raise OctavoError(f"it has {times} tensors {printable(name)}")
    end, before = 0, ""
    for entry in sorted(table, key=lambda entry: entry.start):
        if entry.start + entry.size > room:
            raise OctavoError(
                f"the GGUF file is damaged or cut short: it ends within {printable(entry.name)}"
            )
        if entry.start % alignment:
            raise OctavoError(f"{printable(entry.name)} begins at {entry.start}, no multiple of {alignment}")
        if entry.start < end:
            raise OctavoError(f"{printable(entry.name)} and {printable(before)} overlap")
        end, before = entry.start + entry.size, entry.name


# ---------------------------------------------------------------- writing


def write(file: BinaryIO, metadata: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Write a file of version 3.

    Parameters
    ----------
    file : binary file
        Written from its place on, which must be the beginning.
    metadata : mapping
        bool is a flag, int uint32 (or int64 where it does not fit), float float32, str text. Lists of str are
        arrays of texts, lists of numbers of int32 or float32, and NumPy arrays of their own kind.
    tensors : mapping of arrays
        `Quantized` ones as their blocks, to the bit; all else as float32.
    """
    head = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    head += [_text(key) + _value(value) for key, value in metadata.items()]
    start = 0
    for name, array in tensors.items():
        code = array.format.code if isinstance(array, Quantized) else F32
        sizes = array.shape[::-1]
        head.append(_text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, code, start))
        start += _aligned(array.nbytes if isinstance(array, Quantized) else 4 * array.size)
    header = b"".join(head)
    file.write(header.ljust(_aligned(len(header)), b"\0"))
    for array in tensors.values():
        raw = array.blocks if isinstance(array, Quantized) else np.asarray(array, "<f4")
        file.write(np.ascontiguousarray(raw).reshape(-1).view(np.uint8).data)
        file.write(b"\0" * (_aligned(raw.nbytes) - raw.nbytes))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: Any) -> bytes:
    """A value of metadata behind its type."""
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        if 0 <= value < 2**32:
            return struct.pack("<II", UINT32, value)
        return struct.pack("<Iq", INT64, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_text, value))
    array = np.asarray(value)
    if isinstance(value, list) and array.dtype in (np.int64, np.float64):  # Python's; GGUF's are narrower
        narrow = array.astype(np.int32 if array.dtype == np.int64 else np.float32)
        array = narrow if array.dtype == np.float64 or (narrow == array).all() else array
    kinds = {np.dtype(dtype): kind for kind, dtype in NUMBERS.items()}
    if array.ndim != 1 or array.dtype.newbyteorder("<") not in kinds:
        raise OctavoError(f"GGUF has no metadata of the type {type(value).__name__}")
    kind = kinds[array.dtype.newbyteorder("<")]
    return struct.pack("<IIQ", ARRAY, kind, len(array)) + array.astype(NUMBERS[kind]).tobytes()
