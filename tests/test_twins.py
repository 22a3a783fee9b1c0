"""Twins beside their specifications: the same numbers to rounding, the same tokens; and where none is."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import models, twins
from octavo.model import Model
from octavo.sample import Sampling

from .conftest import CONFIGS, V, build

CLOSE = {"rtol": 1e-5, "atol": 1e-5}

WIDE: dict[str, Any] = {
    "embedded": [
        {"kind": "embedding", "units": 9},
        {"kind": "lstm", "units": 21},
        {"kind": "dense", "units": 10},
        {"kind": "gru", "units": 33, "reset_after": False, "use_bias": False},
        {"kind": "rnn", "units": 40},
    ],
    "dense-first": [{"kind": "dense", "units": 12}, {"kind": "gru", "units": 18}],
    "long": [{"kind": "gru", "units": 130}],
}
RECURRENT = [n for n, (kind, _) in CONFIGS.items() if models.architecture(kind) is models.recurrent]
TWINNED = [n for n in RECURRENT if n != "mixed"] + list(WIDE)


def made(name: str, dtype: Any = np.float32) -> Model:
    """A model by its name in CONFIGS or here; with large weights rounding would grow from step to step."""
    if name in WIDE:
        config = models.configure(
            "gru", {"vocab_size": V, "layers": [*WIDE[name], {"kind": "dense", "units": V}]}
        )
        rng = np.random.default_rng(2)
        shapes = models.recurrent.shapes(config)
        params = {n: (0.15 * rng.standard_normal(s)).astype(dtype) for n, s in shapes.items()}
        return Model("gru", config, params)
    return build(name, dtype=dtype)


def rounded(model: Model) -> Model:
    """The model with every weight a half-precision number."""
    return model.with_params({n: p.astype(np.float16).astype(np.float32) for n, p in model.params.items()})


@pytest.mark.parametrize("precision", ["float32", "halves"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", TWINNED)
def test_forward_is_the_equations(name: str, batch: int, precision: str) -> None:
    model = made(name)
    model = rounded(model) if precision == "halves" else model
    ids = np.random.default_rng(0).integers(0, V, (batch, 40))
    expected, last = model.forward(ids)
    step = twins.forward(model.config, model.params)
    assert step is not None
    _, state = model.forward(ids[:, :7])  # the equations read a chunk, the twin goes on from there
    for t in range(7, 40):
        logits, state = step(ids[:, t : t + 1], state)
        assert logits.shape == (batch, 1, V)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits[:, 0], expected[:, t], **CLOSE)
    for found, layer in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, layer, **CLOSE)
    logits, _ = model.forward(ids[:, :1], state)  # and the equations from there
    np.testing.assert_allclose(logits, model.forward(ids[:, :1], last)[0], **CLOSE)


@pytest.mark.parametrize("name", TWINNED)
def test_a_row_gets_the_same_bits_in_any_company(name: str) -> None:
    model = made(name)
    step = twins.forward(model.config, model.params)
    assert step is not None
    ids = np.random.default_rng(0).integers(0, V, (4, 6))
    together, alone = model.init_state(4), [model.init_state(1) for _ in range(4)]
    for t in range(6):
        logits, together = step(ids[:, t : t + 1], together)
        for b in range(4):
            own, alone[b] = step(ids[b : b + 1, t : t + 1], alone[b])
            np.testing.assert_array_equal(own[0], logits[b])


def test_a_state_that_was_passed_in_can_be_used_again() -> None:
    model = made("lstm")
    step = twins.forward(model.config, model.params)
    assert step is not None
    _, state = step(np.array([[1]]), model.init_state())
    first, second = (step(np.array([[2]]), state)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_other_layers_have_no_twin() -> None:
    model = build("mixed")
    assert twins.forward(model.config, model.params) is None
    layer = {"kind": "gru", "units": 4}
    for other in ({"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}):
        config = models.configure("gru", {"vocab_size": 4, "layers": [{**layer, **other}]})
        params = {n: np.zeros(s, np.float32) for n, s in models.recurrent.shapes(config).items()}
        assert twins.forward(config, params) is None


def test_other_arrays_have_no_twin() -> None:
    for dtype in (np.float64, np.float16):
        model = made("gru", dtype)
        assert twins.forward(model.config, model.params) is None
    model = made("gru")
    assert twins.forward(model.config, jax.device_put(model.params)) is None
    some = {**model.params, "layers.0.weight_hh": jax.device_put(model.params["layers.0.weight_hh"])}
    assert twins.forward(model.config, some) is None


def test_strided_and_read_only_weights() -> None:
    model = made("gru-before")
    for change in (np.asfortranarray, lambda p: np.repeat(p, 2, axis=0)[::2]):
        params = {n: change(p) for n, p in model.params.items()}
        for p in params.values():
            p.flags.writeable = False
        step, plain = (twins.forward(model.config, p) for p in (params, model.params))
        assert step is not None
        assert plain is not None
        found, expected = (run(np.array([[4]]), model.init_state())[0] for run in (step, plain))
        np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- draws


class Numbers:
    """A generator that gives one number again and again, and counts."""

    def __init__(self, number: float) -> None:
        self.number, self.given = number, 0

    def random(self) -> float:
        self.given += 1
        return self.number


OPTIONS = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0, 1e-3, 0.3, 1.0, 1.7, 1e5])},
    optional={
        "top_k": st.integers(1, 60),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0.5, 2),
        "logit_bias": st.dictionaries(st.integers(0, 39), st.sampled_from([-np.inf, -1.0, 3.0])),
    },
)


@settings(max_examples=400, deadline=None)
@given(OPTIONS, st.integers(0, 2**32), st.floats(0, 1, exclude_max=True))
def test_a_draw_is_the_specification_s(options: dict[str, Any], seed: int, number: float) -> None:
    rng, sampling = np.random.default_rng(seed), Sampling(**options)
    logits, seen = (3 * rng.standard_normal(40)).astype(np.float32), rng.random(40) < 0.5
    ours, theirs = Numbers(number), Numbers(number)
    twin = twins.pick(sampling, 40)
    assert twin is not None
    token, logprob = twin(logits, seen, ours)  # type: ignore[arg-type]
    expected, probability = sampling.pick(logits, seen, theirs)  # type: ignore[arg-type]
    assert (type(token), type(logprob)) == (int, float)
    assert ours.given == theirs.given
    if token != expected:  # the number fell within rounding of the border between two
        ids, p = sampling.distribution(sampling.adjust(logits, seen))
        borders = dict(zip(ids.tolist(), p.astype(np.float64).cumsum(), strict=True))
        border = min(
            borders.get(i, 0.0) for i in (token, expected)
        )  # one that rounding left out is the least
        assert border == pytest.approx(number, abs=1e-6)
    else:
        assert logprob == pytest.approx(probability, rel=1e-5, abs=1e-5)


def test_the_border_between_two_tokens_is_where_it_was() -> None:
    logits = np.log(np.array([0.25, 0.5, 0.25], np.float32))
    twin = twins.pick(Sampling(), 3)
    assert twin is not None
    for number, token in ((0.0, 0), (0.2499, 0), (0.2501, 2), (0.4999, 2), (0.5001, 1), (0.9999999, 1)):
        assert twin(logits, np.zeros(3, bool), Numbers(number))[0] == token  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0, 0.5, 1])
def test_logits_that_are_no_numbers_are_noticed(temperature: float) -> None:
    twin = twins.pick(Sampling(temperature=temperature, top_p=0.9, min_p=0.1), 3)
    assert twin is not None
    for bad in ([np.nan] * 3, [0, np.nan, 1], [np.nan, 0, 1], [np.inf, 0, 1]):
        try:
            _, logprob = twin(np.array(bad, np.float32), np.zeros(3, bool), np.random.default_rng(0))
        except IndexError:
            continue
        assert np.isnan(logprob)


def test_a_large_vocabulary_is_sorted_by_numpy() -> None:
    assert twins.pick(Sampling(), twins.FEW) is not None
    assert twins.pick(Sampling(), twins.FEW + 1) is None
