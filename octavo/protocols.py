"""Protocols: which windows of a text a model reads to be scored, and which of their tokens count.

A perplexity says nothing without its protocol: the more a model sees before each token, the lower it is.

| protocol | the model reads | what counts |
|---|---|---|
| whole | the text from its beginning, in one go | every token but the first |
| strided | windows of `window` tokens, each `stride` further | in the first all but its first, then the new |
| rolling | disjoint windows of `window` tokens, each after the last token before it | every token |
| chunked | disjoint chunks of `window` tokens | those after the middle of each |

`strided` is the loop of Hugging Face's guide to perplexity, whose window is as long as the context.
`rolling` is what EleutherAI's lm-evaluation-harness asks of a model (`loglikelihood_rolling`): the first
token follows the token that begins a text, and the last window, so that it is as long as the others,
begins earlier. `chunked` is llama.cpp's `llama-perplexity`: 512 tokens, the first of each chunk replaced
by the token that begins a text if the vocabulary has it put there, and what is left at the end dropped.

Here are numbers only; `octavo.score` reads the windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from octavo.checks import is_whole
from octavo.errors import OctavoError
from octavo.model import Model

NAMES = ("whole", "strided", "rolling", "chunked")
LLAMA_CPP = 512  # its window unless said


class Window(NamedTuple):
    """Of ids[start:stop] all but the last are read; ids[counted:stop] are predicted and count."""

    start: int
    counted: int
    stop: int


@dataclass(frozen=True)
class Protocol:
    """How a text is read to be scored.

    Attributes
    ----------
    name : {"whole", "strided", "rolling", "chunked"}
        See `octavo.protocols`.
    window, stride : int or None
        In tokens, where the protocol has them.
    begin : tuple of int
        The ids that stand before the text; none of them is predicted.

    Examples
    --------
    >>> strided = Protocol("strided", window=4, stride=2)
    >>> print(strided)
    strided (window 4, stride 2)
    >>> [tuple(window) for window in strided.windows(7)]
    [(0, 1, 4), (2, 4, 6), (4, 6, 7)]
    """

    name: str
    window: int | None = None
    stride: int | None = None
    begin: tuple[int, ...] = ()

    def __str__(self) -> str:
        sizes = {"window": self.window, "stride": self.stride}
        told = ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size is not None)
        return f"{self.name} ({told})" if told else self.name

    @property
    def head(self) -> int | None:
        """The id that takes the first place of every window, if one does."""
        return self.begin[0] if self.name == "chunked" and self.begin else None

    @property
    def reads(self) -> int | None:
        """The most tokens that a window has the model read; None: all but the last of the text."""
        if self.window is None:
            return None
        return self.window if self.name == "rolling" else self.window - 1

    def windows(self, length: int) -> Iterator[Window]:
        """The windows of `length` ids, those of `begin` among them, in order."""
        window, stride = self.window or length, self.stride or length
        found = {
            "whole": whole(length),
            "strided": strided(length, window, stride),
            "rolling": rolling(length, window),
            "chunked": chunked(length, window),
        }[self.name]
        for start, counted, stop in found:
            counted = max(counted, len(self.begin))
            if counted < stop:
                yield Window(start, counted, stop)


def whole(length: int) -> Iterator[Window]:
    """One window.

    Examples
    --------
    >>> [tuple(window) for window in whole(5)]
    [(0, 1, 5)]
    """
    if length > 1:
        yield Window(0, 1, length)


def strided(length: int, window: int, stride: int) -> Iterator[Window]:
    """Windows that begin `stride` after one another; each counts what no earlier one held.

    The first id of a window has nothing before it and never counts: with a stride as long as the window,
    one token in each is lost.

    Examples
    --------
    >>> [tuple(window) for window in strided(9, window=4, stride=4)]
    [(0, 1, 4), (4, 5, 8)]
    """
    stop = 0
    for start in range(0, length, stride):
        new, stop = max(stop, start + 1), min(start + window, length)
        if new < stop:
            yield Window(start, new, stop)
        if stop == length:
            return


def rolling(length: int, window: int) -> Iterator[Window]:
    """Windows that read `window` ids and count each once, the last one as long as the others.

    The first id, which stands before the text, is read and does not count.

    Examples
    --------
    >>> [tuple(window) for window in rolling(1 + 10, window=4)]
    [(0, 1, 5), (4, 5, 9), (6, 9, 11)]
    """
    for counted in range(1, length, window):
        stop = min(counted + window, length)
        yield Window(max(stop - window - 1, 0), counted, stop)


def chunked(length: int, window: int) -> Iterator[Window]:
    """Whole chunks, which count what follows the id in their middle.

    Examples
    --------
    >>> [tuple(window) for window in chunked(19, window=8)]
    [(0, 5, 8), (8, 13, 16)]
    """
    for stop in range(window, length + 1, window):
        yield Window(stop - window, stop - window + window // 2 + 1, stop)


# ---------------------------------------------------------------- for a model


def choose(
    model: Model, name: str | None = None, window: int | None = None, stride: int | None = None
) -> Protocol:
    """The protocol of that name for a model; without a name whole if it is recurrent, else strided.

    Parameters
    ----------
    model : Model
        Its context bounds the windows, its tokenizer says what stands before a text.
    name : str, optional
        One of `NAMES`.
    window : int, optional
        Tokens. By default of `strided` one more than the context, as the last is predicted only; of
        `rolling` the context; of `chunked` 512. A recurrent model has no context: it must be said there.
    stride : int, optional
        Of `strided`; by default half the context, or half of the window that is said.

    Raises
    ------
    OctavoError
        If there is no such protocol, a size is said that it does not have or is missing or impossible, if
        a window has the model read more than its context, or if `rolling` finds no token that begins or
        ends a text.

    Examples
    --------
    >>> import octavo
    >>> print(choose(octavo.load("christie-rnn")), "|", choose(octavo.load("bard"), "chunked", window=64))
    whole | chunked (window 64)
    """
    name = name or ("whole" if model.context is None else "strided")
    if name not in NAMES:
        raise OctavoError(f"a protocol is {', '.join(NAMES[:-1])} or {NAMES[-1]}, not {name!r}")
    for what, size, having in (("window", window, NAMES[1:]), ("stride", stride, NAMES[1:2])):
        if size is not None and name not in having:
            raise OctavoError(f"{what} is a size of {' and '.join(having)}; {name} has none")
    if name == "strided" and stride is None:
        stride = max((window if window is not None else model.context or 0) // 2, 1)
    if window is None:
        window = _usual_window(model, name)
    _check_sizes(name, window, stride)
    protocol = Protocol(name, window, stride, _begin(model, name))
    if model.context is not None and (protocol.reads or 0) > model.context:
        raise OctavoError(
            f"{protocol} has the model read {protocol.reads:,} tokens at once, more than its context of "
            f"{model.context:,}; say a smaller window"
        )
    return protocol


def _usual_window(model: Model, name: str) -> int | None:
    if name == "whole":
        return None
    if name == "chunked":
        return LLAMA_CPP
    if model.context is None:
        raise OctavoError(
            f"a recurrent model has no context that says how long a window is; {name} needs one"
        )
    return model.context + (name == "strided")


def _check_sizes(name: str, window: int | None, stride: int | None) -> None:
    least = {"strided": 2, "chunked": 3}.get(name, 1)  # below, nothing counts
    if window is not None and (not is_whole(window) or window < least):
        raise OctavoError(f"a window of {name} is at least {least} tokens, not {window!r}")
    if stride is not None and (not is_whole(stride) or not 1 <= stride <= (window or 0)):
        raise OctavoError(f"a stride is 1 to the window ({window}), not {stride!r}")


def _begin(model: Model, name: str) -> tuple[int, ...]:
    """The ids before the text: those the tokenizer puts there; `rolling` must have one."""
    begin = model.tokenizer.begins_with if model.tokenizer else ()
    if name != "rolling":
        return begin
    config, end = model.config, model.tokenizer.end_of_text if model.tokenizer else None
    ids = (getattr(config, "bos_token_id", None), *begin, getattr(config, "eos_token_id", None), end)
    for id in ids:
        if id is not None:
            return (id[0] if isinstance(id, tuple) else id,)
    raise OctavoError(
        "rolling has the first token follow the one that begins or ends a text, and this model has neither "
        "(bos_token_id, eos_token_id); use strided"
    )
