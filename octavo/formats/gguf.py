"""GGUF files as models and back: the config out of the metadata, the parameters under octavo's names.

Matrices stay in the blocks of the file, mapped; Llama's queries and keys, whose rows stand in another order
there, are copied, as blocks. Which names mean what is in `octavo.formats.gguf_names`, how the bytes lie in
`octavo.formats.gguf_file`.
"""

from __future__ import annotations

import os
import reprlib
import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo import models
from octavo.blocks import FORMATS
from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.formats import gguf_file
from octavo.formats.gguf_names import FAMILIES, Family, from_gguf, to_gguf
from octavo.nn import Array
from octavo.quant import Quantized, quantise

if TYPE_CHECKING:
    from octavo.model import Model
    from octavo.tokenizers import Tokenizer

BEGIN, END, END_OF_TURN = (f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot"))
TEMPLATE = "tokenizer.chat_template"
DTYPES = ("F32", *(format.name for format in FORMATS.values() if format.quantise))  # that octavo writes
SAME = {"float32": "F32", "float16": "F16"}  # what NumPy calls them
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10}
FILE_TYPES |= {"Q3_K": 12, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18, "BF16": 32}  # what most of a file is in
IDLE = ("vocab_size", "rope.dimension_count", "attention.value_length", "tensor_data_layout")
"""Keys that tell nothing new, or are held against the rest here; others may change what is computed."""


def recognise(path: Path) -> bool:
    """Whether a file begins as GGUF does."""
    try:
        with path.open("rb") as file:
            return file.read(4) == gguf_file.MAGIC
    except OSError:
        return False


def read(path: Path, **options: Any) -> tuple[str, Any, dict[str, Array], dict[str, Any]]:
    """The model type, config, parameters and metadata of a file; `options` give fields of the config.

    Raises
    ------
    OctavoError
        If the file is damaged, its architecture is not supported, or the metadata lack a size or say what
        may change the numbers and is not known.
    """
    metadata, tensors = gguf_file.read(path)
    try:
        return *_model(metadata, tensors, options), metadata
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None


def _model(
    metadata: Mapping[str, Any], tensors: Mapping[str, Array], options: dict[str, Any]
) -> tuple[str, Any, dict[str, Array]]:
    name = metadata.get("general.architecture")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        known = ", ".join(FAMILIES)
        raise OctavoError(f"the architecture {_shown(name)} is not supported; octavo reads {known}")
    name = str(name)
    _require_whole(metadata)
    told = _config(name, family, metadata, tensors)
    sizes = [field.name for field in fields(models.architecture(name).Config) if type(field.default) is int]
    if untold := [_key(name, family, field) for field in sizes if field not in told | options]:
        raise OctavoError(f"the metadata do not tell {', '.join(untold)}")
    config = models.complete(name, told, options)
    if "lm_head" not in family.tensors:  # the head is the embedding, of which a file may hold a copy
        tensors = _without_copy(tensors, "output.weight", "token_embd.weight")
    params = {from_gguf(family, tensor): array for tensor, array in tensors.items()}
    return name, config, _reordered(params, family, config, _apart, -family.added)


