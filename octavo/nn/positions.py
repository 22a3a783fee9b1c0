"""Where tokens stand: sinusoids, learned positions, and the angles by which queries and keys turn."""

from __future__ import annotations

import numpy as np

from octavo.errors import OctavoError
from octavo.nn.operations import Array, namespace, operation


def frequencies(width: int, base: float = 10000.0) -> Array:
    """``base^(-2i / width)`` for i = 0 .. width/2 - 1, as float64 (Vaswani et al. 2017, section 3.5)."""
    if width % 2:
        raise OctavoError(f"sinusoidal positions need an even width, not {width}")
    return base ** (-np.arange(0, width, 2) / width)


@operation
def sinusoids(positions: int | Array, width: int | Array, *, interleaved: bool = False) -> Array:
    """Sinusoidal position encodings (Vaswani et al. 2017, section 3.5).

    Parameters
    ----------
    positions : int or array [...]
        How many positions, counted from 0, or the positions themselves.
    width : int or array [D/2]
        The width D, or the frequencies themselves.
    interleaved : bool
        Sine and cosine of a frequency side by side; otherwise all sines, then all cosines.

    Returns
    -------
    array [..., D]
        In float64 where NumPy computes it: the angles of far positions need the digits.

    Raises
    ------
    OctavoError
        If the width is odd.

    Examples
    --------
    >>> sinusoids(2, 4, interleaved=True).round(4)
    array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ]])
    """
    where: Array = np.arange(positions) if np.ndim(positions) == 0 else positions
    rates = frequencies(int(width)) if np.ndim(width) == 0 else width
    xp = namespace(where, rates)
    angles = where[..., None] * rates  # [..., D/2]
    waves = xp.sin(angles), xp.cos(angles)
    if interleaved:
        return xp.stack(waves, axis=-1).reshape(*angles.shape[:-1], -1)
    return xp.concatenate(waves, axis=-1)


def require_positions(tokens: int, learned: int) -> None:
    """Refuse a text that goes on where no positions have been learned."""
    if tokens > learned:
        raise OctavoError(f"the model has learned {learned} positions; a text of {tokens} tokens is too long")


@operation
def embed_positions(positions: Array, weight: Array) -> Array:
    """The rows of `weight` (P, D) that were learned for `positions` [B, T] -> [B, T, D].

    NumPy raises OctavoError past the last. JAX, which would repeat the last row in silence, gives NaN
    instead, so that the logits show it.
    """
    xp = namespace(weight, positions)
    if xp is not np:
        return xp.asarray(weight).at[positions].get(mode="fill", fill_value=xp.nan)
    require_positions(int(positions.max()) + 1, len(weight))
    return weight[positions]


def slowed(rates: Array, factor: float, length: float, low: float, high: float) -> Array:
    """Rotary frequencies for texts longer than the `length` trained on (Grattafiori et al. 2024, Llama 3).

    What turned fewer than `low` times in that length is slowed by `factor`, what turned more than `high`
    times is left as it is, and what lies between by degrees: ``rates (k + (1 - k) / factor)`` with
    ``k = (turns - low) / (high - low)`` within 0 and 1.
    """
    turns = length / (2 * np.pi) * rates
    kept = ((turns - low) / (high - low)).clip(0, 1)
    return rates * (kept + (1 - kept) / factor)


@operation
def rotary(positions: Array, rates: Array, like: Array) -> tuple[Array, Array]:
    """Cosines and sines of the angles ``m rates_i`` at position m (Su et al. 2021, section 3.4.2).

    positions [B, T], rates [K/2] (the `frequencies` of width K) -> two arrays [B, T, 1, K/2] in the dtype
    of `like`. The angles are rounded to float32, as wherever the published models were trained and are run.
    """
    xp = namespace(positions, like)
    angles = positions[..., None, None].astype(np.float32) * rates.astype(np.float32)
    return xp.cos(angles).astype(like.dtype), xp.sin(angles).astype(like.dtype)


@operation
def rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """Each pair of columns i and i + K/2 of x [B, T, H, K] turned by its angle, which `rotary` gives.

    Su et al. 2021 (eq. 34) pair neighbours; Hugging Face's layout pairs the halves, as here.
    """
    half = x.shape[-1] // 2
    (cos, sin), a, b = turn, x[..., :half], x[..., half:]  # [B, T, H, K/2]
    return namespace(x, cos).concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
