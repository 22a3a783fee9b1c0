"""Weights in one safetensors file or several: what is read, and headers and indices that lie."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import octavo
from octavo import OctavoError
from octavo.formats import safetensors

from ..conftest import GOLDEN

INDEX = "model.safetensors.index.json"


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def refusal(function: Callable[[], Any]) -> str:
    with pytest.raises(OctavoError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


# ---------------------------------------------------------------- one file


def test_a_file_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.standard_normal((3, 4)).astype(np.float32),
        "b": rng.standard_normal(5),
        "c": rng.standard_normal((2, 1, 3)).astype(np.float16),
        "empty": np.zeros((0, 7), np.float32),
        "scalar": np.full((), 3, np.float32),
    }
    save_file(arrays, tmp_path / "a.safetensors", metadata={"a": "b"})
    found = safetensors.read(tmp_path / "a.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in load_file(tmp_path / "a.safetensors").items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == (np.float32 if array.dtype == np.float16 else array.dtype)
    assert safetensors.read(tmp_path / "a.safetensors", lambda name: name == "b").keys() == {"b"}


def test_float32_is_a_view_of_the_file_and_half_precision_is_widened_one_array_at_a_time(
    tmp_path: Path, peak_memory: Callable[[Callable[[], Any]], int]
) -> None:
    arrays = {f"{i}": np.ones((250, 500), np.float32) for i in range(8)}  # half a megabyte each
    save_file(arrays, tmp_path / "whole.safetensors")
    assert peak_memory(lambda: safetensors.read(tmp_path / "whole.safetensors")) < 50_000
    save_file({n: a.astype(np.float16) for n, a in arrays.items()}, tmp_path / "half.safetensors")
    assert (
        peak_memory(lambda: safetensors.read(tmp_path / "half.safetensors")) < 8 * 500_000 + 150_000
    )  # and a tile
    data = b"\x80\x3f" * 1_000_000
    write(tmp_path / "b.safetensors", {"w": entry("BF16", (1000, 1000), (0, 2_000_000))}, data)
    (found,) = safetensors.read(tmp_path / "b.safetensors").values()
    assert found.dtype == np.float32
    assert (found == 1).all()


def test_an_array_at_an_odd_place_is_read(tmp_path: Path) -> None:
    header = json.dumps({"w": entry()}).encode()
    path = write(tmp_path / "a", header + b" " * (1 - len(header) % 2), np.float32([1, 2]).tobytes())
    (found,) = safetensors.read(path).values()
    assert found.flags.aligned
    np.testing.assert_array_equal(found, [1, 2])


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ([], "no JSON object"),
        (b"{ ", "Expecting"),
        (b"\xff\xff", "decode"),
        (b'{"w": ' + b"[" * 100_000, "recursion"),
        ({"w": 3}, "does not tell dtype, shape and place of w"),
        ({"w": {"dtype": "F32"}}, "does not tell"),
        ({"w": entry(offsets=(0, 8, 9))}, "does not tell"),
        ({"w": entry(offsets=(8, 0))}, "does not tell"),
        ({"w": entry(offsets=(-8, 0))}, "does not tell"),
        ({"w": entry(shape=(2.0,))}, "does not tell"),
        ({"w": entry(shape=(True, 2))}, "does not tell"),
        ({"w": entry(shape=(-1, -2))}, "does not tell"),
        ({"w": entry(shape=5)}, "does not tell"),
        ({"w": entry(dtype=["F32"])}, "does not tell"),
        ({"w": entry(shape=(3,))}, "w has another size than its shape (3,)"),
        ({"w": entry(shape=(2**40, 2**40))}, "another size"),
        ({"w": entry(offsets=(8, 16))}, "w ends past the end of the file"),
        ({"w": entry(), "v": entry(offsets=(4, 12))}, "overlaps"),
        ({"w": entry(), "v": entry()}, "overlaps"),
        (b'{"w": 1, "w": 2}', "w is told twice"),
        ({"w": entry("I64", (1,))}, "w holds I64, not floating-point numbers"),
        ({"w": entry("F8_E4M3", (8,))}, "w holds F8_E4M3"),
        ({"a\nb": entry("Q", (1,))}, "'a\\nb' holds Q"),
    ],
    ids=str,
)
def test_headers_that_lie_are_refused(header: Any, named: str, tmp_path: Path) -> None:
    path = write(tmp_path / "lying.safetensors", header, bytes(8))
    message = refusal(lambda: safetensors.read(path))
    assert named in message
    assert "lying.safetensors" in message


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, 1000])
def test_the_length_of_a_header_is_not_believed(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"w": entry()}, bytes(8), length)
    assert f"a header of {length} bytes in a file of" in refusal(lambda: safetensors.read(path))


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_files_too_short_for_a_header_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert "not a readable safetensors file" in refusal(lambda: safetensors.read(tmp_path / "a"))


# ---------------------------------------------------------------- several files


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A published folder whose weights are in three files."""
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / "huggingface" / "qwen3", folder)
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + i % 3}-of-00003.safetensors" for i, name in enumerate(arrays)}
    for shard in set(places.values()):
        save_file({n: a for n, a in arrays.items() if places[n] == shard}, folder / shard)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def test_a_model_in_several_files_is_the_model(sharded: Path) -> None:
    whole, parts = octavo.load(GOLDEN / "huggingface" / "qwen3"), octavo.load(sharded)
    assert parts.params.keys() == whole.params.keys()
    for name, array in whole.params.items():
        np.testing.assert_array_equal(parts.params[name], array)


