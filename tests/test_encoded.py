"""Texts of any size as ids: exact, kept by what they are made of, safe from what happens meanwhile."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from octavo import OctavoError, data, encoded, tokenizers
from octavo.encoded import encode
from octavo.idfile import Encoded
from octavo.tokenizers import Tokenizer, patterns, published

from .conftest import begun

LEARNED = "to be, or not to be: that's the question.\n\nWhether 'tis nobler 1234 中中文 é\n" * 3
END, BEGIN = 300, 301  # of a text, in `ENDED` and in `BEGUN`


def trained(pattern: str = patterns.GPT2, special: bool = False) -> published.ByteLevelBPE:
    tok = tokenizers.train_bpe(LEARNED, END, pattern)
    ranks = {token: id for id, token in enumerate(tok.tokens)}
    return tokenizers.from_ranks(ranks, pattern, {"<|endoftext|>": END, "<s>": BEGIN} if special else None)


BPE, ENDED = trained(), trained(special=True)
BEGUN = begun(ENDED, BEGIN)
SPACED = json.loads(json.dumps(ENDED.document))  # one that puts a space before each text
SPACED["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
TOKENIZERS: dict[str, Tokenizer] = {
    "char": tokenizers.char(LEARNED + "\r _x.<|endoftext|>/"),
    "whole": published.from_document(SPACED),
    "begun": BEGUN,
    "begun-and-ended-by-one": begun(ENDED, END),
    "begun-whole": begun(published.from_document(SPACED), BEGIN),
    **{name: trained(pattern, special=True) for pattern, name in patterns.NAMES.items()},
}


def expected(tok: Tokenizer, documents: list[str]) -> list[int]:
    end = [] if tok.end_of_text in (None, *tok.begins_with) else [tok.end_of_text]
    return [id for text in documents if text for id in [*tok.begins_with, *tok.encode(text), *end]]


def write(folder: Path, documents: list[str]) -> list[Path]:
    """Three times the same documents, in files of every kind."""
    folder.mkdir(exist_ok=True)
    rows = "".join(json.dumps({"text": text}) + "\n" for text in documents)
    (folder / "a.jsonl").write_text(rows)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    parquet.write_table(pyarrow.table({"text": documents}), folder / "c.parquet")
    return [folder]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of its own for every test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "user" / "octavo" / "encoded"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder with a text."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text(LEARNED)
    return tmp_path / "texts"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class Watch:
    """Keeps what progress tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def __call__(self, what: str, share: float) -> None:
        self.told.append((what, share))

    @property
    def what(self) -> list[str]:
        return list(dict.fromkeys(what for what, _ in self.told))


# ---------------------------------------------------------------- the ids


