"""What a recipe leaves to the measure of its budget, and that what was said is left alone."""

from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo import automatic
from octavo.asked import Asked, Text
from octavo.recipe import DEFAULTS, Recipe

TEXT = "to be or not to be, that is the question\n" * 25  # 1,025 characters


def recipe_of(model_type: str | None, **recipe: Any) -> Recipe:
    small = {"units": (8,)} if model_type in ("rnn", "gru", "lstm") else {"d_model": 12, "n_layers": 1}
    asked = Asked(model_type, None, None, small, None, recipe)
    return asked.begin(Text(TEXT))[1]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"epochs": 1.5}, 1.5),
        ({"steps": 30, "batch": 10, "context": 20}, 3),
        ({"steps": 30, "batch": 5, "accumulate": 2, "context": 20}, 3),
        ({"minutes": 2}, 240),
    ],
)
def test_epochs_of_every_kind_of_budget(budget: dict[str, Any], expected: float) -> None:
    assert automatic.epochs(Recipe(**budget), 2000, tokens_per_second=4000) == pytest.approx(expected)


def test_recurrent_dropout_rises_a_tenth_at_each_doubling() -> None:
    found = [automatic.dropout("gru", Recipe(epochs=n), 1000, 100) for n in (0.1, 1, 4, 8, 16, 32, 64, 999)]
    assert found == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.4])


def test_minutes_buy_fewer_epochs_for_larger_models_and_longer_texts() -> None:
    def found(minutes: float, tokens: int, weights: int) -> float:
        return automatic.dropout("lstm", Recipe(minutes=minutes), tokens, weights)

    assert found(60, 10**6, 900_000) > found(60, 10**6, 3_600_000)
    assert found(60, 10**6, 900_000) > found(60, 10**7, 900_000)
    assert found(1, 10**6, 900_000) == 0
    assert 0.1 < found(20, 10**6, 900_000) < 0.3


@pytest.mark.parametrize("model_type", ["gru", "lstm"])
def test_a_recurrent_model_gets_the_dropout_of_its_epochs(model_type: str) -> None:
    assert recipe_of(model_type, epochs=2, context=8).dropout == 0
    assert recipe_of(model_type, epochs=16, context=8).dropout == pytest.approx(0.2)
    assert recipe_of(model_type, minutes=20, context=8).dropout == automatic.STRONGEST
    assert recipe_of(model_type, epochs=2, context=8, dropout=0.35).dropout == 0.35
    assert recipe_of(model_type, epochs=16, context=8, dropout=0.0).dropout == 0


@pytest.mark.parametrize("model_type", ["plain", "prenorm", "llama", "gpt2"])
def test_transformers_have_dropout_for_what_is_read_often(model_type: str) -> None:
    small = {"plain": {"n_layers": 1}, "prenorm": {"n_layers": 1}, "gpt2": {"n_layer": 1}}
    sizes = small.get(model_type, {"num_hidden_layers": 1})

    def dropout(**recipe: Any) -> float:
        return (
            Asked(model_type, None, None, sizes, None, recipe | {"context": 8}).begin(Text(TEXT))[1].dropout
        )

    assert dropout(epochs=16) == 0
    assert dropout(epochs=17) == pytest.approx(0.1)
    assert dropout(epochs=17, dropout=0.0) == 0


def test_folio_has_dropout_from_three_epochs_on() -> None:
    for model_type in (None, "auto", "folio"):
        assert recipe_of(model_type, epochs=3, context=8).dropout == 0
        assert recipe_of(model_type, epochs=12, context=8).dropout == pytest.approx(0.25)
        assert recipe_of(model_type, epochs=12, context=8, dropout=0.0).dropout == 0
        assert recipe_of(model_type, epochs=99, context=8).dropout == automatic.STRONGEST
    assert recipe_of("rnn", epochs=30, context=8).dropout == 0


@pytest.mark.parametrize(
    ("budget", "tokens", "expected"),
    [
        ({"minutes": 5}, 10**6, "folio"),
        ({"minutes": 20}, 10**6, "llama"),
        ({"minutes": 15}, 10**7, "folio"),  # which is read less than once
        ({"minutes": 2}, 60_000, "llama"),
        ({"minutes": 1}, 60_000, "folio"),  # too soon for others
        ({"epochs": 5}, 10**6, "llama"),
        ({"epochs": 30}, 10**4, "folio"),
        ({"steps": 10_000}, 10**6, "llama"),
    ],
)
def test_what_is_trained_depends_on_the_budget(budget: dict[str, Any], tokens: int, expected: str) -> None:
    assert automatic.model_type(Recipe(batch=8, **budget), tokens) == expected


