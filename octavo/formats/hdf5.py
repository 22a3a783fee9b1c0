"""HDF5 files, as far as Keras writes them: groups, text attributes and plain arrays.

The layout is that of the HDF5 File Format Specification, version 3.0, with superblock 0 or 1 and version 1
of object headers, groups and B-trees: what the HDF5 library writes unless it is asked for newer ones.
The reader is ours because the library itself runs in an endless loop, or ends the interpreter, on about
one damaged file in two hundred. This one only ever looks inside the bytes it was given, follows each
address once, and charges what it hands out, the paths of objects included, to the size of the file: it can
neither loop, nor take memory out of proportion to the file.

Chunked, compressed, linked and external arrays are noted and not read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from octavo.errors import OctavoError
from octavo.nn import Array

MAGIC = b"\x89HDF\r\n\x1a\n"
MOST_STEPS = 200_000  # messages, links and strings; a model has some hundred
LONGEST_PATH = 1024  # characters of the names of an object and of the groups around it
NOWHERE, LINKED = 2**64 - 1, -1  # an address that means none; and, here, one that is another path

# types of header messages (section IV.A.2)
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT = 1, 2, 3, 6, 7, 8
FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE = 11, 12, 16, 17

# (bytes, exponent's place and bits, mantissa's place and bits, bias) of IEEE floats
FLOATS = {(2, 10, 5, 0, 10, 15), (4, 23, 8, 0, 23, 127), (8, 52, 11, 0, 52, 1023)}


@dataclass(frozen=True)
class Contents:
    """What a file holds, by path without a leading slash; "" is the root group."""

    arrays: dict[str, Array] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)  # path -> why there is no array
    attributes: dict[str, dict[str, str | list[str]]] = field(default_factory=dict)  # group -> name -> text


class Type(NamedTuple):
    """An element's type: a NumPy dtype, "string", "text" (of any length), "opaque" or "other"."""

    kind: str
    size: int


def read(data: bytes) -> Contents:
    """Everything in an HDF5 file that is an array or a text attribute.

    Parameters
    ----------
    data : bytes
        The whole file. The arrays are views of it.

    Raises
    ------
    OctavoError
        If the file is no HDF5, damaged, or of a newer layout than the HDF5 library's default.
    """
    if not data.startswith(MAGIC):
        raise OctavoError("this is no HDF5 file: it does not begin with the HDF5 signature")
    try:
        return _Reader(data).contents()
    except OctavoError:
        raise
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise OctavoError(f"the HDF5 file is damaged or cut short: {error}") from None


