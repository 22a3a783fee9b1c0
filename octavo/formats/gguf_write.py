"""Models as GGUF files, for llama.cpp and its kin: beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.blocks import FORMATS
from octavo.errors import OctavoError
from octavo.formats import gguf_config, gguf_file, gguf_rope
from octavo.formats.gguf import TEMPLATE, paired, reordered
from octavo.formats.gguf_config import BEGIN, END, END_OF_TURN
from octavo.formats.gguf_names import BY_TYPE, FAMILIES, to_gguf
from octavo.models import rotary
from octavo.nn import Array
from octavo.quant import Quantized, quantise

if TYPE_CHECKING:
    from octavo.model import Model

DTYPES = ("F32", *(format.name for format in FORMATS.values() if format.quantise))
SAME = {"float32": "F32", "float16": "F16"}  # what NumPy calls them
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10}
FILE_TYPES |= {"Q3_K": 12, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18, "BF16": 32}  # what most of a file is in
POSITIONS = "position_embd.weight"  # which llama.cpp has in float32


def write(path: Path, model: Model, dtype: str | None = None) -> None:
    """Write a model as a GGUF file: it appears whole or not at all.

    Parameters
    ----------
    path : Path
        A file that does not exist yet.
    model : Model
        Of a family that GGUF knows; with its tokenizer and chat template, if it has them.
    dtype : str, optional
        One of `DTYPES`, for the matrices; vectors and positions are float32. By default every parameter
        keeps the format it has. Rows that are no whole number of blocks are stored in F16.

    Raises
    ------
    OctavoError
        If the path is taken or cannot be written, a number is too large for the format, or GGUF has no
        words for the model.
    """
    dtype = SAME.get(dtype or "", dtype)
    if dtype not in (None, *DTYPES):
        raise OctavoError(f"a GGUF file holds {', '.join(DTYPES)}, not {dtype!r}")
    if path.exists() or path.is_symlink():
        raise OctavoError(f"{path} exists already; name a new file, or remove it first")
    metadata, tensors = contents(model, dtype)
    metadata |= {"general.name": path.stem}
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            gguf_file.write(file, metadata, tensors)
        os.replace(partial, path)
    except OSError as error:
        raise OctavoError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):  # it is renamed, or there is no such folder
            partial.unlink()


def contents(model: Model, dtype: str | None) -> gguf_file.Contents:
    """The metadata and tensors of a model; nothing of it is lost, or it is refused."""
    name = BY_TYPE.get(model.model_type)
    if name is None:
        known = ", ".join(BY_TYPE)
        raise OctavoError(f"GGUF has no architecture {model.model_type}; octavo writes {known} into it")
    family, config = FAMILIES[name], model.config
    params = reordered(model.params, family, config, paired, family.added)
    ours = {to_gguf(family, key): key for key in model.architecture.shapes(config)}
    tensors = {key: _stored(key, params[parameter], dtype) for key, parameter in ours.items()}
    scaling = getattr(config, "rope_scaling", None)
    if isinstance(scaling, rotary.Llama3):
        tensors[gguf_rope.FACTORS] = gguf_rope.divisors(scaling, config.head_dim, config.rope_theta)
    told = gguf_config.described(name, family, config)
    metadata: dict[str, Any] = {
        "general.architecture": name,
        "general.type": "model",
        "general.name": name,
        **told,
    }
    gguf_config.require_told(config, gguf_config.read(metadata, tensors, {}))
    kinds = Counter(_kind(array) for array in tensors.values() if array.ndim == 2)
    metadata |= {"general.file_type": FILE_TYPES[kinds.most_common(1)[0][0]]}
    return gguf_file.Contents(
        metadata | {"general.quantization_version": 2} | dict(_of_the_tokens(model)), tensors
    )


def _kind(array: Array) -> str:
    return array.format.name if isinstance(array, Quantized) else "F32"


def _stored(name: str, array: Array, dtype: str | None) -> Array:
    """A parameter in the format it is to have in a file."""
    if dtype is None and isinstance(array, Quantized):
        return array
    if dtype is None and array.dtype == np.float64:
        raise OctavoError(f"{name} is in float64, which GGUF has no matrices of; say dtype='F32'")
    if dtype is None:
        dtype = "F16" if array.dtype == np.float16 else "F32"
    if dtype == "F32" or array.ndim != 2 or name == POSITIONS:
        return np.asarray(array, np.float32)
    fits = array.shape[1] % FORMATS[dtype].items == 0
    try:
        return quantise(array, dtype if fits else "F16")
    except OctavoError as error:
        raise OctavoError(f"{name}: {error}") from None


def _of_the_tokens(model: Model) -> dict[str, Any]:
    """What a file says of the tokenizer, of the tokens that frame a text, and of conversations."""
    told: dict[str, Any] = {"tokenizer.ggml.model": "no_vocab"}
    if model.tokenizer is not None:
        from octavo.tokenizers.gguf import to_metadata

        told = dict(to_metadata(model.tokenizer))
    ends = model.ends
    if model.config.bos_token_id is not None:
        told[BEGIN] = model.config.bos_token_id
    told |= dict(zip((END, END_OF_TURN), ends, strict=False))
    return told if model.chat_template is None else told | {TEMPLATE: model.chat_template}
