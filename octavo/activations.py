"""Activations by the names that configs use.

Where two frameworks give one name to two functions, the name here is that of the newer one.
"""

from __future__ import annotations

from collections.abc import Callable

from octavo import nn
from octavo.nn import Array


def linear(x: Array) -> Array:
    """``x`` itself."""
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": linear,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "relu": nn.relu,
    "gelu_tanh": nn.gelu_tanh,
}
"""Every activation a layer of a recurrent model can name."""