@pytest.mark.parametrize("name", TOKENIZERS)
@given(
    documents=st.lists(
        st.lists(
            st.sampled_from([" ", "\n", "to", " be", ".", "\n\n", "é", "中", "'s", "12", "/", "\r"])
        ).map("".join),
        min_size=1,
    ),
    block=st.integers(1, 6),
    batch=st.integers(1, 20),
)
@example(documents=["to\nbe"], block=1, batch=9)
@settings(deadline=None, max_examples=30)
def test_ids_are_those_of_each_document_whole(
    tmp_path_factory: pytest.TempPathFactory, name: str, documents: list[str], block: int, batch: int
) -> None:
    tok, folder = TOKENIZERS[name], tmp_path_factory.getbasetemp() / "whole"
    sources = data.sources(write(folder, ["to be", *documents]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "_BLOCK", block)
        patch.setattr(encoded, "BATCH", batch)
        found = encode(sources, tok)
    assert found.ids.tolist() == expected(tok, ["to be", *documents]) * 3
    assert found.documents == 3 * (1 + sum(map(bool, documents)))
    assert found.bytes == 3 * len("".join(["to be", *documents]).encode())


@pytest.mark.parametrize("processes", [1, 2])
def test_kept_and_in_parallel_they_are_the_same(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [f"{LEARNED} {i}" for i in range(20)]
    sources = data.sources(write(tmp_path / "texts", documents))
    memory = encode(sources, ENDED)
    monkeypatch.setattr(patterns, "_BLOCK", 50)
    monkeypatch.setattr(encoded, "BATCH", 200)
    kept = encode(sources, ENDED, cache=tmp_path / "cache", processes=processes)
    assert isinstance(kept.ids, np.memmap)
    assert memory.path is None
    assert kept.path is not None
    assert kept.path.parent == tmp_path / "cache"
    assert kept.ids.tolist() == memory.ids.tolist() == expected(ENDED, documents) * 3
    assert (kept.documents, kept.bytes, kept.sha256) == (memory.documents, memory.bytes, memory.sha256)


def test_a_plain_text_has_the_ids_it_always_had(corpora: Path) -> None:
    text = (corpora / "tinyshakespeare.txt").read_text()
    for tok in (tokenizers.char(text), tokenizers.train_bpe(text[:50_000], 400)):
        found = encode(data.sources([corpora / "tinyshakespeare.txt"]), tok)
        assert found.ids.tolist() == tok.encode(text)
        assert found.bytes == tokenizers.token_lengths(tok)[found.ids].sum() == len(text.encode())


def test_more_ids_than_16_bits_count(text: Path, tmp_path: Path) -> None:
    tok = tokenizers.char(map(chr, (*range(0xD800), *range(0xE000, 0x12000))))
    found = encode(data.sources([text]), tok, cache=tmp_path / "cache")
    assert found.ids.dtype == np.uint32
    assert found.ids.tolist() == tok.encode(LEARNED)


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    code = """if True:
        import resource, sys
        from octavo import data, encoded, tokenizers
        tokenizer = tokenizers.char(data.blocks(data.sources(["small.txt"])))
        def peak(name):
            encoded.encode(data.sources([name]), tokenizer, cache="cache")
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        before = peak("small.txt")
        print(peak("large.txt") - before)
    """
    (tmp_path / "small.txt").write_text(LEARNED * 25_000)  # 6 MB
    with open(tmp_path / "large.txt", "w") as file:
        for _ in range(5):
            file.write(LEARNED * 25_000)
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert int(ended.stdout) < 8, ended.stderr  # MB, of 24 more


# ---------------------------------------------------------------- the cache


def test_small_texts_leave_no_trace(text: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = encode(data.sources([text]), BPE)
    assert found.path is None
    assert (files(text), files(elsewhere)) == (["a.txt"], [])
    monkeypatch.setattr(encoded, "SMALL", len(LEARNED))
    assert encode(data.sources([text]), BPE).path is None
    monkeypatch.setattr(encoded, "SMALL", len(LEARNED) - 1)
    kept = encode(data.sources([text]), BPE)
    assert kept.path is not None
    assert kept.path.parent == text / ".octavo"
    assert kept.ids.tolist() == found.ids.tolist()
    assert (files(text), files(elsewhere)) == ([".octavo", "a.txt"], [])
    assert [source.path.name for source in data.sources([text])] == ["a.txt"]


def test_what_is_kept_is_found_again(text: Path, tmp_path: Path) -> None:
    watches = [Watch(), Watch()]
    one, two = (
        encode(data.sources([text]), BPE, cache=tmp_path / "cache", progress=watch) for watch in watches
    )
    assert one.ids.tolist() == two.ids.tolist()
    assert one.path == two.path
    assert [watch.what for watch in watches] == [["reading", "encoding"], ["reading", "checking"]]
    assert all(0 <= share <= 1 for watch in watches for _, share in watch.told)
    assert all(watch.told[-1][1] == 1 for watch in watches)


def change_text(text: Path) -> dict[str, Any]:
    state = os.stat(text / "a.txt")
    (text / "a.txt").write_text(LEARNED.replace("t", "T", 1))
    os.utime(text / "a.txt", ns=(state.st_atime_ns, state.st_mtime_ns))
    return {}


def change_kind(text: Path) -> dict[str, Any]:
    os.rename(text / "a.txt", text / "b.text")
    return {"names": [text / "b.text"]}


CHANGES: dict[str, tuple[Callable[[Path], dict[str, Any]], bool]] = {
    "content, with the time of before": (change_text, True),
    "tokenizer": (lambda text: {"tokenizer": ENDED}, True),
    "field": (lambda text: {"field": "story"}, True),
    "kind": (change_kind, True),
    "another file": (lambda text: {"names": [text, text / "a.txt"]}, True),
    "time": (lambda text: os.utime(text / "a.txt", (1, 1)) or {}, False),  # type: ignore[func-returns-value]
    "processes": (lambda text: {"processes": 1}, False),
    "name": (lambda text: {"names": [text.rename(text.parent / "moved")]}, False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_the_ids_depend_on_makes_them_anew(name: str, text: Path, tmp_path: Path) -> None:
    def run(names: list[Path], tokenizer: Tokenizer = BPE, progress: Any = None, **options: Any) -> Encoded:
        sources = data.sources(names)
        return encode(sources, tokenizer, cache=tmp_path / "cache", progress=progress, **options)

    change, anew = CHANGES[name]
    run([text], processes=1)
    watch = Watch()
    run(progress=watch, **({"names": [text], "processes": 1} | change(text)))
    assert ("encoding" in watch.what) == anew


@pytest.mark.parametrize("damage", ["flipped", "truncated", "emptied"])
def test_a_damaged_file_is_made_again(damage: str, text: Path, tmp_path: Path) -> None:
    def run() -> Encoded:
        return encode(data.sources([text]), BPE, cache=tmp_path / "cache", progress=watch)

    watch = Watch()
    path = run().path
    assert path is not None
    whole = path.read_bytes()
    damaged = {"flipped": whole[:-1] + bytes([whole[-1] ^ 1]), "truncated": whole[:-2], "emptied": b""}
    path.write_bytes(damaged[damage])
    watch = Watch()
    assert run().ids.tolist() == expected(BPE, [LEARNED])
    assert "encoding" in watch.what
    assert path.read_bytes() == whole


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make folders of these names as of somebody else's: root may write anywhere."""
    opened, made = open, Path.mkdir

    def refused(path: Any) -> bool:
        return any(name in Path(path).parts for name in names)

    def mkdir(self: Path, *args: Any, **options: Any) -> None:
        if refused(self):
            raise PermissionError(13, "Permission denied")
        made(self, *args, **options)

    def open_(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if mode != "rb" and refused(path):
            raise PermissionError(13, "Permission denied")
        return opened(path, mode, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr("builtins.open", open_)


def test_a_folder_that_cannot_be_written_to(
    text: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "SMALL", 0)
    beside = encode(data.sources([text]), BPE)
    forbid(monkeypatch, ".octavo")
    watch = Watch()
    assert encode(data.sources([text]), BPE, progress=watch).path == beside.path  # which can be read
    assert "encoding" not in watch.what
    found = encode(data.sources([text]), ENDED)
    assert found.path is not None
    assert found.path.parent == elsewhere
    assert found.ids.tolist() == expected(ENDED, [LEARNED])
    assert encode(data.sources([text]), ENDED, progress=watch).path == found.path
    assert "encoding" not in watch.what
    forbid(monkeypatch, ".octavo", "user")
    with pytest.raises(OctavoError, match=r"cannot be kept in .*encoded: Permission denied; name another"):
        encode(data.sources([text]), tokenizers.char(LEARNED))


def test_a_corpus_by_name_is_kept_in_the_users_cache(
    text: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "SMALL", 0)
    found = encode([data.Source(text / "a.txt")], BPE)  # as `sources` says of a corpus
    assert found.path is not None
    assert found.path.parent == elsewhere


# ---------------------------------------------------------------- what happens meanwhile


def test_two_at_once_do_each_other_no_harm(text: Path, tmp_path: Path) -> None:
    inner: list[Encoded] = []

    def again(what: str, share: float) -> None:
        if what == "encoding":
            inner.append(encode(data.sources([text]), BPE, cache=tmp_path / "cache"))

    outer = encode(data.sources([text]), BPE, cache=tmp_path / "cache", progress=again)
    assert outer.path == inner[0].path
    assert outer.ids.tolist() == inner[0].ids.tolist() == expected(BPE, [LEARNED])
    assert len(files(tmp_path / "cache")) == 1


def test_a_killed_encoding_is_tidied_up_by_the_next(text: Path, tmp_path: Path) -> None:
    code = """if True:
        import time
        from octavo import data, encoded, tokenizers
        def halt(what, share):
            if what == "encoding":
                print(what, flush=True)
                time.sleep(600)
        sources = data.sources(["texts"])
        encoded.encode(sources, tokenizers.char(data.blocks(sources)), cache="cache", progress=halt)
    """
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"encoding\n"
        assert [name.rpartition(".")[2] for name in files(tmp_path / "cache")] == ["partial"]
        encode(data.sources([text]), BPE, cache=tmp_path / "cache")  # leaves alone what is being written
        assert len(files(tmp_path / "cache")) == 2
        process.send_signal(signal.SIGKILL)
    tok = tokenizers.char(LEARNED)
    assert encode(data.sources([text]), tok, cache=tmp_path / "cache").ids.tolist() == tok.encode(LEARNED)
    assert [name.rpartition(".")[2] for name in files(tmp_path / "cache")] == ["ids", "ids"]


def test_a_text_that_changes_meanwhile_is_refused(text: Path, tmp_path: Path) -> None:
    def write(what: str, share: float) -> None:
        if what == "encoding":
            (text / "a.txt").write_text("more" + LEARNED)

    with pytest.raises(OctavoError, match="a file changed while it was encoded"):
        encode(data.sources([text]), BPE, cache=tmp_path / "cache", progress=write)
    assert files(tmp_path / "cache") == []


def test_a_full_disk_is_said_and_leaves_nothing(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("octavo.idfile.Writer.add", full)
    with pytest.raises(OctavoError, match=r"cannot write .*\.ids: No space left on device"):
        encode(data.sources([text]), BPE, cache=tmp_path / "cache")
    assert files(tmp_path / "cache") == []


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("cache", [False, True])
def test_what_cannot_be_encoded(cache: bool, tmp_path: Path) -> None:
    folder = tmp_path / "cache" if cache else None
    (tmp_path / "a.txt").write_text("abc" * 10)
    (tmp_path / "b.txt").write_text("abz")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bad.txt").write_bytes(b"a\xff")
    tok = tokenizers.char("abc")
    for name, message in (
        ("[ab].txt", r"/b\.txt: unknown character 'z' \(U\+007A\): it is not among the 3 characters"),
        ("empty.txt", r"there is no text in .*empty\.txt"),
        ("bad.txt", r"bad\.txt is not UTF-8 text: byte 1"),
    ):
        with pytest.raises(OctavoError, match=message):
            encode(data.sources([tmp_path / name]), tok, cache=folder)
        assert files(tmp_path / "cache") == []
    with pytest.raises(OctavoError, match="no text in nothing"):
        encode([], tok, cache=folder)
    with pytest.raises(OctavoError, match=r"none\.txt cannot be read: No such file"):
        encode([data.Source(tmp_path / "none.txt")], tok, cache=folder)
    with pytest.raises(OctavoError, match="at least 1, not 0"):
        encode(data.sources([tmp_path / "a.txt"]), tok, cache=folder, processes=0)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OctavoError, match=r"pipe is a pipe or a device: write what it gives to a file"):
        encode(data.sources([tmp_path / "pipe"]), tok, cache=folder)


def test_a_file_that_vanishes_or_may_not_be_read(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = data.sources([text])
    forbid_reading(monkeypatch)
    with pytest.raises(OctavoError, match=r"a\.txt cannot be read: Permission denied"):
        encode(sources, BPE, cache=tmp_path / "cache")


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open

    def open_(path: Any, *args: Any, **options: Any) -> Any:
        if Path(path).name == "a.txt":
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)

    monkeypatch.setattr("builtins.open", open_)
