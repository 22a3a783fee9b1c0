"""The quantised array: a matrix that stays in the blocks of its file, mapped rather than read.

It answers the two things that a model asks of a weight, ``x @ w.T`` and ``w[ids]``, and is widened to float32
only there: a tile of rows at a time, never the whole. `np.asarray(w)` widens all of it, for other formats.
NumPy computes with it; JAX does not, and is given the parameters `widened`. What the blocks mean is in
`octavo.blocks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from octavo.blocks import FORMATS, Format
from octavo.errors import OctavoError
from octavo.nn import Array

ON_JAX = (
    "JAX does not compute with quantised parameters; widen them to float32: "
    "model.with_params(jax.device_put(octavo.quant.widened(model.params)))"
)
TILE = 2**17  # weights that are widened at once: half a megabyte, which memory managers keep for the next


class Quantized:
    """A matrix (out, in) of float32 numbers that are held in blocks along each row.

    Parameters
    ----------
    blocks : array of records [out, blocks of a row]
        Of the record type of `format`; mapped from a file, as a rule.
    format : Format
        One of `octavo.blocks.FORMATS`.

    Examples
    --------
    >>> w = quantise(np.eye(32, dtype=np.float32), "Q8_0")
    >>> w
    Quantized(Q8_0, (32, 32))
    >>> x = np.full((1, 32), 127, np.float32)
    >>> bool(np.allclose(x @ w.T, x, rtol=1e-3)), w[[3, 4]].shape
    (True, (2, 32))
    """

    __slots__ = ("blocks", "format")
    __array_ufunc__ = None  # `array @ w.T` is asked of `w.T`
    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, blocks: Array, format: Format) -> None:
        self.blocks, self.format = blocks, format

    @property
    def shape(self) -> tuple[int, int]:
        """The rows, and the numbers in each."""
        rows, blocks = self.blocks.shape
        return int(rows), int(blocks) * self.format.items

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """The bytes of the blocks."""
        return int(self.blocks.nbytes)

    @property
    def T(self) -> Transposed:  # noqa: N802 (the array standard's name)
        """The matrix (in, out), of which only ``x @ w.T`` is asked."""
        return Transposed(self)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Quantized({self.format.name}, {self.shape})"

    def __getitem__(self, ids: Any) -> Any:
        """The rows that `ids` [...] name, in float32 [..., in]; a run of rows stays in blocks."""
        if isinstance(ids, slice):
            return self.rows(ids)
        numbers = np.moveaxis(self.format.numbers(self.blocks[_known(ids)]), 0, -1)
        return numbers.reshape(*numbers.shape[:-2], -1)

    def rows(self, order: Array | slice) -> Quantized:
        """The matrix with its rows in another order, or some of them; the blocks stay what they are."""
        taken = self.blocks[order] if isinstance(order, slice) else self.blocks.take(order, 0)  # much sooner
        return Quantized(taken, self.format)

    def astype(self, dtype: Any, copy: bool = True) -> Array:
        """All of it as an array; `copy` is there because arrays have it, and it always is one."""
        whole = np.empty(self.shape, dtype)
        for start, end in tiles(self.shape):
            numbers = self.format.numbers(self.blocks[start:end])  # [items, rows, blocks of a row]
            by_block = whole[start:end].reshape(*numbers.shape[1:], -1)
            by_block[...] = np.moveaxis(numbers, 0, -1)
        return whole

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a quantised array is widened in a copy, never in place")
        return self.astype(self.dtype if dtype is None else dtype)

    def __array_namespace__(self, api_version: str | None = None) -> ModuleType:
        return np


class Transposed:
    """The transpose of a quantised array: the right side of ``x @ w.T``."""

    __slots__ = ("T",)
    __array_ufunc__ = None

    def __init__(self, matrix: Quantized) -> None:
        self.T = matrix

    @property
    def shape(self) -> tuple[int, int]:
        """(in, out)."""
        rows, width = self.T.shape
        return width, rows

    def __rmatmul__(self, x: Array) -> Array:
        return product(_known(x), self.T.blocks, self.T.format)


def _known(x: Any) -> Array:
    """`x` as NumPy's array; JAX's stand-ins for what is not known yet are refused."""
    try:
        return np.asarray(x)
    except TypeError:  # JAX's, of which this is one
        raise OctavoError(ON_JAX) from None


def product(x: Array, blocks: Array, format: Format) -> Array:
    """``x W^T`` of x [..., in] and W in blocks [out, blocks of a row] -> [..., out], tile by tile.

    A tile is widened with the first items of all blocks before the second ones, because that is four times
    as fast; the columns of `x` are put into that order once.
    """
    out, width = len(blocks), blocks.shape[1] * format.items
    if x.shape[-1] != width:
        raise ValueError(f"a matrix of {width} columns cannot multiply rows of {x.shape[-1]}")
    x = x.reshape(*x.shape[:-1], -1, format.items).swapaxes(-1, -2).reshape(x.shape)
    y = np.empty((*x.shape[:-1], out), np.result_type(x, np.float32))
    for start, end in tiles((out, width)):
        tile = format.numbers(blocks[start:end].T)  # [items, blocks of a row, rows]
        y[..., start:end] = x @ tile.reshape(width, -1)
    return y


def tiles(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Where the rows of a matrix are cut, so that a tile has up to `TILE` numbers."""
    rows, width = shape
    step = max(TILE // max(width, 1), 1)
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def quantise(matrix: Array, name: str) -> Quantized:
    """A matrix (out, in) in a block format.

    Parameters
    ----------
    matrix : array (out, in)
        Of floating-point numbers, or already quantised.
    name : str
        ``F16``, ``BF16``, ``Q8_0``, ``Q5_1``, ``Q5_0``, ``Q4_1`` or ``Q4_0``.

    Raises
    ------
    OctavoError
        If the format is none that octavo writes, a row is no whole number of blocks, or a number or a
        block's scale is too large for half precision.

    Examples
    --------
    >>> quantise(np.ones((2, 64), np.float32), "Q4_0").nbytes
    72
    """
    format = FORMATS.get(name)
    if format is None or format.quantise is None:
        written = ", ".join(f.name for f in FORMATS.values() if f.quantise)
        raise OctavoError(f"octavo quantises to {written}, not {name}")
    if isinstance(matrix, Quantized) and matrix.format is format:
        return matrix
    rows, width = matrix.shape
    if width % format.items:
        raise OctavoError(
            f"{name} holds blocks of {format.items}; rows of {width} are no whole number of them"
        )
    blocks = np.empty((rows, width // format.items), format.record)
    for start, end in tiles(matrix.shape):
        part = np.asarray(matrix[np.arange(start, end)], np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # refused in the next lines
            blocks[start:end] = format.quantise(part.reshape(-1, format.items)).reshape(end - start, -1)
            finite = np.isfinite(format.numbers(blocks[start:end])).all()
        if not (finite and np.isfinite(part).all()):
            raise OctavoError(f"{name} cannot hold numbers as large as some of these, or some are not finite")
    return Quantized(blocks, format)


def are_halves(weight: Array) -> bool:
    """Whether an array says the same in half precision, as one does that was stored so.

    Examples
    --------
    >>> are_halves(np.float32([0.5, 2048])), are_halves(np.float32([0.5, 2049]))
    (True, False)
    """
    with np.errstate(over="ignore"):
        return all(
            bool((part.astype(np.float16) == part).all())
            for part in (weight[:1], *np.array_split(weight, 16))
        )


def widened(params: Mapping[str, Array]) -> dict[str, Array]:
    """The parameters with every quantised one in float32, for JAX and for what trains.

    Examples
    --------
    >>> params = {"w": quantise(np.ones((2, 32), np.float32), "Q8_0"), "b": np.zeros(2, np.float32)}
    >>> {name: type(array).__name__ for name, array in widened(params).items()}
    {'w': 'ndarray', 'b': 'ndarray'}
    """
    return {name: np.asarray(p) if isinstance(p, Quantized) else p for name, p in params.items()}
