"""Scaled rotary positions as GGUF tells them: a key for a linear scale, and a tensor for Llama 3's.

The tensor holds what each frequency is divided by, and none of the four numbers that it was made of. They
are found again by trying: all published models of the kind have the same two bounds.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.models import rotary
from octavo.nn import Array

FACTORS = "rope_freqs.weight"
KIND, FACTOR, LENGTH = (f"rope.scaling.{name}" for name in ("type", "factor", "original_context_length"))
KEYS = (KIND, FACTOR, LENGTH)
LOW, HIGH, TRAINED = 1.0, 4.0, 8192  # of Llama 3.1, 3.2 and 3.3


def scaling(
    metadata: Mapping[str, Any], name: str, factors: Array | None, width: int, base: float
) -> dict[str, Any] | None:
    """The `rope_scaling` of a config, from the metadata of architecture `name` and the tensor."""
    kind = metadata.get(f"{name}.{KIND}", "none")
    if not isinstance(kind, str):
        raise OctavoError(f"{name}.{KIND} is text, not {printable(reprlib.repr(kind))}")
    if factors is not None and kind == "none":
        return _llama3(factors, metadata.get(f"{name}.{LENGTH}", TRAINED), width, base)
    if kind == "none":
        return None
    if factors is not None or kind != "linear":
        raise OctavoError(
            f"rotary positions scaled by {printable(kind)!r} are not supported; there are none and linear"
        )
    return {"rope_type": kind, "factor": metadata.get(f"{name}.{FACTOR}")}


def _llama3(factors: Array, length: Any, width: int, base: float) -> dict[str, Any]:
    factor = float(np.max(factors))
    told = {"rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH}
    told["original_max_position_embeddings"] = length
    found = rotary.scaling(told)
    if factors.shape != (width // 2,) or not np.allclose(divisors(found, width, base), factors, rtol=1e-4):
        raise OctavoError(f"{FACTORS} is not how Llama 3 scales rotary positions; octavo knows no other way")
    return told


def divisors(scaling: rotary.Scaling | None, width: int, base: float) -> Array:
    """What the frequencies are divided by, in float32 [K/2]."""
    return (rotary.rates(width, base) / rotary.rates(width, base, scaling)).astype(np.float32)


def described(scaling: rotary.Scaling | None, name: str) -> dict[str, Any]:
    """The metadata of a scaling; `divisors` go beside those of Llama 3."""
    if isinstance(scaling, rotary.Linear):
        return {f"{name}.{KIND}": "linear", f"{name}.{FACTOR}": float(scaling.factor)}
    if isinstance(scaling, rotary.Llama3):
        return {f"{name}.{LENGTH}": scaling.original_max_position_embeddings}
    return {}
