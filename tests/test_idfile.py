"""Files of ids: what is written is read, what is damaged is not, and nobody sees a part."""

import errno
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import OctavoError, idfile
from octavo.idfile import HEADER, Encoded, Writer, in_memory, kept, mapped, new_file

IDS = np.array([1, 2, 65_535, 0], "<u2")


def written(folder: Path, ids: Any = IDS, key: str = "key") -> Path:
    with new_file([folder], "a.ids") as (file, path):
        writer = Writer(file, ids.dtype, key)
        writer.add(ids[:1].tobytes(), 0, 5)
        writer.add(ids[1:].tobytes(), 2, 6)
        writer.close()
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_what_is_written_is_read(dtype: str, tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "folder", IDS.astype(dtype))
    assert names(path.parent) == ["a.ids"]
    shares: list[float] = []
    found = kept(path, "key", shares.append)
    assert found is not None
    assert (found.documents, found.bytes, found.path, len(found)) == (2, 11, path, 4)
    assert isinstance(found.ids, np.memmap)
    assert found.ids.dtype == dtype
    assert found.ids.tolist() == IDS.tolist()
    assert not found.ids.flags.writeable
    assert shares[-1] == 1
    assert kept(path, "another", shares.append) is None
    assert kept(tmp_path / "none", "key", shares.append) is None


def test_memory_and_file_say_the_same(tmp_path: Path) -> None:
    memory = BytesIO()
    writer = Writer(memory, IDS.dtype)
    writer.add(IDS.tobytes(), 2, 11)
    writer.close()
    one, two = in_memory(memory), mapped(written(tmp_path))
    assert one.ids.tolist() == two.ids.tolist()
    assert (one.documents, one.bytes, one.sha256, one.path) == (two.documents, two.bytes, two.sha256, None)
    assert not one.ids.flags.writeable


def told(found: Encoded) -> tuple[Any, ...]:
    return found.ids.tolist(), found.documents, found.bytes, found.sha256


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damage_is_seen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = written(tmp_path_factory.getbasetemp() / "damage")
    whole, content = told(mapped(path)), bytearray(path.read_bytes())
    interesting = st.integers(0, 300) | st.integers(HEADER, len(content) - 1)  # the rest are spaces
    at = data.draw(interesting)
    kind = data.draw(st.sampled_from(["flip", "cut", "drop", "insert"]))
    if kind == "flip":
        content[at] = data.draw(st.integers(0, 255))
    elif kind == "cut":
        del content[at:]
    elif kind == "drop":
        del content[at]
    else:
        content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    path.write_bytes(content)
    found = kept(path, "key", lambda share: None)
    assert found is None or told(found) == whole


@pytest.mark.parametrize("name", idfile.SEALED)
def test_the_header_is_vouched_for_too(name: str, tmp_path: Path) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    header = json.loads(content[:HEADER])
    header[name] = {"dtype": "<u4", "documents": 3, "bytes": 12}[name]
    path.write_bytes(json.dumps(header).encode().ljust(HEADER) + content[HEADER:])
    assert kept(path, "key", lambda share: None) is None


@pytest.mark.parametrize("header", [[], {}, 3, {"format": 1}, {"format": 1, "key": "key", "sha256": 3}])
def test_headers_that_are_none(header: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.ids"
    path.write_bytes(json.dumps(header).encode().ljust(HEADER) + IDS.tobytes())
    assert kept(path, "key", lambda share: None) is None
    path.write_bytes(b"[" * 2 * HEADER)
    assert kept(path, "key", lambda share: None) is None


def test_a_file_of_another_format_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setattr(idfile, "FORMAT", 0)
    assert kept(path, "key", lambda share: None) is None


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_file([tmp_path], "a.ids"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []
    with (
        pytest.raises(
            OctavoError, match=r"cannot write .*a\.ids: No space left on device; name another folder"
        ),
        new_file([tmp_path], "a.ids"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    (tmp_path / "old.ids.1234.partial").write_bytes(b"half")
    (tmp_path / "note.txt").write_text("mine")
    with new_file([tmp_path], "a.ids") as (file, _):
        assert len(names(tmp_path)) == 2  # the note and the new one
        written(tmp_path, key="second")
        assert len(names(tmp_path)) == 3
        Writer(file, IDS.dtype, "first").close()
    assert names(tmp_path) == ["a.ids", "note.txt"]
    assert kept(tmp_path / "a.ids", "first", lambda share: None) is not None  # the last one to be moved


def test_a_sweep_between_opening_and_locking_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = idfile.take, []

    def late(file: Any) -> bool:
        calls.append(file.name)
        if len(calls) == 1:
            Path(file.name).unlink()  # swept
        if len(calls) == 2:
            raise BlockingIOError  # about to be swept
        return lock(file)

    monkeypatch.setattr(idfile, "take", late)
    assert written(tmp_path).is_file()
    assert len(set(calls)) == 3


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def unsupported(file: Any, flags: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    (tmp_path / "b.ids.1234.partial").write_bytes(b"half")
    assert kept(written(tmp_path), "key", lambda share: None) is not None
    assert names(tmp_path) == ["a.ids", "b.ids.1234.partial"]


def test_the_first_folder_that_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = tmp_path / "file" / "folder"
    with new_file([blocked, tmp_path / "second"], "a.ids") as (_, path):
        pass
    assert path == tmp_path / "second" / "a.ids"
    with (
        pytest.raises(OctavoError, match=r"cannot be kept in .*folder: Not a directory; name another folder"),
        new_file([blocked], "a.ids"),
    ):
        pass
