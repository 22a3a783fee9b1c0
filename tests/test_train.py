"""Training: that it learns, reproduces, ends when it should, and keeps the right weights."""

import importlib
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import octavo
from octavo import OctavoError, learn, nn
from octavo.data import disjoint_windows, random_windows
from octavo.model import Model
from octavo.recipe import Recipe, Report

from .conftest import build

training = importlib.import_module("octavo.train")  # the name octavo.train is the verb's

TEXT = "to be or not to be, that is the question: " * 30
LEARNING: dict[str, Any] = {"context": 12, "batch": 8, "steps": 150, "lr": 2e-2, "dropout": 0.0}
SMALL: dict[str, Any] = {"model_type": "rnn", "sizes": {"units": (5,)}, "context": 8, "batch": 2}


def reports_of(text: str = TEXT, **options: Any) -> tuple[Model, list[Any]]:
    seen: list[Any] = []
    return octavo.train(text, report=seen.append, **SMALL | options), seen


def held_out_loss(model: Model, text: str, context: int, share: float = 0.1) -> float:
    """Nats per token over disjoint windows of the end of the text, by NumPy."""
    ids = np.asarray(model.text_tokenizer().encode(text))
    windows = disjoint_windows(ids[len(ids) - int(len(ids) * share) :], context)
    logits, _ = model.forward(windows[:, :-1])
    return float(-np.take_along_axis(nn.log_softmax(logits), windows[:, 1:, None], -1).mean())


# ---------------------------------------------------------------- it learns


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("rnn", {"units": (12,)}),
        ("gru", {"units": (12,), "embedding": 6}),
        ("lstm", {"units": (12,)}),
        ("plain", {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16}),
        ("prenorm", {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16}),
    ],
)
def test_every_model_type_learns_a_periodic_text(
    model_type: str, sizes: dict[str, Any], tmp_path: Path
) -> None:
    text = "abacad" * 100  # a third is certain without a memory; all of it with one
    model = octavo.train(
        text,
        model_type=model_type,
        sizes=sizes,
        out=tmp_path / "model",
        **LEARNING,
    )
    loss = octavo.score(model, text[:200]).nats / 199
    assert loss < 0.15
    assert octavo.generate(model, "abac", limit=8, temperature=0) == "adabacad"
    if model_type == "plain":
        first = nn.frequencies(16).astype(np.float32)
        np.testing.assert_array_equal(model.params["position_embedding.inv_freq"], first)
        assert model.context == 12
    loaded = octavo.load(tmp_path / "model")
    assert loaded.config == model.config
    assert loaded.tokenizer == model.tokenizer
    for name, value in model.params.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(loaded.params[name], value)


def test_a_seed_reproduces_a_run_bit_for_bit() -> None:
    options = {"steps": 12, "dropout": 0.3, "seed": 7}
    first, seen = reports_of(**options)
    again, seen_again = reports_of(**options)
    other, _ = reports_of(**{**options, "seed": 8})
    assert [r.loss for r in seen[1:]] == [r.loss for r in seen_again[1:]]
    for name, value in first.params.items():
        np.testing.assert_array_equal(again.params[name], value)
        assert not np.array_equal(other.params[name], value)


# ---------------------------------------------------------------- what a step is


def test_cross_entropy_is_the_mean_over_every_position() -> None:
    model = build("plain")
    windows = np.random.default_rng(0).integers(0, 11, (3, 7))
    logits, _ = model.forward(windows[:, :-1])
    p = nn.softmax(logits.astype(np.float64))
    expected = -np.mean([np.log(p[b, t, windows[b, t + 1]]) for b in range(3) for t in range(6)])
    assert float(learn.cross_entropy(model, model.params, windows)) == pytest.approx(expected, rel=1e-5)


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


def test_dropout_is_another_at_every_step_and_the_same_for_a_seed() -> None:
    model, windows = build("rnn"), np.random.default_rng(0).integers(0, 11, (2, 5))
    params = jax.device_put(model.params)

    def losses(seed: int, *steps: int) -> list[float]:
        memory, step = learn.make_step(model, Recipe(steps=1, dropout=0.5, seed=seed))
        copies = [jax.tree.map(jax.numpy.copy, memory) for _ in steps]  # a step spends its memory
        return [
            float(step(params, copy, {}, windows, n, 0.0)[-1]) for copy, n in zip(copies, steps, strict=True)
        ]

    first, again, second = losses(0, 1, 1, 2)
    assert first == again
    assert len({first, second, *losses(1, 1)}) == 3


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
        return float(learn.cross_entropy(model, model.params, windows, tap))

    assert loss(learn.dropout(0.5, jax.random.key(1))) != loss(None)
    assert loss(learn.dropout(0.0, jax.random.key(1))) == loss(None)


# ---------------------------------------------------------------- the budget and the learning rate


