"""The ladder: `tokens` yields ids, `pieces` and `stream` yield text, `generate` joins it.

Closing a generator on any rung ends the work. `octavo.decoding` is the lowest rung.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Unpack, overload

from octavo.decoding import DecodingOptions, tokens
from octavo.errors import OctavoError
from octavo.model import Model
from octavo.prefill import Memory
from octavo.sample import Token
from octavo.texts import Piece, Stop, Writer, planned, prompt_ids

__all__ = ["Piece", "Token", "continued", "generate", "pieces", "stream", "tokens"]


def pieces(
    model: Model,
    prompt: str,
    *,
    limit: int | None = None,
    stop: Stop = (),
    **options: Unpack[DecodingOptions],
) -> Iterator[Piece]:
    """Like `stream`, with the tokens behind each piece of text and the reason of the end.

    The last piece, and only it, has a `finish_reason`: "stop" or "length".
    """
    return continued(model, prompt_ids(model, prompt), limit=limit, stop=stop, **options)


def continued(
    model: Model,
    ids: Sequence[int],
    *,
    limit: int | None = None,
    stop: Stop = (),
    memory: Memory | None = None,
    **options: Unpack[DecodingOptions],
) -> Iterator[Piece]:
    """Like `pieces`, from the ids of a prompt, and with what was read before (see `tokens`)."""
    plan = planned(model, len(ids), limit, stop, options)
    drawn = tokens(model, ids, limit=plan.limit, stop=plan.stop, memory=memory, **plan.options)
    return _written(drawn, plan.limit, Writer(model, plan.strings))


def _written(drawn: Iterator[Token], limit: int, writer: Writer) -> Iterator[Piece]:
    count = 0
    with closing(drawn):  # type: ignore[type-var]
        for token in drawn:
            count += 1
            if piece := writer.add(token):
                yield piece
                if piece.finish_reason:
                    return
    yield writer.end("length" if count == limit else "stop")


def stream(
    model: Model,
    prompt: str,
    *,
    limit: int | None = None,
    stop: Stop = (),
    **options: Unpack[DecodingOptions],
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


@overload
def generate(
    model: Model,
    prompt: str,
    *,
    limit: int | None = None,
    stop: Stop = (),
    batch: int = 16,
    **options: Unpack[DecodingOptions],
) -> str: ...


@overload
def generate(
    model: Model,
    prompt: list[str] | tuple[str, ...],
    *,
    limit: int | None = None,
    stop: Stop = (),
    batch: int = 16,
    **options: Unpack[DecodingOptions],
) -> list[str]: ...


def generate(
    model: Model,
    prompt: str | list[str] | tuple[str, ...],
    *,
    limit: int | None = None,
    stop: Stop = (),
    batch: int = 16,
    **options: Unpack[DecodingOptions],
) -> str | list[str]:
    """The whole continuation of a prompt, or of several that are continued together.

    Parameters
    ----------
    model, limit, stop, **options
        As for `stream`, which see. Each of several texts is what its prompt alone would give: with a seed,
        two equal prompts have equal texts. Several are continued without `lookup`.
    prompt : str or list of str
        One prompt, or several.
    batch : int
        How many of several are continued at a time; the memory that they take grows with it.

    Returns
    -------
    str or list of str
        One text for a string, and otherwise a text for each prompt, in order.

    Raises
    ------
    OctavoError
        As `stream`; of several prompts before any is continued, saying which it is.

    Examples
    --------
    >>> import octavo
    >>> octavo.generate(octavo.load("christie-rnn"), "poi", limit=3, temperature=0)
    'rot'
    >>> octavo.generate(octavo.load("christie-rnn"), ["poi", "mr. "], limit=3, temperature=0)
    ['rot', 'ing']
    """
    if isinstance(prompt, str):
        return "".join(stream(model, prompt, limit=limit, stop=stop, **options))
    if not isinstance(prompt, Iterable):
        raise OctavoError(f"a prompt is a text (str), and several are a list of texts; not {prompt!r:.80}")
    from octavo.completions import Request, completions

    requests = [Request(text, limit, stop, options) for text in prompt]
    return [found.text for found in completions(model, requests, batch=batch)]
