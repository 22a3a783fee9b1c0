"""Chat templates: how a conversation is written for a model, as a Jinja program that comes with it.

Variables, filters and settings are those of transformers' `apply_chat_template`, so that a model reads
what it was trained on. A template is somebody else's program: it runs in Jinja's sandbox, and that in a
process of its own (`octavo.template_process`), which the operating system ends after a second of work and
refuses more than 512 MiB. Not here: tools and documents, which templates are told are none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from octavo.errors import OctavoError

Message: TypeAlias = Mapping[str, str]
"""Who speaks and what: ``{"role": "user", "content": "..."}``."""

PROGRAM = Path(__file__).with_name("template_process.py")
# Seconds until the other process is given up. Elsewhere it ends itself after so much work: a clock would
# also count what a busy machine does for others.
PATIENCE = 10.0 if os.name == "nt" else 600.0
LARGEST = 2**20  # characters of a template; the longest published ones have some 20,000


def render(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    bos_token: str = "",
    eos_token: str = "",
) -> str:
    """The text of a conversation.

    Parameters
    ----------
    template : str
        A Jinja template.
    messages : sequence of dict
        Each with a `role` ("system", "user", "assistant") and a `content`.
    add_generation_prompt : bool
        Whether the text ends with what precedes an answer.
    bos_token, eos_token : str
        What the template may put where a text begins and ends.

    Returns
    -------
    str

    Raises
    ------
    OctavoError
        If Jinja is not installed, a message is none, or the template is wrong, refuses the messages,
        reaches for what it must not, or takes more than a second, 512 MiB or 4 million characters.

    Examples
    --------
    >>> messages = [{"role": "user", "content": "hello"}]
    >>> render("{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}", messages)
    '<user> hello '
    """
    checked(messages)
    variables = variables_of(messages, add_generation_prompt, bos_token, eos_token)
    (text,) = renderings(template, [variables])
    if isinstance(text, OctavoError):
        raise text
    return text


def checked(messages: Sequence[Message]) -> None:
    """Refuse what is no conversation."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise OctavoError('messages are a list of {"role": "user", "content": "hi"}')
    for message in messages:
        fits = isinstance(message, Mapping) and message.keys() == {"role", "content"}
        if not fits or not all(isinstance(part, str) for part in message.values()):
            raise OctavoError(
                'a message is a role and a content, both text: {"role": "user", "content": "..."}'
            )
    if not messages:
        raise OctavoError("there are no messages; give at least one")


def variables_of(
    messages: Sequence[Message], add_generation_prompt: bool, bos_token: str, eos_token: str
) -> dict[str, Any]:
    """What a template is told."""
    return {
        "messages": [dict(message) for message in messages],
        "add_generation_prompt": add_generation_prompt,
        "bos_token": bos_token,
        "eos_token": eos_token,
        "tools": None,
        "documents": None,
    }


def renderings(template: str, variables: Sequence[dict[str, Any]]) -> list[str | OctavoError]:
    """The text for each set of variables, or the error that there is instead."""
    if len(template) > LARGEST:
        raise OctavoError(f"the chat template has {len(template):,} characters, more than {LARGEST:,}")
    request = {"path": libraries(), "template": template, "variables": list(variables)}
    answers = _asked(json.dumps(request) + "\n")
    return [a["value"] if "value" in a else _refusal(str(a["error"])) for a in answers]


def _refusal(reason: str) -> OctavoError:
    return OctavoError(f"the chat template cannot be used: {' '.join(reason.split())}")


def libraries() -> list[str]:
    """The folders of Jinja and of what it needs, or an error that says how to install it.

    They are found, not imported: the other process does that.
    """
    found = [find_spec(name) for name in ("jinja2", "markupsafe")]
    places = [str(Path(spec.origin).parents[1]) for spec in found if spec is not None and spec.origin]
    if len(places) < len(found):
        raise OctavoError("a chat template needs Jinja: pip install 'octavo[chat]'")
    return list(dict.fromkeys(places))


def _asked(request: str) -> Any:
    """What the other process answers; Ctrl-C in the terminal is not for it."""
    command = [sys.executable, "-I", "-S", str(PROGRAM)]
    try:
        done = subprocess.run(
            command,
            input=request.encode("ascii"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refusal("it does not come to an end") from None
    except OSError as error:
        raise OctavoError(f"the process that renders chat templates does not start: {error}") from None
    if done.returncode < 0:  # ended by the operating system
        raise _refusal("it does not come to an end within a second")
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise _refusal("it breaks the process that renders it") from None
