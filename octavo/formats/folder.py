"""Octavo's own model folder: `config.json`, `model.safetensors` and `tokenizer.json`.

The arrays stand in the file under the architecture's names. Half-precision arrays are widened to
float32 when they are read, because NumPy computes in it many times faster.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo import models
from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.nn import Array

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # of safetensors, as NumPy reads them
LARGEST_CONFIG = 2**20  # bytes


def read(folder: Path, **options: Any) -> tuple[str, Any, dict[str, Array]]:
    """The model type, config and parameters of a folder; `options` override fields of its config."""
    description = read_config(folder / CONFIG)
    model_type = description.pop("model_type", None)
    if not isinstance(model_type, str):
        raise OctavoError(f"{folder / CONFIG} names no model_type; is this a model folder?")
    config = models.complete(model_type, description, options)
    return model_type, config, read_safetensors(folder / WEIGHTS)


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise OctavoError(f"{path} is larger than any config ({LARGEST_CONFIG:,} bytes)")
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OctavoError(
            f"{path} is missing; a model folder holds {CONFIG}, {WEIGHTS} and {TOKENIZER}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OctavoError):
            raise
        raise OctavoError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(description, dict):
        raise OctavoError(f"{path} holds no JSON object")
    return description


def read_safetensors(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file, of the floating-point dtypes."""
    from safetensors import SafetensorError, deserialize

    try:
        tensors = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        raise OctavoError(f"{path} is missing") from None
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise OctavoError(f"{path} is not a readable safetensors file: {error}") from None
    arrays = {}
    for name, tensor in tensors:
        if tensor["dtype"] not in DTYPES:
            raise OctavoError(
                f"{path}: {printable(name)} holds {tensor['dtype']}, not floating-point numbers"
            )
        flat = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        if tensor["dtype"] == "BF16":  # the upper half of a float32
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = widen(flat)
    return arrays


def widen(array: Array) -> Array:
    """Half precision as float32; everything else as it is."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def write(
    folder: Path,
    description: dict[str, Any],
    params: dict[str, Array],
    tokenizer: Tokenizer | None = None,
    extras: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a new model folder, beside its place, then rename: it appears whole or not at all.

    `extras` are further files, as texts by name.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    refuse_existing(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        partial.mkdir()
    except OSError as error:
        raise OctavoError(f"cannot write {folder}: {error.strerror}") from None
    try:
        text = json.dumps(description, indent=2, ensure_ascii=False)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        save_file({name: np.ascontiguousarray(array) for name, array in params.items()}, partial / WEIGHTS)
        (partial / WEIGHTS).chmod(
            (partial / CONFIG).stat().st_mode
        )  # the library leaves it to its owner alone
        if tokenizer is not None:
            tokenizer.save(partial / TOKENIZER)
        for name, content in extras.items():
            (partial / name).write_text(content, encoding="utf-8")
        if folder.is_dir():  # an empty one, or refuse_existing had objected
            folder.rmdir()
        os.replace(partial, folder)
    except (OSError, SafetensorError) as error:  # the library has its own type for a full disk
        raise OctavoError(f"cannot write {folder}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(folder: Path) -> None:
    """An error if writing `folder` would replace something, or nothing can be written there."""
    try:
        empty = folder.is_dir() and not any(folder.iterdir())
        taken = folder.exists() or folder.is_symlink()
        parent = next(p for p in folder.absolute().parents if p.exists())
    except OSError as error:
        raise OctavoError(f"cannot write {folder}: {error.strerror}") from None
    if taken and not empty:
        raise OctavoError(f"{folder} exists already; name a new folder, or remove it first")
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OctavoError(f"cannot write {folder}: {parent} is no folder that may be written to")
