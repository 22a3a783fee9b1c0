"""Models by the name that a hub knows them by: ``hub:owner/name``, fetched once and kept in its cache.

`huggingface_hub` knows where the hub is, what a cache looks like and whether there is a token.
"""

from __future__ import annotations

import re
from pathlib import Path

from octavo.errors import OctavoError

PREFIX = "hub:"
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
"""What is fetched of a repository: what `octavo.load` reads."""

NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def folder(name: str) -> Path:
    """The folder of ``hub:owner/name`` or ``hub:owner/name@revision``: from the cache, else fetched into it.

    Raises
    ------
    OctavoError
        If the name is none, `huggingface_hub` is not installed, the hub cannot be reached, or it has no
        such model (or not for whoever asks).
    """
    repository, at, revision = name.removeprefix(PREFIX).partition("@")
    if not NAME.fullmatch(repository) or (at and not revision):
        raise OctavoError(f"a model of the hub is hub:owner/name or hub:owner/name@revision, not {name!r}")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise OctavoError(f"{name} needs huggingface_hub; install octavo with its extra: octavo[hub]") from None
    try:
        kept = _kept(repository, revision or None)
        return kept if kept is not None else Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=list(FILES))
        )
    except LocalEntryNotFoundError:
        ...
