"""The compiled operations, each against its equation; run them with NUMBA_BOUNDSCHECK=1 after a change."""

import os
import platform
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import kernels, nn

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
RNG = np.random.default_rng(3)


widened = pytest.mark.skipif(not kernels.HALVES, reason="this processor does not widen halves")


def drawn(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def halves(weight: Any) -> Any:
    return weight.astype(np.float16).view(np.uint16)


# ---------------------------------------------------------------- numbers


def test_tanh_and_sigmoid_are_numpy_s_to_some_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-20, 20, 20_001), np.geomspace(1e-30, 100, 2001)]).astype(np.float32)
    found = np.array([kernels.tanh(value) for value in x], np.float32)
    np.testing.assert_allclose(found, np.tanh(x), rtol=5e-7)
    found = np.array([kernels.sigmoid(value) for value in x], np.float32)
    np.testing.assert_allclose(found, nn.sigmoid(x), rtol=5e-7, atol=2e-7)
    assert np.abs(found).max() <= 1


def test_what_is_no_number_stays_none() -> None:
    assert np.isnan(kernels.tanh(np.float32(np.nan)))
    assert kernels.tanh(np.float32(np.inf)) == pytest.approx(1)
    assert kernels.tanh(np.float32(-np.inf)) == pytest.approx(-1)


@widened
def test_halves_are_taken_only_when_nothing_is_lost() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].astype(np.float32).reshape(2, -1)
    found = np.empty(finite.shape, np.uint16)
    assert kernels.halve(finite, found)
    np.testing.assert_array_equal(found.view(np.float16), finite)
    for other in (0.1, 65536.0, 2.0**-26, 1 + 2.0**-11, np.nan):
        finite[-1, -1] = other
        assert not kernels.halve(finite, found)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="others convert halves anyway")
def test_no_halves_where_numba_is_told_to_compile_for_a_processor_that_may_lack_them() -> None:
    program = "from octavo import kernels; print(kernels.HALVES)"
    for told in ({"NUMBA_CPU_NAME": "generic"}, {"NUMBA_CPU_FEATURES": "+avx2"}):
        found = subprocess.run([sys.executable, "-c", program], env=os.environ | told, capture_output=True)
        assert found.stdout.strip() == b"False", found.stderr


# ---------------------------------------------------------------- products


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (33, 7), (64, 32), (100, 129)])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_products(shape: tuple[int, int], batch: int) -> None:
    weight, x, bias = drawn(*shape), drawn(batch, shape[1]), drawn(shape[0])
    np.testing.assert_allclose(kernels.multiply(x, weight), nn.linear(x, weight), **CLOSE)
    np.testing.assert_allclose(kernels.linear(x, weight, bias), nn.linear(x, weight, bias), **CLOSE)


@widened
@pytest.mark.parametrize("batch", [1, 5])
def test_products_of_halves(batch: int) -> None:
    weight, x = drawn(100, 129), drawn(batch, 129)
    rounded = weight.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(kernels.multiply(x, halves(weight)), nn.linear(x, rounded), **CLOSE)


@pytest.mark.parametrize("store", [np.asarray, pytest.param(halves, marks=widened)])
def test_a_row_gets_the_same_bits_in_any_company(store: Any) -> None:
    weight, x = store(drawn(77, 50)), drawn(6, 50)
    together = kernels.multiply(x, weight)
    for b in range(6):
        np.testing.assert_array_equal(kernels.multiply(x[b : b + 1], weight)[0], together[b])


# ---------------------------------------------------------------- a draw


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=60))
def test_ascending_is_a_stable_sort(numbers: list[float]) -> None:
    x = np.array(numbers, np.float32)
    np.testing.assert_array_equal(kernels.ascending(x), x.argsort(kind="stable"))


def test_the_log_probability_is_that_of_the_softmax() -> None:
    x = 30 * drawn(40)
    expected = nn.log_softmax(x.astype(np.float64))  # float32 leaves the likeliest token's two digits
    for token in range(40):
        assert kernels.log_probability(x, token) == pytest.approx(expected[token], rel=1e-5)
