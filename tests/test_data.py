"""What names stand for, documents, and windows."""

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import OctavoError, data
from octavo.tokenizers import patterns

# ---------------------------------------------------------------- names


def write(folder: Path, **files: str | bytes) -> None:
    """Files of a folder; `__` is a folder in the name, `_` the dot of its suffix."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def found(*names: str | Path) -> list[str]:
    return [source.path.as_posix() for source in data.sources(names)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that one stands in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_stands_for_the_texts_in_it_and_below(here: Path) -> None:
    write(here, d__b_txt="b", d__a_JSONL="", d__c_md="c", d__z__a_parquet_gz=b"", d__y_txt_GZ=b"", d__n="")
    write(here, d__x__deep__e_txt="")
    (here / "d" / ".octavo").mkdir()
    (here / "d" / ".octavo" / "no.txt").write_text("no")
    (here / "d" / ".no.txt").write_text("no")
    os.symlink(here / "d", here / "d" / "loop")
    texts = ["d/a.JSONL", "d/b.txt", "d/x/deep/e.txt", "d/y.txt.GZ", "d/z/a.parquet.gz"]
    assert found("d") == texts
    assert {source.home for source in data.sources(["d"])} == {Path("d")}
    assert found("d/c.md", Path("d/x")) == ["d/c.md", "d/x/deep/e.txt"]


def test_a_pattern_stands_for_the_files_that_match(here: Path) -> None:
    write(here, a1_txt="", a2_txt="", b1_txt="", d__a3_txt="", d__a4_log="")
    assert found("a?.txt") == ["a1.txt", "a2.txt"]
    assert found("*/a*") == ["d/a3.txt", "d/a4.log"]
    assert found("**/*3.txt", "b*") == ["d/a3.txt", "b1.txt"]
    write(here, **{"[x]_txt": ""})
    assert found("[x].txt") == ["[x].txt"]  # a file of that name comes before what it matches


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.txt", "there is no file none.txt, and no corpus of that name"),
        ("a.txt/b", "there is no file a.txt/b"),
        ("*.csv", r"there is no file that \*.csv matches"),
        ("empty", r"empty cannot be read: there is no file in it that ends in .txt, .jsonl, .parquet"),
        ("a" * 5000, "cannot be read: File name too long"),
        ("a\0b", "cannot be read: embedded null"),
    ],
)
def test_names_that_stand_for_nothing(name: str, message: str, here: Path) -> None:
    write(here, a_txt="a", empty__x_log="")
    with pytest.raises(OctavoError, match=message):
        data.sources([name])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_refused_unread(here: Path) -> None:
    os.mkfifo("pipe.txt")
    for name in ("pipe.txt", os.devnull):
        with pytest.raises(OctavoError, match=f"{name} is a pipe or a device: write what it gives to a file"):
            data.sources([name])


def test_a_folder_that_cannot_be_opened(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, d__a_txt="a")

    def scandir(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", "d/x")

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OctavoError, match="d/x cannot be read: Permission denied"):
        data.sources(["d"])


def test_a_corpus_may_stand_among_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(b"hello\r\n").hexdigest()
    monkeypatch.setitem(data.CORPORA, "hello", data.Corpus("hello.txt", digest, None))
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    write(here, cache__octavo__corpora__hello_txt="hello\r\n")
    assert data.read_text(["hello"]) == "hello\r\n"
    assert data.sources(["hello"])[0].home is None
    write(here, hello="mine")
    assert data.read_text(["hello"]) == "mine"


# ---------------------------------------------------------------- texts


def test_files_are_read_one_after_the_other_as_they_are(here: Path) -> None:
    write(here, a="é\r\n", b="", c="z", d_jsonl='{"text": "1"}\n{"text": "2\\n"}\n')
    write(here, e_txt_gz=gzip.compress("ü".encode()))
    assert data.read_text(["a", Path("b"), "c", "d.jsonl", "e.txt.gz"]) == "é\r\nz12\nü"
    sources = data.sources(["a", "b", "d.jsonl"])
    assert list(data.documents(sources)) == ["é\r\n", "1", "2\n"]  # an empty one is none
    assert list(data.blocks(sources)) == ["é\r\n", "1", "2\n"]


@given(st.lists(st.text(" \nab.é1", max_size=20), max_size=5), st.integers(1, 6))
@settings(deadline=None)
def test_documents_come_back_from_blocks(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    for number, text in enumerate(["x y z", *texts]):
        (folder / f"{number}.txt").write_bytes(text.encode())
    sources = data.sources([folder])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "_BLOCK", size)
        assert list(data.documents(sources)) == ["x y z", *filter(None, texts)]
        blocks = list(data.blocks(sources))
        assert blocks == [block for text in ["x y z", *texts] for block in patterns.blocks(text)]
    assert data.read_text([folder]) == "x y z" + "".join(texts)


def test_no_text_at_all_is_refused(here: Path) -> None:
    write(here, a_txt="", b_jsonl='\n{"text": ""}\n', **{f"c__{i}_txt": "" for i in range(9)})
    for names, message in (
        ([], "there is no text in nothing"),
        (["a.txt", "b.jsonl"], "there is no text in a.txt, b.jsonl"),
        (["c"], "there is no text in c/0.txt, .*c/7.txt and 1 more"),
    ):
        with pytest.raises(OctavoError, match=message):
            data.read_text(names)
        with pytest.raises(OctavoError, match=message):
            list(data.documents(data.sources(names)))
