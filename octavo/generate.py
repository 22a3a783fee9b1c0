"""The ladder: `tokens` yields ids, `pieces` and `stream` yield text, `generate` joins it.

Closing a generator on any rung ends the work. `octavo.decoding` is the lowest rung.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from typing import Literal, NamedTuple, Unpack

from octavo.decoding import Memory, SamplingOptions, Token, tokens
from octavo.errors import OctavoError
from octavo.model import Model

__all__ = ["Piece", "Token", "continued", "generate", "pieces", "stream", "tokens"]

RECURRENT_LIMIT = 500  # tokens a model without a context writes when nobody says how many


class Piece(NamedTuple):
    """Text that has become certain, the tokens drawn since the last piece, and why it ends, if it does."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: Literal["stop", "length"] | None


def pieces(
    model: Model,
    prompt: str,
    *,
    limit: int | None = None,
    stop: Sequence[str | int] = (),
    **options: Unpack[SamplingOptions],
) -> Iterator[Piece]:
    """Like `stream`, with the tokens behind each piece of text and the reason of the end.

    The last piece, and only it, has a `finish_reason`: "stop" or "length".
    """
    if not prompt:
        raise OctavoError("the prompt is empty; give at least one character to continue from")
    tokenizer = model.text_tokenizer()
    ids = [*tokenizer.begins_with, *tokenizer.encode(prompt)]
    return continued(model, ids, limit=limit, stop=stop, **options)


def continued(
    model: Model,
    ids: Sequence[int],
    *,
    limit: int | None = None,
    stop: Sequence[str | int] = (),
    memory: Memory | None = None,
    **options: Unpack[SamplingOptions],
) -> Iterator[Piece]:
    """Like `pieces`, from the ids of a prompt, and with what was read before (see `tokens`)."""
    tokenizer = model.text_tokenizer()
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, Collection):
        raise OctavoError(f"stop is a collection of strings and token ids, not {stop!r}")
    if any(text == "" for text in stop):
        raise OctavoError("a stop string has at least one character")
    if limit is None:
        limit = max(model.context - len(ids), 32) if model.context else RECURRENT_LIMIT
        if model.longest is not None:
            limit = min(limit, max(model.longest - len(ids) + 1, 0))
    if unread := range(tokenizer.vocab_size, model.vocab_size):  # ids that no text has are never drawn
        options["logit_bias"] = {**(options.get("logit_bias") or {}), **dict.fromkeys(unread, -math.inf)}
    ends = [*(s for s in stop if not isinstance(s, str)), *model.ends]
    drawn = tokens(model, ids, limit=limit, stop=ends, memory=memory, **options)
    return _decode(drawn, limit, model, [s for s in stop if isinstance(s, str)])


def _decode(drawn: Iterator[Token], limit: int, model: Model, stop: Sequence[str]) -> Iterator[Piece]:
    token_bytes = model.text_tokenizer().token_bytes
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held, waiting, count = "", [], 0  # text that may begin a stop string; tokens not yet in a piece
    with closing(drawn):  # type: ignore[type-var]
        for token in drawn:
            count += 1
            waiting.append(token)
            held += decoder.decode(token_bytes(token.id))
            # The stop string that is complete first, wherever tokens begin and end; of two, the longer.
            if found := [(at + len(text), at) for text in stop if (at := held.find(text)) >= 0]:
                yield Piece(held[: min(found)[1]], tuple(waiting), "stop")
                return
            certain = len(held) - _overlap(held, stop)
            if certain:
                yield Piece(held[:certain], tuple(waiting), None)
                held, waiting = held[certain:], []
    yield Piece(held, tuple(waiting), "length" if count == limit else "stop")


def _overlap(text: str, stop: Sequence[str]) -> int:
    """How long an end of `text` may be the beginning of a stop string."""
    longest = max((len(s) for s in stop), default=1) - 1
    return next((n for n in range(min(longest, len(text)), 0, -1) if _begins(text[-n:], stop)), 0)


def _begins(text: str, stop: Sequence[str]) -> bool:
    return any(s.startswith(text) for s in stop)


def stream(
    model: Model,
    prompt: str,
    *,
    limit: int | None = None,
    stop: Sequence[str | int] = (),
    **options: Unpack[SamplingOptions],
) -> Iterator[str]:
    """Write on from a prompt, yielding text as soon as it is certain.

    The prompt is the beginning of a text: what the tokenizer's model expects there (`begins_with`, such as
    Llama's ``<s>``) is put before it. Special tokens written in it are text.

    Parameters
    ----------
    model : Model
        What writes; it needs a tokenizer.
    prompt : str
        At least one character.
    limit : int, optional
        The most tokens to write; by default what is left of the model's context (500 tokens if it
        has none).
    stop : sequence of str or int
        Strings (or token ids) that end the text, besides the tokens that do so for the model
        (`Model.ends`). Nothing of them is yielded.
    **options
        As for `tokens`.

    Yields
    ------
    str
        Whole characters only; bytes that are no UTF-8 become U+FFFD, and a character that the limit
        cuts in two is left out.

    Raises
    ------
    OctavoError
        As `tokens`, or if the tokenizer does not know a character of the prompt.

    Examples
    --------
    >>> import octavo
    >>> model = octavo.load("christie-rnn")
    >>> "".join(octavo.stream(model, "mr. ing", limit=10, temperature=0, stop=[" "]))
    'lethorp'
    """
    return (piece.text for piece in pieces(model, prompt, limit=limit, stop=stop, **options) if piece.text)


def generate(
    model: Model,
    prompt: str,
    *,
    limit: int | None = None,
    stop: Sequence[str | int] = (),
    **options: Unpack[SamplingOptions],
) -> str:
    """The whole continuation of a prompt; takes what `stream` takes.

    Examples
    --------
    >>> import octavo
    >>> octavo.generate(octavo.load("christie-rnn"), "poi", limit=3, temperature=0)
    'rot'
    """
    return "".join(stream(model, prompt, limit=limit, stop=stop, **options))