def test_steps_are_counted() -> None:
    _, seen = reports_of(steps=7)
    assert [r.step for r in seen] == list(range(1, 8))
    assert [r.tokens for r in seen] == [16 * n for n in range(1, 8)]
    np.testing.assert_allclose([r.progress for r in seen], np.arange(1, 8) / 7)
    assert seen[-1].seconds_left == 0
    assert seen[3].tokens_per_second == pytest.approx(64 / seen[3].seconds)
    assert all(math.isfinite(r.loss) for r in seen[1:])


def test_epochs_are_tokens_seen_over_the_training_text() -> None:
    _, seen = reports_of(epochs=0.5)
    learned_from = len(TEXT) - int(len(TEXT) * 0.1)
    assert len(seen) == math.ceil(0.5 * learned_from / 16)
    assert seen[-1].progress == 1


class Clock:
    """Every look at it costs a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_minutes_are_counted_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock())
    _, seen = reports_of(minutes=1)
    assert seen[-2].progress < 1 == seen[-1].progress
    assert seen[-2].seconds <= 60 < seen[-1].seconds < 65
    assert all(a.progress < b.progress for a, b in itertools.pairwise(seen))


def test_the_learning_rate_rises_and_falls_over_the_budget() -> None:
    recipe = Recipe(steps=10, lr=2.0, warmup=0.25)
    rates = [learn.learning_rate(x, recipe) for x in (0, 0.125, 0.25, 0.625, 1.0)]
    np.testing.assert_allclose(rates, [0, 1, 2, 1, 0], atol=1e-9)
    assert learn.learning_rate(0.0, Recipe(steps=1, lr=2.0, warmup=0)) == 2.0
    assert learn.learning_rate(0.5, Recipe(steps=1, lr=2.0, warmup=1)) == 1.0
    recipe = Recipe(steps=5, lr=0.01)
    _, seen = reports_of(steps=5, lr=0.01)
    expected = [learn.learning_rate((n + 0.5) / 5, recipe) for n in range(5)]
    np.testing.assert_allclose([r.lr for r in seen], expected)


# ---------------------------------------------------------------- what is kept


def test_the_best_on_the_held_out_text_is_kept(tmp_path: Path) -> None:
    text = "ab" * 400 + "aabb" * 25  # learning the first part well makes the end ever less likely
    model, seen = reports_of(text, steps=60, lr=0.1, dropout=0.4, out=tmp_path / "model", command="a b")
    measured = [r.val_loss for r in seen if r.val_loss is not None]
    assert len(measured) == 20
    assert min(measured) < measured[-1] - 0.05
    assert held_out_loss(model, text, 8) == pytest.approx(min(measured), rel=1e-4)

    def no_constants(value: str) -> None:
        raise AssertionError(f"{value} is no JSON")

    first, *lines = (tmp_path / "model" / "training.jsonl").read_text().splitlines()
    header = json.loads(first, parse_constant=no_constants)
    assert header["octavo"] == octavo.__version__
    assert header["command"] == "a b"
    assert header["recipe"]["steps"] == 60
    assert header["recipe"]["lr"] == 0.1
    logged = [json.loads(line, parse_constant=no_constants) for line in lines]
    assert [x["step"] for x in logged] == list(range(1, 61))
    assert [x["val_loss"] for x in logged if x["val_loss"] is not None] == measured
    assert logged[-1].keys() == {*Report.__dataclass_fields__}


def test_with_nothing_held_out_the_last_weights_are_kept() -> None:
    model, seen = reports_of(steps=5, validation=0)
    assert [r.val_loss for r in seen] == [None] * 5
    assert not np.array_equal(model.params["layers.0.weight_hh"], first_weights(model)["layers.0.weight_hh"])


def first_weights(model: Model) -> dict[str, Any]:
    return octavo.model.models.initial_params(model.model_type, model.config, np.random.default_rng(0))


def test_an_interrupt_returns_and_saves_what_there_is(tmp_path: Path) -> None:
    def interrupt(state: Any) -> None:
        if state.step == 3:
            raise KeyboardInterrupt

    out = tmp_path / "model"
    model = octavo.train(TEXT, steps=10_000, report=interrupt, out=out, **SMALL)
    loaded = octavo.load(out)
    for name, value in model.params.items():
        np.testing.assert_array_equal(loaded.params[name], value)
        assert not np.array_equal(value, first_weights(model)[name])
    *_, evaluated, end = (out / "training.jsonl").read_text().splitlines()
    assert json.loads(end) == {"interrupted": True}
    assert json.loads(evaluated)["step"] == 3
    assert json.loads(evaluated)["val_loss"] < math.log(model.vocab_size) + 1


def test_an_interrupt_during_a_step_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Iterator[int] = iter(range(10))
    inner = learn._running_mean

    def interrupted(mean: float, value: float) -> float:  # called when the next step is under way
        if next(calls) == 4:
            raise KeyboardInterrupt
        return float(inner(mean, value))

    monkeypatch.setattr(learn, "_running_mean", interrupted)
    model = octavo.train(TEXT, steps=10_000, **SMALL)
    assert all(np.isfinite(p).all() for p in model.params.values())
    assert not np.array_equal(model.params["layers.1.bias"], first_weights(model)["layers.1.bias"])


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match="lower learning rate"):
        octavo.train(TEXT, steps=40, lr=1e38, out=tmp_path / "model", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_the_best_before_a_divergence_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, calls = learn._running_mean, itertools.count()

    def fails_late(mean: float, value: float) -> float:
        return math.nan if next(calls) > 12 else float(inner(mean, value))

    monkeypatch.setattr(learn, "_running_mean", fails_late)
    with pytest.raises(OctavoError, match="the best weights before that are in"):
        octavo.train(TEXT, steps=40, out=tmp_path / "model", **SMALL)
    assert octavo.load(tmp_path / "model").count()


def test_an_interrupt_before_the_first_step_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(learn, "make_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        octavo.train(TEXT, steps=40, out=tmp_path / "model", **SMALL)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- options


def test_a_tokenizer_may_be_made_named_or_given(tmp_path: Path) -> None:
    made = training._tokenizer("bpe:260", TEXT)
    assert made.vocab_size == 260
    made.save(tmp_path / "tokenizer.json")
    assert training._tokenizer(str(tmp_path / "tokenizer.json"), TEXT).encode(TEXT) == made.encode(TEXT)
    assert training._tokenizer(made, TEXT) is made
    assert training._tokenizer("char", TEXT).vocab_size == len(set(TEXT))


def test_the_end_of_the_text_is_held_out() -> None:
    ids = np.arange(100)
    kept, held_out = training.split(ids, Recipe(steps=1, context=5, validation=0.2))
    np.testing.assert_array_equal(kept, ids[:80])
    np.testing.assert_array_equal(held_out, ids[80:])
    kept, held_out = training.split(ids, Recipe(steps=1, context=5, validation=0.0))
    assert (len(kept), len(held_out)) == (100, 0)


def test_long_held_out_texts_are_sampled_evenly() -> None:
    model = build("rnn")
    ids = np.random.default_rng(0).integers(0, 11, 40_000).astype(np.int32)
    found = learn.validator(model, ids, 100)(model.params)
    windows = disjoint_windows(ids, 100)
    chosen = windows[np.linspace(0, len(windows) - 1, 2**14 // 100).astype(int)]
    logits, _ = model.forward(chosen[:, :-1])
    expected = -np.take_along_axis(nn.log_softmax(logits), chosen[:, 1:, None], -1).mean()
    assert found == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "say one of steps, epochs and minutes, not none"),
        ({"steps": 1, "minutes": 1}, "not steps and minutes"),
        ({"steps": 0}, "steps"),
        ({"epochs": -1}, "epochs"),
        ({"minutes": float("nan")}, "minutes"),
        ({"steps": 1, "dropout": 1.0}, "dropout"),
        ({"steps": 1, "lr": -1}, "lr"),
        ({"steps": 1, "batch": 0}, "batch"),
        ({"steps": 1, "context": 0}, "context"),
        ({"steps": 1, "validation": 0.95}, "validation"),
        ({"steps": 1, "seed": -1}, "seed"),
        ({"steps": 1, "clip": 0}, "clip"),
        ({"steps": 1, "warmup": 1.5}, "warmup"),
        ({"steps": 1, "momentum": 1}, "no training option momentum"),
        ({"steps": 1, "model_type": "bert"}, "bert"),
        ({"steps": 1, "sizes": {"d_model": 8}}, "no size d_model"),
        ({"steps": 1, "sizes": {"units": (0,)}}, "units"),
        ({"steps": 1, "sizes": {"units": ()}}, "needs a layer"),
        ({"steps": 1, "model_type": "plain", "sizes": {"units": (3,)}}, "no option units"),
        ({"steps": 1, "tokenizer": "bpe:x"}, "bpe:N"),
        ({"steps": 1, "tokenizer": "bpe:10"}, "256"),
        ({"steps": 1, "tokenizer": "nowhere.json"}, "nowhere.json"),
        ({"steps": 1, "context": 5000}, "fewer than one window of 5000"),
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OctavoError, match=named) as caught:
        octavo.train(TEXT, **SMALL | options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a", "to be or"])
def test_a_text_shorter_than_a_window_is_refused(text: str) -> None:
    with pytest.raises(OctavoError, match="text"):
        octavo.train(text, steps=1, **SMALL)
    with pytest.raises(OctavoError, match="text"):
        octavo.train(text, steps=1, tokenizer=octavo.tokenizers.char(TEXT), **SMALL)


def test_a_folder_that_exists_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(training, "run", work)
    (tmp_path / "file").write_text("")
    with pytest.raises(OctavoError, match="exists already"):
        octavo.train(TEXT, steps=1, out=tmp_path, **SMALL)
    with pytest.raises(OctavoError, match="cannot write"):
        octavo.train(TEXT, steps=1, out=tmp_path / "file" / "model", **SMALL)


def test_without_jax_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(OctavoError, match="pip install jax optax"):
        octavo.train(TEXT, steps=1, **SMALL)


def test_each_step_learns_from_its_own_windows() -> None:
    ids = np.arange(1000)
    drawn = {random_windows(ids, 2, 3, 0, step).tobytes() for step in range(50)}
    assert len(drawn) == 50
