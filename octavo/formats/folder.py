"""A model folder: `config.json`, `model.safetensors` and `tokenizer.json`.

The arrays stand in the file under the architecture's names. An architecture with a published layout
(it has `PUBLISHED`) is written in that layout, with a `tokenizer_config.json`, so that transformers and
its kin open the folder, and is read from it; cut into several files it is not read. Half-precision arrays
are widened to float32 when they are read, because NumPy computes in it many times faster.
"""

from __future__ import annotations

import json
import os
import reprlib
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo import models
from octavo.checks import is_token_ids, printable
from octavo.errors import OctavoError
from octavo.nn import Array

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
TOKENIZER_CONFIG, GENERATION_CONFIG = "tokenizer_config.json", "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # of safetensors, as NumPy reads them
LARGEST_CONFIG = 2**20  # bytes
LARGEST_COMPANION = 2**24  # bytes; Gemma's tokenizer_config.json has more than a million


def read(folder: Path, **options: Any) -> tuple[str, Any, dict[str, Array]]:
    """The model type, config and parameters of a folder; `options` override fields of its config."""
    description = read_config(folder / CONFIG)
    model_type = description.pop("model_type", None)
    if not isinstance(model_type, str):
        raise OctavoError(f"{folder / CONFIG} names no model_type; is this a model folder?")
    module = models.architecture(model_type)
    sizes = [field.name for field in fields(module.Config) if type(field.default) is int]
    if untold := [name for name in sizes if name not in description | options]:
        raise OctavoError(
            f"{folder / CONFIG} does not tell {', '.join(untold)}; add it, or give it: {untold[0]}=..."
        )
    config = models.complete(model_type, description, options)
    arrays = read_safetensors(folder / WEIGHTS, getattr(module, "BUFFERS", ()))
    try:
        return model_type, config, getattr(module, "from_published", _as_they_are)(arrays, config)
    except OctavoError as error:
        raise OctavoError(f"{folder / WEIGHTS}: {error}") from None


def read_config(path: Path) -> dict[str, Any]:
    """What a `config.json` tells of a model: its type and the fields of its config."""
    description = read_json(path, LARGEST_CONFIG)
    if description is None:
        raise OctavoError(f"{path} is missing; a model folder holds {CONFIG}, {WEIGHTS} and {TOKENIZER}")
    try:
        return models.told(description)
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None


def read_json(path: Path, largest: int) -> dict[str, Any] | None:
    """The JSON object in a file of at most `largest` bytes; None where there is no file."""
    text = _read_text(path, largest)
    try:
        content = None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OctavoError(f"{path} is not readable as JSON: {error}") from None
    if text is not None and not isinstance(content, dict):
        raise OctavoError(f"{path} holds no JSON object")
    return content


def _read_text(path: Path, largest: int) -> str | None:
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
    text = _read_text(folder / CHAT_TEMPLATE, LARGEST_COMPANION)
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
    content = read_json(path, LARGEST_CONFIG)
    if content is not None and not is_token_ids(content.get("eos_token_id")):
        found = reprlib.repr(content["eos_token_id"])
        raise OctavoError(f"{path}: eos_token_id must be the id of a token or a list of them, not {found}")
    return content


def read_safetensors(path: Path, without: tuple[str, ...] = ()) -> dict[str, Array]:
    """The arrays of a safetensors file, of the floating-point dtypes, but those whose names end so."""
    from safetensors import SafetensorError, deserialize

    try:
        tensors = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        raise OctavoError(f"{path} is missing") from None
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise OctavoError(f"{path} is not a readable safetensors file: {error}") from None
    arrays = {}
    for name, tensor in tensors:
        if name.endswith(without):
            continue
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
    *,
    chat_template: str | None = None,
    generation_config: Mapping[str, Any] | None = None,
) -> None:
    """Write a new model folder, beside its place, then rename: it appears whole or not at all.

    `description` is what `octavo.models.describe` gives; `extras` are further files, as texts by name.
    The chat template stands in a file of its own, and in `tokenizer_config.json` for older readers.
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
        if tokenizer is not None:
            tokenizer.save(partial / TOKENIZER)
        module = models.ARCHITECTURES.get(description.get("model_type", ""))
        if hasattr(module, "PUBLISHED"):
            description, params, wrapper = _published(description, params, tokenizer, partial / TOKENIZER)
            if wrapper is not None:
                template = {} if chat_template is None else {"chat_template": chat_template}
                extras = {**extras, TOKENIZER_CONFIG: _json(wrapper | template)}
        if chat_template is not None:
            extras = {**extras, CHAT_TEMPLATE: chat_template}
        if generation_config is not None:
            extras = {**extras, GENERATION_CONFIG: _json(generation_config)}
        for name, content in {CONFIG: _json(description), **extras}.items():
            (partial / name).write_text(content, encoding="utf-8", newline="")
        arrays = {name: np.ascontiguousarray(array) for name, array in params.items()}
        save_file(arrays, partial / WEIGHTS, metadata={"format": "pt"})  # transformers 4 asks for it
        mode = (partial / CONFIG).stat().st_mode
        (partial / WEIGHTS).chmod(mode)  # the library leaves it to its owner alone
        if folder.is_dir():  # an empty one, or refuse_existing had objected
            folder.rmdir()
        os.replace(partial, folder)
    except (OSError, SafetensorError) as error:  # the library has its own type for a full disk
        raise OctavoError(f"cannot write {folder}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _published(
    description: dict[str, Any], params: dict[str, Array], tokenizer: Tokenizer | None, written: Path
) -> tuple[dict[str, Any], dict[str, Array], dict[str, Any] | None]:
    """Description and parameters as they are published, and what is said of the tokenizer `written`."""
    model_type = description["model_type"]
    module = models.architecture(model_type)
    config = models.configure(model_type, {n: v for n, v in description.items() if n != "model_type"})
    params = getattr(module, "to_published", _as_they_are)(params, config)
    dtype = np.result_type(*params.values()).name
    if tokenizer is None:
        return models.published.describe(description, module.PUBLISHED, dtype), params, None
    special, end = _special_tokens(written), tokenizer.end_of_text
    description = models.published.describe(description, module.PUBLISHED, dtype, special, end)
    wrapper: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # what tokenizer.json says, and nothing of its own
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.context,
    }
    contents = {id: content for content, id in special.items()}
    for name in ("bos_token", "eos_token"):
        ids = description[f"{name}_id"]
        first = next(iter(ids), None) if isinstance(ids, tuple) else ids
        if first in contents:
            wrapper[name] = contents[first]
    return description, params, wrapper


def _special_tokens(tokenizer: Path) -> dict[str, int]:
    """The ids of the tokens of a `tokenizer.json` that no text is encoded to, by what stands for them."""
    added = json.loads(tokenizer.read_bytes())["added_tokens"]
    return {token["content"]: token["id"] for token in added if token["special"]}


def _as_they_are(params: dict[str, Array], config: Any) -> dict[str, Array]:
    return params


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


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
