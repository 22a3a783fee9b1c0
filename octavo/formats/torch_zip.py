"""What `torch.save` writes since PyTorch 1.6: a zip of a pickle and of the numbers that it refers to.

The pickle is interpreted, never run; tensors are views of the mapped file. The members must be stored as
they are, which is how PyTorch writes them: what is compressed is refused, and so is all that does not lie
within the file. Not read: sparse and quantised tensors, older files.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octavo.checks import is_whole, printable
from octavo.errors import OctavoError
from octavo.formats import pickles
from octavo.nn import Array

LARGEST_PICKLE = 2**26  # bytes; that of a model of a thousand layers has two million
MOST_MEMBERS = 2**17
OLD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # what a file of PyTorch before 1.6 begins with
DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
}


@dataclass(frozen=True)
class Storage:
    """A member that holds numbers, as a pickle refers to it."""

    dtype: str
    key: str
    size: int  # in numbers


@dataclass(frozen=True)
class Tensor:
    """A tensor that nobody has read yet: a view of a storage."""

    storage: Storage
    offset: int  # in numbers, as the strides are
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive; one that goes on in other files is none."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def recognise(path: Path) -> bool:
    """Whether a file is one of these, of any age."""
    with path.open("rb") as file:
        if file.read(len(OLD)) == OLD:
            return True
    if not is_zip(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # whoever reads zip files says what is wrong


def read(path: Path) -> tuple[Any, Archive]:
    """What the pickle holds, with a `Tensor` for every tensor, and the archive that gives their numbers.

    Raises
    ------
    OctavoError
        If the file is damaged, of an older PyTorch, compressed, or holds anything but tensors and plain data.
    """
    try:
        archive = Archive(path)
        return pickles.read(bytes(archive.member("data.pkl", LARGEST_PICKLE)), GRAMMAR), archive
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise OctavoError(f"{path} is not a readable PyTorch file: {printable(str(error))}") from None


class Archive:
    """The members of a zip file, as views of it."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            if file.read(len(OLD)) == OLD:
                raise OctavoError(
                    "this file is of PyTorch before 1.6; open it with PyTorch and save it again (torch.save)"
                )
            self.data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        roots = [m.filename.removesuffix("data.pkl") for m in members if m.filename.endswith("/data.pkl")]
        if len(roots) != 1 or len(members) > MOST_MEMBERS:
            raise OctavoError("it is not laid out as torch.save does")
        self.members = {m.filename.removeprefix(roots[0]): m for m in members}
        if len(self.members) < len(members):
            raise OctavoError("it holds two members of one name")
        if "byteorder" in self.members and bytes(self.member("byteorder", 16)) != b"little":
            raise OctavoError("its numbers are not little-endian")

    def member(self, name: str, most: int) -> memoryview:
        """The bytes of a member."""
        found = self.members.get(name)
        if found is None:
            raise OctavoError(f"it lacks {printable(name)}")
        if found.compress_type != zipfile.ZIP_STORED or found.flag_bits & 1:
            raise OctavoError(f"{printable(name)} is compressed or encrypted, which torch.save never does")
        if found.file_size > most:
            raise OctavoError(f"{printable(name)} has {found.file_size:,} bytes, more than {most:,}")
        start = found.header_offset
        if not 0 <= start <= len(self.data) - 30 or bytes(self.data[start : start + 4]) != b"PK\x03\x04":
            raise OctavoError(f"{printable(name)} is not where the archive says")
        start += 30 + sum(struct.unpack_from("<HH", self.data, start + 26))
        if start + found.file_size > len(self.data):
            raise OctavoError(f"{printable(name)} goes on past the end of the file")
        return self.data[start : start + found.file_size]

    def array(self, tensor: Tensor) -> Array:
        """The numbers of a tensor; bfloat16 is widened."""
        storage = tensor.storage
        dtype = np.dtype("<u2" if storage.dtype == "bfloat16" else storage.dtype)
        need = storage.size * dtype.itemsize
        content = self.member(f"data/{storage.key}", need)
        if len(content) < need:
            raise OctavoError(
                f"data/{printable(storage.key)} has {len(content):,} bytes, fewer than {need:,}"
            )
        flat: Array = np.frombuffer(content, dtype)
        _require_within(tensor, len(flat))
        flat = flat[tensor.offset :]
        strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
        array = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
        if storage.dtype == "bfloat16":  # the upper half of a float32
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array


def _require_within(tensor: Tensor, size: int) -> None:
    """Refuse a tensor that reads what its storage does not hold, or some of it again and again."""
    last = tensor.offset + sum(
        (n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    count = math.prod(tensor.shape)
    if (count and last >= size) or count > size or tensor.offset > size:
        raise OctavoError(
            f"a tensor of the shape {tensor.shape} reads past the {size:,} numbers of its storage"
        )


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    """What the calls in such a pickle give."""
    match name, arguments:
        case "table", ():
            return {}
        case "tensor", (Storage() as storage, int() as offset, tuple() as shape, tuple() as strides, *_):
            if len(shape) != len(strides) or len(shape) > 8:
                raise OctavoError("a tensor has as many strides as axes, at most 8")
            if not all(is_whole(n) and 0 <= n < 2**48 for n in (offset, *shape, *strides)):
                raise OctavoError("the shape, strides and offset of a tensor must be whole numbers from 0")
            return Tensor(storage, offset, shape, strides)
        case "parameter", (Tensor() as tensor, *_):
            return tensor
        case "device", _:
            return None
    return NotImplemented


def _referred(key: Any) -> Storage:
    """The storage that a pickle refers to."""
    match key:
        case ("storage", pickles.Name(kind), str() as name, str(), int() as size) if kind in DTYPES:
            if not 0 <= size < 2**48:
                raise OctavoError(f"a storage of {size} numbers cannot be")
            return Storage(DTYPES[kind], name, size)
    raise OctavoError("the pickle refers to something that is no storage of numbers")


GRAMMAR = pickles.Grammar(
    "a pickle of tensors and plain data",
    {
        "collections OrderedDict": "table",
        "torch._utils _rebuild_tensor_v2": "tensor",
        "torch._utils _rebuild_parameter": "parameter",
        "torch device": "device",
    }
    | {f"torch {kind}": kind for kind in DTYPES},
    _made,
    _referred,
)
