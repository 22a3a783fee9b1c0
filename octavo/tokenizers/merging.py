"""Byte-pair encoding by its definition (Sennrich et al. 2016, algorithm 1; on bytes as in GPT-2).

A text is split into words by a pattern, or by several in turn, and a word into the letters of its bytes. Of
all neighbours that are in the list of merges, those that come first in it become one token, the leftmost
first; and again, until there are none.

Hugging Face's library does the same, much faster, once it has a vocabulary of its own, and making that takes
longer than encoding a prompt here. So the first few thousand characters are encoded by the definition; a
property test holds the two equal. Only ASCII is: on what else is a letter, engines disagree as Unicode grows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

from octavo.tokenizers import pre_tokenizers, tokenizer_json
from octavo.tokenizers.patterns import DIGIT, DIGITS, NAMES, THREE_DIGITS, UP_TO_THREE_DIGITS, ascii_twin

FEW = 4_000  # characters; as many take an eighth of the time in which the library is made for SmolLM2
LONGEST = 100  # characters of a word; trying every two neighbours takes the square of its length
ASCII = {*NAMES, DIGIT, DIGITS, UP_TO_THREE_DIGITS, THREE_DIGITS}
"""The patterns that say the same of ASCII without Unicode's classes."""


class Merging:
    """What encodes the first few texts of a tokenizer, given as its `tokenizer.json` in canonical form."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        model, before = document["model"], document["pre_tokenizer"]
        patterns = pre_tokenizers.patterns(before)
        joined = any(step.get("add_prefix_space") for step in tokenizer_json.parts(before))
        self.left = FEW if ASCII.issuperset(patterns) and not joined else 0
        self.splits = [ascii_twin(pattern) for pattern in patterns] if self.left else []
        self.vocab, self.whole, self.merges = model["vocab"], model["ignore_merges"], model["merges"]
        self.apart = [token["content"] for token in document["added_tokens"] if not token["special"]]

    @cached_property
    def ranks(self) -> dict[tuple[str, ...], int]:
        """Where in the list each merge is, made for the first text that is encoded here."""
        return {pair: rank for rank, pair in enumerate(self.merges)}

    def encode(self, text: str) -> list[int] | None:
        """The ids of a text, with nothing put around it; None if it is one for the library."""
        if len(text) > self.left or not text.isascii() or any(token in text for token in self.apart):
            return None
        found = list[str]()
        for word in words(text, self.splits):
            if len(word) > LONGEST:
                return None
            letters = word.translate(tokenizer_json.SPELLING)
            found += [letters] if self.whole and letters in self.vocab else merged(letters, self.ranks)
        self.left -= len(text)
        ids = [self.vocab.get(token) for token in found]
        return None if None in ids else ids  # a byte without a token


def words(text: str, splits: Iterable[re.Pattern[str]]) -> list[str]:
    """A text split by one pattern after the other: what it matches, and what stands between.

    Examples
    --------
    >>> words("in 1999", [re.compile("[0-9]"), re.compile(" ?[a-z]+| ")])
    ['in', ' ', '1', '9', '9', '9']
    """
    parts = [text]
    for split in splits:
        parts = [part for whole in parts for part in isolated(whole, split)]
    return parts


def isolated(text: str, split: re.Pattern[str]) -> Iterator[str]:
    """The parts of a text, of which a pattern matches some."""
    at = 0
    for found in split.finditer(text):
        if at < found.start():
            yield text[at : found.start()]
        yield found[0]
        at = found.end()
    if at < len(text):
        yield text[at:]


def merged(letters: str, ranks: Mapping[tuple[str, ...], int]) -> list[str]:
    """The tokens of a word.

    Examples
    --------
    >>> merged("lower", {("l", "o"): 0, ("lo", "w"): 1, ("e", "r"): 2})
    ['low', 'er']
    """
    tokens = [*letters]
    while len(tokens) > 1:
        rank, at = min((ranks.get(pair, math.inf), at) for at, pair in enumerate(pairwise(tokens)))
        if rank == math.inf:
            break
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
    return tokens
