"""Models under the name that a hub knows them by: ``hub:owner/name``, fetched once and kept in its cache.

`huggingface_hub` knows where the hub is, how its cache is laid out and whether there is a token.
"""

from __future__ import annotations

import re
from pathlib import Path

from octavo.errors import OctavoError
from octavo.formats import folder, shards

PREFIX = "hub:"
FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
]
"""What is fetched of a repository: what `octavo.load` reads."""

NAME = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)


def fetch(name: str) -> Path:
    """The folder of ``hub:owner/name`` or ``hub:owner/name@revision``, from the cache if it is there whole.

    Raises
    ------
    OctavoError
        If the name is none, `huggingface_hub` is not installed, there is no such model or revision or
        not for whoever asks, or the hub cannot be reached.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise OctavoError(f"a model of a hub is hub:owner/name or hub:owner/name@revision, not {name!r}")
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise OctavoError(f"{name} asks for huggingface_hub; pip install 'octavo[hub]'") from None
    repository, revision = found.groups()
    kept = None
    try:
        kept = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        if _whole(kept):
            return kept
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        pass  # not in the cache; the hub says what is wrong with a name
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=FILES))
    except errors.GatedRepoError:
        problem = "its owner asks for consent first: give it on the model's page, and log in with a token"
    except errors.RepositoryNotFoundError:
        problem = "the hub has no such model, or not for you (no token, or one that may not read it)"
    except errors.RevisionNotFoundError:
        problem = f"the model has no revision {revision!r}"
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        if kept is not None:
            return kept
        problem = f"the hub cannot be reached, and the cache does not hold it ({_first_line(error)})"
    raise OctavoError(f"{name}: {problem}")


def _whole(kept: Path) -> bool:
    """Whether a folder of the cache has all that a model needs: another program may have fetched less."""
    if not all((kept / name).exists() for name in (folder.CONFIG, folder.TOKENIZER)):
        return False
    return all((kept / name).exists() for name in shards.files(kept))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
