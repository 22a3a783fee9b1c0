"""Keras models: an architecture in JSON with its weights in HDF5, together or apart.

Keras 2 writes JSON (`to_json`), HDF5 (`save_weights`) and HDF5 with both; Keras 3 writes JSON, `.weights.h5`
and `.keras`, a zip archive of both. Which of them a file is, its content says, not its name.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.formats import hdf5, keras_layers, keras_weights
from octavo.models import recurrent
from octavo.nn import Array

ARCHITECTURE, WEIGHTS, ABOUT = "config.json", "model.weights.h5", "metadata.json"  # members of a .keras file
MOST_TEXT, MOST_BYTES = 2**24, 2**32  # no recurrent network comes near; a larger file is no such thing
MOST_EXPANSION = 100  # how often its own size a compressed member may hold; Keras does not compress


@dataclass(frozen=True)
class Parts:
    """What one file holds of a model; a weights file has no architecture, JSON no weights."""

    architecture: dict[str, Any] | None = None
    keras: int = 3
    weights: hdf5.Contents | None = None


def read(path: Path, weights: Path | None = None) -> tuple[str, recurrent.Config, dict[str, Array]]:
    """A Keras model.

    Parameters
    ----------
    path : Path
        The architecture (`.json`), or a whole model (`.h5`, `.keras`).
    weights : Path, optional
        The weights, in HDF5; needed if `path` has none, and used in place of its own.

    Returns
    -------
    str
        The model type: "rnn", "gru" or "lstm", the kind of the first recurrent layer.
    recurrent.Config
        The layers, without a closing softmax: the last one gives logits.
    dict of str to array
        Float32 params under our names, matrices (out, in).

    Raises
    ------
    OctavoError
        If a file is missing, damaged or none of Keras's; if a layer is not supported; or, all at once,
        for weights that are missing, unexpected, misshapen or not finite.
    """
    with named(path):
        model = parts(path)
        if model.architecture is None:
            raise OctavoError(
                "there are only weights in it; give the architecture too: load('model.json', weights=...)"
            )
        stack = keras_layers.read(model.architecture, model.keras)
        if weights is None and model.weights is None:
            raise OctavoError(
                "it holds an architecture alone; give weights too: weights='model.h5' (--weights model.h5)"
            )
    with named(weights or path):
        contents = parts(weights).weights if weights else model.weights
        if contents is None:
            raise OctavoError("there are no weights in it; expected an HDF5 file from save_weights")
        config, params = keras_weights.read(contents, stack, "the file")
    first = next(layer.kind for layer in config.layers if layer.kind in recurrent.GATES)
    return first, config, params


def recognise(path: Path) -> bool:
    """Whether a file looks like one of Keras's, by its first bytes.

    Examples
    --------
    >>> recognise(Path("no such file"))
    False
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                return {ARCHITECTURE, WEIGHTS} <= set(archive.namelist())
    except Exception:  # missing, a folder, not ours to read; or zipfile's many ways to fail
        return False
    return head.startswith(hdf5.MAGIC) or (
        head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        and b'"class_name"' in head
        and b'"config"' in head
    )


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror or error}") from None


# ---------------------------------------------------------------- three kinds of file


def parts(path: Path) -> Parts:
    """What a file holds, by its content."""
    if path.stat().st_size > MOST_BYTES:
        raise OctavoError(
            f"the file has over {MOST_BYTES} bytes; no Keras model that octavo reads is so large"
        )
    data = path.read_bytes()
    if not data:
        raise OctavoError("the file is empty")
    if data.startswith(hdf5.MAGIC):
        return from_hdf5(data)
    if data.startswith(b"PK"):
        return from_zip(path)
    return from_json(data)


def from_json(data: bytes) -> Parts:
    """The JSON of `to_json`."""
    architecture = parse(data)
    return Parts(architecture, generation(architecture.get("keras_version"), architecture))


def from_hdf5(data: bytes) -> Parts:
    """A whole model in HDF5, or weights alone."""
    contents = hdf5.read(data)
    about = contents.attributes.get("", {})
    if not isinstance(text := about.get("model_config"), str):
        return Parts(weights=contents)
    architecture = parse(text.encode())
    return Parts(architecture, generation(about.get("keras_version"), architecture), contents)


def from_zip(path: Path) -> Parts:
    """A `.keras` archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            text, about, weights = (
                member(archive, name, most)
                for name, most in ((ARCHITECTURE, MOST_TEXT), (ABOUT, MOST_TEXT), (WEIGHTS, MOST_BYTES))
            )
    except OctavoError:
        raise
    except Exception as error:  # zipfile and zlib raise a dozen types on damaged files
        raise OctavoError(f"the .keras archive is damaged: {error}") from None
    architecture = parse(text)
    return Parts(
        architecture, generation(parse(about).get("keras_version"), architecture), hdf5.read(weights)
    )


def member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """One file of an archive, if it is there and of a believable size."""
    if name not in archive.namelist():
        raise OctavoError(f"there is no {name} in it; expected a .keras file of Keras 3")
    info = archive.getinfo(name)
    if info.file_size > min(most, max(MOST_TEXT, MOST_EXPANSION * info.compress_size)):
        raise OctavoError(f"{name} in it claims to hold {info.file_size} bytes, more than is believable")
    return archive.read(info)


def generation(version: Any, architecture: dict[str, Any]) -> int:
    """2 or 3. Keras 3's JSON does not say, and differs from Keras 2's in naming a module."""
    if version is None:
        return 3 if "module" in architecture else 2
    major = version.split(".")[0] if isinstance(version, str) else version
    if major not in ("2", "3"):
        raise OctavoError(
            f"the model is from Keras {printable(str(version))}; octavo reads those of Keras 2 and 3"
        )
    return int(major)


# ---------------------------------------------------------------- JSON


def parse(data: bytes) -> dict[str, Any]:
    """A JSON object in which no key stands twice."""
    if len(data) > MOST_TEXT:
        raise OctavoError(f"there are over {MOST_TEXT} bytes of JSON in it; no architecture is so long")
    try:
        value = json.loads(data, object_pairs_hook=unique)
    except RecursionError:
        raise OctavoError("its JSON is nested too deeply for an architecture") from None
    except OctavoError:
        raise
    except ValueError as error:
        raise OctavoError(f"there is no readable JSON in it ({error}); expected what Keras saves") from None
    if not isinstance(value, dict):
        raise OctavoError("its JSON is no architecture: expected an object with class_name and config")
    return value


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its pairs."""
    if len(found := dict(pairs)) < len(pairs):
        raise OctavoError("its JSON is damaged: a key stands twice in one object")
    return found
