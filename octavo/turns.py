"""A conversation as the ids that a model reads: the template's special tokens are found, nobody else's.

What somebody writes is text, though it may spell a special token: who types ``<|im_end|>`` must not end
his turn. So where a message spells one, its letters are replaced, one for one, by letters for private use
before the template sees it; the template may trim, measure and cut the message as it likes. What it writes is
then cut at its own special tokens, and the pieces with such letters are put back and encoded as text.

Not covered: a template that makes a special token out of a message and something else, or by changing the
case of letters; one that looks for a special token in a message (it finds none); added tokens that are not
special, which are found in every text. A tokenizer that puts a space before a text puts one before such a
piece too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from octavo import templates
from octavo.errors import OctavoError
from octavo.model import Model
from octavo.templates import Message

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

PRIVATE = range(0x100000, 0x10FFFD)  # code points that Unicode gives no meaning
ANSWER = "\U0010fffd"  # one more of them; stands for an answer, to see what follows one


class Turn(NamedTuple):
    """What a model reads before it answers, and the tokens that end the answer."""

    ids: list[int]
    ends: tuple[int, ...]


@dataclass
class Masks:
    """Letters for private use that stand for others while a template is rendered."""

    unused: Iterator[str]
    letters: dict[str, str] = field(default_factory=dict)

    def hide(self, text: str) -> str:
        """The text in other letters."""
        for letter in text:
            if letter not in self.letters:
                mask = next(self.unused, None)
                if mask is None:
                    raise OctavoError("the messages have more different characters than can be told apart")
                self.letters[letter] = mask
        return "".join(map(self.letters.__getitem__, text))

    def show(self, text: str) -> str:
        """The text in its own letters."""
        return text.translate({ord(mask): letter for letter, mask in self.letters.items()})


def read(model: Model, messages: Sequence[Message], template: str) -> Turn:
    """The ids of a conversation up to where an answer begins.

    Parameters
    ----------
    model : Model
        What is to answer; it needs a tokenizer.
    messages : sequence of dict
        Each with a `role` and a `content`.
    template : str
        How a conversation is written.

    Returns
    -------
    Turn
        Its ends are the model's own and the token that the template writes after an answer, if that
        is a special one.

    Raises
    ------
    OctavoError
        As `octavo.templates.render`; or if nothing is rendered.
    """
    templates.checked(messages)
    tokenizer = model.text_tokenizer()
    begin, end = frame(model)
    used = set(template).union(*(part for message in messages for part in message.values()))
    masks = Masks(letter for letter in map(chr, PRIVATE) if letter not in used)
    hidden = [{name: masked(tokenizer, part, masks) for name, part in m.items()} for m in messages]
    answered = [{"role": "user", "content": "a"}, {"role": "assistant", "content": ANSWER}]
    asked = templates.variables_of(hidden, True, begin, end)
    text, example = templates.renderings(
        template, [asked, templates.variables_of(answered, False, begin, end)]
    )
    if isinstance(text, OctavoError):
        raise text
    ids = encoded(tokenizer, text, masks)
    if not ids:
        raise OctavoError("the chat template writes nothing for these messages")
    _, answer, ending = ("", "", "") if isinstance(example, OctavoError) else example.partition(ANSWER)
    return Turn(ids, tuple(dict.fromkeys((*model.ends, *first_special(tokenizer, ending if answer else "")))))


def frame(model: Model) -> tuple[str, str]:
    """What the model has as the first and the last token of a text, as templates are told."""
    begin = getattr(model.config, "bos_token_id", None)
    ends = getattr(model.config, "eos_token_id", None)
    end = ends if isinstance(ends, int) else next(iter(ends or model.ends), None)
    tokenizer = model.text_tokenizer()
    known = (id if id is not None and id < tokenizer.vocab_size else None for id in (begin, end))
    first, last = ("" if id is None else spelled(tokenizer, id) for id in known)
    return first, last


def spelled(tokenizer: Tokenizer, id: int) -> str:
    """How a token is written."""
    return tokenizer.token_bytes(id).decode("utf-8", "replace")


def specials(tokenizer: Tokenizer, text: str) -> list[str]:
    """The special tokens that a text spells, the longest first."""
    try:
        found, plain = tokenizer.encode(text, special=True), tokenizer.encode(text)
    except OctavoError:  # letters that a tokenizer of characters does not know, in a text it may never read
        return []
    if found == plain:
        return []
    texts = {spelled(tokenizer, id) for id in set(found) if is_special(tokenizer, id)}
    return sorted(texts, key=len, reverse=True)


def is_special(tokenizer: Tokenizer, id: int) -> bool:
    """Whether a token is one that no text is encoded to unless its special tokens are asked for."""
    text = spelled(tokenizer, id)
    return id in tokenizer.encode(text, special=True) and id not in tokenizer.encode(text)


def first_special(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """The token that a text begins with, white space aside, if it is a special one."""
    text = text.lstrip()
    begins = (token for token in specials(tokenizer, text) if text.startswith(token))
    return tuple(tokenizer.encode(next(begins, ""), special=True)[:1])


def masked(tokenizer: Tokenizer, text: str, masks: Masks) -> str:
    """The text with other letters wherever it spells a special token."""
    while found := specials(tokenizer, text):
        before = text
        for token in found:
            text = text.replace(token, masks.hide(token))
        if text == before:  # one that is only spelled after the tokenizer has normalised the text
            return masks.hide(text)
    return text


def encoded(tokenizer: Tokenizer, text: str, masks: Masks) -> list[int]:
    """The ids of a rendering, what is masked as text."""
    hidden = frozenset(masks.letters.values())
    if hidden.isdisjoint(text):
        return tokenizer.encode(text, special=True)
    own = specials(tokenizer, text)
    pieces = re.split(f"({'|'.join(map(re.escape, own))})", text) if own else [text]
    ids, waiting = [], ""
    for piece in pieces:
        if hidden.isdisjoint(piece):
            waiting += piece
            continue
        ids += tokenizer.encode(waiting, special=True) if waiting else []
        ids += tokenizer.encode(masks.show(piece))
        waiting = ""
    return ids + (tokenizer.encode(waiting, special=True) if waiting else [])
