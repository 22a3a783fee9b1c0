"""`load` and `save`: what goes in comes out, bit for bit, and nothing else gets in."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo import Model, OctavoError
from octavo.checks import cores
from octavo.tokenizers import char, train_bpe

from .conftest import ALPHABET, CONFIGS, GOLDEN, V, build
from .tokenizers.strategies import damaged_bytes, damaged_json

every = pytest.mark.parametrize("name", CONFIGS)


def assert_same(found: Model, expected: Model) -> None:
    assert found.model_type == expected.model_type
    assert found.config == expected.config
    assert found.tokenizer == expected.tokenizer
    assert found.params.keys() == expected.params.keys()
    for name, value in expected.params.items():
        assert found.params[name].dtype == value.dtype
        np.testing.assert_array_equal(found.params[name], value)


# ---------------------------------------------------------------- round trips


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_bit_for_bit(name: str, dtype: Any, tmp_path: Path) -> None:
    model = build(name, dtype=dtype)
    octavo.save(model, tmp_path / "model")
    loaded = octavo.load(tmp_path / "model", model_type=model.model_type)
    assert_same(loaded, model)
    assert octavo.load(str(tmp_path / "model")).count() == model.count()
    ids = [1, 2, 3, 4]
    np.testing.assert_array_equal(loaded.forward(ids)[0], model.forward(ids)[0])
    octavo.save(loaded, tmp_path / "again")
    files = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


@pytest.mark.parametrize(
    ("dtype", "loaded"), [("float16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_a_model_is_stored_in_the_precision_asked_for(dtype: str, loaded: str, tmp_path: Path) -> None:
    model = build("plain")
    octavo.save(model, tmp_path / "model", dtype=dtype)
    found = octavo.load(tmp_path / "model")
    for name, value in model.params.items():
        assert found.params[name].dtype == loaded
        np.testing.assert_array_equal(found.params[name], value.astype(dtype).astype(loaded))
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert size == pytest.approx(model.count() * np.dtype(dtype).itemsize, abs=2500)


def test_jax_parameters_are_saved_too(tmp_path: Path) -> None:
    model = build("gru")
    octavo.save(model.with_params(jax.device_put(model.params)), tmp_path / "model")
    assert_same(octavo.load(tmp_path / "model"), model)


def test_parameters_that_are_views_are_saved_as_they_look(tmp_path: Path) -> None:
    model = build("rnn")
    turned = {n: np.asfortranarray(p) if p.ndim > 1 else p for n, p in model.params.items()}
    octavo.save(model.with_params(turned), tmp_path / "model")
    assert_same(octavo.load(tmp_path / "model"), model)


def test_a_loaded_state_can_be_written_into(tmp_path: Path) -> None:
    octavo.save(build("plain"), tmp_path / "model")
    assert len(octavo.generate(octavo.load(tmp_path / "model"), "abc", limit=9, seed=0)) == 9


@pytest.mark.parametrize("tokenizer", [char(ALPHABET), train_bpe("ab" * 99, 258)])
def test_the_tokenizer_travels_along(tokenizer: Any, tmp_path: Path) -> None:
    size = tokenizer.vocab_size
    layers = [{"kind": "rnn", "units": 3}, {"kind": "dense", "units": size}]
    octavo.save(build("rnn", tokenizer=tokenizer, vocab_size=size, layers=layers), tmp_path / "model")
    assert octavo.load(tmp_path / "model").text_tokenizer().encode("abba") == tokenizer.encode("abba")


def test_characters_left_out_are_warned_of_and_never_written(tmp_path: Path) -> None:
    octavo.save(build("gru"), tmp_path / "model")
    with pytest.warns(UserWarning, match="has 3 tokens and the model 11"):
        model = octavo.load(tmp_path / "model", tokenizer=char("abc"))
    assert set(octavo.generate(model, "abc", limit=200, seed=0)) <= set("abc")


def test_another_tokenizer_takes_the_place_of_the_saved_one(tmp_path: Path) -> None:
    octavo.save(build("gru"), tmp_path / "model")
    other = char("zyxwvutsrqp")
    other.save(tmp_path / "other.json")
    for given_as in (other, tmp_path / "other.json", str(tmp_path / "other.json")):
        assert octavo.load(tmp_path / "model", tokenizer=given_as).tokenizer == other


# ---------------------------------------------------------------- what is refused


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(OctavoError) as caught:
        octavo.load(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_tokenizer_too_large_for_the_model_is_refused(tmp_path: Path) -> None:
    octavo.save(build("gru"), tmp_path / "model")
    large = char(ALPHABET + "z")
    assert f"12 tokens and the model {V}" in refusal(tmp_path / "model", tokenizer=large)
    assert "nowhere.json" in refusal(tmp_path / "model", tokenizer="nowhere.json")


def test_a_model_of_another_type_is_refused(tmp_path: Path) -> None:
    octavo.save(build("gru"), tmp_path / "model")
    assert "of type gru, not plain" in refusal(tmp_path / "model", model_type="plain")
    assert "weights go with a Keras architecture" in refusal(tmp_path / "model", weights="w.h5")
    assert "no option d_model" in refusal(tmp_path / "model", d_model=8)


@pytest.mark.parametrize("name", ["", "bart", "no/such/folder", "a\0b", "n" * 5000, "\n"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(OctavoError, match="no file or folder"):
        octavo.load(name)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x00" * 1000, b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"{}", b"[" * 9999]
)
@pytest.mark.parametrize("name", ["model.npz", "model.json", "model.h5", "model.keras", "model"])
def test_files_of_something_else_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert name in refusal(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "config.json is missing" in refusal(tmp_path)


@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "", "float"])
def test_other_precisions_are_refused(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match="dtype is float16, float32 or float64"):
        octavo.save(build("gru"), tmp_path / "model", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    model = build("gru")
    large = model.with_params({n: 1e5 * p for n, p in model.params.items()})
    with pytest.raises(OctavoError, match=r"layers\.0\.weight_ih holds values that are NaN or infinite"):
        octavo.save(large, tmp_path / "model", dtype="float16")
    octavo.save(large, tmp_path / "model")
    broken = model.with_params({**model.params, "layers.0.bias_ih": np.full(18, np.nan, np.float32)})
    with pytest.raises(OctavoError, match=r"layers\.0\.bias_ih"):
        octavo.save(broken, tmp_path / "broken")
    with pytest.raises(OctavoError, match=r"layers\.0\.bias_ih .* is missing"):
        octavo.save(
            model.with_params({n: p for n, p in model.params.items() if n != "layers.0.bias_ih"}),
            tmp_path / "b",
        )
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


# ---------------------------------------------------------------- damage of any kind


def check(path: Path, **options: Any) -> None:
    """Loads what is sound and refuses what is not, in a line, within a second."""
    started = time.process_time()
    message = ""
    try:
        octavo.generate(octavo.load(path, **options), "a", limit=2, seed=0)
    except OctavoError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 3000
    assert time.process_time() - started < 1


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A new copy of a small model's folder."""

    def copy(name: str) -> Path:
        path = tmp_path_factory.mktemp("damaged") / "model"
        octavo.save(build(name), path)
        return path

    return copy


