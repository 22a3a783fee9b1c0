"""One id per character.

The vocabulary is the characters that occur in a text, sorted by code point, as character
RNNs have numbered them since Karpathy's char-rnn. Its ``tokenizer.json`` is a ``WordLevel``
model behind a split into single characters; reading and writing it needs no library. One more token may
stand between documents.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from octavo.errors import OctavoError
from octavo.tokenizers import fields, files
from octavo.tokenizers.interface import Ids, checked, checked_one, id_dtype

END = fields.END_OF_TEXT[0]

# All of the file but the vocabulary and `END`. "[\s\S]" because "." leaves out the newline; "Fuse"
# because the default decoder puts spaces between words; an unknown character is an error
# in Hugging Face's library too, as "<unk>" is never in a vocabulary of single characters.
FRAME: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "normalizer": None,
    "pre_tokenizer": {
        "type": "Split",
        "pattern": {"Regex": r"[\s\S]"},
        "behavior": "Isolated",
        "invert": False,
    },
    "post_processor": None,
    "decoder": {"type": "Fuse"},
}


@dataclass(frozen=True)
class Char:
    """A character tokenizer; the id of a character is its place in `alphabet`.

    Parameters
    ----------
    alphabet : str
        The distinct characters.
    ends : bool
        Whether there is a token that ends a document, whose id comes after those of the characters.

    Raises
    ------
    OctavoError
        An empty alphabet, a repeated character, or a lone surrogate (no UTF-8 exists for it).

    Examples
    --------
    >>> from octavo.tokenizers.chars import Char
    >>> Char("abc").encode("cab")
    [2, 0, 1]
    """

    alphabet: str
    ends: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible alphabets."""
        if not self.alphabet:
            raise OctavoError("a character tokenizer needs at least one character, found an empty text")
        if len(set(self.alphabet)) != len(self.alphabet):
            raise OctavoError("the characters of an alphabet must be distinct")
        for character in self.alphabet:
            if 0xD800 <= ord(character) < 0xE000:
                raise OctavoError(f"lone surrogate {_named(character)} in the text: it is not valid Unicode")

    @property
    def vocab_size(self) -> int:
        """The number of characters, and of what ends a document."""
        return len(self)

    def __len__(self) -> int:
        """The same number."""
        return len(self.alphabet) + self.ends

    @property
    def end_of_text(self) -> int | None:
        """The id that ends a document, if there is one."""
        return len(self.alphabet) if self.ends else None

    @property
    def begins_with(self) -> tuple[int, ...]:
        """Nothing: there is no id for it."""
        return ()

    @property
    def local(self) -> bool:
        """True: a character is encoded alone."""
        return True

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of the characters of `text`, or `OctavoError` naming the first unknown one.

        ``<|endoftext|>`` is text too, unless what is `special` is looked for.
        """
        first, *others = text.split(END) if special and self.ends else [text]
        ids: list[int] = self._ids(first).tolist()
        for part in others:
            ids += [len(self.alphabet), *self._ids(part).tolist()]
        return ids

    def encode_many(self, texts: Sequence[str], known: dict[str, bytes] | None = None) -> list[Ids]:
        """The ids of each text; there are no words to remember in `known`."""
        return [self._ids(text, place="").astype(id_dtype(len(self))) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`."""
        if self.ends:
            return "".join(map([*self.alphabet, END].__getitem__, checked(ids, len(self)).tolist()))
        points = _code_points(self.alphabet)[checked(ids, len(self))]
        return points.tobytes().decode("utf-32-le")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The text of `ids` in UTF-8."""
        return self.decode(ids).encode()

    def token_bytes(self, id: int) -> bytes:
        """The character of one id in UTF-8."""
        known = checked_one(id, len(self))
        return (END if known == self.end_of_text else self.alphabet[known]).encode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` to `path`."""
        vocabulary = {character: id for id, character in enumerate(self.alphabet)}
        model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
        files.write(path, {**FRAME, "added_tokens": _added(self), "model": model})

    def __repr__(self) -> str:
        """Size and first characters."""
        shown = self.alphabet if len(self) <= 24 else self.alphabet[:24] + "…"
        return f"Char(vocab_size={len(self)}, alphabet={shown!r})"

    def _ids(self, text: str, place: str = " at position {}") -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        # The last entry of the table stands for every code point above the alphabet's largest.
        ids = self._id_of.take(_code_points(text), mode="clip")
        if ids.size and ids.min() < 0:
            at = int(ids.argmin())
            raise OctavoError(
                f"unknown character {_named(text[at])}{place.format(at)}: it is not among the "
                f"{len(self)} characters of this tokenizer; remove it or make a tokenizer of more text"
            )
        return ids

    @cached_property
    def _id_of(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """The id of each code point, -1 where there is none."""
        points = _code_points(self.alphabet)
        table = np.full(int(points.max()) + 2, -1, np.int32)
        table[points] = np.arange(len(points))
        return table


def char(text: str | Iterable[str], *, end_of_text: bool = False) -> Char:
    r"""The character tokenizer of a text: its distinct characters in the order of their code points.

    Parameters
    ----------
    text : str or iterable of str
        Any text that holds every character to be known, whole or in parts that are read one by one.
    end_of_text : bool
        Whether there is to be one more token, ``<|endoftext|>``, which stands between documents.

    Returns
    -------
    Char
        The ids of the characters run from 0 to their number less one.

    Raises
    ------
    OctavoError
        The text is empty or holds lone surrogates.

    Examples
    --------
    >>> import octavo.tokenizers
    >>> tok = octavo.tokenizers.char("to be\n")
    >>> tok
    Char(vocab_size=6, alphabet='\n beot')
    >>> tok.encode("bet\n"), tok.decode([5, 4])
    ([2, 3, 5, 0], 'to')
    """
    # Sorting a set is quicker than np.unique of the whole text: the set is built in one pass.
    characters: set[str] = set()
    for part in (text,) if isinstance(text, str) else text:
        characters.update(part)
    return Char("".join(sorted(characters)), end_of_text)


def is_char(document: dict[str, Any]) -> bool:
    """Whether a ``tokenizer.json`` is of this kind."""
    model = document.get("model")
    return (
        isinstance(model, dict)
        and model.get("type") == "WordLevel"
        and document.get("pre_tokenizer") == FRAME["pre_tokenizer"]
    )


def from_document(document: dict[str, Any]) -> Char:
    """Read back what `Char.save` wrote."""
    if any(document.get(key) != value for key, value in FRAME.items() if key != "version"):
        raise OctavoError("not a character tokenizer as octavo writes it: more than its vocabulary differs")
    vocabulary = document["model"].get("vocab")
    if not isinstance(vocabulary, dict) or any(len(character) != 1 for character in vocabulary):
        raise OctavoError("a character tokenizer's vocab must map single characters to ids")
    ids = list(vocabulary.values())
    if any(type(id) is not int for id in ids) or sorted(ids) != list(range(len(ids))):
        raise OctavoError(f"the ids of {len(ids)} characters must be 0 to {len(ids) - 1}, each once")
    read = Char("".join(sorted(vocabulary, key=vocabulary.__getitem__)), bool(document.get("added_tokens")))
    if read.ends and document["added_tokens"] != _added(read):
        raise OctavoError(f"the one token that a character tokenizer has beside its characters is {END}")
    return read


def _added(tokenizer: Char) -> list[dict[str, Any]]:
    return [fields.added(len(tokenizer.alphabet), END)] if tokenizer.ends else []


def _code_points(text: str) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _named(character: str) -> str:
    return f"{character!r} (U+{ord(character):04X})"
