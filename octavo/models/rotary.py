"""Rotary positions as a config.json tells them: their base, and how they reach further than was trained.

Files spell them in two ways. Here, and in what octavo writes, it is the older:

    rope_theta: 500000.0, rope_scaling: {rope_type: llama3, factor: 8.0, ...}, rope_local_base_freq: 10000.0
    rope_parameters: {rope_theta: 500000.0, rope_type: llama3, factor: 8.0, ...}        (transformers 5)
    rope_parameters: {full_attention: {...}, sliding_attention: {...}}                  (two kinds of layers)
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from octavo import nn
from octavo.checks import printable, require_positive
from octavo.errors import OctavoError
from octavo.nn import Array


@dataclass(frozen=True)
class Linear:
    """All frequencies slowed by `factor` (Chen et al. 2023, position interpolation)."""

    rope_type: str
    factor: float

    def __post_init__(self) -> None:
        require_positive(self, "factor")

    def slow(self, rates: Array) -> Array:
        """The frequencies [K/2] of longer texts."""
        return rates / self.factor


@dataclass(frozen=True)
class Llama3:
    """Frequencies that turn seldom in the original length slowed by `factor`; see `octavo.nn.slowed`."""

    rope_type: str
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        numbers = [name for name in self.__dataclass_fields__ if name != "rope_type"]
        require_positive(self, *numbers)
        if self.low_freq_factor >= self.high_freq_factor:
            raise OctavoError(
                f"rope_scaling needs a low_freq_factor ({self.low_freq_factor}) below its high_freq_factor "
                f"({self.high_freq_factor})"
            )

    def slow(self, rates: Array) -> Array:
        """The frequencies [K/2] of longer texts."""
        length = self.original_max_position_embeddings
        return nn.slowed(rates, self.factor, length, self.low_freq_factor, self.high_freq_factor)


Scaling: TypeAlias = Linear | Llama3
KINDS: dict[str, type[Scaling]] = {"linear": Linear, "llama3": Llama3}


def scaling(told: Any) -> Scaling | None:
    """The `rope_scaling` of a config, None where nothing is scaled; kinds other than `KINDS` are refused."""
    if told is None or isinstance(told, Scaling):
        return told
    kind = told.get("rope_type", told.get("type")) if isinstance(told, Mapping) else told
    if not isinstance(kind, str) or kind not in KINDS or not isinstance(told, Mapping):
        known = ", ".join(["default", *KINDS])
        raise OctavoError(f"rope_scaling {reprlib.repr(told)} is not supported; there are {known}")
    said = {name: value for name, value in told.items() if name != "type"} | {"rope_type": kind}
    names = KINDS[kind].__dataclass_fields__
    if wrong := [*(n for n in names if n not in said), *(n for n in said if n not in names)]:
        problem = "does not tell" if wrong[0] in names else "is not known to have"
        raise OctavoError(f"rope_scaling of type {kind} {problem} {printable(wrong[0])}")
    return KINDS[kind](**said)


def rates(width: int, base: float, scaling: Scaling | None = None) -> Array:
    """The frequencies [K/2] of heads of `width`, slowed as a config says."""
    found = nn.frequencies(width, base)
    return found if scaling is None else scaling.slow(found)


def spelled(told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config.json with rotary positions spelled in the older way.

    Examples
    --------
    >>> spelled({"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}})
    {'rope_theta': 100.0, 'rope_scaling': {'rope_type': 'linear', 'factor': 2.0}}
    """
    flat = {name: value for name, value in told.items() if name not in ("rope_parameters", "rope_scaling")}
    newer, older = told.get("rope_parameters"), told.get("rope_scaling")
    if isinstance(newer, Mapping) and "full_attention" in newer:
        base, rest = _parts(newer.get("sliding_attention"))
        if rest is not None:
            raise OctavoError(f"rope_parameters of sliding_attention {reprlib.repr(rest)} are not supported")
        _say(flat, "rope_local_base_freq", base)
        newer = newer["full_attention"]
    for spelling in (newer, older):
        base, rest = _parts(spelling)
        _say(flat, "rope_theta", base)
        _say(flat, "rope_scaling", rest)
    return flat


def _parts(told: Any) -> tuple[Any, Any]:
    """The base of rotary positions that are told in one mapping, and the rest unless it says nothing."""
    if not isinstance(told, Mapping):
        return None, told or None
    rest = {name: value for name, value in told.items() if name != "rope_theta"}
    plain = all(name in ("rope_type", "type") and value == "default" for name, value in rest.items())
    return told.get("rope_theta"), None if plain else rest


def _say(flat: dict[str, Any], name: str, value: Any) -> None:
    """Note a field that may have been told before, if it is told."""
    if value is not None and flat.setdefault(name, value) != value:
        told = reprlib.repr(flat[name])
        raise OctavoError(f"{name} is told twice, as {told} and as {reprlib.repr(value)}")
