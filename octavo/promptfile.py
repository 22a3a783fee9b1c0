r"""Files of prompts, a JSON object a line, answered line for line in another file.

    {"prompt": "It was", "limit": 20, "seed": 1}
    {"messages": [{"role": "user", "content": "Who wrote Hamlet?"}], "id": "q7", "temperature": 0}

A line has a `prompt` or, for a model with a chat template, `messages`; it may say any option of sampling,
`limit` and `stop`, and what it does not say is as for all lines. `id` and `metadata`, whatever they are, go
with the answer; other fields are refused. The answer to a line is

    {"index": 0, "text": " the best", "finish_reason": "length", "prompt_tokens": 2, "tokens": 3, ...}

with the place of its prompt among the prompts, why it ends ("stop" or "length"), how many tokens were read
and drawn, and as `request` what tells whether the prompt, its options and the model are still those that
it answers.

Answers are written in the order of the prompts, each when it and those before it are there. Who is stopped
goes on where the file of answers ends; a line that was cut short is written anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from octavo import models
from octavo.checks import is_token_ids, printable
from octavo.completions import Completion, Ready, Request, finished, reading_of, ready
from octavo.decoding import DecodingOptions
from octavo.errors import OctavoError
from octavo.lock import take
from octavo.model import Model
from octavo.sample import OPTIONS
from octavo.texts import Stop
from octavo.tokenizers.patterns import well_formed

ASKED, PASSED = ("prompt", "messages"), ("id", "metadata")
KNOWN = (*ASKED, *PASSED, "limit", "stop", *OPTIONS)
ROWS = 8  # of each parameter by which a model is known: all of them would take too long to read


class Line(NamedTuple):
    """A line of a file of prompts: its number, from 1, and what it holds."""

    number: int
    fields: dict[str, Any]


class Answering:
    r"""A file of prompts that is to be answered in another, which may hold some of the answers already.

    Parameters
    ----------
    model : Model
        What answers; it needs a tokenizer.
    prompts, out : Path
        The two files. `out` need not be there.
    limit, stop, options
        Of lines that do not say theirs, as for `octavo.stream`; `cache` and `slide` are of all lines.

    Attributes
    ----------
    lines : list of Line
        The prompts.
    answered : int
        How many of them `out` has the answers to.

    Raises
    ------
    OctavoError
        If a line is no prompt, saying which, or if `out` holds anything else than answers to these, or is
        no regular file.

    Examples
    --------
    >>> import octavo, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     prompts, out = Path(folder) / "prompts.jsonl", Path(folder) / "out.jsonl"
    ...     _ = prompts.write_text('{"prompt": "poi"}\n{"prompt": "mr. ", "limit": 9, "stop": "e"}\n')
    ...     usual = {"limit": 3, "options": {"temperature": 0}}
    ...     answering = Answering(octavo.load("christie-rnn"), prompts, out, **usual)
    ...     print([(number, answer.text) for number, answer in answering.run(answering.prepare())])
    ...     print(Answering(octavo.load("christie-rnn"), prompts, out, **usual).answered)
    [(0, 'rot'), (1, 'ingl')]
    2
    """

    def __init__(
        self,
        model: Model,
        prompts: Path,
        out: Path,
        *,
        limit: int | None = None,
        stop: Stop = (),
        options: DecodingOptions | None = None,
    ) -> None:
        self.model, self.prompts, self.out = model, prompts, out
        self.options = options if options is not None else DecodingOptions()
        self.reading = reading_of(self.options)
        self.usual = {**self.options, "limit": limit, "stop": [stop] if isinstance(stop, str) else list(stop)}
        if out.exists() and not out.is_file():  # to read what a terminal or a pipe holds would never end
            raise OctavoError(f"{out} is no regular file, which answers are kept in; name a new one")
        if out.exists() and prompts.exists() and out.samefile(prompts):
            raise OctavoError(f"{out} holds the prompts; name another file for the answers")
        self.lines = list(parsed(prompts))
        about = fingerprint(model)
        self.digests = [digest(about, self._asked(line)) for line in self.lines]
        self.answered, self.size = self._kept()

    def prepare(self) -> Iterator[Ready]:
        """What is left to answer, as ids; an impossible line is refused, saying which."""
        for line in self.lines[self.answered :]:
            with _located(self.prompts, line.number):
                yield ready(self.model, self._request(line))

    def run(
        self, waiting: Iterator[Ready] | list[Ready], batch: int = 16
    ) -> Iterator[tuple[int, Completion]]:
        """Answer what is left, so many prompts at a time: each place and answer once it is written."""
        waiting = list(waiting)
        try:
            with open(self.out, "ab") as file:
                _lock(file, self.out)
                file.truncate(self.size)
                made = finished(self.model, waiting, self.reading, batch)
                for index, answer in enumerate(made, self.answered):
                    file.write(self._answer(index, answer))
                    file.flush()
                    yield index, answer
        except OSError as error:
            raise OctavoError(f"{self.out} cannot be written: {error.strerror}") from None

    def _asked(self, line: Line) -> dict[str, Any]:
        """All that an answer depends on, but for the model."""
        said = {k: v for k, v in line.fields.items() if v is not None and k not in PASSED}
        return {k: v for k, v in {**self.usual, **said}.items() if v is not None}

    def _request(self, line: Line) -> Request:
        """A line as it is asked of the model."""
        asked = self._asked(line)
        stop = asked["stop"]
        if not (isinstance(stop, str) or _is_stop(stop)):
            raise OctavoError(f"stop is a text or a list of texts and token ids, not {stop!r:.80}")
        names = (*OPTIONS, "cache", "slide")
        options = cast(DecodingOptions, {name: asked[name] for name in names if name in asked})
        if "logit_bias" in asked:
            options["logit_bias"] = _biases(asked["logit_bias"])
        prompt = asked.get("prompt")
        if prompt is not None:
            if not isinstance(prompt, str):
                raise OctavoError(f"a prompt is a text, not {prompt!r:.80}")
            return Request(well_formed(prompt), asked.get("limit"), stop, options)
        from octavo import turns

        if self.model.chat_template is None:
            raise OctavoError("this model has no chat template, which messages need; give a prompt")
        turn = turns.read(self.model, asked["messages"], self.model.chat_template)
        stop = [stop] if isinstance(stop, str) else stop
        return Request(turn.ids, asked.get("limit"), [*stop, *turn.ends], options)

    def _answer(self, index: int, answer: Completion) -> bytes:
        """A line of answers."""
        fields = self.lines[index].fields
        document = {
            "index": index,
            **{name: fields[name] for name in PASSED if name in fields},
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.prompt_tokens,
            "tokens": len(answer.tokens),
            "request": self.digests[index],
        }
        # half of a surrogate pair, which no encoding has, becomes the escape that JSON has for it
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"

    def _kept(self) -> tuple[int, int]:
        """How many whole lines of answers there are, and how many bytes."""
        count = size = 0
        try:
            with open(self.out, "rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # its writer was stopped in the middle
                    self._recognise(line, count)
                    count, size = count + 1, size + len(line)
        except FileNotFoundError:
            if not self.out.absolute().parent.is_dir():
                raise OctavoError(f"{self.out} cannot be written: there is no such folder") from None
        except OSError as error:
            raise OctavoError(f"{self.out} cannot be read: {error.strerror}") from None
        return count, size

    def _recognise(self, line: bytes, index: int) -> None:
        """Refuse a line of answers that is none to the prompt at its place."""
        found = None
        with suppress(ValueError, RecursionError):
            found = json.loads(line)
        if not isinstance(found, dict) or not isinstance(found.get("request"), str):
            raise OctavoError(f"line {index + 1} of {self.out} is no answer: name another file, or remove it")
        if found["request"] not in self.digests[index : index + 1]:
            raise OctavoError(
                f"line {index + 1} of {self.out} answers another prompt than {self.prompts} has there, or "
                "has other options or another model: name another file, or remove it"
            )


def parsed(path: Path) -> Iterator[Line]:
    """The lines of a file of prompts, with nothing in them that is not known; empty ones are none."""
    found = 0
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix(BOM_UTF8 if number == 1 else b"")
                if not line or line.isspace():
                    continue
                with _located(path, number):
                    fields = _fields(line)
                found += 1
                yield Line(number, fields)
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror}") from None
    if not found:
        raise OctavoError(f"{path} has no prompts")


def _fields(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode("utf-8"), parse_constant=_no_number, parse_float=_number)
    except UnicodeDecodeError as error:
        raise OctavoError(f"is not UTF-8 text: byte {error.start} cannot be decoded") from None
    except (ValueError, RecursionError) as error:
        raise OctavoError(f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise OctavoError(f"is not a JSON object, but {type(found).__name__}")
    if unknown := [name for name in found if name not in KNOWN]:
        raise OctavoError(f"has the field {printable(unknown[0])}, which is none of {', '.join(KNOWN)}")
    if sum(found.get(name) is not None for name in ASKED) != 1:
        raise OctavoError("has either a prompt or messages")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> float:
    """A number of JSON; one too large for a float would be written as Infinity, which is not JSON."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is too large a number")
    return number


