"""Machine code that is kept: whole or not at all, found again, and never a reason to fail."""

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import fast
from octavo.fast import code, compiling
from octavo.fast.frame import FUNCTION, MORE
from octavo.fast.linking import Image, link
from octavo.fast.packed import address
from octavo.fast.steps import CacheStep

from ..conftest import build


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for code, of a process that has none yet; it is compiled into it."""
    monkeypatch.setattr(code, "folders", lambda: [tmp_path])
    return tmp_path


@pytest.fixture(scope="module")
def begin() -> bytes:
    """The object file of `begin`."""
    return compiling.compile_named("begin", "octavo_begin", copied=code.COPIED)


@pytest.fixture
def compilings(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is compiled, which takes no time: it is `begin` that is asked for."""
    names = list[str]()

    def compile_named(name: str, symbol: str, *, copied: bool) -> bytes:
        names.append(name)
        assert copied == code.COPIED
        assert symbol == "octavo_begin"
        return begin

    monkeypatch.setattr(compiling, "compile_named", compile_named)
    return names


def begins(at: int | None = None) -> bool:
    """Whether `begin`, loaded anew, does what it is for."""
    function = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 4)(at or code.address.__wrapped__("begin"))
    shared = np.zeros(MORE + 1, np.int64)
    function(address(shared), 0, 0)
    return bool(shared[MORE] == 1)


def test_what_is_compiled_is_kept_and_found(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code.kept("begin") is None
    assert begins()
    path = empty / code.key() / "begin.code"
    assert [other.name for other in path.parent.iterdir()] == ["begin.code"]  # nothing is left beside it

    def never(*_: Any, **__: Any) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(compiling, "compile_named", never)
    assert begins()


def test_a_damaged_file_is_compiled_anew_and_not_run(
    empty: Path, compilings: list[str], begin: bytes
) -> None:
    assert begins()
    path = empty / code.key() / "begin.code"
    whole = path.read_bytes()
    assert code.kept("begin") == (link(begin, "octavo_begin") or begin)
    middle, end = len(whole) // 2, len(whole)
    flipped = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in (0, 31, 32, middle, end - 1)]
    cut = [whole[:n] for n in (0, 10, 32, middle, end - 1)]
    for i, damaged in enumerate([*flipped, *cut, whole + b"\0"]):
        path.write_bytes(damaged)
        assert code.kept("begin") is None
        assert begins()
        assert compilings == ["begin"] * (i + 2)
        assert path.read_bytes() == whole


def test_folders_that_cannot_be_written_to_stop_nothing(
    empty: Path, compilings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "file").write_text("in the way")
    monkeypatch.setattr(code, "folders", lambda: [empty / "file" / "code"])
    assert begins()
    monkeypatch.setattr(code, "folders", lambda: [empty / "file" / "code", empty / "own"])
    for _ in range(2):
        assert begins()
    assert compilings == ["begin"] * 2  # the second folder kept it
    assert (empty / "own" / code.key() / "begin.code").exists()


def test_a_file_that_could_not_be_written_whole_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Any) -> Path:
        raise OSError("no room")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no room"):
        code.keep(tmp_path / "key" / "begin.code", b"code")
    assert list((tmp_path / "key").iterdir()) == []


def test_who_does_not_wait_is_told_so(empty: Path, compilings: list[str]) -> None:
    with code.only_kept():
        for ask in (code.made, code.address.__wrapped__):
            with pytest.raises(code.Unmade, match="begin"):
                ask("begin")
    assert compilings == []
    assert begins()
    with code.only_kept():
        assert begins()


