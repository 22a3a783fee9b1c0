"""Texts that have broken tokenizers, for Hypothesis, and damage for files."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

ODD = (
    "\x00\x1c\x1d\x1e\x1f\x7f\x85\xa0\u1680\u2000\u2028\u2029\u202f\u3000\u200b\u200d\ufeff\u180e"
    "\u0130ıſKß\u0301\u0345ǅʰªéñΩд中ひ한\u1100\u1161²½Ⅷ٣_'’\"/\\🙂🏽\U0001f1eb\ufffd\ufffe\U0010ffff"
)
PIECES = [
    *ODD,
    *" \t\n\r\v\f",
    "  ",
    "\r\n",
    "\n\n",
    " \n ",
    "'s",
    "'LL",
    "'ſ",
    "1234",
    "a",
    "the ",
    "<|endoftext|>",
]

# Any text, seasoned with what splits words in surprising places.
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=24).map("".join)
lone = st.characters(categories=["Cs"])
texts_with_surrogates = st.lists(st.sampled_from(PIECES) | lone | st.text(max_size=3), max_size=16).map(
    "".join
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -1, 2**31, 2**63, 2**64]),
    st.floats(),
    st.text(max_size=3),
)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars, max_size=3)


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` cut short or with a few bytes replaced, inserted or removed."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(out) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "drop", "insert"]))
        if kind == "cut":
            del out[at:]
        elif kind == "drop":
            del out[at : at + draw(st.integers(1, 8))]
        elif kind == "insert":
            out[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif out:
            out[at] = draw(st.integers(0, 255))
    return bytes(out)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each value in a JSON document; of long lists and tables only both ends."""
    items = list(
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    if len(items) > 8:
        items = items[:4] + items[-4:]
    return [path, *(p for key, inner in items for p in _paths(inner, (*path, key)))]


@st.composite
def damaged_json(draw: st.DrawFn, text: str) -> bytes:
    """`text` with a value somewhere in it replaced or taken out."""
    document = json.loads(text)
    path = draw(st.sampled_from(_paths(document)))
    if not path:
        return json.dumps(draw(values)).encode()
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if draw(st.booleans()):
        inner[path[-1]] = draw(values)
    else:
        del inner[path[-1]]
    return json.dumps(document).encode()
