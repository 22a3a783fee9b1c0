"""Decoding: a sequence of ids continued one token at a time.

The prompt is read once, in chunks (`octavo.prefill`); from then on each token costs one step of the model and
one draw, or less than a step where the text repeats itself and that is looked up (`octavo.lookup`).
Steps and draws follow the equations, or compiled twins of them where those pay (`octavo.twins`), which write
several tokens of a small model in one call. Where LLVM is not installed, nothing changes but the speed.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from octavo import fast, nn, prefill
from octavo.checks import is_whole
from octavo.errors import OctavoError
from octavo.lookup import Guesses, Lookup
from octavo.model import Model, with_room
from octavo.prefill import Later, Memory, Reading, set_back
from octavo.sample import Draws, Sampling, SamplingOptions, Token
from octavo.twins import Hurry, stepper, twins_of

__all__ = ["DecodingOptions", "SamplingOptions", "Token", "tokens"]

FIRST_ROOM = 1024  # tokens to write that the cache has room for at first; it grows


class DecodingOptions(SamplingOptions, total=False):
    """The keyword arguments of `tokens` that every rung above takes too."""

    lookup: Lookup | bool
    slide: bool
    cache: str | None


def tokens(
    model: Model,
    ids: Sequence[int],
    *,
    limit: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    seed: int | None = None,
    stop: Collection[int] = (),
    memory: Memory | None = None,
    lookup: Lookup | bool = False,
    slide: bool = False,
    cache: str | None = None,
) -> Iterator[Token]:
    """Continue a sequence of ids, one token at a time.

    Parameters
    ----------
    model : Model
        What continues it.
    ids : sequence of int
        The prompt, at least one token.
    limit : int
        The most tokens to draw.
    temperature, top_k, top_p, min_p, repetition_penalty, logit_bias, seed
        The sampling options, as `octavo.sample.Sampling` describes them.
    stop : collection of int
        Tokens that end the text; the one that does is not yielded.
    memory : Memory, optional
        What was read before: of the prompt only the rest is. It takes in what is read now, and goes to
        the next call.
    lookup : bool or Lookup
        Whether to guess tokens from what the text already contains, and to read the guesses along: quicker
        where a text repeats itself, and the same text. A `Lookup` counts the guesses. For models whose cache
        can be set back, which are the Transformers but `folio`.
    slide : bool
        Whether a text may outgrow the context: the oldest half of it is dropped then, and the rest read
        again, as `octavo.prefill.window` says, which costs about as much reading as writing. The repetition
        penalty counts all of the text. A recurrent model has nothing that slides.
    cache : {"float32", "float16"}, optional
        What keys and values of a Transformer are kept in; by default the dtype of the parameters. Half
        precision takes half the memory, for a perplexity that differs in the sixth digit (`bard`).

    Yields
    ------
    Token
        The id, and the natural logarithm of its probability under the model itself.

    Raises
    ------
    OctavoError
        For an empty prompt, an id outside the vocabulary, an impossible option, a prompt that does not fit
        into memory, or, of a published family and of learned positions, a text that would be longer than
        the context and does not slide; at the call, before anything is drawn.

    Warns
    -----
    UserWarning
        Once, when the text of another model grows longer than the context it was trained on.

    Examples
    --------
    >>> import octavo
    >>> model = octavo.load("christie-rnn")
    >>> ids = model.tokenizer.encode("poiro")
    >>> [model.tokenizer.decode([token.id]) for token in octavo.tokens(model, ids, limit=1, temperature=0)]
    ['t']
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, logit_bias, seed)
    reading = Reading(cache, slide)
    prompt = check(model, ids, limit, stop, sampling, reading)
    guesses = None
    if lookup is not False:
        _check_lookup(model, lookup)
        guesses = Guesses(prompt.tolist(), Lookup() if lookup is True else lookup)
    return _draw(model, prompt, limit, frozenset(stop), sampling, memory or Memory(), reading, guesses)


def check(
    model: Model, ids: Sequence[int], limit: int, stop: Collection[int], sampling: Sampling, reading: Reading
) -> nn.Array:
    """Refuse what cannot be continued as it is asked; the ids [T] of the prompt."""
    try:
        prompt = np.asarray(ids)
    except ValueError:  # rows of unequal length
        raise OctavoError("a prompt is one sequence of ids, not several of unequal length") from None
    if prompt.size == 0:
        raise OctavoError("the prompt is empty; give at least one token to continue from")
    if prompt.ndim != 1:
        raise OctavoError(f"a prompt is one sequence of ids, not an array of shape {prompt.shape}")
    model.check(prompt)
    sampling.check(model.vocab_size)
    if not is_whole(limit) or limit < 0:
        raise OctavoError(f"limit is the number of tokens to write, not {limit!r}")
    if not isinstance(stop, Collection) or not all(is_whole(token) for token in stop):
        raise OctavoError(f"stop is a collection of token ids, not {stop!r}")
    reading.check(model, len(prompt), int(limit))
    return prompt


def _check_lookup(model: Model, lookup: Lookup | bool) -> None:
    """Refuse a model whose state cannot go back to before a guess that was wrong."""
    if not isinstance(lookup, bool | Lookup):
        raise OctavoError(f"lookup is true, false, or an octavo.lookup.Lookup, not {lookup!r}")
    state = model.init_state(1, 1)
    if not isinstance(state, nn.Cache) or state.recent:
        raise OctavoError(
            f"lookup needs a cache that can be set back after a wrong guess, and a {model.model_type} model "
            "has none; leave it out"
        )


