"""Windows of a text: which a step learns from, and which measure."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo import batches
from octavo.batches import HeldOut


def test_a_batch_is_a_function_of_the_seed_and_the_step() -> None:
    def starts(seed: int, step: int) -> bytes:
        return batches.window_starts(1000, 4, 8, seed, step).tobytes()

    steps = list(range(1, 90))
    forwards = [starts(0, step) for step in steps]
    assert [starts(0, step) for step in reversed(steps)] == forwards[::-1]
    assert len({starts(seed, step) for seed in range(3) for step in range(1, 21)}) == 60


@given(st.integers(2, 300), st.integers(1, 40), st.integers(0, 9))
def test_windows_lie_within_the_text(length: int, context: int, step: int) -> None:
    if length <= context:
        return
    starts = batches.window_starts(length, 5, context, 0, step + 1)
    assert starts.min() >= 0
    assert starts.max() + context < length


def test_every_place_of_the_text_is_learned_from() -> None:
    seen = np.concatenate([batches.window_starts(20, 8, 4, 0, step) for step in range(1, 100)])
    assert set(seen) == set(range(16))


@given(st.integers(2, 400), st.integers(1, 9), st.integers(1, 9))
def test_an_epoch_reads_no_token_twice(length: int, context: int, batch: int) -> None:
    if length <= context:
        return
    count = max((length - context) // context, 1)
    steps = range(1, -(-2 * count // batch) + 1)
    starts = np.concatenate([batches.window_starts(length, batch, context, 0, step) for step in steps])
    for epoch in (starts[:count], starts[count : 2 * count]):
        read = (np.sort(epoch)[:, None] + np.arange(context)).ravel()
        assert len(set(read)) == len(read) > length - 3 * context


def test_windows_of_a_file_are_read_one_by_one(tmp_path: Path) -> None:
    ids = np.arange(1000, dtype=np.uint16)
    ids.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", np.uint16, "r")
    starts = np.array([[0, 500], [7, 990]])
    found = batches.windows(mapped, starts, 5)
    assert type(found) is np.ndarray
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, starts[..., None] + np.arange(6))


def test_windows_of_a_file_larger_than_memory(tmp_path: Path) -> None:
    length = 10**11  # with a hole: who read it all would take a minute, and the memory of ten machines
    with open(tmp_path / "ids", "wb") as file:
        file.truncate(2 * length)
        file.seek(2 * length - 6)
        file.write(np.arange(3, dtype="<u2").tobytes())
    ids = np.memmap(tmp_path / "ids", "<u2", "r")
    assert batches.windows(ids, np.array([0, 10**10, 7, 5]), 8).shape == (4, 9)
    end = np.array([length - 5])
    assert batches.windows(ids, end, 4).tolist() == [[0, 0, 0, 1, 2]]


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 9))
def test_every_held_out_token_but_the_first_counts_once(length: int, context: int, size: int) -> None:
    text = HeldOut(np.arange(length), context, np.ones(60))
    counted = [
        int(id)
        for windows, counts in text.batches(size)
        for window, counting in zip(windows, counts, strict=True)
        for id in window[1:][counting]
    ]
    assert counted == list(range(1, length))
    assert text.tokens == max(length - 1, 0)
    for windows, counts in text.batches(size):
        assert windows.shape == (size, text.context + 1)
        assert counts.shape == (size, text.context)


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 9), st.integers(1, 4))
def test_what_begins_a_document_is_read_and_never_counts(ids: list[int], context: int, size: int) -> None:
    text = HeldOut(np.array(ids, np.int32), context, np.arange(6.0), uncounted=[4, 5])
    counted = [int(id) for w, counts in text.batches(size) for id in w[:, 1:][counts]]
    assert counted == [id for id in ids[1:] if id < 4]
    assert text.tokens == len(counted)
    assert {int(id) for windows, _ in text.batches(size) for id in windows[:, 0]} <= {*ids}


def test_a_sample_is_spread_over_whole_windows() -> None:
    text = HeldOut(np.arange(1003), 10, np.ones(1003))
    starts = text.sample(100)
    np.testing.assert_array_equal(starts, np.linspace(0, 99, 10).astype(int) * 10)
    np.testing.assert_array_equal(text.sample(10**6), text.starts)
    assert len(text.sample(1)) == 1


def test_bits_per_byte_count_the_bytes_of_what_is_predicted() -> None:
    lengths = np.array([1.0, 2.0, 4.0])
    text = HeldOut(np.array([2, 0, 1, 1]), 2, lengths)
    assert text.bytes == 5
    assert text.bits_per_byte(2 * np.log(2)) == pytest.approx(3 * 2 / 5)
