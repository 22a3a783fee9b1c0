"""Corpora by name and digest."""

import hashlib
import io
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from octavo import OctavoError
from octavo.corpora import CORPORA, Corpus, cache_folder, corpus, corpus_file, user_cache


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_found_by_name(name: str, corpora: Path) -> None:
    text = corpus(name, cache=corpora)
    entry = CORPORA[name]
    assert hashlib.sha256(text.encode()).hexdigest() == entry.sha256
    assert text == (corpora / entry.file).read_bytes().decode()
    assert len(text) > 5_000
    assert corpus_file(name, cache=corpora) == corpora / entry.file


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A corpus whose whole text is "hello"."""
    digest = hashlib.sha256(b"hello\r\n").hexdigest()
    entry = Corpus("hello.txt", digest, "https://example.org/hello.txt")
    monkeypatch.setitem(CORPORA, "hello", entry)
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
    published: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(b"hello\r\n", monkeypatch)
    for _ in range(2):
        assert corpus("hello", cache=tmp_path / "deep" / "cache") == "hello\r\n"
    assert network.addresses == [published.address]
    assert [p.name for p in (tmp_path / "deep" / "cache").iterdir()] == ["hello.txt"]


def test_another_text_than_the_corpus_is_neither_kept_nor_read(
    published: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Network(b"<html>sign in</html>", monkeypatch)
    with pytest.raises(OctavoError, match="is not the corpus"):
        corpus("hello", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "hello.txt").write_bytes(b"hello\n")
    with pytest.raises(OctavoError, match="is not the corpus"):
        corpus("hello", cache=tmp_path)


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
    error: Exception, published: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Network(error, monkeypatch)
    with pytest.raises(OctavoError, match=r"cannot download .*; put the file at .*hello\.txt"):
        corpus("hello", cache=tmp_path)


def test_a_corpus_that_is_published_nowhere_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match=r"put the course's file at .*styles_train\.txt"):
        corpus("styles-train", cache=tmp_path)


def test_an_unknown_corpus_is_refused() -> None:
    with pytest.raises(OctavoError, match="no corpus is called 'hamlet'; there are tinyshakespeare"):
        corpus("hamlet")


def test_a_cache_that_cannot_be_written_is_an_octavo_error(
    published: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Network(b"hello\r\n", monkeypatch)
    (tmp_path / "file").write_text("")
    with pytest.raises(OctavoError, match="cannot"):
        corpus("hello", cache=tmp_path / "file" / "cache")


def test_the_cache_is_where_the_system_keeps_such_things(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == user_cache() / "corpora" == tmp_path / "octavo" / "corpora"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "octavo" / "corpora"
