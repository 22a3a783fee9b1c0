"""Files of texts: plain, JSON lines, Parquet, gzipped; and all that can be wrong with them."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from octavo import OctavoError, reading
from octavo.reading import Source, parts
from octavo.tokenizers import patterns

texts = st.text(" \n\r\tab1.é中🙂\u2028\x85'", max_size=30)


def write(path: Path, documents: list[str], field: str = "text") -> Source:
    """Documents in a file of the kind that its suffix says; in plain text only the first."""
    source = Source(path)
    if source.suffix == ".jsonl":
        content = "".join(json.dumps({"id": 1, field: text}) + "\n\n" for text in documents).encode()
    elif source.suffix == ".parquet":
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.table({"id": [1] * len(documents), field: documents}), sink)
        content = sink.getvalue().to_pybytes()
    else:
        content = "".join(documents[:1]).encode()
    path.write_bytes(gzip.compress(content) if source.gzipped else content)
    return source


def documents(source: Source, field: str = "text") -> list[str]:
    joined = [""]
    for part in parts(source, field):
        assert part.text
        joined[-1] += part.text
        if part.ends:
            joined.append("")
    assert joined.pop() == ""
    return joined


KINDS = [".txt", ".log", "", ".jsonl", ".parquet"]


@pytest.mark.parametrize("piece", [1, 2, 100])
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".txt.gz", ".jsonl.gz"])
def test_the_mark_of_utf_8_is_no_text(
    suffix: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIECE", piece)
    source = write(tmp_path / f"a{suffix}", ["to \ufeffbe"])
    plain = gzip.decompress(source.path.read_bytes()) if source.gzipped else source.path.read_bytes()
    marked = b"\xef\xbb\xbf" + plain
    source.path.write_bytes(gzip.compress(marked) if source.gzipped else marked)
    assert documents(source) == ["to \ufeffbe"]
    source.path.write_bytes(gzip.compress(b"\xef\xbb\xbf") if source.gzipped else b"\xef\xbb\xbf")
    assert documents(source) == []


@pytest.mark.parametrize("suffix", [*KINDS, ".txt.gz", ".jsonl.gz", ".parquet.gz", ".GZ"])
@given(written=st.lists(texts, min_size=1, max_size=6), size=st.integers(1, 9), piece=st.integers(1, 9))
@example(written=["a\r\nb", ""], size=1, piece=1)
@settings(deadline=None)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, written: list[str], size: int, piece: int
) -> None:
    source = write(tmp_path_factory.getbasetemp() / f"written{suffix}", written)
    expected = written if source.suffix in (".jsonl", ".parquet") else written[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "_BLOCK", size)
        patch.setattr(reading, "PIECE", piece)
        assert documents(source) == [text for text in expected if text]


def test_where_reading_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_BLOCK", 10)
    monkeypatch.setattr(reading, "PIECE", 20)
    source = write(tmp_path / "a.txt", ["to be or not " * 4])
    found = list(parts(source, "text"))
    assert [part.ends for part in found] == [False] * (len(found) - 1) + [True]
    assert found[0].text == "to be or not"
    read = [part.read for part in found]
    assert read == sorted(read)
    assert read[0] < read[-1] == 52
    rows = write(tmp_path / "a.jsonl", ["to", "be"])
    assert [part.read for part in parts(rows, "text")][-1] == rows.path.stat().st_size - 1


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_another_field(suffix: str, tmp_path: Path) -> None:
    assert documents(write(tmp_path / f"a{suffix}", ["x"], "story"), "story") == ["x"]


def refusal(source: Source, field: str = "text") -> str:
    with pytest.raises(OctavoError) as caught:
        list(parts(source, field))
    message = str(caught.value)
    assert source.path.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("content", "byte"),
    [(b"ab\xff", 2), (b"\xffab", 0), (b"a\xc3", 1), (b"\xe4\xb8\xad\xe4\xb8 b", 3), (b"a\xf0\x9f\x99", 1)],
)
def test_bytes_that_are_not_utf8_are_counted(
    content: bytes, byte: int, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIECE", piece)
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n' + content)
    assert f"a.txt is not UTF-8 text: byte {byte} " in refusal(Source(tmp_path / "a.txt"))
    assert refusal(Source(tmp_path / "a.txt")).endswith("; convert it, with iconv say")
    assert f"a.jsonl is not UTF-8 text: byte {14 + byte} " in refusal(Source(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[1]", "row 3 of {} is not a JSON object, but list"),
        ("3", "row 3 of {} is not a JSON object, but int"),
        ('{"text": "a"', "row 3 of {} is not a JSON object: Expecting ',' delimiter"),
        ("[" * 100_000, "row 3 of {} is not a JSON object: "),
        ('{"text": ' + "9" * 5000 + "}", "row 3 of {} is not a JSON object: Exceeds the limit"),
        ('{"txt": "a", "b\\n": 1}', "row 3 of {} has no field text (there are txt, 'b\\n')"),
        ("{}", "row 3 of {} has no field text (there are none)"),
        (json.dumps(dict.fromkeys("abcdefghi")), "(there are a, b, c, d, e, f, g, h, ...)"),
        ('{"text": 3}', "text in row 3 of {} holds int, not text"),
        ('{"text": null}', "text in row 3 of {} holds nothing"),
    ],
)
def test_rows_that_are_none(row: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n\n' + row + '\n{"text": "b"}\n')
    assert message.format(path) in refusal(Source(path))


def test_columns_that_are_none(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", ["a"], "story")
    assert "has no column text (there are id, story)" in refusal(source)
    assert "id in row 1 of" in refusal(source, "id")
    parquet.write_table(pyarrow.table({"text": ["a", None]}), source.path)
    assert "text in row 2 of" in refusal(source)
    raw = pyarrow.array([b"a", b"\xff"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": raw}), source.path)
    assert "is not UTF-8 text: a row after" in refusal(source)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_files_that_are_no_parquet(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    assert "is no Parquet file, or damaged" in refusal(Source(tmp_path / "a.parquet"))


def test_without_pyarrow_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.parquet", ["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'octavo[parquet]'" in refusal(source)


@pytest.mark.parametrize("suffix", [".txt.gz", ".jsonl.gz", ".parquet.gz"])
def test_gzip_that_is_truncated_or_damaged(suffix: str, tmp_path: Path) -> None:
    source = write(tmp_path / f"a{suffix}", ["to be or not to be " * 100])
    whole = source.path.read_bytes()
    source.path.write_bytes(whole[:-9])
    assert "is truncated: its gzip stream ends early" in refusal(source)
    source.path.write_bytes(whole[:10] + b"\xff" * 20)
    assert "is no gzip file, or damaged" in refusal(source)
    source.path.write_bytes(b"plain text")
    assert "is no gzip file, or damaged: Not a gzipped file" in refusal(source)


def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "none.txt cannot be read: No such file" in refusal(Source(tmp_path / "none.txt"))
    (tmp_path / "a.txt").write_text("a")

    def forbidden(path: Path, mode: str) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    with pytest.raises(OctavoError, match=r"a\.txt cannot be read: Permission denied"):
        list(parts(Source(tmp_path / "a.txt"), "text"))
