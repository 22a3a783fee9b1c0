"""Texts: files, corpora by name and digest, windows."""

import hashlib
import io
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo import OctavoError, data

# ---------------------------------------------------------------- corpora


@pytest.mark.parametrize("name", data.CORPORA)
def test_a_corpus_is_found_by_name(name: str, corpora: Path) -> None:
    text = data.corpus(name, cache=corpora)
    entry = data.CORPORA[name]
    assert hashlib.sha256(text.encode()).hexdigest() == entry.sha256
    assert text == (corpora / entry.file).read_bytes().decode()
    assert len(text) > 5_000


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> data.Corpus:
    """A corpus whose whole text is "hello"."""
    digest = hashlib.sha256(b"hello\r\n").hexdigest()
    entry = data.Corpus("hello.txt", digest, "https://example.org/hello.txt")
    monkeypatch.setitem(data.CORPORA, "hello", entry)
    return entry


class Network:
    """Stands for `urllib.request.urlopen`; serves bytes or raises."""

    def __init__(self, answer: bytes | Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer, self.addresses = answer, []  # type: ignore[var-annotated]
        monkeypatch.setattr(urllib.request, "urlopen", self)

    def __call__(self, address: str, timeout: float) -> Any:
        self.addresses.append(address)
        if isinstance(self.answer, Exception):
            raise self.answer
        return io.BytesIO(self.answer)


def test_a_corpus_is_downloaded_once(
    published: data.Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(b"hello\r\n", monkeypatch)
    for _ in range(2):
        assert data.corpus("hello", cache=tmp_path / "deep" / "cache") == "hello\r\n"
    assert network.addresses == [published.address]
    assert [p.name for p in (tmp_path / "deep" / "cache").iterdir()] == ["hello.txt"]


def test_another_text_than_the_corpus_is_neither_kept_nor_read(
    published: data.Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Network(b"<html>sign in</html>", monkeypatch)
    with pytest.raises(OctavoError, match="is not the corpus"):
        data.corpus("hello", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "hello.txt").write_bytes(b"hello\n")
    with pytest.raises(OctavoError, match="is not the corpus"):
        data.corpus("hello", cache=tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route"),
        urllib.error.HTTPError("https://example.org", 404, "Not Found", None, None),  # type: ignore[arg-type]
        TimeoutError("timed out"),
        ConnectionResetError("reset"),
    ],
)
def test_without_a_network_the_place_for_the_file_is_named(
    error: Exception, published: data.Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Network(error, monkeypatch)
    with pytest.raises(OctavoError, match=r"cannot download .*; put the file at .*hello\.txt"):
        data.corpus("hello", cache=tmp_path)


def test_a_corpus_that_is_published_nowhere_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match=r"put the course's file at .*styles_train\.txt"):
        data.corpus("styles-train", cache=tmp_path)


def test_an_unknown_corpus_is_refused() -> None:
    with pytest.raises(OctavoError, match="no corpus is called 'hamlet'; there are tinyshakespeare"):
        data.corpus("hamlet")


def test_a_cache_that_cannot_be_written_is_an_octavo_error(
    published: data.Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Network(b"hello\r\n", monkeypatch)
    (tmp_path / "file").write_text("")
    with pytest.raises(OctavoError, match="cannot"):
        data.corpus("hello", cache=tmp_path / "file" / "cache")


def test_the_cache_is_where_the_system_keeps_such_things(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data.cache_folder() == tmp_path / "octavo" / "corpora"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.cache_folder() == tmp_path / ".cache" / "octavo" / "corpora"


# ---------------------------------------------------------------- files


def test_files_are_read_one_after_the_other_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("é\r\n".encode())
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "c").write_bytes(b"z")
    assert data.read_text([tmp_path / "a", str(tmp_path / "b"), tmp_path / "c"]) == "é\r\nz"


def test_a_corpus_may_stand_among_files(
    published: data.Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Network(b"hello\r\n", monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert data.read_text(["hello"]) == "hello\r\n"
    (tmp_path / "hello").write_text("mine")
    assert data.read_text(["hello"]) == "mine"


@pytest.mark.parametrize(
    ("content", "named"), [(b"", "no text in"), (b"ab\xff", "byte 2 cannot be decoded"), (None, "no file")]
)
def test_files_without_text_are_refused(content: bytes | None, named: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OctavoError, match=named) as caught:
        data.read_text([path])
    assert "text.txt" in str(caught.value)


def test_folders_and_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match="cannot be read"):
        data.read_text([tmp_path])
    with pytest.raises(OctavoError, match="no text in nothing"):
        data.read_text([])
    with pytest.raises(OctavoError, match="cannot be read"):
        data.read_text(["a" * 5000])


# ---------------------------------------------------------------- windows


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 5))
def test_random_windows_are_a_pure_function_of_seed_and_step(
    seed: int, step: int, context: int, batch: int
) -> None:
    ids = np.arange(31)
    windows = data.random_windows(ids, batch, context, seed, step)
    assert windows.shape == (batch, context + 1)
    assert (np.diff(windows) == 1).all()
    assert windows.min() >= 0
    assert windows.max() <= 30
    np.testing.assert_array_equal(windows, data.random_windows(ids, batch, context, seed, step))


def test_random_windows_reach_both_ends() -> None:
    windows = data.random_windows(np.arange(10), 500, 4, 0, 0)
    assert set(windows[:, 0]) == set(range(6))
    assert (data.random_windows(np.arange(5), 3, 4, 0, 0) == np.arange(5)).all()
    assert not np.array_equal(windows, data.random_windows(np.arange(10), 500, 4, 0, 1))
    assert not np.array_equal(windows, data.random_windows(np.arange(10), 500, 4, 1, 0))


@given(st.integers(1, 50), st.integers(1, 20))
def test_disjoint_windows_predict_every_id_once(length: int, context: int) -> None:
    windows = data.disjoint_windows(np.arange(length), context)
    assert windows.shape == ((length - 1) // context, context + 1)
    np.testing.assert_array_equal(windows[:, 1:].ravel(), np.arange(1, len(windows) * context + 1))
