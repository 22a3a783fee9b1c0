"""What every tokenizer offers, and the checks that all kinds share.

Two kinds implement it: `octavo.tokenizers.chars.Char` (one id per character) and
`octavo.tokenizers.published.ByteLevelBPE` (byte pairs). Neither inherits from the other
or from this protocol; a type checker compares shapes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from octavo.errors import OctavoError


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are: they run from 0 to ``vocab_size - 1``."""

    def __len__(self) -> int:
        """The same number."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text; special tokens written in the text are text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of ids, whether UTF-8 or not."""

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token, in constant time."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` as Hugging Face ``tokenizers`` reads it."""


def checked(ids: Sequence[int], vocab_size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """`ids` as an array [T], or `OctavoError` naming the first that is not an id."""
    try:
        array = np.asarray(ids)
    except ValueError:  # lists of unequal lengths
        array = np.zeros((0, 0))
    if array.ndim != 1:
        raise OctavoError("ids must be one flat sequence of integers, found a nested one or a single value")
    if not array.size:
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "iu":
        raise OctavoError(f"ids must be integers from 0 to {vocab_size - 1}, found {array.dtype} values")
    outside = (array < 0) | (array >= vocab_size)
    if outside.any():
        at = int(outside.argmax())
        raise OctavoError(f"ids must lie in 0 to {vocab_size - 1}, found {array[at]} at position {at}")
    return array.astype(np.int64, copy=False)


def checked_one(id: int, vocab_size: int) -> int:
    """`id`, or `OctavoError` when the vocabulary has no such id (-1 would index from the end)."""
    if 0 <= id < vocab_size:
        return id
    raise OctavoError(f"token id must lie in 0 to {vocab_size - 1}, found {id}")
