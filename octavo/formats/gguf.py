"""GGUF files as models: the parameters under octavo's names, the config, the tokenizer and the template.

Matrices stay in the blocks of the file, mapped; Llama's queries and keys, whose rows stand in another order
there, are copied, as blocks. Which names mean what is in `octavo.formats.gguf_names`, how the bytes lie in
`octavo.formats.gguf_file`, and writing in `octavo.formats.gguf_write`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.errors import OctavoError
from octavo.formats import gguf_config, gguf_file, gguf_rope
from octavo.formats.gguf_names import Family, from_gguf
from octavo.nn import Array
from octavo.quant import Quantized

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

TEMPLATE = "tokenizer.chat_template"


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
        _, family = gguf_config.family_of(metadata)
        config = gguf_config.read(metadata, tensors, options)
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None
    if "lm_head" not in family.tensors:  # the head is the embedding, of which a file may hold a copy
        tensors = _without_copy(tensors, "output.weight", "token_embd.weight")
    params = {from_gguf(family, name): array for name, array in tensors.items() if name != gguf_rope.FACTORS}
    return family.model_type, config, reordered(params, family, config, apart, -family.added), metadata


def tokenizer(metadata: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer in a file's metadata, if it has one."""
    if "tokenizer.ggml.tokens" not in metadata:
        return None
    from octavo.tokenizers.gguf import from_metadata

    return from_metadata(metadata)


def chat_template(metadata: Mapping[str, Any]) -> str | None:
    """The chat template in a file's metadata, if it has one."""
    template = metadata.get(TEMPLATE)
    if template is not None and not isinstance(template, str):
        raise OctavoError(f"{TEMPLATE} is text, not {reprlib.repr(template)}")
    return template


def _without_copy(tensors: Mapping[str, Array], copy: str, original: str) -> dict[str, Array]:
    """The tensors without `copy`, if it is the same, block for block."""
    a, b = (getattr(tensors.get(name), "blocks", tensors.get(name)) for name in (copy, original))
    repeats = a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)
    return {name: array for name, array in tensors.items() if not (repeats and name == copy)}


# ---------------------------------------------------------------- layouts


def reordered(
    params: Mapping[str, Array], family: Family, config: Any, order: Callable[[int, int], Array], added: float
) -> dict[str, Array]:
    """The parameters with the rows of paired heads in `order`, and `added` to the gains of norms."""
    made = {}
    for name, array in params.items():
        stem = name.rpartition(".")[0]
        if stem.endswith(family.paired) and array.shape[0] % config.head_dim == 0:
            rows = order(array.shape[0], config.head_dim)
            array = array.rows(rows) if isinstance(array, Quantized) else array[rows]
        elif added and stem.endswith("norm"):
            array = np.asarray(array, np.float32) + np.float32(added)
        made[name] = array
    return made


def apart(rows: int, width: int) -> Array:
    """Where the rows of heads of this `width` stand when columns i and i + K/2 are neighbours.

    Examples
    --------
    >>> apart(4, 4), paired(4, 4)
    (array([0, 2, 1, 3]), array([0, 2, 1, 3]))
    """
    return np.arange(rows).reshape(-1, width // 2, 2).swapaxes(1, 2).reshape(-1)


def paired(rows: int, width: int) -> Array:
    """The way back."""
    return np.arange(rows).reshape(-1, 2, width // 2).swapaxes(1, 2).reshape(-1)
