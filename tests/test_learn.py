"""What a training step is: the loss, dropout, accumulation, precision; and measuring held-out text."""

import math
from typing import Any

import jax
import numpy as np
import pytest

from octavo import learn, nn
from octavo.batches import HeldOut
from octavo.learn import Learner
from octavo.model import Model
from octavo.recipe import Recipe

from .conftest import build

IDS = np.random.default_rng(0).integers(0, 11, 400).astype(np.int32)


def cross_entropy(model: Model, windows: Any, tap: Any = None) -> float:
    return float(learn.surprise(model, model.params, windows, tap).mean())


def test_surprise_is_the_negative_log_probability_at_every_position() -> None:
    model = build("plain")
    windows = np.random.default_rng(0).integers(0, 11, (3, 7))
    logits, _ = model.forward(windows[:, :-1])
    p = nn.softmax(logits.astype(np.float64))
    expected = [[-np.log(p[b, t, windows[b, t + 1]]) for t in range(6)] for b in range(3)]
    np.testing.assert_allclose(learn.surprise(model, model.params, windows), expected, rtol=1e-5, atol=1e-6)


def test_dropout_sits_on_the_named_taps_only() -> None:
    x = np.ones((50, 40), np.float32)
    tap = learn.dropout(0.25, jax.random.key(0))
    for name in ("pattern", "layers.0.hidden", "dense", "activation", "mlp.pattern"):
        assert tap(name, x) is x
    for name in ("embedding", "layers.1.attention", "layers.0.mlp", "rnn", "gru", "layers.0.lstm"):
        dropped = np.asarray(tap(name, x))
        assert set(np.unique(dropped).round(5)) == {0, np.float32(1 / 0.75).round(5)}
        assert dropped.mean() == pytest.approx(1, abs=0.06)
    assert not np.array_equal(tap("embedding", x), tap("embedding", x))
    assert learn.dropout(0.0, jax.random.key(0))("embedding", x) is x


def losses(model: Model, *steps: int, **options: Any) -> list[float]:
    """Of the first update of a model, as if it were each of these steps."""
    learner = Learner(model, Recipe(**{"steps": 1, "context": 5, "batch": 2, "lr": 0.0} | options))
    windows = learner.windows(IDS, 1)
    found = []
    for step in steps:
        _, loss = learner._step(learner.begin(), learner.fixed, windows, np.int32(step), np.float32(0))
        found.append(float(loss))
    return found


def test_dropout_is_another_at_every_step_and_the_same_for_a_seed() -> None:
    model = build("rnn")
    first, again, second = losses(model, 1, 1, 2, dropout=0.5)
    assert first == again
    assert first != second
    assert len(set(losses(model, 1, 2, dropout=0.0))) == 1


def test_recurrent_matrices_are_dropped_and_nothing_else() -> None:
    params = {name: jax.numpy.ones((40, 40)) for name in ("layers.0.weight_ih", "layers.0.weight_hh")}
    dropped = learn.drop_weights(params, 0.25, jax.random.key(0))
    np.testing.assert_array_equal(dropped["layers.0.weight_ih"], 1)
    np.testing.assert_allclose(np.unique(dropped["layers.0.weight_hh"]), [0, 1 / 0.75], rtol=1e-6)
    assert 0.2 < (np.asarray(dropped["layers.0.weight_hh"]) == 0).mean() < 0.3
    assert (
        learn.drop_weights(params, 0.0, jax.random.key(0))["layers.0.weight_hh"]
        is params["layers.0.weight_hh"]
    )


@pytest.mark.parametrize("name", ["plain", "lstm", "gru", "rnn"])
def test_dropout_acts_in_every_kind_of_model(name: str) -> None:
    model, windows = build(name), np.random.default_rng(0).integers(0, 11, (2, 5))

    def loss(tap: Any) -> float:
        return cross_entropy(model, windows, tap)

    assert loss(learn.dropout(0.5, jax.random.key(1))) != loss(None)
    assert loss(learn.dropout(0.0, jax.random.key(1))) == loss(None)


