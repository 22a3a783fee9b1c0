"""The corpora of the course by name: kept in the user's cache, downloaded once, known by their digest."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import OctavoError


@dataclass(frozen=True)
class Corpus:
    """A text by name: the file it is kept in, the digest it must have, and where it is published."""

    file: str
    sha256: str
    address: str | None


CORPORA = {
    "tinyshakespeare": Corpus(
        "tinyshakespeare.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    ),
    "styles-train": Corpus(
        "styles_train.txt",
        "1f6e0f72c7fba4f250747cc7efee502eb11e097edca1f250f80060c11b62ec90",
        None,
    ),
    "styles-test": Corpus(
        "styles_test.txt",
        "a7441e491f9dc9b4b3426af2fa638e3ae74c34b844182ebe86fdafbf6b18717d",
        None,
    ),
}


def user_cache() -> Path:
    """Where the system keeps what can be made again: `~/.cache/octavo` unless it says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "octavo"


def cache_folder() -> Path:
    """Where corpora are kept when nobody says otherwise."""
    return user_cache() / "corpora"


def corpus(name: str, cache: Path | None = None) -> str:
    """The text of a corpus, from the cache folder, or downloaded into it once.

    Parameters
    ----------
    name : {"tinyshakespeare", "styles-train", "styles-test"}
        Karpathy's tiny Shakespeare; *The Mysterious Affair at Styles* as the course prepared it.
    cache : Path, optional
        By default ``~/.cache/octavo/corpora``.

    Raises
    ------
    OctavoError
        If the name is unknown, the file has another digest than the corpus, or it is neither in the
        cache nor to be had.
    """
    return _read(name, cache)[1].decode("utf-8")


def corpus_file(name: str, cache: Path | None = None) -> Path:
    """The file of a corpus, there and whole; errors as in `corpus`."""
    return _read(name, cache)[0]


def _read(name: str, cache: Path | None) -> tuple[Path, bytes]:
    if name not in CORPORA:
        raise OctavoError(f"no corpus is called {name!r}; there are {', '.join(CORPORA)}")
    entry = CORPORA[name]
    path = (cache or cache_folder()) / entry.file
    if not path.is_file():
        _download(entry, path)
    try:
        return path, _verified(path.read_bytes(), entry, path)
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror}") from None


def _verified(content: bytes, entry: Corpus, where: object) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise OctavoError(f"{where} is not the corpus (SHA-256 {digest[:12]}..., not {entry.sha256[:12]}...)")
    return content


def _download(entry: Corpus, path: Path) -> None:
    if entry.address is None:
        raise OctavoError(f"{entry.file} is published nowhere in this form; put the course's file at {path}")
    import http.client
    import tempfile
    import urllib.request  # here, as these are slow to import and seldom needed

    try:
        with urllib.request.urlopen(entry.address, timeout=30) as response:
            content = response.read(2**24)
    except (http.client.HTTPException, OSError) as error:
        raise OctavoError(f"cannot download {entry.address} ({error}); put the file at {path}") from None
    _verified(content, entry, entry.address)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as partial:
            (Path(partial) / path.name).write_bytes(content)
            os.replace(Path(partial) / path.name, path)
    except OSError as error:
        raise OctavoError(f"cannot keep {entry.file} in {path.parent}: {error.strerror}") from None