folders = st.sampled_from(["mixed", "plain", "prenorm-wide", "llama-tied", "gpt2"])
CONFIG_TEXTS = {
    name: json.dumps({"model_type": model_type, **options}) for name, (model_type, options) in CONFIGS.items()
}


@settings(max_examples=80, deadline=None)
@given(name=folders, data=st.data())
def test_a_config_with_other_values_is_read_or_refused(saved: Any, name: str, data: st.DataObject) -> None:
    path = saved(name)
    (path / "config.json").write_bytes(data.draw(damaged_json(CONFIG_TEXTS[name])))
    check(path)


@settings(max_examples=80, deadline=None)
@given(
    name=folders, file=st.sampled_from(["config.json", "model.safetensors", "tokenizer.json"]), data=st.data()
)
def test_a_folder_with_damaged_bytes_is_read_or_refused(
    saved: Any, name: str, file: str, data: st.DataObject
) -> None:
    path = saved(name)
    (path / file).write_bytes(data.draw(damaged_bytes((path / file).read_bytes())))
    check(path)


@settings(max_examples=80, deadline=None)
@given(name=folders, data=st.data())
def test_a_safetensors_header_with_other_values_is_read_or_refused(
    saved: Any, name: str, data: st.DataObject
) -> None:
    path = saved(name)
    content = (path / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = data.draw(damaged_json(content[8:end].decode()))
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    check(path)


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(["plain", "prenorm"]), data=st.data())
def test_an_archive_with_damaged_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "model.npz"
    path.write_bytes(data.draw(damaged_bytes((GOLDEN / f"torch_{name}.npz").read_bytes())))
    check(path, tokenizer=char(ALPHABET), **({"n_heads": 2} if name == "plain" else {}))


# ---------------------------------------------------------------- threads


def test_threads_are_kept_with_the_model_and_bounded_by_the_processors() -> None:
    assert octavo.load("christie-rnn").threads is None
    assert octavo.load("christie-rnn", threads=1).with_params({}).threads == 1
    for wrong in (0, -1, cores() + 1, 1.0, True, "2"):
        with pytest.raises(
            OctavoError, match=f"threads is a whole number from 1 to {cores()}, the processors"
        ):
            octavo.load("christie-rnn", threads=wrong)
        with pytest.raises(OctavoError, match="threads is a whole number"):
            replace(build("gru"), threads=wrong)
