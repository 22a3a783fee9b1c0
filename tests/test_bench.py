"""The benchmarks run, small; what they measure is nobody's business here."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from octavo import OctavoError

BENCH = Path(__file__).parents[1] / "bench"


def run(*args: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(BENCH / args[0]), *args[1:]], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_accelerator_s_bench_runs_on_a_cpu() -> None:
    device, found = map(json.loads, run("gpu.py", "--tiny"))
    assert device["device"] == "cpu"
    assert device["peak"] is None
    assert found["tokens_per_second"] > 0
    assert found["model_flops_per_second"] == pytest.approx(
        (6 * found["parameters"] + 12 * 2 * 16 * 16) * found["tokens_per_second"]
    )


def test_the_fuzzer_sees_what_is_refused_and_what_is_wrong(tmp_path: Path) -> None:
    args = ("fuzz.py", "--seconds", "1", "--reader", "checkpoint", "--keep", str(tmp_path / "kept"))
    row = [cell.strip() for cell in run(*args)[-1].strip("|").split("|")]
    files, read, refused, failed = (int(cell) for cell in row[1:5])
    assert files == read + refused > 0
    assert (row[0], refused > 0, failed) == ("checkpoint", True, 0)
    assert not (tmp_path / "kept").exists()


def test_what_fails_is_kept(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(BENCH)!r})\n"
        "import fuzz, fuzz_readers\n"
        "fuzz.PATIENCE = 0.3\n"
        "fuzz.__file__ = __file__\n"
        "ways = dict(raises=lambda: {}['x'], waits=lambda: time.sleep(99), dies=lambda: os._exit(3))\n"
        "def reader(way):\n"
        "    def read(folder):\n"
        "        if folder.name != 'good': way()\n"
        "    return fuzz.Reader(fuzz_readers.saved_run, read)\n"
        "fuzz.READERS = {name: reader(way) for name, way in ways.items()}\n"
        "fuzz.main()\n"
    )
    (tmp_path / "wrong.py").write_text(program)
    kept = tmp_path / "kept"
    command = [sys.executable, str(tmp_path / "wrong.py"), "--seconds", "0.1", "--keep", str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    why = {path.name.split("-")[0]: (path / "why").read_text() for path in kept.iterdir()}
    for name, told in (("raises", "KeyError: 'x'"), ("waits", "more than"), ("dies", "died (3)")):
        assert told in why.pop(name)
    assert not why
    assert all(len(list(path.iterdir())) == 3 for path in kept.iterdir())


def test_files_of_every_kind_damaged_a_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fuzzer does for long, for a moment, and without templates: they start processes."""
    monkeypatch.syspath_prepend(str(BENCH))
    fuzz = importlib.import_module("fuzz")
    for name, reader in fuzz.READERS.items():
        if name.startswith("template"):
            continue
        good, found = tmp_path / name / "good", set()
        good.mkdir(parents=True)
        reader.make(good)
        for number in range(10):
            case = tmp_path / name / str(number)  # of its own: what is mapped is not written over
            fuzz.prepare(name, good, case, number, 0)
            found.add(fuzz.outcome(reader, case))
        assert found <= {"read", "refused"}, name
        assert "refused" in found, name


def test_what_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    fuzz, readers = map(importlib.import_module, ("fuzz", "fuzz_readers"))

    def outcome(message: str) -> str:
        def read(folder: Path) -> None:
            raise OctavoError(message)

        return str(fuzz.outcome(fuzz.Reader(readers.saved_run, read), BENCH))

    assert outcome("one line") == "refused"
    for message in ("two\nlines", "", "x" * 2000):
        assert outcome(message) == f"refused in these words: {message}"