def weights_after(steps: int, model: Model | None = None, **options: Any) -> dict[str, Any]:
    model = model or build("plain")
    recipe = Recipe(**{"steps": 9, "context": 5, "batch": 4, "lr": 0.01, "dropout": 0.0} | options)
    learner = Learner(model, recipe)
    state = learner.begin()
    for count in range(1, steps + 1):
        state, _ = learner.step(state, IDS, count, recipe.lr)
    return {name: np.asarray(p) for name, p in state.params.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulated_batches_are_one_large_batch(optimizer: str) -> None:
    one = weights_after(3, batch=8, optimizer=optimizer)
    four = weights_after(3, batch=2, accumulate=4, optimizer=optimizer)
    for name, value in one.items():
        np.testing.assert_allclose(four[name], value, atol=2e-4)
    assert any(np.abs(weights_after(3, batch=2)[name] - value).max() > 1e-3 for name, value in one.items())


def test_accumulated_batches_have_dropout_of_their_own() -> None:
    model = build("rnn")
    learner = Learner(model, Recipe(steps=1, context=5, batch=2, accumulate=2, dropout=0.5))
    windows = np.repeat(np.asarray(learner.windows(IDS, 1))[:1], 2, axis=0)  # the same batch twice
    both = float(learner._step(learner.begin(), learner.fixed, windows, np.int32(1), np.float32(0))[1])
    alone = float(learner._step(learner.begin(), learner.fixed, windows[:1], np.int32(1), np.float32(0))[1])
    assert both != pytest.approx(alone, rel=1e-4)


def test_half_precision_computes_coarsely_and_learns_in_full() -> None:
    full, half = weights_after(2), weights_after(2, precision="bfloat16")
    for name, value in full.items():
        assert half[name].dtype == np.float32
        np.testing.assert_allclose(half[name], value, atol=0.06)
    assert any((half[name] != value).any() for name, value in full.items())
    model = build("plain")
    (loss,) = losses(model, 1, dropout=0.0)
    (coarse,) = losses(model, 1, dropout=0.0, precision="bfloat16")
    assert coarse != loss
    assert coarse == pytest.approx(loss, rel=0.02)


def test_what_is_fixed_is_not_learned() -> None:
    assert "position_embedding.inv_freq" not in weights_after(1)


def test_held_out_text_is_measured_whole_and_in_part() -> None:
    model = build("gru")
    ids, context = IDS[:58], 8  # the last of eight windows is a short one
    learner = Learner(model, Recipe(steps=1, context=context))
    text = HeldOut(ids, context, np.ones(11))
    nats = []
    for at in range(0, 57, context):
        window = ids[at : at + context + 1]
        logits, _ = model.forward(window[:-1])
        nats += list(-nn.log_softmax(logits.astype(np.float64))[np.arange(len(window) - 1), window[1:]])
    assert len(nats) == 57
    params = learner.begin().params
    assert learner.measure(params, text) == pytest.approx(np.mean(nats), rel=1e-5)
    part = learner.measure(params, text, text.starts[[1, 4]])
    assert part == pytest.approx(np.mean(nats[8:16] + nats[32:40]), rel=1e-5)
    assert text.bits_per_byte(1.0) == pytest.approx(1 / math.log(2))


def test_what_stands_before_documents_is_read_and_not_measured() -> None:
    model, begin = build("gru"), 10
    learner, params = Learner(model, Recipe(steps=1, context=8)), model.params
    ids = np.array([begin, *range(1, 6), begin, *range(2, 9)], np.int32)
    found = learner.measure(learner.placed(params), HeldOut(ids, 8, np.ones(11), uncounted=[begin]))
    nats = []
    for window in (ids[:9], ids[8:]):
        logits, _ = model.forward(window[:-1])
        every = -nn.log_softmax(logits.astype(np.float64))[np.arange(len(window) - 1), window[1:]]
        nats += list(every[window[1:] != begin])
    assert len(nats) == 12
    assert found == pytest.approx(np.mean(nats), rel=1e-5)


def test_measuring_has_no_dropout() -> None:
    model = build("gru")
    text = HeldOut(IDS, 8, np.ones(11))
    plain, dropped = (Learner(model, Recipe(steps=1, context=8, dropout=rate)) for rate in (0.0, 0.5))
    assert plain.measure(plain.begin().params, text) == dropped.measure(dropped.begin().params, text)


def test_a_state_is_rebuilt_from_its_arrays_by_name() -> None:
    learner = Learner(build("prenorm"), Recipe(steps=1, context=5, batch=2, optimizer="muon"))
    state, _ = learner.step(learner.begin(), IDS, 1, 0.01)
    arrays = {name: np.array(x) for name, x in learner.named(state).items()}
    assert "params.blocks.0.W_Q" in arrays
    assert sum(name.endswith("blocks.0.W_Q") for name in arrays) == 2  # Muon has one momentum
    assert sum(name.endswith("W_E") for name in arrays) == 3  # AdamW has two moments
    again = learner.begin(arrays.__getitem__)
    for name, x in learner.named(again).items():
        np.testing.assert_array_equal(x, arrays[name])
