"""Byte-level byte-pair encoding as published models use it.

A tokenizer of this kind is its ``tokenizer.json`` and a table of the bytes of each token.
Encoding is the business of Hugging Face's Rust library; decoding is a look-up in the table.

Tiktoken merges any two neighbours whose joined bytes are a token, the lowest rank first; the
JSON lists pairs to merge instead. `from_ranks` therefore lists every way of splitting each
token in two, in the order of the ranks, and asks for words that are tokens as they stand to
be taken whole, as tiktoken does. The two then agree on every text.

Not done here: adding special tokens to a text (BOS and the like), and recognising them in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.errors import OctavoError
from octavo.tokenizers import files, tokenizer_json
from octavo.tokenizers.interface import checked, checked_one
from octavo.tokenizers.patterns import GPT2, blocks, canonical, chunks, well_formed

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine

_SHORT = 10_000  # characters; below this, looking for repeated chunks costs more than it saves
_TOGETHER = 2_000  # chunks; the library is fastest on texts that fit in the processor's cache
_REMEMBERED = 1 << 20  # chunks; bounds the memory that a long text takes


@dataclass(frozen=True, repr=False)
class ByteLevelBPE:
    """Byte-pair encoding over bytes; made by `from_ranks`, `from_document` or training.

    Parameters
    ----------
    tokens : tuple of bytes
        The bytes of each id.
    document : dict
        The content of ``tokenizer.json``, as this module writes it.
    """

    tokens: tuple[bytes, ...]
    document: dict[str, Any] = field(hash=False)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special ones included."""
        return len(self.tokens)

    def __len__(self) -> int:
        """The number of tokens, special ones included."""
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; lone surrogates are read as U+FFFD, special tokens as text."""
        text = well_formed(text)
        if len(text) < _SHORT or not self._local:
            return self._encode_whole(text)
        if self._exact:
            return self._encode_distinct(text)
        return [id for block in blocks(text) for id in self._encode_whole(block)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of `ids`."""
        try:
            # A list of millions is worth looking up as it is, without a detour through an array.
            if isinstance(ids, list) and (not ids or min(ids) >= 0):
                return b"".join(map(self.tokens.__getitem__, ids))
        except (IndexError, TypeError):
            pass  # checked() says what is wrong
        return b"".join(map(self.tokens.__getitem__, checked(ids, len(self)).tolist()))

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token."""
        return self.tokens[checked_one(id, len(self))]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` to `path`."""
        files.write(path, self.document)

    def __repr__(self) -> str:
        """The size; the tokens would fill pages."""
        return f"ByteLevelBPE(vocab_size={len(self)})"

    def _encode_whole(self, text: str) -> list[int]:
        ids: list[int] = self._engine.encode(text, add_special_tokens=False).ids
        return ids

    def _encode_distinct(self, text: str) -> list[int]:
        """Encode each distinct chunk of a long text once; exact, as chunks begin where pieces do."""
        ids: list[int] = []
        ids_of: dict[str, list[int]] = {}
        for block in blocks(text):
            found = chunks(block)
            if len(ids_of) > _REMEMBERED:
                ids_of.clear()
            self._learn([chunk for chunk in dict.fromkeys(found) if chunk not in ids_of], ids_of)
            ids.extend(chain.from_iterable(map(ids_of.__getitem__, found)))
        return ids

    def _learn(self, new: list[str], ids_of: dict[str, list[int]]) -> None:
        """Encode chunks together, as that is quickest, and add the ids of each to `ids_of`."""
        for start in range(0, len(new), _TOGETHER):
            part = new[start : start + _TOGETHER]
            ids = self._encode_whole("".join(part))
            # Tokens lose no byte, so the bytes up to each chunk's end tell its last token.
            token_ends = np.cumsum(self._lengths[ids])
            chunk_ends = np.cumsum([len(chunk.encode()) for chunk in part])
            stops = (np.searchsorted(token_ends, chunk_ends) + 1).tolist()
            for chunk, i, j in zip(part, [0, *stops], stops, strict=False):
                ids_of[chunk] = ids[i:j]

    @cached_property
    def _lengths(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.fromiter(map(len, self.tokens), np.int64, len(self.tokens))

    @cached_property
    def _local(self) -> bool:
        """Whether blocks encode independently: nothing is put before a text or reaches over a space."""
        steps = tokenizer_json.parts(self.document["pre_tokenizer"])
        splits = any(step["type"] == "Split" or step.get("use_regex") for step in steps)  # else merges reach
        return (
            splits
            and not any(step.get("add_prefix_space") for step in steps)
            and not any(
                token["lstrip"] or token["rstrip"] or any(map(str.isspace, token["content"]))
                for token in self._recognised
            )
        )

    @cached_property
    def _exact(self) -> bool:
        """Whether the tokens of a text spell exactly its bytes."""
        return not self._recognised and self.document["normalizer"] is None

    @property
    def _recognised(self) -> list[dict[str, Any]]:
        """The added tokens that are found in texts: those that are not special."""
        return [token for token in self.document["added_tokens"] if not token["special"]]

    @cached_property
    def _engine(self) -> Engine:
        """Hugging Face's tokenizer, made once and only when needed."""
        import json

        from tokenizers import Tokenizer as Engine

        try:
            engine = Engine.from_str(json.dumps(self.document))
        except Exception as error:  # the library raises bare exceptions
            raise OctavoError(f"tokenizer.json is inconsistent: {error}") from None
        engine.encode_special_tokens = True  # in text, "<|endoftext|>" is thirteen characters
        for token in self.document["added_tokens"]:
            if (id := engine.token_to_id(token["content"])) != token["id"]:
                raise OctavoError(
                    f"added token {token['content']!r} has id {token['id']} but is read as {id}"
                )
        return engine


def from_ranks(
    ranks: Mapping[bytes, int], pattern: str = GPT2, special_tokens: Mapping[str, int] | None = None
) -> ByteLevelBPE:
    r"""The tokenizer of tiktoken-style ranks.

    Parameters
    ----------
    ranks : mapping of bytes to int
        The id of each token, which is also its priority in merging: 0 to n - 1, each once,
        with all 256 single bytes among the tokens.
    pattern : str
        One of the published split patterns, in any spelling.
    special_tokens : mapping of str to int, optional
        Tokens that decode but are never produced by `encode`; ids n, n + 1, ...

    Returns
    -------
    ByteLevelBPE
        Agrees with ``tiktoken.Encoding`` on the same ranks.

    Raises
    ------
    OctavoError
        Ids with holes or repetitions, a missing byte, an unknown pattern.

    Examples
    --------
    >>> from octavo.tokenizers import from_ranks
    >>> tok = from_ranks({bytes([i]): i for i in range(256)} | {b"ab": 256, b"abc": 257})
    >>> tok.encode("abcab"), tok.decode_bytes([257, 255])
    ([257, 256], b'abc\xff')
    """
    special_tokens = special_tokens or {}
    tokens = tokenizer_json.dense({id: token for token, id in ranks.items()}, len(ranks))
    specials = tokenizer_json.dense(
        {id: token for token, id in special_tokens.items()}, len(special_tokens), len(tokens)
    )
    if b"" in ranks or any(not content or content != well_formed(content) for content in specials):
        raise OctavoError("tokens must not be empty, and special ones must be valid Unicode")
    missing = [i for i in range(256) if bytes([i]) not in ranks]
    if missing:
        raise OctavoError(f"ranks must hold all 256 single bytes, byte {missing[0]} is missing")
    made = tokenizer_json.make(tokens, specials, _splits(tokens, ranks), canonical(pattern))
    return ByteLevelBPE((*tokens, *(content.encode() for content in specials)), made)


def from_document(content: dict[str, Any]) -> ByteLevelBPE:
    """Read the content of a published ``tokenizer.json``, or refuse it with `OctavoError`."""
    tokenizer = ByteLevelBPE(*tokenizer_json.read(content))
    tokenizer._engine  # noqa: B018 - made now, so that inconsistent merges are refused on reading
    return tokenizer


def _splits(tokens: Sequence[bytes], ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Each way to join two tokens into a third, in the order of the thirds."""
    lengths = sorted({len(token) for token in tokens})
    for token in tokens:
        for length in lengths:
            if length >= len(token):
                break
            left, right = token[:length], token[length:]
            if left in ranks and right in ranks:
                yield left, right
