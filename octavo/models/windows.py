"""Which layers look back on a window and which on everything, as a config.json tells it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

from octavo.checks import require_sizes
from octavo.errors import OctavoError

FULL, SLIDING = "full_attention", "sliding_attention"


def complete(c: Any, slides: Callable[[int], bool]) -> None:
    """Check `sliding_window` and `layer_types`; where those are untold, layer i slides if `slides(i)`."""
    if c.layer_types is None:
        kinds = tuple(SLIDING if slides(i) else FULL for i in range(c.num_hidden_layers))
        object.__setattr__(c, "layer_types", kinds)
    told = c.layer_types
    if not isinstance(told, list | tuple) or not all(kind in (FULL, SLIDING) for kind in told):
        raise OctavoError(f"layer_types is a list of {FULL} and {SLIDING}, not {reprlib.repr(told)}")
    if len(told) != c.num_hidden_layers:
        raise OctavoError(f"layer_types tells of {len(told)} layers, and there are {c.num_hidden_layers}")
    object.__setattr__(c, "layer_types", tuple(told))
    if c.sliding_window is not None or SLIDING in told:
        require_sizes(c, "sliding_window")


def of(c: Any) -> list[int | None]:
    """How many positions each layer's queries see; None: all before them."""
    return [c.sliding_window if kind == SLIDING else None for kind in c.layer_types]