@pytest.mark.parametrize("said", [None, "auto"])
def test_a_long_run_trains_what_learns_on(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "CROSSING", 2e5)

    def begun(sizes: dict[str, Any], epochs: float) -> Any:
        recipe = {"context": 16, "epochs": epochs}
        model, settings, _ = Asked(said, None, None, sizes, None, recipe).begin(Text(TEXT))
        return model.model_type, settings.batch

    assert begun({}, 10) == ("folio", DEFAULTS["folio"]["batch"])
    assert begun({}, 20) == ("llama", DEFAULTS["llama"]["batch"])
    assert begun({"d_model": 12}, 20)[0] == "folio"  # a field that only it has


@pytest.mark.parametrize(("width", "share"), [(16, 1), (128, 1), (512, 0.5)])
def test_wide_transformers_learn_more_slowly(width: int, share: float) -> None:
    def lr(**said: Any) -> float:
        sizes = {"d_model": width, "n_layers": 1, "n_heads": 2}
        recipe = {"steps": 1, "context": 8} | said
        return Asked("plain", None, None, sizes, None, recipe).begin(Text(TEXT))[1].lr

    assert lr() == pytest.approx(share * DEFAULTS["plain"]["lr"])
    assert lr(lr=0.1) == 0.1


def test_recurrent_layers_of_any_width_have_their_learning_rate() -> None:
    model = Asked("gru", None, None, {"units": (256,)}, None, {"steps": 1}).begin(Text(TEXT))[0]
    assert automatic.lr(model, Recipe(steps=1, lr=0.5)) == 0.5


@pytest.mark.parametrize(
    ("model_type", "sizes", "optimizer", "lr"),
    [
        ("gpt2", {"n_embd": 16, "n_layer": 1, "n_head": 2}, None, 0.3 * DEFAULTS["gpt2"]["lr"]),
        ("gpt2", {"n_embd": 256, "n_layer": 1, "n_head": 2}, "adamw", 0.3 * DEFAULTS["gpt2"]["lr"] / 2**0.5),
        ("gru", {"units": (8,)}, None, 0.3 * DEFAULTS["gru"]["lr"]),
    ],
)
def test_a_model_goes_on_by_the_optimizer_it_knows(
    model_type: str, sizes: dict[str, Any], optimizer: str | None, lr: float, tmp_path: Path
) -> None:
    first: dict[str, Any] = {"steps": 1, "context": 8, "batch": 2, "dropout": 0.15}
    said = {} if optimizer is None else {"optimizer": optimizer}
    octavo.train(TEXT, model_type=model_type, sizes=sizes, out=tmp_path / "first", **first, **said)
    asked = Asked(None, None, None, {}, tmp_path / "first", {"epochs": 99, "context": 8})
    recipe = asked.begin(Text(TEXT))[1]
    assert recipe.lr == pytest.approx(lr)
    assert recipe.dropout == 0.15
    assert recipe.optimizer == (optimizer or DEFAULTS[model_type].get("optimizer", "adamw"))
    asked.recipe |= {"lr": 0.1, "optimizer": "muon", "dropout": 0.5}
    recipe = asked.begin(Text(TEXT))[1]
    assert (recipe.lr, recipe.optimizer, recipe.dropout) == (0.1, "muon", 0.5)


def test_a_published_model_goes_on_by_adamw(tmp_path: Path) -> None:
    sizes = {"n_embd": 512, "n_layer": 1, "n_head": 2}
    first, _, _ = Asked("gpt2", None, None, sizes, None, {"steps": 1, "context": 8}).begin(Text(TEXT))
    octavo.save(first, tmp_path / "published")
    for base in (first, tmp_path / "published"):
        recipe = Asked(None, None, None, {}, base, {"epochs": 99}).begin(Text(TEXT))[1]
        assert (recipe.optimizer, recipe.lr, recipe.dropout) == ("adamw", pytest.approx(3e-4), 0)
    recipe = Asked(None, None, None, {}, "bard", {"steps": 1}).begin(Text(TEXT))[1]  # whose log ships
    assert (recipe.optimizer, recipe.lr) == ("muon", pytest.approx(0.3 * 0.005 / 2))


def test_the_course_s_sizes_are_not_the_standard() -> None:
    def config_of(*said: Any) -> Any:
        return Asked("plain", None, *said, None, {"steps": 1, "context": 8}).begin(Text(TEXT))[0].config

    assert (config_of(None, {}).d_model, config_of(None, {}).d_ff) == (128, 512)
    assert (config_of(None, {"d_ff": 32}).d_model, config_of(None, {"d_ff": 32}).d_ff) == (128, 32)
    assert config_of("course", {"n_layers": 1}).d_model == 512
