"""How well a model predicts a text: log-likelihood, perplexity, bits per byte.

A recurrent model reads the text from its beginning and carries its state along. A Transformer reads
windows of its context that overlap by half, and each window counts only its new tokens, so every
token but those of the first window is predicted from at least half a context. A text that fits into
one window is therefore scored exactly as one pass over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from octavo import nn
from octavo.errors import OctavoError
from octavo.model import Model

CHUNK = 256  # tokens a recurrent model reads at once


@dataclass(frozen=True)
class Score:
    """Sums over the predicted tokens: all but the first, which nothing precedes.

    Attributes
    ----------
    nats : float
        The negative log-likelihood of the text after its first token.
    tokens, chars, bytes : int
        How much text that is.
    per_token : array [tokens]
        The nats of each token.
    """

    nats: float
    tokens: int
    chars: int
    bytes: int
    per_token: nn.Array = field(repr=False, compare=False)

    @property
    def perplexity(self) -> float:
        """Per token: ``exp(nats / tokens)``."""
        return float(np.exp(self.nats / self.tokens))

    @property
    def per_char(self) -> float:
        """Perplexity per character: ``exp(nats / chars)``."""
        return float(np.exp(self.nats / self.chars)) if self.chars else float("nan")

    @property
    def bits_per_byte(self) -> float:
        """``nats / (bytes ln 2)``."""
        return float(self.nats / (self.bytes * np.log(2))) if self.bytes else float("nan")


def score(model: Model, text: str, *, limit: int | None = None) -> Score:
    """Measure how well the model predicts a text.

    Parameters
    ----------
    model : Model
        What predicts; it needs a tokenizer.
    text : str
        At least two tokens of it.
    limit : int, optional
        Predict only this many tokens, from the beginning.

    Returns
    -------
    Score
        For a character model limited to m, `perplexity` is ``exp(-(1/m) sum log p(a[i+1] | a[..i]))``
        from a zero state.

    Raises
    ------
    OctavoError
        If the text has fewer than two tokens, or characters that the tokenizer does not know.

    Examples
    --------
    >>> import octavo
    >>> s = octavo.score(octavo.load("christie-rnn"), "hercule poirot", limit=13)
    >>> s.tokens, s.chars, s.bytes, bool(1 < s.perplexity < 41)
    (13, 13, 13, True)
    """
    if limit is not None and limit < 1:
        raise OctavoError(f"limit is the number of tokens to predict, at least 1, not {limit}")
    tokenizer = model.text_tokenizer()
    ids = tokenizer.encode(text)[: None if limit is None else limit + 1]
    if len(ids) < 2:
        raise OctavoError(f"a text to score has at least two tokens; this one has {len(ids)}")
    per_token = np.concatenate(list(losses(model, np.asarray(ids))))
    if not np.isfinite(per_token).all():
        raise OctavoError("the model's logits are not numbers; are its weights damaged?")
    written = np.frombuffer(tokenizer.decode_bytes(ids[1:]), np.uint8)
    characters = int(np.count_nonzero((written & 0xC0) != 0x80))  # every byte but UTF-8's continuations
    return Score(float(per_token.sum(dtype=np.float64)), len(ids) - 1, characters, len(written), per_token)


def losses(model: Model, ids: nn.Array) -> Iterator[nn.Array]:
    """The nats of ids[1:], in order, a chunk at a time."""
    if model.context is None:
        state = None
        for start in range(0, len(ids) - 1, CHUNK):
            chunk = ids[start : start + CHUNK + 1]
            logits, state = model.forward(chunk[:-1], state)
            yield nats(logits, chunk[1:])
        return
    stride = max(model.context // 2, 1)
    done = 0  # ids[: done + 1] are behind us
    while done < len(ids) - 1:
        start = max(done - (model.context - stride), 0)
        window = ids[start : start + model.context + 1]
        logits, _ = model.forward(window[:-1])
        fresh = nats(logits, window[1:])[done - start :]
        yield fresh
        done += len(fresh)


def nats(logits: nn.Array, targets: nn.Array) -> nn.Array:
    """``-log p(target)`` from logits [T, V] and targets [T] -> [T], in float64 where NumPy computes it."""
    logits = np.asarray(logits, np.float64)
    return -np.take_along_axis(nn.log_softmax(logits), targets[:, None], axis=-1)[:, 0]
