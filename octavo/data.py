"""Texts to learn from: files, the corpora of the course by name, and batches of windows."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octavo.errors import OctavoError
from octavo.nn import Array


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


def cache_folder() -> Path:
    """Where corpora are kept when nobody says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "octavo" / "corpora"


def corpus(name: str, cache: Path | None = None) -> str:
    """A corpus by name, from the cache folder, or downloaded into it once.

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
    if name not in CORPORA:
        raise OctavoError(f"no corpus is called {name!r}; there are {', '.join(CORPORA)}")
    entry = CORPORA[name]
    path = (cache or cache_folder()) / entry.file
    if not path.is_file():
        _download(entry, path)
    try:
        return _verified(path.read_bytes(), entry, path).decode("utf-8")
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
    import urllib.request  # here, as it is slow to import and seldom needed

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


def read_text(sources: Sequence[str | Path]) -> str:
    """The texts of files (or of corpora by name), one after the other.

    Raises
    ------
    OctavoError
        If a file is missing, is no UTF-8 text, or all of them are empty.
    """
    text = "".join(_read_source(source) for source in sources)
    if not text:
        raise OctavoError(f"there is no text in {', '.join(map(str, sources)) or 'nothing'}")
    return text


def _read_source(source: str | Path) -> str:
    path = Path(source)
    if str(source) in CORPORA and not path.exists():
        return corpus(str(source))
    try:
        return path.read_bytes().decode("utf-8")  # as it is: no newline is translated
    except FileNotFoundError:
        raise OctavoError(
            f"there is no file {path}, and no corpus of that name ({', '.join(CORPORA)})"
        ) from None
    except UnicodeDecodeError as error:
        raise OctavoError(f"{path} is not UTF-8 text: byte {error.start} cannot be decoded") from None
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror}") from None


def random_windows(ids: Array, batch: int, context: int, seed: int, step: int) -> Array:
    """`batch` windows of ``context + 1`` ids from anywhere: a pure function of the seed and the step.

    Examples
    --------
    >>> random_windows(np.arange(100), batch=2, context=3, seed=0, step=7).shape
    (2, 4)
    """
    starts = np.random.default_rng((seed, step)).integers(0, len(ids) - context, batch)
    return ids[starts[:, None] + np.arange(context + 1)]


def disjoint_windows(ids: Array, context: int) -> Array:
    """The ids in windows of ``context + 1``, each beginning with the last id of the one before.

    What is left at the end and fills no window is left out.

    Examples
    --------
    >>> disjoint_windows(np.arange(8), context=3)
    array([[0, 1, 2, 3],
           [3, 4, 5, 6]])
    """
    count = (len(ids) - 1) // context
    return ids[np.arange(count)[:, None] * context + np.arange(context + 1)]
