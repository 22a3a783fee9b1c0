"""Between tokens and text: what is asked of `octavo.tokens` for a text, and text as it becomes certain."""

from __future__ import annotations

import codecs
import math
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, TypeAlias

from octavo.decoding import DecodingOptions
from octavo.errors import OctavoError
from octavo.model import Model
from octavo.sample import Token

RECURRENT_LIMIT = 500  # tokens a model without a context writes when nobody says how many
LEAST = 32  # tokens that are written after a long prompt when nobody says how many

Stop: TypeAlias = Sequence[str | int]
FinishReason: TypeAlias = Literal["stop", "length"]


class Piece(NamedTuple):
    """Text that has become certain, the tokens drawn since the last piece, and why it ends, if it does."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason | None


class Plan(NamedTuple):
    """What `octavo.tokens` is asked for, and the strings that end the text."""

    limit: int
    stop: list[int]
    options: DecodingOptions
    strings: list[str]


def prompt_ids(model: Model, prompt: str) -> list[int]:
    """The ids of a prompt, which is the beginning of a text."""
    if not isinstance(prompt, str):
        raise OctavoError(f"a prompt is a text (str), not {prompt!r:.80}")
    if not prompt:
        raise OctavoError("the prompt is empty; give at least one character to continue from")
    tokenizer = model.text_tokenizer()
    return [*tokenizer.begins_with, *tokenizer.encode(prompt)]


def planned(model: Model, length: int, limit: int | None, stop: Stop, options: DecodingOptions) -> Plan:
    """The plan for a prompt of `length` tokens."""
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, Collection):
        raise OctavoError(f"stop is a collection of strings and token ids, not {stop!r}")
    if any(text == "" for text in stop):
        raise OctavoError("a stop string has at least one character")
    if limit is None:
        limit = max(model.context - length, LEAST) if model.context else RECURRENT_LIMIT
        if model.enforced is not None and not options.get("slide"):
            limit = min(limit, max(model.enforced - length + 1, 0))
    known = model.text_tokenizer().vocab_size
    if unread := range(known, model.vocab_size):  # ids that no text has are never drawn
        bias = {**(options.get("logit_bias") or {}), **dict.fromkeys(unread, -math.inf)}
        options = {**options, "logit_bias": bias}
    ends = [*(s for s in stop if not isinstance(s, str)), *model.ends]
    return Plan(limit, ends, options, [s for s in stop if isinstance(s, str)])


class Writer:
    """Makes text of tokens: what is certain of it, up to the first stop string.

    Examples
    --------
    >>> import octavo
    >>> model = octavo.load("christie-rnn")
    >>> writer = Writer(model, ["ot"])
    >>> found = [writer.add(Token(id, 0.0)) for id in model.tokenizer.encode("poirot")]
    >>> [piece.text for piece in found if piece], found[-1].finish_reason
    (['p', 'oi', 'r', ''], 'stop')
    """

    def __init__(self, model: Model, stop: Sequence[str]) -> None:
        self.token_bytes, self.stop = model.text_tokenizer().token_bytes, stop
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.held, self.waiting = "", list[Token]()  # what may begin a stop string; tokens not in a piece yet

    def add(self, token: Token) -> Piece | None:
        """The text that a token makes certain, if there is any; the last piece at a stop string."""
        self.waiting.append(token)
        self.held += self.decoder.decode(self.token_bytes(token.id))
        # The stop string that is complete first, wherever tokens begin and end; of two, the longer.
        if found := [(at + len(text), at) for text in self.stop if (at := self.held.find(text)) >= 0]:
            return Piece(self.held[: min(found)[1]], tuple(self.waiting), "stop")
        certain = len(self.held) - _overlap(self.held, self.stop)
        if not certain:
            return None
        piece = Piece(self.held[:certain], tuple(self.waiting), None)
        self.held, self.waiting = self.held[certain:], []
        return piece

    def end(self, finish_reason: FinishReason) -> Piece:
        """The last piece, of a text that no stop string ends."""
        return Piece(self.held, tuple(self.waiting), finish_reason)


def _overlap(text: str, stop: Sequence[str]) -> int:
    """How long an end of `text` may be the beginning of a stop string."""
    longest = max((len(s) for s in stop), default=1) - 1
    return next((n for n in range(min(longest, len(text)), 0, -1) if _begins(text[-n:], stop)), 0)


def _begins(text: str, stop: Sequence[str]) -> bool:
    return any(s.startswith(text) for s in stop)
