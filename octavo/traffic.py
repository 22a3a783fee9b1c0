"""How many bytes of weights a model reads to write one token: counted where the equations ask for them.

A regression guard that needs no clock, and one side of what `octavo.bench` reports; the other is what the
machine's memory streams.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from octavo import nn
from octavo.model import Model
from octavo.nn import Array


class Counted:
    """A matrix that counts the bytes of it that are read, in `total[0]`."""

    __array_ufunc__ = None  # `array @ w.T` is asked of `w.T`

    def __init__(self, weight: Array, total: list[int]) -> None:
        self.weight, self.total = weight, total
        self.shape, self.ndim, self.size, self.dtype = weight.shape, weight.ndim, weight.size, weight.dtype

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, ids: Any) -> Array:
        if isinstance(ids, slice):
            return Counted(self.weight[ids], self.total)
        self.total[0] += int(self.weight.nbytes) // max(len(self.weight), 1) * int(np.size(ids))
        return self.weight[ids]

    @property
    def T(self) -> CountedTransposed:  # noqa: N802 (the array standard's name)
        """The transpose, which counts too."""
        return CountedTransposed(self)

    def __array_namespace__(self, api_version: str | None = None) -> ModuleType:
        return np


class CountedTransposed:
    """The right side of ``x @ w.T``, or a table of columns."""

    __array_ufunc__ = None

    def __init__(self, matrix: Counted) -> None:
        self.matrix = matrix

    def __rmatmul__(self, x: Array) -> Array:
        self.matrix.total[0] += int(self.matrix.weight.nbytes)
        return x @ self.matrix.weight.T

    def __getitem__(self, ids: Any) -> Array:
        return Counted(self.matrix.weight.T, self.matrix.total)[ids]

    def __array_namespace__(self, api_version: str | None = None) -> ModuleType:
        return np


def weights_read(model: Model) -> int:
    """The bytes of weights that one step reads, as they are held.

    A matrix that is multiplied with counts whole, once for every time; of a table only the row of the
    token. Vectors count whole. What a step reads of its own cache does not count.

    Examples
    --------
    >>> import octavo
    >>> bard = octavo.load("bard")
    >>> whole = sum(p.nbytes for p in bard.params.values())
    >>> whole - weights_read(bard) == 1023 * 512 * 4  # all but the rows of the other tokens
    True
    """
    total = [sum(int(p.nbytes) for p in model.params.values() if p.ndim != 2)]
    params = {name: Counted(p, total) if p.ndim == 2 else p for name, p in model.params.items()}
    state = model.architecture.init_state(model.config, 1, 1, np.zeros(0, np.float32))
    model.architecture.forward(nn.View(params), model.config, np.array([[0]]), state)
    return total[0]
