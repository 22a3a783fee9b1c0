"""Damage that keeps most of a file: what readers are fuzzed with."""

import struct
from typing import Any

from hypothesis import strategies as st

NUMBERS = (0, 1, 2, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)
CHANGES = st.one_of(
    st.tuples(st.just("byte"), st.integers(0, 255)),
    st.tuples(st.just("word"), st.sampled_from(NUMBERS)),
    st.tuples(st.just("insert"), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("remove"), st.integers(1, 40)),
    st.tuples(st.just("cut"), st.none()),
)
# From the beginning, from the end (where zip files keep their table), or anywhere.
PLACES = st.one_of(st.integers(0, 300), st.integers(-3000, -1), st.integers(0, 2**20))
EDITS = st.lists(st.tuples(PLACES, CHANGES), min_size=1, max_size=3)


def damaged(original: bytes, edits: list[tuple[int, tuple[str, Any]]]) -> bytes:
    """A file with a few bytes or words changed, put in, left out or cut off."""
    data = bytearray(original)
    for place, (kind, value) in edits:
        at = place % max(len(data), 1)
        match kind:
            case "byte":
                data[at : at + 1] = bytes([value])
            case "word":
                data[at : at + 4] = struct.pack("<I", value)
            case "insert":
                data[at:at] = value
            case "remove":
                del data[at : at + value]
            case "cut":
                del data[at:]
    return bytes(data)
