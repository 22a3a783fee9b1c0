"""Damage that keeps most of a file: what every reader is fuzzed with."""

import struct
from typing import Any

from hypothesis import strategies as st

NUMBERS = (0, 1, 2, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)


@st.composite
def damaged(draw: Any, original: bytes) -> bytes:
    """A file with a few bytes or words changed, put in, left out or cut off; mostly near its ends."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        size = max(len(data), 1)
        at = draw(st.one_of(st.integers(0, min(size - 1, 300)), st.integers(max(size - 900, 0), size - 1),
                            st.integers(0, size - 1)))  # fmt: skip
        match draw(st.sampled_from(["byte", "word", "insert", "remove", "cut"])):
            case "byte":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "word":
                data[at : at + 4] = struct.pack("<I", draw(st.sampled_from(NUMBERS)))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del data[at : at + draw(st.integers(1, 40))]
            case "cut":
                del data[at:]
    return bytes(data)
