"""Conversations: a model answers messages that its own template puts before it.

A `Conversation` keeps what the model has read, so that each turn costs what is new in it. Not here:
tools, pictures, and answers that an answer was begun for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Unpack

from octavo.decoding import DecodingOptions
from octavo.errors import OctavoError
from octavo.generate import Piece, continued
from octavo.model import Model
from octavo.prefill import Memory
from octavo.templates import Message, checked
from octavo.turns import read


def chat(
    model: Model,
    messages: Sequence[Message],
    *,
    template: str | None = None,
    limit: int | None = None,
    stop: Sequence[str | int] = (),
    **options: Unpack[DecodingOptions],
) -> Iterator[str]:
    r"""Answer a conversation, yielding text as soon as it is certain; closing the generator ends the work.

    Parameters
    ----------
    model : Model
        What answers; it needs a tokenizer, and a chat template unless one is given.
    messages : sequence of dict
        What was said, ``[{"role": "user", "content": "..."}]``; the template says which roles there are,
        commonly "system", "user" and "assistant". Special tokens written in a message are text.
    template : str, optional
        A Jinja template in place of the model's own.
    limit : int, optional
        The most tokens to write; by default, and at most unless the text slides, what is left of the
        model's context.
    stop : sequence of str or int
        Strings (or token ids) that end the answer, besides the tokens that end the model's texts and
        the one that the template writes after an answer.
    **options
        As for `tokens`, and as there nothing is taken from the files of the model unless it is passed on:
        ``**octavo.sample.recommended(model.generation_config)`` is what `octavo chat` samples with.

    Yields
    ------
    str
        As `stream` does.

    Raises
    ------
    OctavoError
        If there is no template; if it does not fit the messages, does not end, or needs Jinja, which is
        not installed; if the conversation fills the context; or as `stream`.

    Examples
    --------
    >>> import octavo
    >>> from dataclasses import replace
    >>> play = replace(octavo.load("bard"), chat_template="{{ messages[0].content }}:")
    >>> messages = [{"role": "user", "content": "ROMEO"}]
    >>> "".join(octavo.chat(play, messages, limit=12, temperature=0))
    "\nI'll believe thee.\n\nJULIET"
    """
    checked(messages)
    conversation = Conversation(model, [dict(message) for message in messages], template)
    return (piece.text for piece in conversation.pieces(limit=limit, stop=stop, **options) if piece.text)


@dataclass
class Conversation:
    r"""What was said, and what the model remembers of having read it.

    Each turn costs what is new in it. `say` adds a message and the answer to it; `pieces` answers the
    messages as they stand.

    Attributes
    ----------
    model : Model
        What answers; it needs a tokenizer, and a chat template unless one is given.
    messages : list of dict
        Each with a `role` and a `content`. It may be changed between two answers; what the model reads
        again is then what comes after the first difference.
    template : str or None
        A Jinja template in place of the model's own.

    Examples
    --------
    >>> import octavo
    >>> from dataclasses import replace
    >>> template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    >>> talk = octavo.Conversation(replace(octavo.load("bard"), chat_template=template))
    >>> answer = "".join(piece.text for piece in talk.say("ROMEO:", limit=8, temperature=0))
    >>> [message["role"] for message in talk.messages], talk.messages[1]["content"] == answer
    (['user', 'assistant'], True)
    """

    model: Model
    messages: list[dict[str, str]] = field(default_factory=list)
    template: str | None = None
    memory: Memory = field(default_factory=Memory, repr=False)
    bounded: bool = field(default=False, repr=False)  # whether the last answer had to fit into the context

    @property
    def full(self) -> bool:
        """Whether the last answer ended because the context did."""
        return self.bounded and len(self.memory.ids) + 1 >= (self.model.context or 0)

    def say(
        self,
        text: str,
        *,
        limit: int | None = None,
        stop: Sequence[str | int] = (),
        **options: Unpack[DecodingOptions],
    ) -> Iterator[Piece]:
        """Add a message of the user and the answer, which is yielded as `octavo.generate.pieces` does.

        An answer that is closed before its end stays among the messages as far as it got. One that
        cannot begin leaves no trace.
        """
        before = len(self.messages)
        self.messages.append({"role": "user", "content": text})
        try:
            answer = self.pieces(limit=limit, stop=stop, **options)
        except BaseException:
            del self.messages[before:]
            raise
        reply = {"role": "assistant", "content": ""}
        self.messages.append(reply)
        return self._noted(answer, reply, before)

    def _noted(self, answer: Iterator[Piece], reply: dict[str, str], before: int) -> Iterator[Piece]:
        """The pieces of an answer, as they are added to the reply."""
        try:
            with closing(answer):  # type: ignore[type-var]
                for piece in answer:
                    reply["content"] += piece.text
                    yield piece
        except OctavoError:
            if not reply["content"]:
                del self.messages[before:]
            raise

    def pieces(
        self,
        *,
        limit: int | None = None,
        stop: Sequence[str | int] = (),
        **options: Unpack[DecodingOptions],
    ) -> Iterator[Piece]:
        """The answer to the messages as they stand, which stay as they are; see `chat`."""
        turn = read(self.model, self.messages, self.require_template())
        room = None if options.get("slide") else room_after(self.model, len(turn.ids))
        self.bounded = room is not None
        if room is not None:
            limit = room if limit is None else min(limit, room)
        stop = [stop] if isinstance(stop, str) else stop
        ends = [*stop, *turn.ends] if isinstance(stop, Collection) else stop  # refused there
        return continued(self.model, turn.ids, limit=limit, stop=ends, memory=self.memory, **options)

    def require_template(self) -> str:
        """The template, or an error that says how to bring one."""
        template = self.model.chat_template if self.template is None else self.template
        if template is None:
            raise OctavoError(
                "this model has no chat template, so how it is to be spoken to is not known: give one "
                "(template=..., --template FILE), or let it write on from a text (octavo generate)"
            )
        return template


def room_after(model: Model, read: int) -> int | None:
    """How many tokens fit into the context after those; None for a model without one."""
    if model.context is None:
        return None
    if read >= model.context:
        raise OctavoError(
            f"the conversation has {read:,} tokens and the model a context of {model.context:,}: begin anew "
            "(/reset), or say less"
        )
    return model.context - read
