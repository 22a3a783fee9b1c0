"""Reading tokenizer files into memory, and writing ``tokenizer.json`` whole or not at all.

What the JSON means is the business of `chars` and `published`.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from octavo.errors import OctavoError

LARGEST = 256 * 2**20  # bytes; the largest published tokenizer.json has about 35 MB


def read(path: str | os.PathLike[str]) -> bytes:
    """The content of a file, or of the ``tokenizer.json`` in a folder."""
    file = Path(path)
    try:
        if file.is_dir():
            file = file / "tokenizer.json"
        if not file.is_file():
            raise OctavoError(
                f"{file}: no such file; expected a tokenizer.json or a pickled tiktoken.Encoding"
            )
        if (size := file.stat().st_size) > LARGEST:
            raise OctavoError(f"{file}: {size} bytes is more than a tokenizer may have ({LARGEST})")
        return file.read_bytes()
    except OSError as error:
        raise OctavoError(f"{file}: cannot be read: {error.strerror}") from None


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`."""
    try:
        document = json.loads(data)
    except RecursionError:
        raise OctavoError("not a tokenizer.json: its JSON is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, integers of thousands of digits
        raise OctavoError(f"not a tokenizer.json: damaged or truncated JSON ({error})") from None
    if not isinstance(document, dict):
        raise OctavoError(f"not a tokenizer.json: expected a JSON object, found {type(document).__name__}")
    return document


def write(path: str | os.PathLike[str], document: dict[str, Any]) -> None:
    """Write JSON beside its place, then move it there: no reader ever sees half a file."""
    file = Path(path)
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(beside, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise OctavoError(f"{file}: cannot be written: {error.strerror}") from None
