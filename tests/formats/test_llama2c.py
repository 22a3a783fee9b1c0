"""llama2.c's files: the numbers of PyTorch for every version, and headers that lie."""

import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo import OctavoError

from .damage import EDITS, damaged
from .test_nanogpt import FOLDER, expected, refusal

NAMES = ["first", "first-untied", "float32", "float32-tied", "int8"]
FILES = {name: (FOLDER / f"{name}.bin").read_bytes() for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_computes_what_torch_does(name: str) -> None:
    model = octavo.load(FOLDER / f"{name}.bin", model_type="llama")
    numbers = expected()
    logits, _ = model.forward(numbers["ids"])
    np.testing.assert_allclose(logits, numbers[name], atol=1e-5)
    assert model.config.tie_word_embeddings == (name in ("first", "float32-tied"))
    assert model.config.context == 16


def test_floats_are_mapped_and_a_folder_says_the_same(tmp_path: Path) -> None:
    model = octavo.load(FOLDER / "float32.bin")
    assert not model.params["model.layers.0.mlp.up_proj.weight"].flags.owndata
    octavo.save(model, tmp_path / "model")
    again = octavo.load(tmp_path / "model").forward(expected()["ids"])[0]
    np.testing.assert_allclose(again, expected()["float32"], atol=1e-5)


def test_what_the_file_does_not_tell_may_be_said() -> None:
    assert octavo.load(FOLDER / "float32.bin", rope_theta=500.0).config.rope_theta == 500.0
    assert "contradicts" in refusal(FOLDER / "float32.bin", hidden_size=8)


HEADER = struct.Struct("<7i")


@pytest.mark.parametrize(
    ("name", "at", "value", "named"),
    [
        ("float32", 4, 3, "version 3"),
        ("float32", 4, -1, "version -1"),
        ("float32", 8, 0, "hidden_size 0"),
        ("float32", 12, 2**31 - 1, "intermediate_size 2147483647"),
        ("float32", 16, 999, "bytes where its header asks"),
        ("float32", 16, 2000, "num_hidden_layers 2000"),
        ("float32", 20, 3, "do not go together"),
        ("float32", 24, 3, "do not go together"),
        ("float32", 28, -11, "vocab_size -11"),
        ("float32", 28, 0, "vocab_size 0"),
        ("int8", 37, 0, "bytes where its header asks"),
        ("int8", 37, -8, "groups of -8"),
        ("int8", 37, 7, "groups of 7"),
        ("first", 0, 32, "no model that octavo reads"),
        ("first", 20, -11, "no model that octavo reads"),
    ],
)
def test_headers_that_lie(name: str, at: int, value: int, named: str, tmp_path: Path) -> None:
    data = bytearray(FILES[name])
    struct.pack_into("<i", data, at, value)
    (tmp_path / "a.bin").write_bytes(data)
    message = refusal(tmp_path / "a.bin")
    assert named in message
    assert "a.bin" in message


@pytest.mark.parametrize("keep", [0, 4, 20, 27, 28, 100, 255, 256, 3000, -1])
@pytest.mark.parametrize("name", ["first", "float32", "int8"])
def test_a_truncated_file_is_refused(name: str, keep: int, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(FILES[name][:keep])
    assert "a.bin" in refusal(tmp_path / "a.bin")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(FILES["float32"][:-4] + struct.pack("<f", np.nan))
    assert "lm_head.weight holds values that are NaN" in refusal(tmp_path / "a.bin")


@given(st.sampled_from(NAMES), EDITS)
@settings(max_examples=200, deadline=None)
def test_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(damaged(FILES[name], edits))
    message, began = "", time.process_time()
    try:
        model: Any = octavo.load(path)
        with np.errstate(all="ignore"):
            model.forward(np.array([1, 2]) % model.vocab_size)
    except OctavoError as error:
        message = str(error)
    assert "\n" not in message
    assert time.process_time() - began < 2
