"""The config of a model out of a GGUF file's metadata, and the metadata of a config.

What the metadata say beside the fields of a config is refused, unless it is switched off or known not to
matter: it may change what the model computes.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from octavo import models
from octavo.checks import is_whole, printable
from octavo.errors import OctavoError
from octavo.formats import gguf_rope
from octavo.formats.gguf_names import FAMILIES, Family
from octavo.nn import Array

BEGIN, END, END_OF_TURN = (f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot"))
IDLE = ("vocab_size", "rope.dimension_count", "attention.value_length", "tensor_data_layout", *gguf_rope.KEYS)
"""Keys that tell nothing new, or that are looked at here."""

LARGEST_GEMMA = 62  # layers, of the one whose queries are scaled by another width than their own


def family_of(metadata: Mapping[str, Any]) -> tuple[str, Family]:
    """The architecture's name in GGUF, and how GGUF tells of it."""
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise OctavoError(f"the architecture {_shown(name)} is not supported; octavo reads {known}")
    split = metadata.get("split.count", 1)
    if not is_whole(split) or split != 1:
        parts = _shown(split)
        raise OctavoError(
            f"this is one of {parts} files of a model; merge them with llama-gguf-split --merge"
        )
    return name, FAMILIES[name]


def read(metadata: Mapping[str, Any], tensors: Mapping[str, Array], options: dict[str, Any]) -> Any:
    """The config that the metadata and the tensors tell; `options` give fields that they do not."""
    name, family = family_of(metadata)
    own = {f"{name}.{key}": field for field, key in family.fields.items()}
    _refuse_unknown(name, own, metadata)
    told = {field: metadata[key] for key, field in own.items() if key in metadata}
    if "token_embd.weight" in tensors:
        told["vocab_size"] = int(tensors["token_embd.weight"].shape[0])
    if "lm_head" in family.tensors:
        told["tie_word_embeddings"] = "output.weight" not in tensors
    told |= _special_tokens(metadata)
    sizes = [f.name for f in fields(models.architecture(family.model_type).Config) if type(f.default) is int]
    if "query_pre_attn_scalar" in sizes and "head_dim" in told and "query_pre_attn_scalar" not in options:
        told["query_pre_attn_scalar"] = _scale_of_queries(told)
    if untold := [f"{name}.{family.fields.get(n, n)}" for n in sizes if n not in told | options]:
        raise OctavoError(f"the metadata do not tell {', '.join(untold)}")
    if "rope_theta" not in family.fields:
        return models.complete(family.model_type, told, options)
    plain = models.complete(family.model_type, told, options)  # once all is known to be a number
    _require_one_width(name, plain.head_dim, metadata)
    factors = tensors.get(gguf_rope.FACTORS)
    scaled = gguf_rope.scaling(metadata, name, factors, plain.head_dim, plain.rope_theta)
    return models.complete(family.model_type, told | {"rope_scaling": scaled}, options) if scaled else plain


def _refuse_unknown(name: str, own: Mapping[str, str], metadata: Mapping[str, Any]) -> None:
    for key, value in metadata.items():
        off = isinstance(value, bool | int | str) and value in (False, 0, "none", "")
        rest = key.removeprefix(f"{name}.")
        if rest != key and key not in own and not off and rest not in IDLE:
            raise OctavoError(
                f"{printable(key)} {_shown(value)} is not known and may change what is computed"
            )


def _special_tokens(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The token that begins a text, and those that end one: a turn of a conversation does, too."""
    ends = [metadata[key] for key in (END, END_OF_TURN) if key in metadata]
    told: dict[str, Any] = {"bos_token_id": metadata[BEGIN]} if BEGIN in metadata else {}
    if ends:
        told["eos_token_id"] = ends if len(set(map(str, ends))) > 1 else ends[0]
    return told


def _scale_of_queries(told: Mapping[str, Any]) -> Any:
    """Gemma's `query_pre_attn_scalar`, which GGUF leaves to the reader: the width of a head but for one."""
    width, heads = told.get("hidden_size"), told.get("num_attention_heads")
    if told.get("num_hidden_layers") == LARGEST_GEMMA and isinstance(width, int) and isinstance(heads, int):
        return width // max(heads, 1)
    return told["head_dim"]


def _require_one_width(name: str, width: int, metadata: Mapping[str, Any]) -> None:
    """Refuse heads of which values have another width than keys, or only some columns turn."""
    for key in (f"{name}.rope.dimension_count", f"{name}.attention.value_length"):
        told = metadata.get(key, width)
        if not is_whole(told) or told != width:
            found = _shown(told)
            raise OctavoError(f"{key} {found} is not supported, only the width of a head, {width}")


def _shown(value: Any) -> str:
    return printable(reprlib.repr(value))


# ---------------------------------------------------------------- and back

REALS = ("epsilon", "freq_base", "freq_base_swa", "softcapping")  # ends of keys of real numbers
FOLLOWS = {
    "sliding_window_pattern",
    "max_window_layers",
    "use_sliding_window",
    "bos_token_id",
    "eos_token_id",
}
"""Fields that come to what other fields say, or that the tokenizer's metadata tell."""


def described(name: str, family: Family, config: Any) -> dict[str, Any]:
    """The metadata of a config, without its special tokens."""
    told: dict[str, Any] = {f"{name}.{k}": getattr(config, field, None) for field, k in family.fields.items()}
    told = {key: value for key, value in told.items() if value is not None}
    told |= {key: float(value) for key, value in told.items() if key.endswith(REALS)}
    told[f"{name}.vocab_size"] = config.vocab_size
    if "head_dim" in family.fields:
        told |= dict.fromkeys(
            (f"{name}.attention.value_length", f"{name}.rope.dimension_count"), config.head_dim
        )
    return told | gguf_rope.described(getattr(config, "rope_scaling", None), name)


def require_told(config: Any, again: Any) -> None:
    """Refuse to write a config of which something is lost: what is read `again` differs in it."""
    kinds = getattr(config, "layer_types", None)
    slides = kinds is None or "sliding_attention" in kinds
    idle = FOLLOWS if slides else FOLLOWS | {"sliding_window"}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name not in idle and value != getattr(again, field.name, None):
            raise OctavoError(f"GGUF cannot tell {field.name} {_shown(value)} of such a model")
