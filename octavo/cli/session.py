"""What `octavo chat` does between two turns: answers shown as they come, and the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from octavo.chat import Conversation
from octavo.cli.asking import Interrupted, Keyboard, Lines
from octavo.cli.generate import Continuation, follow
from octavo.cli.printing import emit, paint, say
from octavo.cli.shell import INTERRUPTED, complain
from octavo.errors import OctavoError
from octavo.generate import Piece
from octavo.tokenizers import files

HELP = '''/reset         begin anew; the system message stays
/system TEXT   tell the model TEXT first; without TEXT, nothing
/save FILE     write the conversation as JSON (/save! FILE replaces a file)
/help          this
/quit          leave, as Ctrl-D does

A line that ends in \\ goes on in the next; """ alone on a line begins and ends
a turn of several lines. Ctrl-C stops an answer. A space before / says the line.'''


class Session:
    """A conversation, and how it is shown."""

    def __init__(
        self, talk: Conversation, say: Callable[[str], Iterator[Piece]], *, as_json: bool, sampling: str
    ) -> None:
        self.talk, self.say, self.as_json, self.sampling = talk, say, as_json, sampling

    def converse(self, keyboard: Keyboard) -> None:
        """Turn after turn at a terminal, until Ctrl-D, /quit, or Ctrl-C twice."""
        self._note("/help lists what there is besides talking; Ctrl-D leaves")
        self._note(f"sampling: {self.sampling}")
        leaving = False
        while True:
            try:
                turn = keyboard.turn()
                if turn is None or not self.take(turn):
                    return
                leaving = False
            except Interrupted:
                if leaving:
                    return
                leaving = True
                self._note("Ctrl-C once more, or Ctrl-D, leaves")
            except OctavoError as error:
                complain(str(error), "red")

    def follow(self, lines: Lines) -> None:
        """A turn for each line of a script; what is refused ends it, and so does Ctrl-C."""
        for turn in lines:
            if not self.take(turn, stops=False):
                return

    def take(self, turn: str, *, stops: bool = True) -> bool:
        """Answer a turn or do what it asks for; False where it asks for the end."""
        if not turn.strip():
            return True
        if turn.startswith("/"):
            command, _, rest = turn[1:].partition(" ")
            return self.command(command.strip(), rest.strip())
        if self.answer(turn) == "interrupted" and not stops:
            raise SystemExit(INTERRUPTED)
        return True

    def answer(self, turn: str) -> str:
        """Show the answer to a turn as it comes, to its end or until Ctrl-C; why it ended."""
        written = Continuation()
        with suppress(KeyboardInterrupt):  # before there is any of it
            follow(self.say(turn), written, (lambda _: None) if self.as_json else _show)
        if self.as_json:
            emit(description(turn, written))
        else:
            sys.stdout.write("\n")
            sys.stdout.flush()
        if written.finish_reason == "length" and self.talk.full:
            self._note(f"the context of {self.talk.model.context:,} tokens is full: /reset begins anew")
        return written.finish_reason

    def command(self, name: str, rest: str) -> bool:
        """Do what a line that begins with a slash asks for; False for the end."""
        if name == "quit":
            return False
        if name == "help":
            say(f"{HELP}\n\nSampling: {self.sampling}.", err=self.as_json)
        elif name == "reset":
            self.talk.messages[:] = [m for m in self.talk.messages[:1] if m["role"] == "system"]
            self._note("begun anew")
        elif name == "system":
            self.system(rest)
            self._note("the model is told so first" if rest else "the model is told nothing first")
        elif name in ("save", "save!"):
            self.save(rest, replace=name == "save!")
        else:
            raise OctavoError(
                f"there is no command /{name:.40}: /help lists them; put a space before it to say it"
            )
        return True

    def system(self, text: str) -> None:
        """Put a system message first, in place of one that is there; none for an empty text."""
        messages = self.talk.messages
        there = bool(messages) and messages[0]["role"] == "system"
        messages[: int(there)] = [{"role": "system", "content": text}] if text else []

    def save(self, name: str, *, replace: bool) -> None:
        """Write the messages to a file, whole or not at all."""
        if not name:
            raise OctavoError("/save takes the name of a file")
        path = Path(name).expanduser()
        if path.exists() and not replace:
            raise OctavoError(f"{name} exists already; /save! {name} replaces it")
        files.write(path, {"messages": self.talk.messages})
        self._note(f"{len(self.talk.messages)} messages are in {name}")

    def _note(self, text: str) -> None:
        """A line for a person, away from what is said."""
        say(paint(text, "dim", err=True), err=True)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def description(turn: str, written: Continuation) -> dict[str, Any]:
    """What ``--json`` prints for a turn."""
    return {
        "prompt": turn,
        "text": written.text,
        "tokens": len(written.tokens),
        "tokens_per_second": written.tokens_per_second if written.tokens else None,
        "finish_reason": written.finish_reason,
    }
