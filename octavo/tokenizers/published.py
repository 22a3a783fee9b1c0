"""Byte-level byte-pair encoding as published models use it.

A tokenizer of this kind is its ``tokenizer.json`` and a table of the bytes of each token.
Encoding is the business of Hugging Face's Rust library, but for the first few prompts (`merging`);
decoding is a look-up in the table.

Tiktoken merges any two neighbours whose joined bytes are a token, the lowest rank first; the
JSON lists pairs to merge instead. `from_ranks` therefore lists every way of splitting each
token in two, in the order of the ranks, and asks for words that are tokens as they stand to
be taken whole, as tiktoken does. The two then agree on every text.

Special tokens written in a text are text, unless a caller who made the text himself (a chat template)
says otherwise. Not done here: adding special tokens to a text (BOS and the like).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.errors import OctavoError
from octavo.tokenizers import engine, fields, files, merging, post_processor, tokenizer_json
from octavo.tokenizers.interface import Ids, checked, checked_one, id_dtype
from octavo.tokenizers.patterns import GPT2, STEPS, ascii_twin, blocks, canonical, chunks, well_formed

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine

_SHORT = 10_000  # characters; below this, looking for repeated chunks costs more than it saves
_TOGETHER = 2_000  # chunks; the library is fastest on texts that fit in the processor's cache
_REMEMBERED = 1 << 19  # words and chunks; bounds the memory that a long text takes


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

    @cached_property
    def end_of_text(self) -> int | None:
        """The id of the special token that stands between documents, by the names it has been given."""
        return fields.end_of_text(self.document)

    @cached_property
    def begins_with(self) -> tuple[int, ...]:
        """The ids that the model expects before a text, such as that of ``<s>``; `encode` adds none."""
        return post_processor.around(self.document["post_processor"])[0]

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of `text`; lone surrogates are read as U+FFFD, special tokens as text unless `special`.

        Bytes for which a published vocabulary has no token are left out, as its own library does.
        """
        text = well_formed(text)
        if special:
            return engine.ids(self._recognising, text)
        if len(text) < _SHORT or not self.local:
            return self._encode_whole(text)
        known: dict[str, bytes] = {}
        return [id for block in blocks(text) for id in self.encode_many([block], known)[0].tolist()]

    def encode_many(self, texts: Sequence[str], known: dict[str, bytes] | None = None) -> list[Ids]:
        """The ids of each text, no longer than a block at best; `known` is filled with the ids of words.

        What occurs again is encoded once, which is exact: words are what merging sees, and chunks
        begin where words do.
        """
        texts = [well_formed(text) for text in texts]
        if not (self.local and self._exact):
            return [np.array(self._encode_whole(text), self._dtype) for text in texts]
        known = {} if known is None else known
        if len(known) > _REMEMBERED:
            known.clear()
        found = [self._parts(text) for text in texts]
        distinct: set[str] = set().union(*found)
        self._learn({part for part in distinct if part not in known}, known)
        return [np.frombuffer(b"".join(map(known.__getitem__, part)), self._dtype) for part in found]

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
        """The ids of a text that is well formed, by the definition before anything calls for the library."""
        made = "_engine" in self.__dict__
        found = None if made or len(text) > merging.FEW else self._merging.encode(text)
        return engine.ids(self._engine, text) if found is None else found

    @cached_property
    def _merging(self) -> merging.Merging:
        return merging.Merging(self.document)

    def _parts(self, text: str) -> list[str]:
        """The words of a text where it is ASCII, chunks where it is not."""
        words = self._ascii_words
        if words is None:
            return chunks(text)
        if text.isascii():
            return words(text)
        runs = groupby(chunks(text), str.isascii)
        return [part for ascii, run in runs for part in (words("".join(run)) if ascii else run)]

    def _learn(self, new: set[str], known: dict[str, bytes]) -> None:
        """Add the ids of words of ASCII and of chunks to `known`."""
        words = {part for part in new if part.isascii()} if self._ascii_words is not None else set()
        merge, dtype = self._engine.model.tokenize, self._dtype
        for word in words:
            ids = [token.id for token in merge(word.translate(tokenizer_json.SPELLING))]
            known[word] = np.array(ids, dtype).tobytes()
        inner = {part for part in new - words if _inner(part)}
        for part in new - words - inner:
            known[part] = np.array(self._encode_whole(part), self._dtype).tobytes()
        self._learn_together(list(inner), known)

    def _learn_together(self, new: list[str], known: dict[str, bytes]) -> None:
        """Encode many inner chunks as one text, as that is quickest, and add the ids of each to `known`."""
        for start in range(0, len(new), _TOGETHER):
            part = new[start : start + _TOGETHER]
            ids = np.array(self._encode_whole("".join(part)), self._dtype)
            # Tokens lose no byte, so the bytes up to each chunk's end tell its last token.
            token_ends = np.cumsum(self._lengths[ids])
            chunk_ends = np.cumsum([len(chunk.encode()) for chunk in part])
            stops = (self._dtype.itemsize * (np.searchsorted(token_ends, chunk_ends) + 1)).tolist()
            written = ids.tobytes()
            for chunk, i, j in zip(part, [0, *stops], stops, strict=False):
                known[chunk] = written[i:j]

    @cached_property
    def _lengths(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.fromiter(map(len, self.tokens), np.int64, len(self.tokens))

    @property
    def _dtype(self) -> np.dtype[Any]:
        return id_dtype(len(self))

    @cached_property
    def local(self) -> bool:
        """Whether blocks encode independently: nothing is put before a text or reaches over a space."""
        steps = tokenizer_json.parts(self.document["pre_tokenizer"])
        splits = [step["pattern"]["Regex"] if step["type"] == "Split" else None for step in steps]
        return (
            (any(splits) or any(step.get("use_regex") for step in steps))  # else merges reach
            and not STEPS.intersection(splits)
            and not any(step.get("add_prefix_space") for step in steps)
            and not any(
                token["lstrip"] or token["rstrip"] or any(map(str.isspace, token["content"]))
                for token in self._recognised
            )
        )

    @cached_property
    def _exact(self) -> bool:
        """Whether the tokens of a text spell exactly its bytes."""
        vocab = self.document["model"]["vocab"]
        normalizes = self.document["normalizer"] is not None
        return not (self._recognised or normalizes or tokenizer_json.lacks_bytes(vocab))

    @cached_property
    def _ascii_words(self) -> Callable[[str], list[str]] | None:
        """What splits ASCII into the words that are merged, if one pattern does."""
        steps = tokenizer_json.parts(self.document["pre_tokenizer"])
        splits = [step["pattern"]["Regex"] if step["type"] == "Split" else None for step in steps[:-1]]
        splits += [GPT2] if steps[-1]["use_regex"] else []
        return ascii_twin(splits[0]).findall if len(splits) == 1 and splits[0] is not None else None

    @property
    def _recognised(self) -> list[dict[str, Any]]:
        """The added tokens that are found in texts: those that are not special."""
        return [token for token in self.document["added_tokens"] if not token["special"]]

    @cached_property
    def _engine(self) -> Engine:
        """Hugging Face's tokenizer, made once and only when needed."""
        return engine.make(self.document)

    @cached_property
    def _recognising(self) -> Engine:
        return engine.recognising(self._engine)


def _inner(chunk: str) -> bool:
    """Whether chunks like this one, in any order, make a text that is cut between them."""
    return chunk[0] == " " and not chunk[1:2].isspace() and not chunk[-1].isspace()


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
    tokens = fields.dense({id: token for token, id in ranks.items()}, len(ranks))
    specials = fields.dense(
        {id: token for token, id in special_tokens.items()}, len(special_tokens), len(tokens)
    )
    if b"" in ranks or any(not content or content != well_formed(content) for content in specials):
        raise OctavoError("tokens must not be empty, and special ones must be valid Unicode")
    missing = [i for i in range(256) if bytes([i]) not in ranks]
    if missing:
        raise OctavoError(f"ranks must hold all 256 single bytes, byte {missing[0]} is missing")
    made = tokenizer_json.make(tokens, specials, _splits(tokens, ranks), canonical(pattern))
    fields.written(made["model"]["vocab"], made["added_tokens"])  # refuses what is a token and special
    return ByteLevelBPE((*tokens, *(content.encode() for content in specials)), made)


def from_document(content: dict[str, Any]) -> ByteLevelBPE:
    """Read the content of a published ``tokenizer.json``, or refuse it with `OctavoError`."""
    return ByteLevelBPE(*tokenizer_json.read(content))


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