def test_llvm_loads_what_cannot_be_copied(
    empty: Path, compilings: list[str], begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert link(b"MZ" + begin[2:], "octavo_begin") is None
    assert begins(code.loaded(begin, "octavo_begin"))
    monkeypatch.setattr(code, "link", lambda file, symbol: None)
    assert begins()
    assert code.kept("begin") == begin
    assert begins()


@pytest.mark.skipif(not code.COPIED, reason="code is loaded by LLVM here")
def test_an_image_calls_the_c_library() -> None:
    """`draw` calls `log`, whose address is filled in."""
    image = code.kept("draw") or code.made("draw")
    assert isinstance(image, Image)
    assert "log" in image.outer
    begin = code.copied(image) - image.entry
    for name, place in image.outer.items():
        found = int.from_bytes(ctypes.string_at(begin + place, 8), "little")
        assert found == ctypes.cast(code.outer(name), ctypes.c_void_p).value


def test_a_thread_may_be_awake_when_python_ends() -> None:
    program = """
import numpy as np, octavo
from octavo import fast
from octavo.fast.frame import MORE
from octavo.fast.team import TEAM
model = octavo.load("bard")
step, state = fast.compiled(octavo.load("bard", threads=2)), model.init_state(1, 9)
_, state = step(np.array([[3]]), state)
TEAM.shared[MORE] = 1  # who waits for more programs does not sleep
step(np.array([[3]]), state)
TEAM.shared[MORE] = 1
print(len(TEAM.wake))
"""
    assert python(program) == "2"


def test_there_is_no_other_function() -> None:
    with pytest.raises(KeyError):
        code.address("divide")


def test_other_sources_or_processors_have_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    key = code.key.__wrapped__
    assert key() == code.key()
    features = code.features() | {"another"}
    monkeypatch.setattr(code, "features", lambda: features)
    assert key() != code.key()
    monkeypatch.undo()
    monkeypatch.setattr(code, "SETTINGS", {"OCTAVO_CHECK_BOUNDS": "1"})
    assert key() != code.key()
    monkeypatch.undo()
    monkeypatch.setattr(code, "SOURCES", code.SOURCES[1:])
    assert key() != code.key()


# ---------------------------------------------------------------- processes


def python(program: str) -> str:
    """What a new Python prints."""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_kept_code_is_loaded_without_llvm() -> None:
    model = octavo.load("christie-rnn")
    step = fast.compiled(model)
    assert step is not None
    step(np.array([[1]]), model.init_state(1, 1))
    code.function("draw")  # by now all that the program asks for is kept
    program = """
import sys, octavo
from octavo import fast, twins
twins.LOADING_PAYS = 0
model = octavo.load("christie-rnn")
octavo.generate(model, "poirot ", limit=20, seed=3)
print(type(fast._MADE[model]).__name__, "llvmlite" in sys.modules)
"""
    assert python(program) == f"Compiled {not code.COPIED}"


def test_all_that_compiling_imports_is_among_the_sources() -> None:
    """An edit of any other file would go on running the code that was made before it."""
    program = """
import sys
from importlib import import_module
from octavo.fast.compiling import ROOMS
for room in ROOMS:
    import_module(f"octavo.fast.{room}")
print(*(name.rpartition(".")[2] for name in sys.modules if name.startswith("octavo.fast.")))
"""
    assert set(python(program).split()) - {"mapped"} == set(code.SOURCES) - {"linking"}


def test_a_model_whose_code_is_not_kept_is_not_compiled_at_once() -> None:
    program = """
import sys, octavo
from octavo import fast
from octavo.fast import code
code.folders = lambda: []
model = octavo.load("christie-rnn")
print(fast.at_once(model), fast.at_once(model), model in fast._MADE, "llvmlite" in sys.modules)
"""
    assert python(program) == "False False False False"


# ---------------------------------------------------------------- instructions that fail


def test_an_instruction_that_fails_gives_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = build("llama"), np.array([[1, 2]])
    made = fast.Compiled(model)
    step = CacheStep(made.record, 2, "float32", made.packs)
    expected = step(ids, model.init_state(1, 2))[0].copy()

    def fails(frame: int, args: int, thread: int) -> int:
        if frame:
            raise ValueError("no")
        return args + thread

    monkeypatch.setattr(code, "folders", lambda: [tmp_path])
    monkeypatch.setitem(compiling.MADE, "fails", fails)
    at = code.address.__wrapped__("fails")
    function = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 4)(at)
    assert (function(0, 3, 4), function(1, 3, 4)) == (7, -1)
    words = step.program.words
    right, words[3, FUNCTION] = words[3, FUNCTION], at
    for _ in range(2):
        with pytest.raises(RuntimeError, match="an instruction failed"):
            step(ids, model.init_state(1, 2))
    words[3, FUNCTION] = right
    np.testing.assert_array_equal(step(ids, model.init_state(1, 2))[0], expected)
