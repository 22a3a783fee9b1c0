"""The ladder: `tokens` yields ids, `pieces` and `stream` yield text, `generate` joins it.

The prompt is read once, in chunks; from then on each token costs one step of the model. Closing a
generator on any rung ends the work.
"""

from __future__ import annotations

import codecs
import math
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import numpy as np

from octavo import nn
from octavo.checks import is_whole
from octavo.errors import OctavoError
from octavo.model import Model, with_room
from octavo.sample import Sampling

PROMPT_CHUNK = 512  # tokens of the prompt that are read at once
PROMPT_SCORES = 2**22  # attention scores, a head, that doing so may hold
NO_NUMBERS = "the model's logits are not numbers; are its weights damaged?"
FIRST_ROOM = 1024  # tokens to write that the cache has room for at first; it grows
RECURRENT_LIMIT = 500  # tokens a model without a context writes when nobody says how many


class Token(NamedTuple):
    """One token as it was drawn."""

    id: int
    logprob: float  # natural logarithm of its probability under the model, before any sampling option


class Piece(NamedTuple):
    """Text that has become certain, the tokens drawn since the last piece, and why it ends, if it does."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: Literal["stop", "length"] | None


class SamplingOptions(TypedDict, total=False):
    """The keyword arguments that `octavo.sample.Sampling` describes."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    logit_bias: Mapping[int, float] | None
    seed: int | None


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

    Yields
    ------
    Token
        The id, and the natural logarithm of its probability under the model itself.

    Raises
    ------
    OctavoError
        For an empty prompt, an id outside the vocabulary, an impossible option, or a prompt that
        does not fit into memory; at the call, before anything is drawn.

    Warns
    -----
    UserWarning
        Once, when the text grows longer than the context the model was trained on.

    Examples
    --------
    >>> import octavo
    >>> model = octavo.load("christie-rnn")
    >>> ids = model.tokenizer.encode("poiro")
    >>> [model.tokenizer.decode([token.id]) for token in octavo.tokens(model, ids, limit=1, temperature=0)]
    ['t']
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, logit_bias, seed)
    prompt = np.asarray(ids)
    if prompt.size == 0:
        raise OctavoError("the prompt is empty; give at least one token to continue from")
    if prompt.ndim != 1:
        raise OctavoError(f"a prompt is one sequence of ids, not an array of shape {prompt.shape}")
    model.check(prompt)
    for token in sampling.logit_bias or {}:
        if not 0 <= token < model.vocab_size:
            raise OctavoError(f"logit_bias names token {token}, outside the vocabulary of {model.vocab_size}")
    if list((sampling.logit_bias or {}).values()).count(-np.inf) == model.vocab_size:
        raise OctavoError("logit_bias bans every token; leave at least one")
    if not is_whole(limit) or limit < 0:
        raise OctavoError(f"limit is the number of tokens to write, not {limit!r}")
    if not isinstance(stop, Collection) or not all(is_whole(token) for token in stop):
        raise OctavoError(f"stop is a collection of token ids, not {stop!r}")
    _check_memory(model, len(prompt))
    return _draw(model, prompt, limit, frozenset(stop), sampling)


def _draw(
    model: Model, prompt: nn.Array, limit: int, stop: frozenset[int], sampling: Sampling
) -> Iterator[Token]:
    rng = np.random.default_rng(sampling.seed)
    logits = prompt
    try:
        step, state = _stepper(model, len(prompt) + min(limit, FIRST_ROOM))
        for start, end in _chunks(len(prompt)):
            logits, state = step(prompt[None, start:end], state)
    except MemoryError as error:
        raise OctavoError(f"a prompt of {len(prompt):,} tokens does not fit into memory ({error})") from None
    length = len(prompt)
    seen = np.zeros(model.vocab_size, bool)
    seen[prompt] = True
    if model.context is not None and length > model.context:
        _warn(model.context)
    for drawn in range(limit):
        last = np.asarray(logits[0, -1])
        try:
            token = sampling.draw(sampling.adjust(last, seen), rng)
        except IndexError:  # NaN has no place in a cumulative distribution
            raise OctavoError(NO_NUMBERS) from None
        if token in stop:
            return
        logprob = float(last[token]) - _log_sum_exp(last)
        if logprob != logprob:
            raise OctavoError(NO_NUMBERS)
        yield Token(token, logprob)
        seen[token] = True
        if length == model.context:
            _warn(model.context)
        length += 1
        if drawn + 1 < limit:
            logits, state = step(np.array([[token]]), with_room(state, length))


def _chunks(length: int) -> Iterator[tuple[int, int]]:
    """Where a prompt is cut: the attention scores of a chunk are bounded, however far it looks back."""
    start = 0
    while start < length:
        end = min(start + max(min(PROMPT_CHUNK, PROMPT_SCORES // (start + PROMPT_CHUNK)), 1), length)
        yield start, end
        start = end


def _warn(context: int) -> None:
    warnings.warn(
        f"the text is longer than the {context} tokens of context the model was trained on; "
        "what follows may make less sense",
        stacklevel=3,
    )


def _stepper(model: Model, length: int) -> tuple[Any, Any]:
    """``step(tokens, state) -> (logits, state)`` of the architecture, and a first state."""
    forward, config, p = model.architecture.forward, model.config, nn.View(model.params)
    state = model.init_state(1, max(length, model.context or 0))
    if nn.namespace(*model.params.values()) is np:
        return lambda tokens, state: forward(p, config, tokens, state), state
    import jax

    compiled = jax.jit(lambda params, tokens, state: forward(params, config, tokens, state), donate_argnums=2)
    return lambda tokens, state: compiled(model.params, tokens, state), state


def _log_sum_exp(x: nn.Array) -> float:
    top = float(x.max())
    return top + math.log(np.exp(x - top).sum())


def _check_memory(model: Model, length: int) -> None:
    """Refuse a prompt whose cache alone is larger than the machine's memory."""
    state = model.init_state(1, 1)
    if not isinstance(state, nn.Cache):
        return
    need = length * sum(slots.nbytes for slots in (*state.keys, *state.values))
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    if need > have:
        raise OctavoError(
            f"a prompt of {length:,} tokens needs {need / 1e9:.1f} GB of memory and this machine has "
            f"{have / 1e9:.1f} GB; shorten the prompt"
        )


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
    tokenizer = model.text_tokenizer()
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, Collection):
        raise OctavoError(f"stop is a collection of strings and token ids, not {stop!r}")
    if not prompt:
        raise OctavoError("the prompt is empty; give at least one character to continue from")
    if any(text == "" for text in stop):
        raise OctavoError("a stop string has at least one character")
    ids = tokenizer.encode(prompt)
    if limit is None:
        limit = max(model.context - len(ids), 32) if model.context else RECURRENT_LIMIT
    if unread := range(tokenizer.vocab_size, model.vocab_size):  # ids that no text has are never drawn
        options["logit_bias"] = {**(options.get("logit_bias") or {}), **dict.fromkeys(unread, -math.inf)}
    drawn = tokens(model, ids, limit=limit, stop=[s for s in stop if not isinstance(s, str)], **options)
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
        Strings (or token ids) that end the text. Nothing of them is yielded.
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