def _is_stop(given: Any) -> bool:
    """Whether it is a list of texts and token ids."""
    return isinstance(given, list) and is_token_ids([end for end in given if not isinstance(end, str)])


def _biases(given: Any) -> dict[int, float]:
    """The biases that a JSON object gives to ids, which are strings there; "-inf" bans a token."""
    if not isinstance(given, Mapping):
        raise OctavoError(f'logit_bias is an object, {{"TOKEN": NUMBER}}, not {given!r:.80}')
    try:
        return {int(id): -np.inf if bias == "-inf" else bias for id, bias in given.items()}
    except ValueError:
        raise OctavoError(f'logit_bias is an object, {{"TOKEN": NUMBER}}, not {given!r:.80}') from None


@contextmanager
def _located(path: Path, number: int) -> Iterator[None]:
    """Says the line in which something is wrong."""
    try:
        yield
    except OctavoError as error:
        colon = " " if str(error).startswith(("is ", "has ")) else ": "
        raise OctavoError(f"line {number} of {path}{colon}{error}") from None


def digest(about: str, asked: Mapping[str, Any]) -> str:
    """What tells a prompt, its options and the model from others."""
    text = json.dumps([about, asked], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fingerprint(model: Model) -> str:
    """What tells a model from others: config, template, tokens, and some rows of each parameter."""
    tokenizer = model.text_tokenizer()
    about = [models.describe(model.model_type, model.config), model.chat_template]
    found = hashlib.sha256(json.dumps(about, default=str).encode())
    tokens = [tokenizer.token_bytes(id) for id in range(len(tokenizer))]
    found.update(repr((tokenizer.begins_with, tokenizer.end_of_text, tokens)).encode())
    for name in sorted(model.params):
        parameter = model.params[name]
        rows = np.linspace(0, len(parameter) - 1, ROWS).astype(np.int64)
        found.update(np.ascontiguousarray(np.asarray(parameter[rows])).tobytes())
    return found.hexdigest()


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep two commands from writing the same file at once, where the system knows how."""
    try:
        take(file)
    except BlockingIOError:
        raise OctavoError(f"{path} is being written by another command") from None
