"""The course's archives of arrays: NumPy `.npz` files of the types `plain` and `prenorm`.

Sizes come from the shapes of the arrays. Nothing in an archive is ever unpickled, and no array is
read before its declared size has been held against the size of the file.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from octavo import models
from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.formats.safetensors import widen
from octavo.nn import Array

LARGEST_EXPANSION = 100  # how often its own size a compressed archive may hold


def read(path: Path, **options: Any) -> tuple[str, Any, dict[str, Array]]:
    """The model type, config and parameters; `options` give or override fields of the config.

    Raises
    ------
    OctavoError
        If the file is damaged, holds the names of neither type, or a size cannot be told from it.
    """
    arrays = read_arrays(path)
    if "word_embedding.weight" in arrays and "n_heads" not in options:
        raise OctavoError(f"{path} does not tell the number of heads; give it: n_heads=8 (--set n_heads=8)")
    for model_type, mark, convert in (
        ("plain", "word_embedding.weight", _plain),
        ("prenorm", "W_E", _prenorm),
    ):
        if mark in arrays:
            sizes, params = convert(arrays, path)
            return model_type, models.complete(model_type, sizes, options), params
    found = ", ".join(map(printable, sorted(arrays)[:4])) or "nothing"
    raise OctavoError(f"{path} holds no known model: expected word_embedding.weight or W_E, found {found}")


def read_arrays(path: Path) -> dict[str, Array]:
    """Every array of an archive; half precision is widened."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            budget = LARGEST_EXPANSION * path.stat().st_size
            if sum(member.file_size for member in members) > budget:
                raise OctavoError(f"it claims to hold over {LARGEST_EXPANSION} times its own size")
            arrays = {m.filename.removesuffix(".npy"): widen(_read_member(archive, m)) for m in members}
            if len(arrays) < len(members):
                raise OctavoError("it holds two arrays of one name")
            return arrays
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise OctavoError(f"{path} is missing") from None
    except Exception as error:  # zipfile, zlib and the header parser raise a dozen types on damaged files
        raise OctavoError(f"{path} is not a readable .npz archive: {printable(str(error))}") from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    name = printable(member.filename)
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in header:
            raise OctavoError(f"{name} has the unknown .npy version {version}")
        shape, fortran, dtype = header[version](file)
        if dtype.kind != "f":
            raise OctavoError(f"{name} holds {dtype}, not floating-point numbers")
        if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize > member.file_size:
            raise OctavoError(f"{name} claims the shape {shape}, more than it holds")
        flat = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
        return flat.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="))


def _count(arrays: dict[str, Array], prefix: str) -> int:
    """One more than the highest i of the names ``{prefix}{i}.``."""
    numbers = {name[len(prefix) :].split(".")[0] for name in arrays if name.startswith(prefix)}
    return max((int(n) + 1 for n in numbers if n.isdecimal() and len(n) < 6), default=0)


def _shape(arrays: dict[str, Array], name: str, axes: int, path: Path) -> tuple[int, ...]:
    if name not in arrays:
        raise OctavoError(f"{path} lacks {name}")
    if arrays[name].ndim != axes:
        raise OctavoError(f"{path}: {name} should have {axes} axes and has the shape {arrays[name].shape}")
    shape: tuple[int, ...] = arrays[name].shape
    return shape


def _plain(arrays: dict[str, Array], path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Type `plain`: names and layout are the architecture's own; only the heads cannot be told."""
    vocabulary, width = _shape(arrays, "word_embedding.weight", 2, path)
    hidden, _ = _shape(arrays, "layers.0.feed_forward.0.weight", 2, path)
    sizes = {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_ff": hidden,
        "n_layers": _count(arrays, "layers."),
    }
    return sizes, arrays


def _prenorm(arrays: dict[str, Array], path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Type `prenorm`: matrices stand (in, out), those of the heads as (d_model, d_head, n_head)."""
    vocabulary, width = _shape(arrays, "W_E", 2, path)
    _, head, heads = _shape(arrays, "blocks.0.W_Q", 3, path)
    _, hidden = _shape(arrays, "blocks.0.W_1", 2, path)
    sizes = {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_ff": hidden,
        "n_layers": _count(arrays, "blocks."),
    }
    sizes |= {"n_heads": heads, "d_head": head}
    return sizes, {name: _out_in(name.rsplit(".")[-1], array) for name, array in arrays.items()}


def _out_in(kind: str, array: Array) -> Array:
    """An array of the archive in the layout of `octavo.models.prenorm`."""
    if kind in ("W_Q", "W_K", "W_V") and array.ndim == 3:  # (D, K, H) -> (H * K, D)
        width, head, heads = array.shape
        return np.ascontiguousarray(array.transpose(2, 1, 0)).reshape(heads * head, width)
    if kind in ("W_O", "W_1", "W_2") and array.ndim == 2:
        return np.ascontiguousarray(array.T)
    return array
