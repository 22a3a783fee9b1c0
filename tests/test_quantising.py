"""A model in blocks: which matrices, what it loses, and that it is stored as it is."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import octavo
from octavo import Model, OctavoError
from octavo.blocks import FORMATS
from octavo.quant import Quantized, quantise, widened
from octavo.quantising import bits, quantised

from .conftest import ALPHABET, build
from .damage import disturbed_safetensors

SONNET = """Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance, or nature's changing course, untrimm'd;
"""
WIDE = {"hidden_size": 64, "intermediate_size": 96}


def formats(model: Model) -> dict[str, str]:
    """What each matrix is held in."""
    return {
        name: p.format.name if isinstance(p, Quantized) else str(p.dtype)
        for name, p in model.params.items()
        if p.ndim == 2
    }


def saved(model: Model, path: Path, **options: Any) -> Model:
    octavo.save(model, path)
    return octavo.load(path, **options)


def assert_same_blocks(found: Model, expected: Model) -> None:
    assert (found.config, found.params.keys()) == (expected.config, expected.params.keys())
    for name, array in expected.params.items():
        other = found.params[name]
        assert type(other) is type(array)
        if isinstance(array, Quantized):
            assert other.format is array.format
            assert other.blocks.tobytes() == array.blocks.tobytes()
        else:
            np.testing.assert_array_equal(other, array)


# ---------------------------------------------------------------- which matrices


def test_every_matrix_in_8_bits_and_tables_in_8_where_the_others_have_4(tmp_path: Path) -> None:
    model = build("llama", **WIDE)
    octavo.save(model, tmp_path / "a")
    assert set(formats(octavo.load(tmp_path / "a", quantize="q8")).values()) == {"Q8_0"}
    four = octavo.load(tmp_path / "a", quantize="q4")
    tables = {n: f for n, f in formats(four).items() if n in ("model.embed_tokens.weight", "lm_head.weight")}
    assert set(tables.values()) == {"Q8_0"}
    assert {f for n, f in formats(four).items() if n not in tables} == {"Q4_1"}
    assert four.params["model.norm.weight"].dtype == np.float32
    assert four.tokenizer == model.tokenizer


@pytest.mark.parametrize(
    ("name", "sizes", "whole"),
    [
        ("folio", {"d_model": 32, "d_ff": 64, "taps": 3}, "conv"),
        ("gpt2", {"n_embd": 32}, "wpe.weight"),
    ],
)
def test_what_is_asked_for_more_than_products_and_rows_stays_whole(
    name: str, sizes: dict[str, int], whole: str, tmp_path: Path
) -> None:
    model = saved(build(name, **sizes), tmp_path / "a", quantize="q8")
    assert {n for n, f in formats(model).items() if f != "Q8_0"} == {
        n for n in formats(model) if n.endswith(whole)
    }
    same, ids = model.with_params(widened(model.params)), [1, 5, 3, 2, 8]
    logits, state = model.forward(ids[:3])
    found = np.concatenate([logits, model.forward(ids[3:], state)[0]])
    np.testing.assert_allclose(found, same.forward(ids)[0], atol=1e-4)


def test_rows_that_are_no_whole_number_of_blocks_stay_whole(tmp_path: Path) -> None:
    model = saved(build("llama", hidden_size=64, intermediate_size=40), tmp_path / "a", quantize="q8")
    assert {n.split(".")[-2] for n, f in formats(model).items() if f == "float32"} == {"down_proj"}


def test_what_takes_as_few_bits_already_stays_as_it_is(tmp_path: Path) -> None:
    model = build("llama", **WIDE)
    wide = model.params["model.layers.0.mlp.up_proj.weight"]
    for name, kind, kept in (
        ("Q4_0", "q8", True),
        ("Q8_0", "q8", True),
        ("F16", "q8", False),
        ("Q4_1", "q4", True),
        ("Q5_0", "q4", False),
        ("Q8_0", "q4", False),
    ):
        held = quantise(wide, name)
        params = model.params | {"model.layers.0.mlp.up_proj.weight": held}
        found = quantised("llama", model.config, params, kind)["model.layers.0.mlp.up_proj.weight"]
        assert (found is held) == kept
        if not kept:
            again = quantise(np.asarray(held), "Q8_0" if kind == "q8" else "Q4_1")
            assert found.blocks.tobytes() == again.blocks.tobytes()
    assert bits(FORMATS["Q4_1"]) < bits(FORMATS["Q5_0"]) < bits(FORMATS["Q8_0"]) < bits(FORMATS["F16"])


@pytest.mark.parametrize("name", ["rnn", "gru-before", "lstm", "mixed", "plain"])
def test_a_model_without_such_matrices_is_refused(name: str, tmp_path: Path) -> None:
    octavo.save(build(name), tmp_path / "a")
    with pytest.raises(
        OctavoError, match=r"no matrix of this \w+ model can be quantised: .*; leave quantize"
    ):
        octavo.load(tmp_path / "a", quantize="q8")


def test_no_other_kind() -> None:
    for kind in ("Q8_0", "int8", 8, True, ["q8"], ""):
        with pytest.raises(OctavoError, match="quantize is 'q8' or 'q4', not"):
            octavo.load("bard", quantize=kind)  # type: ignore[arg-type]


def test_numbers_that_no_block_holds_are_named(tmp_path: Path) -> None:
    model = build("llama", **WIDE)
    model.params["lm_head.weight"][3, 5] = 1e9
    with pytest.raises(OctavoError, match=r"lm_head\.weight: Q8_0 cannot hold numbers as large"):
        saved(model, tmp_path / "a", quantize="q4")


# ---------------------------------------------------------------- what it loses


@pytest.fixture(scope="module")
def bard() -> Model:
    return octavo.load("bard")


def test_perplexity_is_within_a_thousandth_in_8_bits_and_a_fiftieth_in_4(bard: Model) -> None:
    score = octavo.score(bard, SONNET)
    for kind, most in (("q8", 0.001), ("q4", 0.02)):
        small = octavo.load("bard", quantize=kind)
        found = octavo.score(small, SONNET)
        assert 0 < abs(found.perplexity / score.perplexity - 1) < most
        assert np.abs(found.per_token - score.per_token).mean() < 20 * most
        held = sum(p.nbytes for p in small.params.values())
        assert held < sum(p.nbytes for p in bard.params.values()) / {"q8": 3.7, "q4": 6}[kind]


def test_4_bits_lose_less_than_llama_cpp_s_q4_1(bard: Model) -> None:
    """Which is Q4_1 throughout; the measure is what the logits of a text differ by."""
    ids = bard.text_tokenizer().encode(SONNET)[:64]
    logits = bard.forward(ids)[0]
    four = quantised("plain", bard.config, dict(bard.params), "q4")
    pure = {n: quantise(p, "Q4_1") if isinstance(four[n], Quantized) else p for n, p in bard.params.items()}
    errors = [float(np.square(bard.with_params(p).forward(ids)[0] - logits).mean()) for p in (four, pure)]
    assert 0 < errors[0] < errors[1]


# ---------------------------------------------------------------- stored


@pytest.mark.parametrize("kind", ["q8", "q4"])
@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen2", "gpt2", "prenorm"])
def test_a_folder_gives_back_the_blocks(name: str, kind: str, tmp_path: Path) -> None:
    sizes = {"gpt2": {"n_embd": 32}, "prenorm": {"d_model": 32, "d_ff": 64}}.get(name, WIDE)
    model = saved(build(name, **sizes), tmp_path / "a", quantize=kind)
    again = saved(model, tmp_path / "b")
    assert_same_blocks(again, model)
    assert again.tokenizer == model.tokenizer
    np.testing.assert_array_equal(again.forward([1, 2, 3])[0], model.forward([1, 2, 3])[0])
    assert_same_blocks(octavo.load(tmp_path / "b", quantize=kind), model)
    sizes_of = [(tmp_path / f / "model.safetensors").stat().st_size for f in ("a", "b")]
    assert sizes_of[1] < 0.5 * sizes_of[0]
    octavo.save(again, tmp_path / "wide", dtype="float32")
    wide = octavo.load(tmp_path / "wide")
    for parameter, array in widened(model.params).items():
        np.testing.assert_array_equal(wide.params[parameter], array)
    assert "quantization_config" not in json.loads((tmp_path / "wide" / "config.json").read_text())


def test_gguf_gives_back_the_blocks_and_a_folder_those_of_gguf(tmp_path: Path) -> None:
    model = saved(build("qwen2", **WIDE), tmp_path / "a", quantize="q4")  # its heads stand as in GGUF
    assert_same_blocks(saved(model, tmp_path / "b.gguf"), model)
    assert_same_blocks(saved(octavo.load(tmp_path / "b.gguf"), tmp_path / "c"), model)


def test_blocks_of_one_number_become_numbers(tmp_path: Path) -> None:
    octavo.save(build("llama"), tmp_path / "a.gguf", dtype="F16")
    model = saved(octavo.load(tmp_path / "a.gguf"), tmp_path / "b")
    assert set(formats(model).values()) == {"float32"}
    assert load_file(tmp_path / "b" / "model.safetensors")["lm_head.weight"].dtype == np.float16
    for name, array in widened(octavo.load(tmp_path / "a.gguf").params).items():
        np.testing.assert_array_equal(model.params[name], array)


def test_others_see_that_they_cannot_read_it(tmp_path: Path) -> None:
    """By the shapes, for one: transformers 5.23 ends with an error that lists them."""
    model = saved(build("llama", **WIDE), tmp_path / "a", quantize="q8")
    octavo.save(model, tmp_path / "b")
    assert json.loads((tmp_path / "b/config.json").read_text())["quantization_config"] == {
        "quant_method": "octavo"
    }
    arrays = load_file(tmp_path / "b/model.safetensors")
    assert arrays["lm_head.weight"].dtype == np.uint8
    assert arrays["lm_head.weight"].shape == (len(ALPHABET), 2 * 34)


def test_memory_is_that_of_the_blocks(tmp_path: Path, peak_memory: Callable[..., int]) -> None:
    model = build("llama", hidden_size=256, intermediate_size=1024)
    octavo.save(saved(model, tmp_path / "a", quantize="q8"), tmp_path / "b")
    assert peak_memory(lambda: octavo.load(tmp_path / "b")) < 2**20  # of two megabytes, which are mapped


def test_training_goes_on_from_blocks(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    model = build("llama", **sizes, max_position_embeddings=16)
    small = saved(model, tmp_path / "a", quantize="q8")
    octavo.save(small, tmp_path / "b")
    trained = octavo.train(ALPHABET * 20, base=tmp_path / "b", steps=1, batch=2, context=8)
    assert {str(p.dtype) for p in trained.params.values()} == {"float32"}
    moved = trained.params["lm_head.weight"] - np.asarray(small.params["lm_head.weight"])
    assert 0 < np.abs(moved).max() < 0.1


# ---------------------------------------------------------------- files that lie


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    octavo.save(saved(build("llama", **WIDE), tmp_path / "a", quantize="q8"), tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, metadata: dict[str, str], **changed: Any) -> None:
    """The weights again, with some arrays and metadata in place of their own."""
    path = folder / "model.safetensors"
    size = int.from_bytes(path.read_bytes()[:8], "little")
    told = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
    arrays = {name: array.copy() for name, array in load_file(path).items()} | changed
    save_file(arrays, path, metadata=told | metadata)


def refusal(folder: Path) -> str:
    with pytest.raises(OctavoError) as caught:
        octavo.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    return message


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"blocks.lm_head.weight": "Q9_9"}, "lm_head.weight is in blocks of 'Q9_9'; octavo reads F16"),
        ({"blocks.lm_head.weight": ""}, "is in blocks of ''"),
        ({"blocks.lm_head.weight": "x\ny" * 500}, "is in blocks of 'x\\ny"),
        ({"blocks.nothing": "Q8_0"}, "it tells the blocks of nothing, which is not there"),
        ({"blocks.\n": "Q8_0"}, "the blocks of '\\n'"),
        ({"blocks.lm_head.weight": "Q4_1"}, "is no matrix in blocks of Q4_1, which are 20 bytes each"),
        ({"blocks.lm_head.weight": "F16"}, "has the shape (11, 34), not (11, 64)"),
        ({"blocks.model.norm.weight": "Q8_0"}, "model.norm.weight is no matrix in blocks"),
    ],
    ids=str,
)
def test_metadata_that_lie_are_refused(metadata: dict[str, str], named: str, stored: Path) -> None:
    rewrite(stored, metadata)
    assert named in refusal(stored)


@pytest.mark.parametrize(
    ("shape", "dtype", "named"),
    [
        ((11, 67), np.uint8, "is no matrix in blocks of Q8_0, which are 34 bytes each"),
        ((11, 34), np.uint8, "has the shape (11, 32), not (11, 64)"),
        ((11, 0), np.uint8, "is no matrix"),
        ((11 * 68,), np.uint8, "is no matrix"),
        ((1, 11, 68), np.uint8, "is no matrix"),
        ((11, 68), np.int8, "is no matrix"),
        ((11, 68), np.float32, "is no matrix"),
    ],
    ids=str,
)
def test_bytes_that_are_no_blocks_are_refused(
    shape: tuple[int, ...], dtype: Any, named: str, stored: Path
) -> None:
    rewrite(stored, {}, **{"lm_head.weight": np.zeros(shape, dtype)})
    assert named in refusal(stored)


def test_another_s_quantisation_is_refused(stored: Path) -> None:
    config = json.loads((stored / "config.json").read_text())
    for told in ({"quant_method": "awq"}, {"quant_method": "octavo", "bits": 3}, "octavo", 3):
        (stored / "config.json").write_text(json.dumps(config | {"quantization_config": told}))
        assert "quantization_config" in refusal(stored)


def test_a_damaged_file_is_refused_or_read(stored: Path) -> None:
    path, rng = stored / "model.safetensors", random.Random(0)
    whole, messages = path.read_bytes(), []
    for _ in range(150):
        path.write_bytes(disturbed_safetensors(whole, rng))
        messages.append(outcome(stored))
    assert sum(map(bool, messages)) > 75
    assert not any("\n" in m for m in messages)


def outcome(folder: Path) -> str:
    """What is said against a folder, nothing if it is read."""
    try:
        octavo.load(folder)
    except OctavoError as error:
        return str(error)
    return ""
