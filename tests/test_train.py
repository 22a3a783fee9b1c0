"""Training: that it learns, reproduces, ends when it should, and keeps the right weights."""

import gzip
import importlib
import itertools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import OctavoError, asked, learn, nn, quant, tokenizers
from octavo.batches import HeldOut
from octavo.learn import Learner
from octavo.model import Model
from octavo.recipe import Recipe, Report
from octavo.run import Position
from octavo.tokenizers import token_lengths

from .conftest import begun, build

training = importlib.import_module("octavo.train")  # the name octavo.train is the verb's

TEXT = "to be or not to be, that is the question: " * 30
# A context that is no multiple of the period: the windows of an epoch lie side by side.
LEARNING: dict[str, Any] = {"context": 13, "batch": 8, "steps": 200, "lr": 2e-2, "dropout": 0.0}
SMALL: dict[str, Any] = {"model_type": "rnn", "sizes": {"units": (5,)}, "context": 8, "batch": 2}
TINY = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8}


def reports_of(text: str = TEXT, **options: Any) -> tuple[Model, list[Any]]:
    seen: list[Any] = []
    return octavo.train(text, report=seen.append, **SMALL | options), seen


def held_out_loss(model: Model, text: str, context: int, share: float = 0.1) -> float:
    """Nats per token over disjoint windows of the end of the text, by NumPy."""
    ids = np.asarray(model.text_tokenizer().encode(text))
    text_end = HeldOut(ids[len(ids) - int(len(ids) * share) :], context, np.ones(model.vocab_size))
    ((windows, counted),) = text_end.batches(len(text_end.starts))
    logits, _ = model.forward(windows[:, :-1])
    nats = -np.take_along_axis(nn.log_softmax(logits), windows[:, 1:, None], -1)[..., 0]
    return float(nats[counted].mean())


# ---------------------------------------------------------------- it learns


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("rnn", {"units": (12,)}),
        ("gru", {"units": (12,), "embedding": 6}),
        ("lstm", {"units": (12,)}),
        ("plain", {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16}),
        ("prenorm", {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16}),
        ("folio", {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16, "window": 8}),
        ("gpt2", {"n_embd": 16, "n_layer": 1, "n_head": 2}),
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
        optimizer="adamw",
        **LEARNING,
    )
    loss = octavo.score(model, text[:200]).nats / 199
    assert loss < 0.15
    assert octavo.generate(model, "abac", limit=8, temperature=0) == "adabacad"
    if model_type == "plain":
        first = nn.frequencies(16).astype(np.float32)
        np.testing.assert_array_equal(model.params["position_embedding.inv_freq"], first)
        assert model.context == 13
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


# ---------------------------------------------------------------- what is kept


