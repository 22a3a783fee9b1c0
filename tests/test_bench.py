"""The benchmarks run, small; what they measure is nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
    names = ("raises", "tells", "waits", "dies", "fills")
    program = (
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(BENCH)!r})\n"
        "import fuzz\n"
        "from octavo import OctavoError\n"
        "fuzz.PATIENCE = 0.3\n"
        "fuzz.__file__ = __file__\n"
        "def tells(): raise OctavoError('two\\nlines')\n"
        "ways = dict(raises=lambda: {}['x'], tells=tells, waits=lambda: time.sleep(9),\n"
        "            dies=lambda: os._exit(3), fills=lambda: bytearray(2**32))\n"
        "def reader(way):\n"
        "    def read(folder):\n"
        "        if folder.name != 'good': way()\n"
        "    return fuzz.Reader(fuzz.saved_run, read)\n"
        "fuzz.READERS = {name: reader(way) for name, way in ways.items()}\n"
        "fuzz.main()\n"
    )
    (tmp_path / "wrong.py").write_text(program)
    kept = tmp_path / "kept"
    done = subprocess.run(
        [sys.executable, str(tmp_path / "wrong.py"), "--seconds", "0.5", "--keep", str(kept)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    why = {path.name.split("-")[0]: (path / "why").read_text() for path in kept.iterdir()}
    assert sorted(why) == sorted(names)
    for name, told in zip(
        names, ("KeyError", "two\nlines", "more than", "died (3)", "MemoryError"), strict=True
    ):
        assert told in why[name]
    assert all(len(list(path.iterdir())) == 3 for path in kept.iterdir())
