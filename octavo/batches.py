"""Which tokens a training step learns from, and which tokens measure it.

A batch is a pure function of the seed and the step, so that any step can be replayed and a run that was
stopped goes on where it was. Ids may lie on the disk (`numpy.memmap`): only what is asked for is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from octavo.nn import Array

AT_ONCE = 2**22  # ids that are counted at once


def window_starts(length: int, batch: int, context: int, seed: int, step: int) -> Array:
    """Where the windows of a step (the first is 1) begin in a text of `length` ids -> [batch].

    The text is gone through window by window in a random order, each time cut at other places; an order
    takes 8 bytes a window.

    Examples
    --------
    >>> [window_starts(13, batch=2, context=3, seed=0, step=step).tolist() for step in (1, 2, 3)]
    [[9, 3], [6, 5], [2, 8]]
    """
    count = max((length - context) // context, 1)  # windows in an epoch, wherever the first begins
    numbers = np.arange((step - 1) * batch, step * batch)
    starts = np.empty(batch, np.int64)
    for epoch in range(numbers[0] // count, numbers[-1] // count + 1):
        here = numbers // count == epoch
        starts[here] = _epoch(length, context, count, seed, epoch)[numbers[here] % count]
    return starts


@lru_cache(maxsize=2)
def _epoch(length: int, context: int, count: int, seed: int, epoch: int) -> Array:
    """Where the windows of an epoch begin, in the order of learning -> [count]."""
    rng = np.random.default_rng((seed, epoch))
    first = rng.integers(length - count * context)
    return first + context * rng.permutation(count)


def windows(ids: Array, starts: Array, context: int) -> Array:
    """The ``context + 1`` ids from each of `starts` [...] on -> int32 [..., context + 1].

    Examples
    --------
    >>> windows(np.arange(9), np.array([0, 5]), context=3)
    array([[0, 1, 2, 3],
           [5, 6, 7, 8]], dtype=int32)
    """
    return np.asarray(ids[starts[..., None] + np.arange(context + 1)], np.int32)


class HeldOut:
    """A text that measures a model, in disjoint windows, each read from an empty memory.

    Parameters
    ----------
    ids : array [N]
        Of its tokens every one but the first is predicted once.
    context : int
        Tokens in a window; the last window may be shorter.
    lengths : array [V]
        The bytes of each token of the vocabulary.
    uncounted : sequence of int
        Ids that are read and not predicted: what stands before each document.

    Examples
    --------
    >>> text = HeldOut(np.arange(6), context=3, lengths=np.ones(6))
    >>> for windows, counted in text.batches(size=2):
    ...     print(windows.tolist(), counted.astype(int).tolist())
    [[0, 1, 2, 3], [3, 4, 5, 5]] [[1, 1, 1], [1, 1, 0]]
    """

    def __init__(self, ids: Array, context: int, lengths: Array, uncounted: Sequence[int] = ()) -> None:
        self.ids, self.context, self.uncounted = ids, max(min(context, len(ids) - 1), 1), list(uncounted)
        self.starts = np.arange(0, len(ids) - 1, self.context)
        parts = (ids[at : at + AT_ONCE] for at in range(1, len(ids), AT_ONCE))
        times = sum(
            (np.bincount(part, minlength=len(lengths)) for part in parts), np.zeros(len(lengths), int)
        )
        self.tokens = int(times.sum() - times[self.uncounted].sum())
        self.bytes = float(times @ lengths)

    def sample(self, tokens: int) -> Array:
        """Where windows begin that hold about so many tokens, evenly spread; all if there are no more."""
        keep = max(tokens // self.context, 1)
        if keep >= len(self.starts):
            return self.starts
        return self.starts[np.linspace(0, len(self.starts) - 2, keep).astype(int)]  # the last may be short

    def batches(self, size: int, starts: Array | None = None) -> Iterator[tuple[Array, Array]]:
        """Windows [size, T + 1], and which of the T next tokens of each count, booleans [size, T].

        What fills up the last batch counts nothing.
        """
        starts = self.starts if starts is None else starts
        end = len(self.ids) - 1
        for at in range(0, len(starts), size):
            batch = starts[at : at + size]
            batch = np.concatenate([batch, np.full(size - len(batch), end)])
            where = batch[:, None] + np.arange(self.context + 1)
            windows = np.asarray(self.ids[np.minimum(where, end)], np.int32)
            yield windows, (where[:, 1:] <= end) & ~np.isin(windows[:, 1:], self.uncounted)

    def bits_per_byte(self, loss: float) -> float:
        """Of a loss in nats per token."""
        return loss * self.tokens / max(self.bytes, 1.0) / float(np.log(2))