def test_the_best_on_the_held_out_text_is_kept(tmp_path: Path) -> None:
    text = "ab" * 400 + "aabb" * 25  # learning the first part well makes the end ever less likely
    model, seen = reports_of(text, steps=60, lr=0.1, dropout=0.4, out=tmp_path / "model", command="a b")
    measured = [r.val_loss for r in seen if r.val_loss is not None]
    assert len(measured) == 20
    assert min(measured) < measured[-1] - 0.05
    whole = held_out_loss(model, text, 8)

    def no_constants(value: str) -> None:
        raise AssertionError(f"{value} is no JSON")

    first, *lines = (tmp_path / "model" / "training.jsonl").read_text().splitlines()
    header = json.loads(first, parse_constant=no_constants)
    assert header["octavo"] == octavo.__version__
    assert header["command"] == "a b"
    assert header["recipe"]["steps"] == 60
    assert header["recipe"]["lr"] == 0.1
    *logged, end = [json.loads(line, parse_constant=no_constants) for line in lines]
    assert [x["step"] for x in logged] == list(range(1, 61))
    assert [x["val_loss"] for x in logged if x["val_loss"] is not None] == measured
    assert logged[-1].keys() == {*Report.__dataclass_fields__} - {"sample"}
    summary = end["summary"]
    assert summary["val_loss"] == pytest.approx(whole, rel=1e-4)
    assert summary["val_bits_per_byte"] == pytest.approx(whole / math.log(2), rel=1e-4)
    assert (summary["steps"], summary["tokens"], summary["interrupted"]) == (60, 960, False)
    assert summary["seconds"] > seen[-1].seconds
    last = octavo.load(tmp_path / "model" / "last")
    assert held_out_loss(last, text, 8) > whole + 0.02


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
    *_, end = (out / "training.jsonl").read_text().splitlines()
    summary = json.loads(end)["summary"]
    assert (summary["steps"], summary["interrupted"]) == (3, True)
    assert summary["val_loss"] < math.log(model.vocab_size) + 1


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match="lower learning rate"):
        octavo.train(TEXT, steps=40, lr=1e38, out=tmp_path / "model", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_the_best_before_a_divergence_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, calls = Position.add, itertools.count()

    def fails_late(position: Position, loss: float, guess: float) -> None:
        inner(position, math.nan if next(calls) > 12 else loss, guess)

    monkeypatch.setattr(Position, "add", fails_late)
    with pytest.raises(OctavoError, match="the best weights before that are in"):
        octavo.train(TEXT, steps=40, out=tmp_path / "model", **SMALL)
    assert octavo.load(tmp_path / "model").count()


def test_an_interrupt_before_the_first_step_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(learn.Learner, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        octavo.train(TEXT, steps=40, out=tmp_path / "model", **SMALL)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- options


def test_a_tokenizer_may_be_made_named_or_given(tmp_path: Path) -> None:
    text = asked.Text(TEXT)
    made = asked.tokenizer_of("bpe:260", text)
    assert made.vocab_size == 260
    made.save(tmp_path / "tokenizer.json")
    assert asked.tokenizer_of(str(tmp_path / "tokenizer.json"), text).encode(TEXT) == made.encode(TEXT)
    assert asked.tokenizer_of(made, text) is made
    assert asked.tokenizer_of("char", text).vocab_size == len(set(TEXT))


def test_the_end_of_the_text_is_held_out() -> None:
    ids = np.arange(100)
    kept, held_out = training.split(ids, Recipe(steps=1, context=5, validation=0.2))
    np.testing.assert_array_equal(kept, ids[:80])
    np.testing.assert_array_equal(held_out, ids[80:])
    kept, held_out = training.split(ids, Recipe(steps=1, context=5, validation=0.0))
    assert (len(kept), len(held_out)) == (100, 0)


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


def test_a_text_that_is_the_name_of_something_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.txt").write_text(TEXT)
    for name in ("my.txt", str(tmp_path), "tinyshakespeare"):
        with pytest.raises(OctavoError, match=f"what is called {name}, give \\['{name}'\\]"):
            octavo.train(name, steps=1, **SMALL)


@pytest.mark.parametrize("text", [None, b"to be", 3])
def test_what_is_no_text_and_no_names_is_refused(text: Any) -> None:
    with pytest.raises(OctavoError, match="what is trained on is a text"):
        octavo.train(text, steps=1, **SMALL)


def test_names_may_be_one_path_or_anything_that_yields_them(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text(TEXT)
    assert asked.named(tmp_path) == [tmp_path]
    assert asked.named(name for name in ("a", "b")) == ["a", "b"]
    octavo.tokenizers.char(TEXT).save(tmp_path / "tokenizer.json")
    options = SMALL | {"steps": 1, "sizes": {"units": 5}, "tokenizer": tmp_path / "tokenizer.json"}
    named, text = octavo.train(tmp_path / "my.txt", **options), octavo.train(TEXT, steps=1, **SMALL)
    for name, value in text.params.items():
        np.testing.assert_array_equal(value, named.params[name])


@pytest.mark.parametrize("text", ["", "a", "to be or"])
def test_a_text_shorter_than_a_window_is_refused(text: str) -> None:
    with pytest.raises(OctavoError, match="text"):
        octavo.train(text, steps=1, **SMALL)
    with pytest.raises(OctavoError, match="text"):
        octavo.train(text, steps=1, tokenizer=octavo.tokenizers.char(TEXT), **SMALL)
    for budget in ({"steps": 1}, {"minutes": 1}):
        with pytest.raises(OctavoError, match="text"):
            octavo.train(text, tokenizer=octavo.tokenizers.char(TEXT), **budget)


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


def test_files_of_many_kinds_are_one_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    rows = [json.dumps({"story": TEXT}), json.dumps({"story": TEXT})]
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write("\n".join(rows))
    tok = tokenizers.char(TEXT)  # without a token between documents
    together = octavo.train([tmp_path], field="story", steps=3, tokenizer=tok, **SMALL)
    alone = octavo.train(3 * TEXT, steps=3, **SMALL)
    for name, value in alone.params.items():
        np.testing.assert_array_equal(together.params[name], value)


@pytest.mark.parametrize(("spec", "size"), [("bpe:260", 260), ("char", 1 + len(set(TEXT)))])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "plain"])
def test_a_token_ends_each_of_several_documents(
    model_type: str, spec: str, size: int, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": TEXT}) for _ in range(3)))
    (tmp_path / "a.txt").write_text(TEXT)
    options: dict[str, Any] = {"model_type": model_type, "size": "small", "tokenizer": spec}
    options |= {"steps": 1, "context": 8, "batch": 2}
    model = octavo.train([tmp_path / "rows.jsonl"], out=tmp_path / "new", **options)
    assert model.vocab_size == size
    assert model.ends == octavo.load(tmp_path / "new").ends == (size - 1,)
    whole = asked.Asked(model_type, spec, "small", {}, None, {"steps": 1, "context": 8})
    ids = whole.begin(asked.Text([tmp_path / "rows.jsonl"]))[2].ids
    assert np.flatnonzero(ids == size - 1).tolist() == [len(ids) // 3 * n - 1 for n in (1, 2, 3)]
    alone = octavo.train([tmp_path / "a.txt"], **options)
    assert alone.vocab_size == (size if spec != "char" else size - 1)
    assert alone.text_tokenizer().end_of_text is None
    assert octavo.train(2 * [tmp_path / "a.txt"], **options).text_tokenizer().end_of_text == size - 1


def test_a_run_can_begin_from_a_model(tmp_path: Path) -> None:
    first = octavo.train(TEXT, steps=200, lr=0.02, out=tmp_path / "first", **SMALL)
    start = held_out_loss(first, TEXT, 8)
    seen: list[Report] = []
    second = octavo.train(TEXT, steps=60, base=tmp_path / "first", lr=0.02, report=seen.append, context=8)
    assert second.config == first.config
    assert second.tokenizer == first.tokenizer
    assert [report.step for report in seen] == list(range(61))
    assert seen[1].loss < start + 0.5 < math.log(first.vocab_size)
    assert held_out_loss(second, TEXT, 8) < start
    with pytest.raises(OctavoError, match="has its own model and tokenizer; leave that out"):
        octavo.train(TEXT, steps=1, base=first, model_type="rnn", tokenizer="char")
    transformer = octavo.train(TEXT, model_type="plain", sizes=TINY, steps=1, context=8, batch=2)
    with pytest.raises(OctavoError, match="a context of 8, and 9 is more"):
        octavo.train(TEXT, steps=1, base=transformer, context=9)
    assert octavo.train(TEXT, steps=1, base=transformer).context == 8


def test_weights_that_training_does_not_better_are_kept(tmp_path: Path) -> None:
    first = octavo.train(TEXT, steps=200, lr=0.02, out=tmp_path / "first", **SMALL)
    seen: list[Report] = []
    options: dict[str, Any] = {"base": first, "context": 8, "out": tmp_path / "worse"}
    second = octavo.train(TEXT, steps=1, lr=100.0, warmup=0.0, report=seen.append, **options)
    assert seen[0].step == 0
    assert seen[0].tokens == 0
    assert seen[0].val_loss == pytest.approx(held_out_loss(first, TEXT, 8), abs=1e-4)
    assert all(report.val_loss is None or report.val_loss > seen[0].val_loss for report in seen[1:])
    for name, array in first.params.items():
        np.testing.assert_array_equal(second.params[name], array)
    _, entry, *_ = (tmp_path / "worse" / "training.jsonl").read_text().splitlines()
    assert json.loads(entry)["loss"] is None
    octavo.train(TEXT, steps=2, base=first, context=8, validation=0.0, report=seen.append)
    assert [report.step for report in seen[-2:]] == [1, 2]
    assert len([report for report in seen if report.step == 0]) == 1  # nothing was held out


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """A small Llama in blocks, in a GGUF file."""
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    tok = tokenizers.char(TEXT)
    model = build("llama-tied", tokenizer=tok, vocab_size=len(tok), **sizes)
    octavo.save(model, tmp_path / "blocks.gguf", dtype="Q8_0")
    return tmp_path / "blocks.gguf"


def test_a_run_can_begin_from_blocks_which_are_widened(blocks: Path, tmp_path: Path) -> None:
    wide = quant.widened(octavo.load(blocks).params)
    options: dict[str, Any] = {"base": blocks, "context": 8, "batch": 2}
    same = octavo.train(TEXT, steps=1, lr=0.0, **options)
    for name, array in wide.items():
        np.testing.assert_array_equal(same.params[name], array)
    seen: list[Report] = []
    octavo.train(TEXT, steps=40, lr=0.01, out=tmp_path / "new", report=seen.append, **options)
    assert seen[-1].loss < seen[1].loss
    again = octavo.load(tmp_path / "new")
    assert all(isinstance(array, np.ndarray) for array in again.params.values())
    assert held_out_loss(again, TEXT, 8) < held_out_loss(octavo.load(blocks), TEXT, 8)


def test_what_begins_a_text_stands_before_what_is_learned_and_what_is_measured(tmp_path: Path) -> None:
    ranks = {bytes([i]): i for i in range(256)}
    tok = begun(tokenizers.from_ranks(ranks, special_tokens={"<|endoftext|>": 256, "<s>": 257}), 257)
    documents = ["to be or not to be", "that is", "the question:"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    whole = asked.Text([tmp_path / "a.jsonl"]).encode(tok)
    assert whole.ids.tolist() == [id for text in documents for id in [257, *text.encode(), 256]]
    assert asked.Text(documents[0]).encode(tok).ids.tolist() == [257, *documents[0].encode()]

    # Held out are two documents, each a window: what `score` says of them and of what ends the first.
    model = build("llama", tokenizer=tok, vocab_size=len(tok))
    model = replace(model, config=replace(model.config, eos_token_id=None))
    ids = np.array([257, *b"that is", 256, 257, *b"not to"])
    held_out = HeldOut(ids, 9, token_lengths(tok), tok.begins_with)
    learner = Learner(model, Recipe(steps=1, context=9))
    found = learner.measure(learner.placed(model.params), held_out) * held_out.tokens
    first, second = (octavo.score(model, text, window=16).nats for text in ("that is", "not to"))
    logits, _ = model.forward(ids[:8])
    assert held_out.tokens == 7 + 1 + 6
    assert held_out.bytes == 7 + 6
    assert found == pytest.approx(first + second - nn.log_softmax(logits.astype(float))[-1, 256], rel=1e-5)


def test_some_reports_hold_what_the_model_writes() -> None:
    seen: list[Report] = []
    octavo.train(TEXT, steps=40, samples=True, report=seen.append, **SMALL)
    samples = [r.sample for r in seen if r.sample is not None]
    assert len(samples) == 5
    opening = TEXT[len(TEXT) - int(len(TEXT) * 0.1) :][:16]
    assert all(sample.startswith(opening) and len(sample) == 16 + 80 for sample in samples)
    assert len(set(samples)) > 1
