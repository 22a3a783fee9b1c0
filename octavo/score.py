"""How well a model predicts a text: log-likelihood, perplexity, bits per byte, by a stated protocol.

What is read and what counts is in `octavo.protocols`. By default a recurrent model reads the text from its
beginning and carries its state along (`whole`). A Transformer reads windows of its context that overlap by
half, and each window counts only its new tokens (`strided`), so every token but those of the first window
is predicted from at least half a context. A text that fits into one window is therefore scored exactly as
one pass over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice

import numpy as np

from octavo import fast, nn
from octavo.checks import is_whole
from octavo.errors import OctavoError
from octavo.model import Model
from octavo.prefill import Step
from octavo.protocols import Protocol, Window, choose

CHUNK = 256  # tokens that a recurrent model reads at once
AT_ONCE = 1024  # tokens of a batch of windows
LOGITS = 2**23  # of a batch
ATTENTION = 2**22  # scores of a batch, a head


@dataclass(frozen=True)
class Score:
    """Sums over the tokens that count, which are all but the first where the protocol leaves none out.

    Attributes
    ----------
    nats : float
        The negative log-likelihood of the tokens that count.
    tokens, chars, bytes : int
        How much text that is; of `rolling` the characters and bytes of the text as it was given.
    per_token : array [tokens]
        The nats of each token.
    protocol : Protocol
        How the text was read.
    words : int or None
        Of `rolling`, the words of the text: what is between white space, as lm-evaluation-harness counts.
    """

    nats: float
    tokens: int
    chars: int
    bytes: int
    per_token: nn.Array = field(repr=False, compare=False)
    protocol: Protocol
    words: int | None = None

    @property
    def perplexity(self) -> float:
        """Per token: ``exp(nats / tokens)``."""
        return float(np.exp(self.nats / self.tokens))

    @property
    def per_char(self) -> float:
        """Perplexity per character: ``exp(nats / chars)``."""
        return _exp(self.nats, self.chars)

    @property
    def bits_per_byte(self) -> float:
        """``nats / (bytes ln 2)``."""
        return float(self.nats / (self.bytes * np.log(2))) if self.bytes else float("nan")

    @property
    def byte_perplexity(self) -> float:
        """Per byte: ``exp(nats / bytes)``."""
        return _exp(self.nats, self.bytes)

    @property
    def word_perplexity(self) -> float:
        """Per word: ``exp(nats / words)``; not a number where words are not counted."""
        return _exp(self.nats, self.words)


def _exp(nats: float, count: int | None) -> float:
    with np.errstate(over="ignore"):  # of few words, infinite
        return float(np.exp(nats / count)) if count else float("nan")


def score(
    model: Model,
    text: str,
    *,
    protocol: str | None = None,
    window: int | None = None,
    stride: int | None = None,
    limit: int | None = None,
) -> Score:
    """Measure how well the model predicts a text.

    Parameters
    ----------
    model : Model
        What predicts; it needs a tokenizer.
    text : str
        At least two tokens of it; one is enough where the tokenizer or `rolling` puts one before it.
    protocol : {"whole", "strided", "rolling", "chunked"}, optional
        What is read and what counts, see `octavo.protocols`. By default `whole` of a recurrent model, and
        `strided` of a Transformer. `whole` refuses a text longer than a Transformer's context.
    window, stride : int, optional
        Sizes of the protocol, in tokens; see `octavo.protocols.choose`.
    limit : int, optional
        Read only so far as to predict this many tokens, from the beginning.

    Returns
    -------
    Score
        For a character model limited to m, `perplexity` is ``exp(-(1/m) sum log p(a[i+1] | a[..i]))``
        from a zero state.

    Raises
    ------
    OctavoError
        If the text has too few tokens, or characters that the tokenizer does not know, or if the protocol
        is none for this model.

    Examples
    --------
    >>> import octavo
    >>> s = octavo.score(octavo.load("christie-rnn"), "hercule poirot", limit=13)
    >>> s.tokens, s.chars, s.bytes, bool(1 < s.perplexity < 41), str(s.protocol)
    (13, 13, 13, True, 'whole')
    """
    if not isinstance(text, str):
        raise OctavoError(f"a text to score is a str, not {text!r:.80}")
    if limit is not None and (not is_whole(limit) or limit < 1):
        raise OctavoError(f"limit is the number of tokens to predict, at least 1, not {limit!r}")
    tokenizer = model.text_tokenizer()
    chosen = choose(model, protocol, window, stride)
    first = max(len(chosen.begin), 1)  # what comes before is not predicted
    ids = np.array([*chosen.begin, *tokenizer.encode(text)][: None if limit is None else limit + first])
    _check(model, chosen, len(ids), len(chosen.begin))
    per_token = np.concatenate([np.zeros(0), *losses(model, ids, chosen)])
    if not len(per_token):
        raise OctavoError(f"no token of this text counts by {chosen}; say a larger window")
    if not np.isfinite(per_token).all():
        raise OctavoError("the model's logits are not numbers; are its weights damaged?")
    counted = np.concatenate([ids[w.counted : w.stop] for w in chosen.windows(len(ids))]).tolist()
    written, words = tokenizer.decode_bytes(counted), None
    if chosen.name == "rolling":
        given = text if limit is None else tokenizer.decode(counted)
        written, words = given.encode("utf-8", "surrogatepass"), len(re.split(r"\s+", given))
    sums = (float(per_token.sum(dtype=np.float64)), len(per_token), _characters(written), len(written))
    return Score(*sums, per_token, chosen, words)


def _characters(written: bytes) -> int:
    """Every byte but UTF-8's continuations."""
    return int(np.count_nonzero((np.frombuffer(written, np.uint8) & 0xC0) != 0x80))


