"""The quantised array: equal to its numbers in all that a model asks of it, and never widened whole."""

from collections.abc import Callable

import numpy as np
import pytest

import octavo
from octavo import OctavoError, quant
from octavo.blocks import FORMATS
from octavo.model import Model
from octavo.nn import Array
from octavo.quant import Quantized, quantise

from .conftest import build


@pytest.fixture
def matrix() -> Array:
    return np.random.default_rng(0).standard_normal((50, 96), np.float32)


@pytest.fixture(params=["F16", "Q8_0", "Q4_1"])
def w(request: pytest.FixtureRequest, matrix: Array) -> Quantized:
    return quantise(matrix, request.param)


def test_products_are_those_of_the_widened_matrix(w: Quantized, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.asarray(w)
    for shape in ((1, 96), (7, 96), (2, 3, 96), (96,)):
        x = np.random.default_rng(1).standard_normal(shape, np.float32)
        for tile in (1, 96 * 7, quant.TILE):  # less than a row; seven rows, the last tile shorter; all
            monkeypatch.setattr(quant, "TILE", tile)
            found = x @ w.T
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, x @ whole.T, atol=1e-4)
    wide = np.ones((1, 96))
    assert (wide @ w.T).dtype == np.float64
    np.testing.assert_allclose(wide @ w.T, wide @ whole.astype(np.float64).T, rtol=1e-12, atol=1e-12)


def test_rows_by_their_numbers(w: Quantized) -> None:
    whole, ids = np.asarray(w), np.array([[3, 49], [0, 3]])
    np.testing.assert_array_equal(w[ids], whole[ids])
    np.testing.assert_array_equal(w[[4]], whole[[4]])
    np.testing.assert_array_equal(w[5], whole[5])
    np.testing.assert_array_equal(np.asarray(w.rows(np.arange(50)[::-1])), whole[::-1])
    with pytest.raises(IndexError):
        w[np.array([50])]


@pytest.mark.parametrize("shape", [(3,), (50,), (1, 4), (50, 96), (2, 3, 40)])
def test_numbers_that_are_halves(shape: tuple[int, ...]) -> None:
    numbers = np.random.default_rng(0).standard_normal(shape, np.float32)
    kept = numbers.astype(np.float16).astype(np.float32)
    assert quant.are_halves(kept)
    for other in (1 + 2**-11, 1e6, 1e-9):  # too fine, too large, too small
        changed = kept.copy()
        changed.flat[-1] = other
        assert not quant.are_halves(changed)


def test_it_looks_like_an_array_of_float32(w: Quantized) -> None:
    assert (w.shape, w.ndim, w.size, len(w), w.dtype) == ((50, 96), 2, 4800, 50, np.float32)
    assert w.T.shape == (96, 50)
    assert w.T.T is w
    assert w.nbytes == w.blocks.nbytes < 4 * w.size
    assert w.astype(np.float64).dtype == np.asarray(w, np.float64).dtype == np.float64
    np.testing.assert_array_equal(quant.widened({"w": w, "b": np.ones(2)})["w"], np.asarray(w))
    with pytest.raises(ValueError, match="in a copy"):
        np.asarray(w, copy=False)
    with pytest.raises(ValueError, match="96 columns"):
        np.ones((1, 32), np.float32) @ w.T


def test_jax_gets_its_numbers(w: Quantized) -> None:
    jnp = pytest.importorskip("jax.numpy")
    np.testing.assert_array_equal(jnp.asarray(w), np.asarray(w))


@pytest.mark.parametrize("name", [name for name, format in FORMATS.items() if format.quantise])
def test_quantising_is_as_close_as_its_bits(name: str, matrix: Array) -> None:
    error = np.abs(np.asarray(quantise(matrix, name)) - matrix).max() / np.abs(matrix).max()
    assert error < {"F16": 5e-4, "BF16": 4e-3, "Q8_0": 5e-3, "Q5_0": 0.07, "Q5_1": 0.04}.get(name, 0.14)
    assert quantise(quantise(matrix, name), name).blocks is not None