class _Reader:
    """One pass over a file; what is damaged raises ValueError, struct.error or IndexError."""

    def __init__(self, data: bytes) -> None:
        self.data, self.seen, self.steps, self.bytes_left = data, set[int](), 0, len(data)
        self.heaps: dict[int, dict[int, tuple[int, int]]] = {}

    # ------------------------------------------------------------ bytes, and their bounds

    def at(self, form: str, offset: int) -> tuple[int, ...]:
        """Little-endian whole numbers at an offset."""
        return struct.unpack_from("<" + form, self.data, self.inside(offset))

    def inside(self, offset: int, size: int = 0) -> int:
        """The offset, if `size` bytes from there on are in the file."""
        if not 0 <= offset <= offset + size <= len(self.data):
            raise ValueError(f"it points to byte {offset + size}")
        return offset

    def step(self) -> None:
        """Count a unit of work; a file can ask for more of it than it has bytes."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise ValueError("its structure has no end")

    def visit(self, address: int, signature: bytes = b"") -> int:
        """An address that no other one may lead to again, and what stands there."""
        self.step()
        if address in self.seen:
            raise ValueError("two parts are in one place, or an object has two names")
        self.seen.add(address)
        if not self.data.startswith(signature, self.inside(address)):
            raise ValueError(f"there is no {signature.decode()} at byte {address}")
        return address

    def spend(self, size: int) -> None:
        """Charge what is handed out to the size of the file, so that no byte is handed out twice."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise ValueError("its parts overlap, or have paths longer than itself")

    # ------------------------------------------------------------ the tree

    def contents(self) -> Contents:
        version, offsets, lengths = self.data[8], self.data[13], self.data[14]
        if version not in (0, 1) or (offsets, lengths) != (8, 8):
            raise OctavoError(
                f"the HDF5 file has the layout of version {version}, of which octavo reads 0 and 1, "
                "the ones Keras writes; save the model again with Keras"
            )
        base, _, end = self.at("QQQ", 24 + 4 * version)
        if base or end > len(self.data):
            raise ValueError(f"it was {end} bytes, and is {len(self.data)}")
        _, root = self.at("QQ", 56 + 4 * version)
        found = Contents()
        waiting = [("", root)]
        while waiting:
            path, address = waiting.pop()
            if len(path) > LONGEST_PATH:
                raise ValueError("its groups are too deep, or their names too long")
            waiting += self.read_object(path, address, found)
        return found

    def read_object(self, path: str, address: int, found: Contents) -> list[tuple[str, int]]:
        """Note a dataset, or a group's attributes, and return the group's members."""
        if address == LINKED:
            found.unread[path] = "is a link, which octavo does not follow"
            return []
        messages = list(self.messages(address))
        kinds = {kind for kind, _, _ in messages}
        if LAYOUT in kinds:
            self.read_dataset(path, messages, found)
            return []
        found.attributes[path] = self.read_attributes(messages)
        members: list[tuple[str, int]] = []
        for kind, start, size in messages:
            if kind == SYMBOL_TABLE:
                members += self.members(start)
            elif kind == LINK:
                members.append(self.link(start, start + size))
            elif kind == LINK_INFO:
                _, flags = self.at("BB", start)
                if self.at("Q", start + 2 + 8 * (flags & 1))[0] != NOWHERE:
                    found.unread[path] = "is a group of over eight members whose names go beyond ASCII"
        self.spend(len(path) * len(members))  # a name costs the file a few bytes, the path before it none
        return [(f"{path}/{name}" if path else name, address) for name, address in members]

    def messages(self, address: int) -> Iterator[tuple[int, int, int]]:
        """(type, start, size) of the messages of an object header (section IV.A.1.a)."""
        version, _, _, _, size = self.at("BBHII", self.visit(address))
        if version != 1:
            raise ValueError("an object has a newer layout than Keras writes")
        blocks = [(address + 16, size)]
        while blocks:
            start, size = blocks.pop()
            end = self.inside(start, size) + size
            while start + 8 <= end:
                self.step()
                kind, size, flags = self.at("HHB", start)
                if flags & 2:
                    raise ValueError("objects share parts, as Keras never has it")
                self.inside(start + 8, size)
                if kind == CONTINUATION:
                    block, length = self.at("QQ", start + 8)
                    blocks.append((self.visit(block), length))
                yield kind, start + 8, size
                start += 8 + size

    def link(self, start: int, end: int) -> tuple[str, int]:
        """The name and address in a link message, one a member of groups whose names go beyond ASCII."""
        self.step()
        version, flags = self.at("BB", start)
        is_link = flags & 8 and self.data[start + 2] != 0
        at = start + 2 + bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 16)
        width = "BHIQ"[flags & 3]
        (length,) = self.at(width, at)
        at += struct.calcsize(width)
        if version != 1 or at + length > end:
            raise ValueError("a member of a group has a name of an unknown form")
        self.spend(length)
        name = self.data[at : at + length].decode("utf-8", "replace")
        return name, LINKED if is_link else self.at("Q", at + length)[0]

    def members(self, start: int) -> Iterator[tuple[str, int]]:
        """Names and addresses in a group: a B-tree whose leaves name entries of a heap (sections III.A-D)."""
        tree, heap = self.at("QQ", start)
        size, _, names = self.at("QQQ", self.visit(heap, b"HEAP") + 8)
        self.inside(names, size)
        nodes = [tree]
        while nodes:
            node = self.visit(nodes.pop(), b"TREE")
            kind, level, entries = self.at("BBH", node + 4)
            if kind:
                raise ValueError("a group has the index of an array")
            for i in range(entries):
                self.step()
                (child,) = self.at("Q", node + 32 + 16 * i)
                if level:
                    nodes.append(child)
                else:
                    yield from self.leaf(self.visit(child, b"SNOD"), names, names + size)

    def leaf(self, node: int, names: int, end: int) -> Iterator[tuple[str, int]]:
        """Names and addresses in a symbol table node."""
        for i in range(self.at("H", node + 6)[0]):
            self.step()
            offset, address, cached = self.at("QQI", node + 8 + 40 * i)
            yield self.word(names + offset, end), LINKED if cached == 2 else address

    # ------------------------------------------------------------ types and shapes

    def read_type(self, start: int) -> Type:
        """The element type of a datatype message (section IV.A.2.d)."""
        head, bits, size = (n := self.at("BBHI", start))[0] & 15, n[1], n[3]
        order = ">" if bits & 1 else "<"
        if head == 0 and size in (1, 2, 4, 8):
            return Type(f"{order}{'i' if bits & 8 else 'u'}{size}", size)
        if head == 1 and not bits & 64:
            place, precision, *layout, bias = self.at("HHBBBBI", start + 8)
            if (size, *layout, bias) in FLOATS and (place, precision) == (0, 8 * size):
                return Type(f"{order}f{size}", size)
        if head == 9 and bits & 15 == 1 and size == 16:
            return Type("text", size)
        return Type({3: "string", 5: "opaque"}.get(head, "other"), size)

    def read_shape(self, start: int) -> tuple[int, ...]:
        """The shape of a dataspace message (section IV.A.2.b); a null space has the shape (0,)."""
        version, rank, _, kind = self.at("BBBB", start)
        if version not in (1, 2) or rank > 32:
            raise ValueError("an array has a shape of an unknown form")
        if version == 2 and kind == 2:
            return (0,)
        return self.at(f"{rank}Q", start + (8 if version == 1 else 4))

    # ------------------------------------------------------------ arrays

    def read_dataset(self, path: str, messages: list[tuple[int, int, int]], found: Contents) -> None:
        """Note an array, or why it is not read."""
        first = {kind: start for kind, start, _ in reversed(messages)}
        if DATASPACE not in first or DATATYPE not in first:
            raise ValueError(f"an array has no {'type' if DATASPACE in first else 'shape'}")
        shape, element = self.read_shape(first[DATASPACE]), self.read_type(first[DATATYPE])
        count, halves = math.prod(shape), False
        place = self.place(first, count * element.size)
        if element == ("opaque", 2) and self.read_attributes(messages).get("dtype") == "bfloat16":
            element = Type("<u2", 2)  # as Keras stores the upper halves of float32 numbers
            halves = True
        if element.kind[0] not in "<>":
            found.unread[path] = "holds no plain numbers"
        elif isinstance(place, str):
            found.unread[path] = place
        else:
            self.spend(count * element.size)
            array = np.frombuffer(self.data, element.kind, count, place).reshape(shape)
            found.arrays[path] = (array.astype("<u4") << 16).view("<f4") if halves else array

    def place(self, first: dict[int, int], size: int) -> int | str:
        """Where an array's bytes stand (section IV.A.2.i), or why they are not read."""
        if EXTERNAL in first:
            return "stands in another file, which octavo does not open"
        version, kind = self.at("BB", first[LAYOUT])
        if version != 3 or kind > 1 or FILTERS in first:
            return "is compressed or in chunks, which Keras never writes; save the model again with Keras"
        if kind == 0:  # in the header itself
            if self.at("H", first[LAYOUT] + 2)[0] < size:
                raise ValueError("an array is larger than its place")
            return self.inside(first[LAYOUT] + 4, size)
        address, length = self.at("QQ", first[LAYOUT] + 2)
        if size and address == NOWHERE:
            return "was declared and never written"
        if length < size:
            raise ValueError("an array is larger than its place")
        return self.inside(address, size) if size else 0

    # ------------------------------------------------------------ attributes

    def read_attributes(self, messages: list[tuple[int, int, int]]) -> dict[str, str | list[str]]:
        """The attributes that are text, by name (section IV.A.2.m); of a list, a list."""
        texts: dict[str, str | list[str]] = {}
        for kind, start, size in messages:
            if kind != ATTRIBUTE:
                continue
            version, flags, *sizes = self.at("BBHHH", start)
            if version not in (1, 2, 3) or (flags and version > 1):
                raise ValueError("it has attributes of an unknown form")
            padded = [-(-n // 8) * 8 if version == 1 else n for n in sizes]
            name_at = start + (9 if version == 3 else 8)
            type_at, shape_at, data_at = (name_at + sum(padded[:i]) for i in (1, 2, 3))
            self.inside(data_at)
            name = self.word(name_at, name_at + sizes[0])
            element, shape = self.read_type(type_at), self.read_shape(shape_at)
            if element.kind in ("string", "text"):
                values = self.strings(data_at, min(start + size, len(self.data)), element, math.prod(shape))
                texts[name] = values if shape else values[0]
        return texts

    def strings(self, start: int, end: int, element: Type, count: int) -> list[str]:
        """`count` strings from `start`: in place, or of any length in a global heap (section III.E)."""
        if not element.size or count > (end - start) // element.size:
            raise ValueError("a text attribute is larger than its place")
        found = []
        for i in range(count):
            self.step()
            at = start + i * element.size
            if element.kind == "text":
                size, heap, index = self.at("IQI", at)
                at, longest = self.heap(heap).get(index, (0, 0)) if heap else (0, 0)
                size = min(size, longest)
            else:
                size = element.size
            self.spend(size)
            found.append(self.data[at : at + size].rstrip(b"\0").decode("utf-8", "replace"))
        return found

    def word(self, start: int, end: int) -> str:
        """The text from `start` to the first zero byte."""
        stop = self.data.find(b"\0", self.inside(start), end)
        if stop < 0:
            raise ValueError("a name has no end")
        self.spend(stop - start)
        return self.data[start:stop].decode("utf-8", "replace")

    def heap(self, address: int) -> dict[int, tuple[int, int]]:
        """Where the objects of a global heap collection stand, and their sizes, by number."""
        if address not in self.heaps:
            (size,) = self.at("Q", self.visit(address, b"GCOL") + 8)
            end, at = self.inside(address, size) + size, address + 16
            objects: dict[int, tuple[int, int]] = {}
            while at + 16 <= end:
                self.step()
                index, _, _, length = self.at("HHIQ", at)
                if index == 0:  # the free space, which is last
                    break
                self.inside(at + 16, length)
                objects[index] = at + 16, length
                at += 16 + -(-length // 8) * 8
            self.heaps[address] = objects
        return self.heaps[address]
