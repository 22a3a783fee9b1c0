"""Texts for many prompts, which are continued together (`octavo.batched`) and come in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from octavo.batched import Batch, Row
from octavo.checks import is_whole
from octavo.decoding import DecodingOptions, check
from octavo.errors import OctavoError
from octavo.model import Model
from octavo.nn import Array
from octavo.prefill import Reading
from octavo.sample import Sampling, SamplingOptions, Token
from octavo.texts import FinishReason, Plan, Stop, Writer, planned, prompt_ids


@dataclass(frozen=True)
class Request:
    """A prompt and how it is to be continued.

    Attributes
    ----------
    prompt : str or sequence of int
        The beginning of a text, or ids.
    limit, stop
        As for `octavo.stream`.
    options : dict
        The other options of `octavo.stream`, by name.
    """

    prompt: str | Sequence[int]
    limit: int | None = None
    stop: Stop = ()
    options: DecodingOptions = field(default_factory=DecodingOptions)


class Completion(NamedTuple):
    """The text that follows a prompt, its tokens, why it ends, and how many tokens were before it."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason
    prompt_tokens: int


class Ready(NamedTuple):
    """A request that was found to be possible."""

    ids: Array
    plan: Plan
    sampling: Sampling


def completions(model: Model, requests: Iterable[Request], *, batch: int = 16) -> Iterator[Completion]:
    """Continue many prompts, so many at a time.

    Parameters
    ----------
    model : Model
        What continues them; it needs a tokenizer.
    requests : iterable of Request
        All of them have the same `cache` and `slide`, and none has `lookup`.
    batch : int
        How many are continued at a time.

    Yields
    ------
    Completion
        In the order of the requests, each as soon as it and those before it are there.

    Raises
    ------
    OctavoError
        If a request is impossible, saying which, before anything is computed.

    Examples
    --------
    >>> import octavo
    >>> asked = [Request("poi", limit=3, options={"temperature": 0}), Request("mr. ", limit=1)]
    >>> [(c.text, c.finish_reason) for c in completions(octavo.load("christie-rnn"), asked)][0]
    ('rot', 'length')
    """
    waiting, reading = list[Ready](), None
    for number, request in enumerate(requests, 1):
        try:
            own = reading_of(request.options)
            if reading not in (None, own):
                raise OctavoError("its cache and slide are not those of the others")
            reading = own
            waiting.append(ready(model, request))
        except OctavoError as error:
            raise OctavoError(f"prompt {number}: {error}") from None
    if not is_whole(batch) or batch < 1:
        raise OctavoError(f"batch is how many prompts are continued at a time, at least 1, not {batch!r}")
    return finished(model, waiting, reading or Reading(), batch)


def reading_of(options: DecodingOptions) -> Reading:
    """How the options have a text read; `lookup`, which many texts cannot have, is refused."""
    if options.get("lookup", False) is not False:
        raise OctavoError("lookup is for one text at a time; leave it out")
    return Reading(options.get("cache"), options.get("slide", False))


def ready(model: Model, request: Request) -> Ready:
    """A request as ids, if it is possible."""
    prompt = request.prompt
    if isinstance(prompt, bytes) or not hasattr(prompt, "__len__"):
        raise OctavoError(f"a prompt is a text (str), not {prompt!r:.80}")
    ids = prompt_ids(model, prompt) if isinstance(prompt, str) else prompt
    plan = planned(model, len(ids), request.limit, request.stop, request.options)
    drawing: SamplingOptions = {
        k: v for k, v in plan.options.items() if k not in ("lookup", "slide", "cache")
    }  # type: ignore[assignment]
    sampling = Sampling(**drawing)
    checked = check(model, ids, plan.limit, plan.stop, sampling, reading_of(request.options))
    return Ready(checked.astype(np.int32), plan, sampling)


@dataclass
class _Writing:
    """A completion in the making."""

    number: int
    ready: Ready
    writer: Writer
    text: str = ""
    tokens: list[Token] = field(default_factory=list)

    def end(self, finish_reason: FinishReason) -> Completion:
        return Completion(self.text, tuple(self.tokens), finish_reason, len(self.ready.ids))

    def add(self, token: Token, ends: bool) -> FinishReason | None:
        """Take in a token, which may be one that ends the text; why it ends, if it does."""
        if ends:
            self.text += self.writer.end("stop").text
            return "stop"
        self.tokens.append(token)
        if piece := self.writer.add(token):
            self.text += piece.text
            if piece.finish_reason:
                return piece.finish_reason
        if len(self.tokens) < self.ready.plan.limit:
            return None
        self.text += self.writer.end("length").text
        return "length"


def finished(model: Model, waiting: Sequence[Ready], reading: Reading, size: int) -> Iterator[Completion]:
    """The completions of what is ready, in order."""
    batch = Batch(model, cache=reading.cache, slide=reading.slide)
    rows: dict[Row, _Writing] = {}
    done: dict[int, Completion] = {}  # those that are here before others which come before them
    begun = given = 0
    while given < len(waiting):
        while begun < len(waiting) and len(rows) < size:
            one = waiting[begun]
            writing = _Writing(begun, one, Writer(model, one.plan.strings))
            row = batch.join(one.ids, one.sampling, limit=one.plan.limit, stop=one.plan.stop)
            if one.plan.limit:
                rows[row] = writing
            else:
                done[begun] = writing.end("length")
            begun += 1
        for row, token in batch.draw():
            writing = rows[row]
            if reason := writing.add(token, token.id in row.stop):
                batch.leave(row)
                done[writing.number] = writing.end(reason)
                del rows[row]
        while given in done:
            yield done.pop(given)
            given += 1
