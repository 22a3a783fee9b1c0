"""Weights in panels: the numbers of every format, to the bit, and every layout there is a product for."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.blocks import FORMATS
from octavo.fast import code, frame
from octavo.fast.packed import KINDS, LANES, OF_FORMAT, Room, address, pack
from octavo.quant import Quantized


def blocks_of(name: str, rows: int, blocks: int, seed: int = 0) -> Quantized:
    """A matrix of random blocks whose numbers are of a size that occurs."""
    format, rng = FORMATS[name], np.random.default_rng(seed)
    made = np.frombuffer(rng.bytes(rows * blocks * format.record.itemsize), format.record).copy()
    for field in ("d", "m", "x"):
        if field in format.record.names:
            numbers = rng.normal(0, 0.05, made[field].shape)
            if name == "BF16":
                made[field] = numbers.astype(np.float32).view(np.uint32) >> 16
            else:
                made[field] = numbers
    return Quantized(made.reshape(rows, blocks), format)


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_laid_out_exactly(name: str, halves: bool) -> None:
    items = FORMATS[name].items
    weight = blocks_of(name, 71, 70 if items == 1 else 3)
    packed = pack(weight, halves)
    assert packed.kind in KINDS
    assert packed.panels.shape[0] == -(-71 // LANES)
    np.testing.assert_array_equal(packed.numbers(), np.asarray(weight))


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("name", [*FORMATS, "float32", "float16"])
def test_a_row_is_widened_to_its_numbers(name: str, halves: bool) -> None:
    if name in FORMATS:
        weight: Any = blocks_of(name, 71, 70 if FORMATS[name].items == 1 else 3)
    else:
        weight = np.random.default_rng(1).normal(size=(71, 70)).astype(name)
    packed = pack(weight, halves)
    blocks = packed.panels.shape[1]
    found = np.full(blocks * packed.kind.group, np.nan, np.float32)
    told = np.array([address(packed.panels), blocks, address(found)])
    widen = code.function(frame.widen(KINDS.index(packed.kind)))
    for row in range(71):
        widen(address(told), row, 0)
        np.testing.assert_array_equal(found[: packed.width], np.asarray(weight)[row])
        assert not found[packed.width :].any()


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (33, 31), (64, 100), (5, 576)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_floats_are_laid_out_exactly(shape: tuple[int, int], dtype: str) -> None:
    weight: Any = np.random.default_rng(1).normal(size=shape).astype(dtype)
    packed = pack(weight)
    assert packed.kind.bits == dtype
    np.testing.assert_array_equal(packed.numbers(), weight)
    np.testing.assert_array_equal(pack(np.asfortranarray(weight)).numbers(), weight)
    filled = packed._replace(rows=packed.panels.shape[0] * LANES, width=packed.panels.shape[1] * 32).numbers()
    assert not filled[shape[0] :].any()
    assert not filled[:, shape[1] :].any()


def test_five_bits_and_less_cost_what_the_page_says() -> None:
    sizes = {name: OF_FORMAT[name].size * 8 / LANES / OF_FORMAT[name].group for name in FORMATS}
    assert sizes == {
        "F16": 16,
        "BF16": 16,
        "Q8_0": 8.5,
        "Q4_0": 4.5,
        "Q4_1": 5,
        "Q5_0": 8.5,
        "Q5_1": 9,
        "Q2_K": 8,
        "Q3_K": 10,
        "Q4_K": 6,
        "Q5_K": 10,
        "Q6_K": 10,
    }


def resident(path: Path) -> int:
    """How much of a file this process has in memory, in kilobytes; 0 where the system does not tell."""
    maps, found, inside = Path("/proc/self/smaps"), 0, False
    for line in maps.read_text().splitlines() if maps.exists() else []:
        first, *rest = line.split()
        inside = str(path) in rest if not first.endswith(":") else inside
        found += int(rest[0]) if inside and first == "Rss:" else 0
    return found


def test_a_mapped_matrix_is_read_again_after_it_was_laid_out(tmp_path: Path) -> None:
    weight = blocks_of("Q4_1", 640, 64)
    path = tmp_path / "blocks"
    path.write_bytes(b"12345678" + weight.blocks.tobytes())
    mapped = np.asarray(np.memmap(path, np.uint8, "r"))[8:].view(weight.blocks.dtype).reshape(640, 64)
    packed = pack(Quantized(mapped, weight.format))
    assert resident(path) == 0
    np.testing.assert_array_equal(packed.numbers(), np.asarray(weight))
    np.testing.assert_array_equal(mapped, weight.blocks)
    assert resident(path) > 0 or sys.platform != "linux"


def test_what_waits_to_be_laid_out_stays_until_then() -> None:
    room, weight = Room(2), blocks_of("F16", 640, 640)
    widened = pack(weight, False, room)  # of numbers that nobody else has
    plain = pack(np.random.default_rng(2).normal(size=(96, 64)).astype(np.float32), True, room)
    assert not widened.panels.view(np.uint8).any()
    others = [np.full((640, 640), np.nan, np.float32) for _ in range(4)]
    room.fill()
    np.testing.assert_array_equal(widened.numbers(), np.asarray(weight))
    assert plain.numbers().any()
    assert len(others) == 4
