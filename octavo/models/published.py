"""What Hugging Face's `config.json` says beside the fields of a `Config`, and checks of such fields.

A family with a published layout says in `PUBLISHED` what its equations take for granted, as in
``{"hidden_act": "silu"}``: that is written as it stands, and a file that says otherwise is refused. Of the
rest, a file may say what is known not to touch the logits, or is switched off; any other field is refused
by name, because it may.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from octavo.checks import is_number, is_token_ids, printable
from octavo.errors import OctavoError
from octavo.nn import Array

STORED = """
architectures dtype initializer_range is_llama_config name_or_path n_ctx pretraining_tp torch_dtype
torchscript transformers.js_config transformers_version unsloth_fixed unsloth_version use_bfloat16
"""
TRAINED = """
attention_dropout attn_pdrop embd_pdrop finetuning_task id2label is_decoder label2id num_labels problem_type
reorder_and_upcast_attn resid_pdrop summary_activation summary_first_dropout summary_proj_to_labels
summary_type summary_use_proj task_specific_params
"""
USED = """
do_sample max_length min_length num_beams output_attentions output_hidden_states pad_token_id prefix
repetition_penalty return_dict sep_token_id temperature tokenizer_class top_k top_p use_cache
"""
IDLE = frozenset(f"model_type {STORED} {TRAINED} {USED}".split())
"""Fields that do not touch the logits."""

SAME = {"swish": "silu", "gelu_fast": "gelu_new", "gelu_pytorch_tanh": "gelu_new"}
"""Other names of an activation."""

BEGIN = ("<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>", "<|endoftext|>")
"""Special tokens that stand before a text, as published models call them."""


def own_fields(fields: Mapping[str, Any], own: Collection[str], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The fields among `own`, once nothing else that the file says is against what is `fixed`.

    Raises
    ------
    OctavoError
        For the first field that says otherwise, or may change what the model computes.

    Examples
    --------
    >>> fixed = {"hidden_act": "silu"}
    >>> own_fields({"vocab_size": 9, "hidden_act": "silu", "use_cache": True}, ["vocab_size"], fixed)
    {'vocab_size': 9}
    >>> own_fields({"hidden_act": "relu"}, ["vocab_size"], fixed)
    Traceback (most recent call last):
    octavo.errors.OctavoError: hidden_act 'relu' is not supported, only 'silu'
    """
    fields = _with_rope_theta(fields) if "rope_theta" in own else fields
    for name, value in fields.items():
        off = value is None or value is False or value in ({}, [])
        if name in own or name in IDLE or name.startswith("_"):
            continue
        if name in fixed and (SAME.get(value, value) if isinstance(value, str) else value) != fixed[name]:
            raise OctavoError(f"{name} {reprlib.repr(value)} is not supported, only {fixed[name]!r}")
        if name not in fixed and not off:
            raise OctavoError(
                f"{printable(name)} {reprlib.repr(value)} is not known here and may change what the model "
                "computes; remove it if it does not"
            )
    return {name: value for name, value in fields.items() if name in own}


def _with_rope_theta(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_parameters`, as transformers 5 writes them, told as `rope_theta` and `rope_scaling`."""
    flat = {name: value for name, value in fields.items() if name != "rope_parameters"}
    flat["rope_scaling"] = None
    for spelled in (fields.get("rope_parameters"), fields.get("rope_scaling")):
        rope = dict(spelled) if isinstance(spelled, dict) else {"scaling": spelled} if spelled else {}
        kind, theta = rope.pop("rope_type", rope.pop("type", "default")), rope.pop("rope_theta", None)
        if kind != "default" or rope:
            flat["rope_scaling"] = spelled
        if theta is not None and flat.setdefault("rope_theta", theta) != theta:
            told = reprlib.repr(flat["rope_theta"])
            raise OctavoError(f"rope_theta is told twice, as {told} and as {reprlib.repr(theta)}")
    return flat


def describe(
    fields: Mapping[str, Any],
    fixed: Mapping[str, Any],
    dtype: str,
    special_tokens: Mapping[str, int] = MappingProxyType({}),
    end_of_text: int | None = None,
) -> dict[str, Any]:
    """What `config.json` holds: a model's own `fields`, what is `fixed`, the dtype and the special tokens.

    Where the fields name no token that begins or ends a text, those of the tokenizer stand, and null
    where it has none: transformers would take ids 1 and 2, or 50256.
    """
    begin = next((special_tokens[name] for name in BEGIN if name in special_tokens), None)
    tokens = {"bos_token_id": begin, "eos_token_id": end_of_text}
    told = {name: id for name, id in fields.items() if id is not None}
    return {**fixed, **fields, **tokens, **told, "torch_dtype": dtype}


def without_copy(params: dict[str, Array], copy: str, original: str) -> dict[str, Array]:
    """The parameters without `copy` if it repeats `original`, as some writers store a tied head."""
    a, b = params.get(copy), params.get(original)
    repeats = a is not None and b is not None and a.shape == b.shape and bool((a == b).all())
    return {name: array for name, array in params.items() if not (repeats and name == copy)}


def require_positive(config: Any, *names: str) -> None:
    """Refuse a field that is not a number above 0, or that float32 cannot hold and multiply."""
    for name in names:
        value = getattr(config, name)
        if not is_number(value) or not 1e-30 <= value <= 1e30:
            raise OctavoError(f"{name} must be a number above 0 (1e-30 to 1e30), not {reprlib.repr(value)}")


def require_flags(config: Any, *names: str) -> None:
    """Refuse a field that is neither true nor false."""
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise OctavoError(f"{name} must be true or false, not {reprlib.repr(getattr(config, name))}")


def require_token_ids(config: Any, *names: str) -> None:
    """Refuse a field that is no id, no list of ids and not None; lists become tuples."""
    for name in names:
        value = getattr(config, name)
        if not is_token_ids(value):
            raise OctavoError(
                f"{name} must be the id of a token or a list of them, not {reprlib.repr(value)}"
            )
        if isinstance(value, list):
            object.__setattr__(config, name, tuple(value))