def test_what_cannot_be_quantised_is_refused(matrix: Array) -> None:
    for name in ("Q4_K", "q8", "F32"):
        with pytest.raises(OctavoError, match="quantises to F16, Q4_0"):
            quantise(matrix, name)
    with pytest.raises(OctavoError, match="no whole number"):
        quantise(matrix[:, :33], "Q8_0")
    for name in ("F16", "Q4_0", "Q8_0"):
        with pytest.raises(OctavoError, match="as large as"):
            quantise(1e9 * matrix, name)
    matrix[3, 4] = np.nan
    for name in ("F16", "BF16", "Q5_1", "Q8_0"):
        with pytest.raises(OctavoError, match="not finite"):
            quantise(matrix, name)


def test_memory_is_that_of_a_tile(peak_memory: Callable[..., int]) -> None:
    w = quantise(np.ones((16384, 128), np.float32), "Q4_0")  # 8 MB of float32
    x = np.ones((1, 128), np.float32)
    assert peak_memory(lambda: x @ w.T) < 2**21
    assert peak_memory(lambda: w[np.arange(100)]) < 2**20
    assert peak_memory(lambda: np.asarray(w)) < 8 * 2**20 + 2**21


# ---------------------------------------------------------------- models of such weights


def quantised(model: Model, name: str) -> Model:
    """The model with its matrices in a block format."""
    params = {n: quantise(p, name) if p.ndim == 2 else p for n, p in model.params.items()}
    return model.with_params(params)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("llama", {"hidden_size": 32, "intermediate_size": 64}),
        ("llama-tied", {"hidden_size": 32, "intermediate_size": 64}),
        ("gpt2", {"n_embd": 32}),
    ],
)
def test_a_model_computes_what_its_numbers_do(kind: str, sizes: dict[str, int]) -> None:
    small = quantised(build(kind, **sizes), "Q8_0")
    same = small.with_params(quant.widened(small.params))
    ids = [1, 5, 3, 2, 8]
    logits, state = small.forward(ids[:3])
    rest, _ = small.forward(ids[3:], state)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(np.concatenate([logits, rest]), same.forward(ids)[0], atol=1e-4)
    assert small.count() == same.count()
    assert octavo.generate(small, "ab", limit=5, temperature=0) == octavo.generate(
        same, "ab", limit=5, temperature=0
    )
    assert octavo.score(small, "abcab").bits_per_byte == pytest.approx(
        octavo.score(same, "abcab").bits_per_byte, rel=1e-5
    )


def test_jax_is_refused_in_a_line_that_says_how_to_go_on() -> None:
    import jax

    model = quantised(build("llama", hidden_size=32, intermediate_size=64), "Q8_0")
    ids = np.array([[1, 5, 3]])
    with pytest.raises(OctavoError, match=r"widen them to float32: .*quant\.widened\(model\.params\)"):
        jax.jit(lambda ids: model.forward(ids)[0])(ids)
    with pytest.raises(OctavoError, match="widen them to float32"):
        jax.jit(lambda x: x @ model.params["lm_head.weight"].T)(np.ones((1, 32), np.float32))
    with pytest.raises(TypeError, match=r"Quantized.* is not a valid JAX type"):  # in JAX's own words
        jax.device_put(model.params)
    wide = model.with_params(jax.device_put(quant.widened(model.params)))
    found = jax.jit(lambda ids: wide.forward(ids)[0])(ids)
    np.testing.assert_allclose(found, model.forward(ids)[0], atol=1e-4)


def test_a_scale_that_is_no_number_is_told_when_text_is_written() -> None:
    model = quantised(build("llama", hidden_size=32, intermediate_size=64), "Q8_0")
    model.params["model.layers.0.mlp.up_proj.weight"].blocks["d"][0] = np.nan
    with pytest.raises(OctavoError, match="not numbers"):
        octavo.generate(model, "ab", limit=2)