def test_one_file_counts_before_an_index(sharded: Path) -> None:
    shutil.copy(GOLDEN / "huggingface" / "qwen3" / "model.safetensors", sharded)
    (sharded / INDEX).write_text("{")
    assert octavo.load(sharded).model_type == "qwen3"


def change(folder: Path, **places: Any) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] |= places
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    "place",
    ["../model.safetensors", "/etc/passwd", "a\\b.safetensors", "C:a.safetensors", "..", 3, None, "a.bin"],
)
def test_an_index_that_points_outside_its_folder_is_refused(place: Any, sharded: Path) -> None:
    change(sharded, **{"lm_head.weight": place})
    assert "no .safetensors file beside it" in refusal(lambda: octavo.load(sharded))


def test_a_missing_file_and_a_missing_array_are_named(sharded: Path) -> None:
    change(sharded, extra="model-00001-of-00003.safetensors")
    assert "00001-of-00003.safetensors does not hold extra" in refusal(lambda: octavo.load(sharded))
    (sharded / "model-00001-of-00003.safetensors").unlink()
    assert "00001-of-00003.safetensors is missing, which" in refusal(lambda: octavo.load(sharded))


def test_an_array_in_two_files_is_refused(sharded: Path) -> None:
    for shard in sorted(sharded.glob("*.safetensors"))[:2]:
        save_file(load_file(shard) | {"twice": np.zeros(1, np.float32)}, shard)
    assert "holds twice, which another file holds too" in refusal(lambda: octavo.load(sharded))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
def test_a_damaged_index_is_refused(content: str, sharded: Path) -> None:
    (sharded / INDEX).write_text(content)
    assert INDEX in refusal(lambda: octavo.load(sharded))


@pytest.mark.parametrize("step", [1, 2])
def test_every_half_is_widened_to_the_bits_that_numpy_gives_it(step: int) -> None:
    every = np.tile(np.arange(2**16, dtype=np.uint16), (3, 1)).view(np.float16)[:, ::step]
    with np.errstate(invalid="ignore"):  # signalling NaNs
        found, expected = safetensors.widen(every), every.astype(np.float32)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    empty = safetensors.widen(np.zeros((0, 3), np.float16))
    assert (empty.shape, empty.dtype) == ((0, 3), np.float32)
