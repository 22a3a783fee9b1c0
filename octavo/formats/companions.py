"""The small files of a model folder: JSON and text, read up to a size, and what stands beside the model."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any

from octavo.checks import is_token_ids
from octavo.errors import OctavoError

TOKENIZER_CONFIG, GENERATION_CONFIG = "tokenizer_config.json", "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
LARGEST = 2**20  # bytes of a config
LARGEST_COMPANION = 2**24  # bytes; Gemma's tokenizer_config.json has more than a million


def read_json(path: Path, largest: int) -> dict[str, Any] | None:
    """The JSON object in a file of at most `largest` bytes; None where there is no file."""
    text = read_text(path, largest)
    try:
        content = None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OctavoError(f"{path} is not readable as JSON: {error}") from None
    if text is not None and not isinstance(content, dict):
        raise OctavoError(f"{path} holds no JSON object")
    return content


def read_text(path: Path, largest: int) -> str | None:
    """The text of a file of at most `largest` bytes; None where there is no file."""
    try:
        if path.stat().st_size > largest:
            raise OctavoError(f"{path} is larger than any {path.name} ({largest:,} bytes)")
        return path.read_bytes().decode("utf-8")  # newlines as they are
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise OctavoError(f"{path} is not UTF-8 text: {error}") from None
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror}") from None


def read_chat_template(folder: Path) -> str | None:
    """How a conversation is written, in Jinja: a file of its own, or a field of `tokenizer_config.json`."""
    text = read_text(folder / CHAT_TEMPLATE, LARGEST_COMPANION)
    if text is not None:
        return text
    told = (read_json(folder / TOKENIZER_CONFIG, LARGEST_COMPANION) or {}).get("chat_template")
    if isinstance(told, list):  # several with names, as transformers 4 writes them
        named = [entry for entry in told if isinstance(entry, dict) and entry.get("name") == "default"]
        told = named[0].get("template") if named else None
    if told is not None and not isinstance(told, str):
        raise OctavoError(f"{folder / TOKENIZER_CONFIG}: chat_template is text, not {reprlib.repr(told)}")
    return told


def read_generation_config(folder: Path) -> dict[str, Any] | None:
    """What `generation_config.json` says, if there is one."""
    path = folder / GENERATION_CONFIG
    content = read_json(path, LARGEST)
    if content is not None and not is_token_ids(content.get("eos_token_id")):
        found = reprlib.repr(content["eos_token_id"])
        raise OctavoError(f"{path}: eos_token_id must be the id of a token or a list of them, not {found}")
    return content
