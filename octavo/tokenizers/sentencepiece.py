"""SentencePiece's byte pairs and unigram model (Kudo and Richardson 2018), as published models use them.

A tokenizer of this kind is its ``tokenizer.json`` and a table of the bytes of each token. Encoding is the
business of Hugging Face's Rust library; decoding is a look-up in the table, but for the space that such
a tokenizer may put before a text: it is taken away again where a text begins, and only there. So `decode` and
`decode_bytes` read their ids as the beginning of a text, and `token_bytes` says what a token
stands for anywhere else, as in a text that is written on.

Not done here: tables of characters to be replaced (``Precompiled``), which none of these families has.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.tokenizers import engine, fields, files, post_processor, sentencepiece_json
from octavo.tokenizers.interface import Ids, checked, checked_one, id_dtype
from octavo.tokenizers.patterns import well_formed

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine


@dataclass(frozen=True, repr=False)
class SentencePiece:
    """Byte-pair encoding or a unigram model over characters; made by `from_document` or from a GGUF file.

    Parameters
    ----------
    tokens : tuple of bytes
        The bytes of each id inside a text.
    document : dict
        The content of ``tokenizer.json``, as `sentencepiece_json` writes it.
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

    @property
    def local(self) -> bool:
        """False: no pattern keeps merges from reaching over a space, and a space may be put before a text."""
        return False

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of `text`; lone surrogates are read as U+FFFD, special tokens as text unless `special`."""
        return engine.ids(self._recognising if special else self._engine, well_formed(text))

    def encode_many(self, texts: Sequence[str], known: dict[str, bytes] | None = None) -> list[Ids]:
        """The ids of each text; there are no words to remember in `known`."""
        return [np.array(self.encode(text), id_dtype(len(self))) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text that begins with `ids`; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of the text that begins with `ids`, less the space put before it."""
        joined = b"".join(map(self.tokens.__getitem__, checked(ids, len(self)).tolist()))
        return joined.removeprefix(b" ") if self._strips else joined

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token inside a text."""
        return self.tokens[checked_one(id, len(self))]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` to `path`."""
        files.write(path, self.document)

    def __repr__(self) -> str:
        """The size; the tokens would fill pages."""
        return f"SentencePiece(vocab_size={len(self)}, model={self.document['model']['type']!r})"

    @cached_property
    def _strips(self) -> bool:
        """Whether a space at the beginning is one that encoding has put there."""
        return sentencepiece_json.STRIP in self.document["decoder"]["decoders"]

    @cached_property
    def _engine(self) -> Engine:
        """Hugging Face's tokenizer, made once and only when needed."""
        return engine.make(self.document)

    @cached_property
    def _recognising(self) -> Engine:
        return engine.recognising(self._engine)


def from_document(content: dict[str, Any]) -> SentencePiece:
    """Read the content of a published ``tokenizer.json``, or refuse it with `OctavoError`."""
    tokenizer = SentencePiece(*sentencepiece_json.read(content))
    tokenizer._engine  # noqa: B018 - made now, so that what is inconsistent is refused on reading
    return tokenizer
