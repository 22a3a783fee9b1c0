"""Activations against real Keras, in NumPy and in JAX, and erfc against the C library's."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from octavo.activations import ACTIVATIONS, erfc

from .conftest import GOLDEN

OURS = {"swish": "silu", "hard_swish": "hard_silu"}


def cases() -> Iterator[Any]:
    for keras in ("keras2", "keras3"):
        with np.load(GOLDEN / keras / "activations.npz") as file:
            names = [name for name in file if name != "x"]
        for name in names:
            older = (keras, name) == ("keras2", "hard_sigmoid")
            yield pytest.param(keras, name, "hard_sigmoid_keras2" if older else OURS.get(name, name))


@pytest.mark.parametrize(("keras", "name", "ours"), list(cases()))
def test_values_are_those_of_keras(keras: str, name: str, ours: str) -> None:
    with np.load(GOLDEN / keras / "activations.npz") as file:
        x, expected = file["x"], file[name]
    actual = ACTIVATIONS[ours](x)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(jax.jit(ACTIVATIONS[ours])(x), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_dtype_and_shape_stay_and_nothing_overflows(name: str) -> None:
    """Far inputs neither warn (warnings are errors here) nor give NaN; `exponential` must overflow."""
    far = 1e3 if name != "exponential" else 50
    x = np.array([[-far, -1.0, -0.0, 0.0], [1e-30, 1.0, far / 2, far]])
    for dtype in (np.float32, np.float64):
        y = ACTIVATIONS[name](x.astype(dtype))
        assert y.dtype == dtype
        assert y.shape == x.shape
        assert np.isfinite(y).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_row_depends_on_no_other(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(ACTIVATIONS[name](x)[1, 2], ACTIVATIONS[name](x[1, 2]))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_are_finite_at_corners_and_far_away(name: str) -> None:
    far = 300.0 if name != "exponential" else 30.0
    x = np.array([-far, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, far], np.float32)
    weights = np.linspace(1, 2, len(x), dtype=np.float32)  # a plain sum over a softmax has no slope
    slopes = jax.grad(lambda x: (weights * ACTIVATIONS[name](x)).sum())(x)
    assert np.isfinite(slopes).all()


def test_erfc_is_accurate_relative_to_its_value() -> None:
    x = np.linspace(-6, 9, 3001)
    exact = np.array([math.erfc(v) for v in x])
    np.testing.assert_allclose(erfc(x), exact, rtol=1.3e-7)
    np.testing.assert_allclose(erfc(x.astype(np.float32)), exact, rtol=2e-5)
