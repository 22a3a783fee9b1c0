"""What every tokenizer offers, and the checks that all kinds share.

Three kinds implement it: `octavo.tokenizers.chars.Char` (one id per character),
`octavo.tokenizers.published.ByteLevelBPE` (byte pairs) and `octavo.tokenizers.sentencepiece.SentencePiece`
(pieces of text in which a space is a letter). None inherits from another or from this protocol; a type
checker compares shapes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from octavo.errors import OctavoError

Ids: TypeAlias = np.ndarray[tuple[int], np.dtype[Any]]
"""Ids [T], as unsigned integers of as few bytes as the vocabulary needs."""


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are: they run from 0 to ``vocab_size - 1``."""

    def __len__(self) -> int:
        """The same number."""

    @property
    def end_of_text(self) -> int | None:
        """The id that stands between documents, if there is one; no text is encoded to it."""

    @property
    def begins_with(self) -> tuple[int, ...]:
        """The ids that the model expects before the beginning of a text; `encode` adds none."""

    @property
    def local(self) -> bool:
        """Whether a text may be encoded in parts, as `octavo.tokenizers.patterns.blocks` cuts it."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of a text; special tokens written in it are text, unless `special` asks for their ids."""

    def encode_many(self, texts: Sequence[str], known: dict[str, bytes] | None = None) -> list[Ids]:
        """The ids of each text, sooner than by `encode`; `known`, passed again, remembers words."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text that begins with ids; bytes that are not UTF-8 become U+FFFD."""

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of that text, whether UTF-8 or not."""

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token inside a text, in constant time; at its beginning a space may be missing."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` as Hugging Face ``tokenizers`` reads it."""


def id_dtype(vocab_size: int) -> np.dtype[Any]:
    """The narrowest of two, little-endian, that holds the ids of a vocabulary: 16 bits, or 32.

    Examples
    --------
    >>> id_dtype(50_257), id_dtype(2**16 + 1)
    (dtype('uint16'), dtype('uint32'))
    """
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def token_lengths(tokenizer: Tokenizer) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How many bytes of text each token stands for -> [V]; none for those that begin or end a document.

    Examples
    --------
    >>> from octavo.tokenizers import char, token_lengths
    >>> tok = char("aé🙂")
    >>> token_lengths(tok)[tok.encode("é🙂a")]
    array([2, 4, 1])
    """
    lengths = np.array([len(tokenizer.token_bytes(id)) for id in range(len(tokenizer))], np.int64)
    lengths[list(tokenizer.begins_with)] = 0
    if tokenizer.end_of_text is not None:
        lengths[tokenizer.end_of_text] = 0
    return lengths


def begins_only(tokenizer: Tokenizer) -> list[int]:
    """The ids that stand before a document and do not end one: what is read and never predicted."""
    return [id for id in tokenizer.begins_with if id != tokenizer.end_of_text]


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