def _check(model: Model, protocol: Protocol, length: int, before: int) -> None:
    """Refuse a text of too few tokens, or too many to be read in one go."""
    if length < max(before, 1) + 1:
        least = "one token" if before else "two tokens"
        raise OctavoError(f"a text to score has at least {least}; this one has {length - before}")
    if protocol.name == "chunked" and length < (protocol.window or 0):
        raise OctavoError(
            f"{protocol} scores whole chunks; this text has {length:,} tokens, so say a smaller window"
        )
    if protocol.name == "whole" and model.context is not None and length - 1 > model.context:
        raise OctavoError(
            f"whole reads a text in one go: {length:,} tokens are more than the model's context of "
            f"{model.context:,}; use strided"
        )


def losses(model: Model, ids: nn.Array, protocol: Protocol | None = None) -> Iterator[nn.Array]:
    """The nats of the ids that count, in order, some at a time; `ids` have what begins a text before them."""
    protocol = protocol or choose(model)
    for windows in _batches(model, protocol.windows(len(ids))):
        rows = np.stack([ids[w.start : w.stop] for w in windows])
        if protocol.head is not None:
            rows[:, 0] = protocol.head
        yield from _read(model, rows, [w.counted - w.start - 1 for w in windows])


def _batches(model: Model, windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Windows of equal length, as many as one forward pass is to read."""
    for length, alike in groupby(windows, lambda w: w.stop - w.start):
        size = max(min(AT_ONCE // (length - 1), LOGITS // ((length - 1) * model.vocab_size)), 1)
        while batch := list(islice(alike, size)):
            yield batch


def _read(model: Model, rows: nn.Array, skipped: list[int]) -> Iterator[nn.Array]:
    """The nats of rows [B, T+1] of ids but the first `skipped` of each, row after row.

    One long row is read in pieces, so that neither its logits nor its attention take much memory.
    """
    time = rows.shape[1] - 1
    piece = max(LOGITS // model.vocab_size, 1)
    piece = min(piece, CHUNK if model.context is None else max(ATTENTION // time, 1))
    compiled = fast.compiled(model) if fast.pays(model) else None
    step: Step = compiled or model.forward
    piece = time if len(rows) > 1 else min(piece, time)
    state = model.init_state(len(rows), time) if compiled or piece < time else None
    for at in range(0, time, piece):
        targets = rows[:, at + 1 : at + piece + 1]
        logits, state = step(rows[:, at : min(at + piece, time)], state)
        for row, following, skip in zip(logits, targets, skipped, strict=True):
            if (skip := max(skip - at, 0)) < len(following):
                yield nats(row[skip:], following[skip:])


def nats(logits: nn.Array, targets: nn.Array) -> nn.Array:
    """``-log p(target)`` from logits [T, V] and targets [T] -> float64 [T]."""
    logits = np.asarray(logits)
    if logits.dtype not in (np.float32, np.float64):
        logits = logits.astype(np.float32)
    top = logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(logits, targets[:, None], axis=-1).astype(np.float64)
    total = np.exp(logits - top).sum(axis=-1, keepdims=True, dtype=np.float64)
    return (np.log(total) + top - chosen)[:, 0]
