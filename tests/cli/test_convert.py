"""`octavo convert`: sources told apart, and a folder that loads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import models
from octavo.cli.convert import tell_apart
from octavo.model import Model


@pytest.fixture
def archive(run: Any) -> Path:
    """The weights of the model `plain` as the course hands them out."""
    np.savez("weights.npz", **octavo.load("shelf/plain").params)
    return Path("weights.npz")


@pytest.mark.parametrize("order", [1, -1])
def test_an_archive_and_its_tokenizer(run: Any, narrow: Any, archive: Path, order: int) -> None:
    sources = [str(archive), "shelf/plain/tokenizer.json"][::order]
    out = run("convert", *sources, "--set", "n_heads=2", "--set", "context=16", "--out", "new").stdout
    narrow(out)
    assert "wrote new: plain" in out
    assert "model.safetensors" in out
    same = octavo.load("shelf/plain")
    assert octavo.load("new").config == same.config
    assert octavo.generate(octavo.load("new"), "It", limit=5, seed=0) == octavo.generate(
        same, "It", limit=5, seed=0
    )


def test_a_folder_named_like_a_shipped_model_is_said_so_that_it_is_found(run: Any) -> None:
    assert "octavo generate --model ./bard" in run("convert", "shelf/gru", "--out", "bard").stdout


def test_half_precision_and_json(run: Any) -> None:
    found = json.loads(run("convert", "shelf/gru", "--dtype", "float16", "-o", "half", "--json").stdout)
    assert found["files"]["model.safetensors"] < Path("shelf/gru/model.safetensors").stat().st_size
    assert set(found) == {"out", "model_type", "parameters", "files"}
    assert found["parameters"] == octavo.load("half").count()


def precisions(path: str) -> set[str]:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return {str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118 - no mapping


def test_half_precision_stays_what_it_was(run: Any) -> None:
    run("convert", "shelf/gru", "--dtype", "float16", "-o", "half")
    run("convert", "half", "-o", "again")
    run("convert", "half", "--dtype", "float32", "-o", "wide")
    run("convert", "shelf/gru", "-o", "own")
    stored = {name: precisions(f"{name}/model.safetensors") for name in ("again", "wide", "own")}
    assert stored == {"again": {"float16"}, "wide": {"float32"}, "own": {"float32"}}
    model = octavo.load("wide")
    name, weight = next(iter(model.params.items()))
    octavo.save(model.with_params({**model.params, name: weight + np.float32(1e-6)}), "mixed")
    run("convert", "mixed", "-o", "whole")  # numbers that are no halves, and all stay as they are
    assert precisions("whole/model.safetensors") == {"float32"}


def test_the_characters_of_texts(run: Any) -> None:
    run("convert", "shelf/gru", "--chars", "shelf/text.txt", "-o", "new")
    assert octavo.load("new").tokenizer == octavo.load("shelf/gru").tokenizer


def test_sources_are_told_apart_by_content(tmp_path: Path) -> None:
    def file(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    architecture = file("RNN.json", b'{"class_name": "Sequential", "config": {}}')
    weights = file("RNN.h5", b"\x89HDF\r\n\x1a\n")
    tokenizer = file("vocab.json", b'{"version": "1.0", "model": {"type": "BPE"}}')
    pickle = file("bpe.pkl", b"\x80\x04.")
    found = tell_apart([weights, tokenizer, architecture])
    assert found == {"model": [architecture], "weights": [weights], "tokenizer": [tokenizer]}
    assert tell_apart([weights, pickle]) == {"model": [weights], "weights": [], "tokenizer": [pickle]}
    assert tell_apart(["bard"])["model"] == ["bard"]


def test_what_is_refused(refused: Any, archive: Path) -> None:
    tokenizer = "shelf/plain/tokenizer.json"
    assert "exists already" in refused("convert", "shelf/gru", "-o", "shelf/plain")
    assert "expected one model" in refused("convert", "shelf/gru", "shelf/plain", "-o", "new")
    assert "expected one tokenizer" in refused(
        "convert", str(archive), tokenizer, "--tokenizer", tokenizer, "-o", "new"
    )
    assert "none of the sources is a model" in refused("convert", tokenizer, "-o", "new")
    assert "float8" in refused("convert", "shelf/gru", "--dtype", "float8", "-o", "new")
    assert not Path("new").exists()


def test_gguf_and_back(run: Any, refused: Any) -> None:
    config = models.configure("llama", {"vocab_size": 11, "hidden_size": 32, "intermediate_size": 32})
    params = models.initial_params("llama", config, np.random.default_rng(0))
    octavo.save(Model("llama", config, params, octavo.tokenizers.char("abcdefghijk")), "own")
    octavo.save(octavo.load("own"), "half", dtype="float16")
    run("convert", "half", "-o", "half.gguf")
    shown = json.loads(run("show", "half.gguf", "--json").stdout)
    assert {p["dtype"] for p in shown["parameters"] if len(p["shape"]) == 2} == {"F16"}
    found = json.loads(run("convert", "own", "--dtype", "q8_0", "-o", "small.gguf", "--json").stdout)
    assert found["files"] == {"small.gguf": Path("small.gguf").stat().st_size}
    shown = json.loads(run("show", "small.gguf", "--json").stdout)
    assert {p["dtype"] for p in shown["parameters"] if len(p["shape"]) == 2} == {"Q8_0"}
    assert shown["bytes"] < sum(4 * p["count"] for p in shown["parameters"]) / 3
    assert "octavo generate --model small.gguf" in run("convert", "own", "-o", "small2.gguf").stdout.replace(
        "small2", "small"
    )
    run("convert", "small.gguf", "--dtype", "float32", "-o", "back")
    wide, small = octavo.load("back"), octavo.load("small.gguf")
    assert wide.tokenizer == small.tokenizer is not None
    assert octavo.generate(wide, "ab", limit=9, temperature=0) == octavo.generate(
        small, "ab", limit=9, temperature=0
    )
    assert "exists already" in refused("convert", "own", "-o", "small.gguf")
    for name in ("gru.gguf", "gru.GGUF"):
        assert "no architecture gru" in refused("convert", "shelf/gru", "-o", name)
    for dtype in ("Q4_0", "BF16"):
        said = refused("convert", "own", "--dtype", dtype, "-o", "folder")
        assert f"--dtype {dtype} is for a GGUF file, --out NAME.gguf; a folder holds float16 or" in said
        assert "float64" not in said
        assert "--quantize q8 or q4" in said


def test_quantised(run: Any, refused: Any) -> None:
    config = models.configure("llama", {"vocab_size": 11, "hidden_size": 32, "intermediate_size": 32})
    params = models.initial_params("llama", config, np.random.default_rng(0))
    octavo.save(Model("llama", config, params, octavo.tokenizers.char("abcdefghijk")), "own")
    assert (
        "its blocks are octavo's to read" in run("convert", "own", "--quantize", "q4", "-o", "small").stdout
    )
    run("convert", "own", "--quantize", "Q8", "-o", "small.gguf")
    for name, expected in (("small", {"Q4_1", "Q8_0"}), ("small.gguf", {"Q8_0"})):
        shown = json.loads(run("show", name, "--json").stdout)["parameters"]
        assert {p["dtype"] for p in shown if len(p["shape"]) == 2} == expected
    assert "its blocks" not in run("convert", "small", "--dtype", "float32", "-o", "back").stdout
    assert "say --dtype or --quantize" in refused(
        "convert", "own", "--quantize", "q8", "--dtype", "F16", "-o", "x.gguf"
    )
    assert "no matrix of this gru model" in refused("convert", "shelf/gru", "--quantize", "q8", "-o", "new")
    assert not Path("new").exists()