def tokenizer(metadata: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer in a file's metadata, if it has one."""
    if "tokenizer.ggml.tokens" not in metadata or find_spec("octavo.tokenizers.gguf") is None:
        return None
    from octavo.tokenizers.gguf import from_metadata

    return from_metadata(metadata)


def chat_template(metadata: Mapping[str, Any]) -> str | None:
    """The chat template in a file's metadata, if it has one."""
    template = metadata.get(TEMPLATE)
    if template is not None and not isinstance(template, str):
        raise OctavoError(f"{TEMPLATE} is text, not {_shown(template)}")
    return template


# ---------------------------------------------------------------- the config


def _require_whole(metadata: Mapping[str, Any]) -> None:
    parts = metadata.get("split.count", 1)
    if parts != 1:
        raise OctavoError(
            f"this is one of {_shown(parts)} files of a model; merge them with llama-gguf-split --merge"
        )


def _config(
    name: str, family: Family, metadata: Mapping[str, Any], tensors: Mapping[str, Array]
) -> dict[str, Any]:
    """The fields of the config that the metadata and the tensors tell."""
    own = {_key(name, family, field): field for field in family.fields}
    told = {field: metadata[key] for key, field in own.items() if key in metadata}
    for key, value in metadata.items():
        off = value is False or value in (0, "none", "") if isinstance(value, bool | int | str) else False
        rest = key.removeprefix(f"{name}.")
        if rest == key or key in own or off or rest in IDLE:
            continue
        raise OctavoError(
            f"{printable(key)} {_shown(value)} is not known here and may change what is computed"
        )
    if "token_embd.weight" in tensors:
        told["vocab_size"] = int(tensors["token_embd.weight"].shape[0])
    if "lm_head" in family.tensors:
        told["tie_word_embeddings"] = "output.weight" not in tensors
    told |= _special_tokens(metadata)
    _require_one_width(name, told, metadata)
    return told


def _key(name: str, family: Family, field: str) -> str:
    """The name in the metadata of a field of the config."""
    return f"{name}.{family.fields.get(field, field)}"


def _special_tokens(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The token that begins a text, and those that end one: a turn of a conversation does, too."""
    ends = [metadata[key] for key in (END, END_OF_TURN) if key in metadata]
    told: dict[str, Any] = {"bos_token_id": metadata[BEGIN]} if BEGIN in metadata else {}
    if ends:
        told["eos_token_id"] = ends if len(set(map(str, ends))) > 1 else ends[0]
    return told


def _require_one_width(name: str, told: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Refuse heads of which values have another width than keys, or only some columns turn."""
    if "num_attention_heads" not in told:
        return
    width, heads = told.get("hidden_size"), told["num_attention_heads"]
    whole = isinstance(width, int) and isinstance(heads, int) and heads > 0
    own = told.get("head_dim", int(width) // int(heads) if whole else None)
    for key in (f"{name}.rope.dimension_count", f"{name}.attention.value_length"):
        if metadata.get(key, own) != own:
            raise OctavoError(
                f"{key} {_shown(metadata[key])} is not supported, only the width of a head, {own}"
            )


def _shown(value: Any) -> str:
    return printable(reprlib.repr(value))


# ---------------------------------------------------------------- parameters


def _without_copy(tensors: Mapping[str, Array], copy: str, original: str) -> dict[str, Array]:
    """The tensors without `copy`, if it is the same, block for block."""
    a, b = (getattr(tensors.get(name), "blocks", tensors.get(name)) for name in (copy, original))
    repeats = a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)
    return {name: array for name, array in tensors.items() if not (repeats and name == copy)}


def _reordered(
    params: Mapping[str, Array], family: Family, config: Any, order: Any, added: float
) -> dict[str, Array]:
    """The parameters with the rows of paired heads in `order`, and `added` to the gains of norms."""
    made = {}
    for name, array in params.items():
        stem = name.rpartition(".")[0]
        if stem.endswith(family.paired) and array.shape[0] % config.width == 0:
            rows = order(array.shape[0], config.width)
            array = array.rows(rows) if isinstance(array, Quantized) else array[rows]
        elif added and stem.endswith("norm"):
            array = np.asarray(array, np.float32) + np.float32(added)
        made[name] = array
    return made


def _apart(rows: int, width: int) -> Array:
    """Where the rows of heads of this `width` stand when columns i and i + K/2 are neighbours."""
    return np.arange(rows).reshape(-1, width // 2, 2).swapaxes(1, 2).reshape(-1)


def _paired(rows: int, width: int) -> Array:
    """The way back."""
    return np.arange(rows).reshape(-1, 2, width // 2).swapaxes(1, 2).reshape(-1)


# ---------------------------------------------------------------- writing


def write(path: Path, model: Model, dtype: str | None = None) -> None:
    """Write a model as a GGUF file, beside its place, then rename: it appears whole or not at all.

    Parameters
    ----------
    path : Path
        A file that does not exist yet.
    model : Model
        Of a family that GGUF knows; with its tokenizer and chat template, if it has them.
    dtype : str, optional
        One of `DTYPES`, for the matrices; vectors and positions are float32. By default every parameter
        keeps the format it has. Rows that are no whole number of blocks are stored in F16.
    """
    dtype = SAME.get(dtype or "", dtype)
    if dtype not in (None, *DTYPES):
        raise OctavoError(f"a GGUF file holds {', '.join(DTYPES)}, not {dtype!r}")
    family = FAMILIES.get(model.model_type)
    if family is None:
        known = ", ".join(FAMILIES)
        raise OctavoError(f"GGUF has no architecture {model.model_type}; octavo writes {known} into it")
    if path.exists() or path.is_symlink():
        raise OctavoError(f"{path} exists already; name a new file, or remove it first")
    params = _reordered(model.params, family, model.config, _paired, family.added)
    tensors = {to_gguf(family, name): _stored(name, params[name], dtype) for name in _in_order(model)}
    metadata = _metadata(path.stem, model, family, tensors)
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


def _in_order(model: Model) -> list[str]:
    """The parameters from the tokens to the logits."""
    return list(model.architecture.shapes(model.config))


def _stored(name: str, array: Array, dtype: str | None) -> Array:
    """A parameter in the format it is to have in a file."""
    matrix = len(array.shape) == 2 and name != "wpe.weight"
    if dtype is None and isinstance(array, Quantized):
        return array
    if not isinstance(array, Quantized):
        array = np.asarray(array)
    if dtype is None and array.dtype == np.float64:
        raise OctavoError(f"{name} is in float64, which GGUF has no matrices of; say dtype='F32'")
    if dtype is None:
        dtype = "F16" if array.dtype == np.float16 else "F32"
    if dtype == "F32" or not matrix:
        return np.asarray(array, np.float32)
    fits = array.shape[1] % FORMATS[dtype].items == 0
    try:
        return quantise(array, dtype if fits else "F16")
    except OctavoError as error:
        raise OctavoError(f"{name}: {error}") from None


def _metadata(name: str, model: Model, family: Family, tensors: Mapping[str, Array]) -> dict[str, Any]:
    """What a file says of the model, before its tensors."""
    config, kind = model.config, model.model_type
    formats = Counter(
        a.format.name if isinstance(a, Quantized) else "F32" for a in tensors.values() if a.ndim == 2
    )
    told = {f"{kind}.{key}": getattr(config, field) for field, key in family.fields.items()}
    told[f"{kind}.vocab_size"] = config.vocab_size
    if f"{kind}.attention.key_length" in told:
        told[f"{kind}.attention.value_length"] = told[f"{kind}.rope.dimension_count"] = config.width
    floats = {key: float(value) for key, value in told.items() if key.endswith(("epsilon", "freq_base"))}
    metadata = {
        "general.architecture": kind,
        "general.type": "model",
        "general.name": name,
        **told,
        **floats,
        "general.file_type": FILE_TYPES[formats.most_common(1)[0][0]],
        "general.quantization_version": 2,
    }
    return metadata | _of_the_tokens(model)


def _of_the_tokens(model: Model) -> dict[str, Any]:
    """What a file says of the tokenizer, of the tokens that frame a text, and of conversations."""
    told: dict[str, Any] = {"tokenizer.ggml.model": "no_vocab"}
    if model.tokenizer is not None and find_spec("octavo.tokenizers.gguf") is not None:
        from octavo.tokenizers.gguf import to_metadata

        told = dict(to_metadata(model.tokenizer))
    ends = model.ends
    if model.config.bos_token_id is not None:
        told[BEGIN] = model.config.bos_token_id
    if ends:
        told[END] = ends[0]
    if len(ends) > 1:
        told[END_OF_TURN] = ends[1]
    return told if model.chat_template is None else told | {TEMPLATE: model.chat_template}
