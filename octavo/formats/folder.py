"""A model folder: `config.json`, `model.safetensors` and `tokenizer.json`.

The arrays stand in the file under the architecture's names. An architecture with a published layout
(it has `PUBLISHED`) is written in that layout, with a `tokenizer_config.json`, so that transformers and
its kin open the folder, and is read from it, whether the weights are one file or several.

Where matrices are quantised, `octavo.formats.safetensors` says how their blocks stand in the file; names and
layout are then octavo's own, and `config.json` says in `quantization_config` that only octavo reads them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo import models
from octavo.errors import OctavoError
from octavo.formats.companions import CHAT_TEMPLATE, GENERATION_CONFIG, LARGEST, TOKENIZER_CONFIG, read_json
from octavo.formats.safetensors import stored
from octavo.formats.shards import WEIGHTS, read_weights
from octavo.nn import Array
from octavo.quant import Quantized

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
QUANTIZATION, METHOD = "quantization_config", {"quant_method": "octavo"}
"""The field by which a `config.json` says that weights are no plain numbers, and what octavo says there."""


def read(folder: Path, **options: Any) -> tuple[str, Any, dict[str, Array]]:
    """The model type, config and parameters of a folder; `options` override fields of its config."""
    description = read_config(folder / CONFIG)
    model_type = description.pop("model_type", None)
    if not isinstance(model_type, str):
        raise OctavoError(f"{folder / CONFIG} names no model_type; is this a model folder?")
    if model_type not in models.ARCHITECTURES:
        asked, known = models.spelled(model_type, description), ", ".join(models.ARCHITECTURES)
        raise OctavoError(f"{folder / CONFIG}: {asked} is not supported; there are {known}")
    module = models.architecture(model_type)
    sizes = [field.name for field in fields(module.Config) if type(field.default) is int]
    if untold := [name for name in sizes if name not in description | options]:
        raise OctavoError(
            f"{folder / CONFIG} does not tell {', '.join(untold)}; add it, or give it: {untold[0]}=..."
        )
    try:
        config = models.complete(model_type, description, options)
    except OctavoError as error:
        raise OctavoError(f"{folder / CONFIG}: {error}") from None
    ends, begins = getattr(module, "BUFFERS", ()), getattr(module, "OTHERS", ())
    arrays = read_weights(folder, lambda name: not name.endswith(ends) and not name.startswith(begins))
    if _quantised(arrays):
        return model_type, config, arrays
    try:
        return model_type, config, getattr(module, "from_published", _as_they_are)(arrays, config)
    except OctavoError as error:
        raise OctavoError(f"{folder / WEIGHTS}: {error}") from None


def read_config(path: Path) -> dict[str, Any]:
    """What a `config.json` tells of a model: its type and the fields of its config."""
    description = read_json(path, LARGEST)
    if description is None:
        raise OctavoError(f"{path} is missing; a model folder holds {CONFIG}, {WEIGHTS} and {TOKENIZER}")
    if description.get(QUANTIZATION) == METHOD:
        del description[QUANTIZATION]
    try:
        return models.told(description)
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None


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
    import secrets
    import shutil

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
        if _quantised(params):
            description = {**description, QUANTIZATION: METHOD}
        for name, content in {CONFIG: _json(description), **extras}.items():
            (partial / name).write_text(content, encoding="utf-8", newline="")
        arrays, told = stored(params)
        format = "octavo" if told else "pt"  # which transformers 4 asks for
        save_file(arrays, partial / WEIGHTS, metadata={"format": format} | told)
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
    if not _quantised(params):
        params = getattr(module, "to_published", _as_they_are)(params, config)
    dtype = np.result_type(*(array.dtype for array in params.values())).name
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


def _quantised(params: Mapping[str, Array]) -> bool:
    """Whether any of the parameters stands in blocks."""
    return any(isinstance(array, Quantized) for array in params.values())


def _as_they_are(params: dict[str, Array], config: Any) -> dict[str, Array]:
    return params


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def refuse_existing(folder: Path) -> None:
    """An error if writing `folder` would replace something, or nothing can be written there."""
    if not folder.name:  # "", "." or "/"
        raise OctavoError(f"{str(folder)!r} is no name of a new folder")
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
