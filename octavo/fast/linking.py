"""Linking: an object file as an image, which is machine code that only has to be copied to memory.

Of what a linker does, our object files need little: their sections laid one behind the other, and distances
between them written into the code (System V ABI, AMD64 supplement, section 4.4). Functions of the C library
are called through a jump each, behind the code, whose address is filled in when the image is loaded. So
running what is kept takes neither a compiler nor its library, a hundred megabytes of memory.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

X86_64, RELATIVE, CALL = 62, 2, 4  # of e_machine, and of relocations: PC32 and PLT32
OCCUPIES, CONTENT, EMPTY, TABLE, FIXES = (
    2,
    1,
    8,
    2,
    4,
)  # of sections: SHF_ALLOC; PROGBITS, NOBITS, SYMTAB, RELA
JUMP = bytes.fromhex("ff2500000000")  # to the address that stands behind
PLACE = 16  # bytes of a jump and its address


class Image(NamedTuple):
    """Machine code for any address."""

    entry: int  # where the function begins
    outer: dict[str, int]  # functions of the C library, and where their addresses are to be
    code: bytes


class Section(NamedTuple):
    """A header of a section, Elf64_Shdr."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


def link(file: bytes, symbol: str) -> Image | None:
    """The image of an object file whose function `symbol` is called; None for what only a linker can do."""
    if file[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", file, 18) != (X86_64,):
        return None
    (start,), (count,) = struct.unpack_from("<Q", file, 40), struct.unpack_from("<H", file, 60)
    sections = [Section(*struct.unpack_from("<IIQQQQIIQQ", file, start + 64 * i)) for i in range(count)]
    code, begins = bytearray(), dict[int, int]()
    for i, section in enumerate(sections):
        if section.flags & OCCUPIES and section.type in (CONTENT, EMPTY):
            code += bytes(-len(code) % max(section.align, 1))
            begins[i] = len(code)
            filled = section.type == CONTENT
            code += file[section.offset :][: section.size] if filled else bytes(section.size)
    symbols, outer = list[tuple[str, int | None]](), dict[str, int]()
    table = next(section for section in sections if section.type == TABLE)
    names = sections[table.link].offset
    for at in range(table.offset, table.offset + table.size, 24):
        name, _, _, where, value, _ = struct.unpack_from("<IBBHQQ", file, at)
        text = file[names + name : file.index(b"\0", names + name)].decode()
        symbols.append((text, begins[where] + value if where in begins else None))
    code += bytes(-len(code) % PLACE)
    for section in sections:
        if section.type != FIXES or section.info not in begins:
            continue
        for at in range(section.offset, section.offset + section.size, 24):
            place, info, addend = struct.unpack_from("<QQq", file, at)
            place += begins[section.info]
            (name, target), kind = symbols[info >> 32], info & 0xFFFFFFFF
            if target is None and kind == CALL:
                if name not in outer:
                    outer[name] = len(code) + len(JUMP)
                    code += JUMP.ljust(PLACE, b"\0")
                target = outer[name] - len(JUMP)
            if target is None or kind not in (RELATIVE, CALL):
                return None
            struct.pack_into("<i", code, place, target + addend - place)
    entry = dict(symbols)[symbol]
    return None if entry is None else Image(entry, outer, bytes(code))