def _draw(
    model: Model,
    prompt: nn.Array,
    limit: int,
    stop: frozenset[int],
    sampling: Sampling,
    memory: Memory,
    reading: Reading,
    guesses: Guesses | None,
) -> Iterator[Token]:
    draws, length = Draws(sampling, prompt, model.vocab_size), len(prompt)
    context = reading.unbounded(model)
    text = Text(model, reading, memory, stop)
    rows = text.begin(prompt.tolist(), limit)
    if context is not None and length > context:
        warn(context)
    for token in _passes(text, rows, draws, limit, guesses):
        if token.id in stop:
            return
        yield token
        if length == context:
            warn(context)
        length += 1


def _passes(text: Text, rows: nn.Array, draws: Draws, left: int, guesses: Guesses | None) -> Iterator[Token]:
    """The tokens that are left to draw, or those up to a stop token; `rows` [1, V] are of the first."""
    guessed = list[int]()
    while left:
        drawn = list[Token]()  # of one pass: a token for each guess that is right, and one more
        for row, guess in zip(rows, [*guessed, None], strict=True):
            text.hasten(draws)
            drawn.append(draws.next(row))
            left -= 1
            if drawn[-1].id != guess or drawn[-1].id in text.stop or not left:
                break
        if guesses is not None:
            text.keep(guessed, guesses.learn(guessed, [token.id for token in drawn]))
        yield from drawn
        last = drawn[-1].id
        while guesses is None and (count := text.alone(left)):
            for token in text.write(last, count, draws):
                yield token
                last, left = token.id, left - 1
        if left:
            guessed = guesses.next(text.room(left - 1)) if guesses is not None else []
            rows = text.read(last, guessed)


class Text:
    """What is read of a text while it is written, and the model's state after it."""

    def __init__(self, model: Model, reading: Reading, memory: Memory, stop: frozenset[int]) -> None:
        self.model, self.reading, self.memory, self.stop = model, reading, memory, stop
        self.step = self.equation = stepper(model)
        self.hurry = Hurry(model, self.step)
        self.writing: Any = None  # an `octavo.fast.writing.Writing`, once twins have taken over
        self.ahead = 1  # tokens that may be written before they are asked for: no more than were asked for

    def begin(self, prompt: list[int], limit: int) -> nn.Array:
        """Read what is not remembered -> logits [1, V] of what follows."""
        self.ids = self.reading.window(self.model, prompt)
        read, state = self.memory.shared(self.ids)
        room = len(self.ids) + min(limit, FIRST_ROOM)
        if not read or not self.reading.keeps(state):
            read, state = 0, self.reading.empty(self.model, room)
        logits, self.state = prefill.read(self.equation, self.ids, state, read, room)
        self.memory.keep(self.ids, self.state)
        return np.asarray(logits[0, -1:])

    def read(self, last: int, guessed: list[int]) -> nn.Array:
        """Read the last token, and guesses of what follows it -> logits [1 + guesses, V] after each."""
        state = self.claim()
        full = self.ids
        full.append(last)
        self.ids = self.reading.window(self.model, full)
        if self.ids is full:
            state = with_room(state, len(full) + len(guessed))
            logits, self.state = self.step(np.array([[last, *guessed]]), state)
        else:
            state = self.reading.empty(self.model, len(full))
            logits, self.state = prefill.read(self.equation, self.ids, state)
        if not guessed:
            self.memory.keep(self.ids, self.state)
        return np.asarray(logits[0, -1 - len(guessed) :])

    def alone(self, left: int) -> int:
        """How many tokens, of those that are left to draw, compiled code may write alone now."""
        if not left or self.writing is None:
            return 0
        return 1 + max(self.room(min(left, self.ahead, self.writing.most) - 1), -1)

    def write(self, last: int, count: int, draws: Draws) -> Iterator[Token]:
        """Read the last token, draw the next one, read that, `count` times, or to one that ends the text.

        When a token is given, the memory is what it was when that token was drawn.
        """
        state = with_room(self.claim(), len(self.ids) + count)
        written = self.writing(last, state, count, draws)
        self.ahead *= 2
        for read, (token, logprob) in enumerate(zip(written.ids, written.logprobs, strict=True), 1):
            if read > 1:
                self.check()
            self.ids.append(last)
            self.state, last = Later(written.after, read), token
            self.memory.keep(self.ids, self.state)
            yield draws.drawn(token, logprob)

    def claim(self) -> Any:
        """The state, taken out of the memory, which is this text's."""
        self.check()
        return self.memory.take()[1]

    def check(self) -> None:
        """Refuse to go on where another text has the memory."""
        if self.memory.kept is not self.state:
            raise OctavoError("another text took this one's memory; end one before the next begins")

    def keep(self, guessed: list[int], accepted: int) -> None:
        """Forget the guesses that were read and wrong."""
        if guessed:
            self.ids += guessed[:accepted]
            self.state = set_back(self.state, len(self.ids)) if accepted < len(guessed) else self.state
            self.memory.keep(self.ids, self.state)

    def room(self, most: int) -> int:
        """How many guesses can be read with the next token, of `most`."""
        bound = self.model.context if self.reading.slide else self.model.enforced
        return most if bound is None else min(most, bound - len(self.ids) - 1)

    def hasten(self, draws: Draws) -> None:
        """Have twins compute the steps and the draws from now on, if that pays."""
        if self.hurry.begins():
            self.step, draws.pick = twins_of(self.model, draws.sampling, self.step, draws.pick)
            self.writing = fast.writer(self.step, draws.pick, self.stop)


def warn(context: int) -> None:
    """Say that a text has outgrown the context of a model that is not kept within it."""
    warnings.warn(
        f"the text is longer than the {context} tokens of context the model was trained on; "
        "what follows may make less sense",
        stacklevel=3,
    )
