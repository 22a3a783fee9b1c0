"""The benchmarks run, small; what they measure is nobody's business here."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import octavo
from octavo import OctavoError

from .conftest import build

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


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("tied", [False, True])
def test_what_quantising_costs(tied: bool, tmp_path: Path) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 192, "tie_word_embeddings": tied}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    octavo.save(build("llama", **sizes, **heads), tmp_path / "model")
    (tmp_path / "text").write_text("abcdefghijk" * 10)
    args = ("quantised.py", str(tmp_path / "model"), "--text", str(tmp_path / "text"), "--tokens", "32")
    first, *table = run(*args, "--shuffle")
    assert float(first.split()[-1]) < 1e-3  # of logits in the tens: another order, the same model
    rows = {name: list(map(float, (size, loss, nats))) for name, size, loss, _, nats in map(cells, table[2:])}
    assert list(rows)[:3] == ["float32", "q8", "q4"]
    assert rows["float32"][2] == 0 < rows["q8"][2] < rows["q4"][2]
    assert rows["float32"][0] > 3 * rows["q8"][0] > rows["q4"][0]
    same = next(row for row in map(cells, run(*args)) if row[0] == "float32")
    assert float(same[2]) == pytest.approx(rows["float32"][1], rel=1e-3)


def test_speed_beside_peers(tmp_path: Path) -> None:
    octavo.save(build("llama", hidden_size=32, intermediate_size=32), tmp_path / "a.gguf")
    args = ("--threads", "1", "--rounds", "1", "--work", str(tmp_path), "--json", str(tmp_path / "all.json"))
    missing = ("--python", "llama_cpp=/nowhere/python", "--python", "transformers=/nowhere/python")
    out = run("decode.py", str(tmp_path / "a.gguf"), *args, *missing, "--lines", "decode,first,peak,q8")
    assert out[0] == "a.gguf, 1 threads, medians of 1 rounds"
    found = {row[0]: row for row in map(cells, out) if len(row) == 5}
    for name in ("decode, short context, tokens/s", "load to first token, s", "peak memory, MB"):
        assert float(found[name][1].replace(",", "")) > 0
        assert "cannot start /nowhere/python" in found[name][2]
    assert (tmp_path / "a.Q8_0.gguf").exists()
    first, second = json.loads((tmp_path / "all.json").read_text())
    assert (first["weights"], second["weights"]) == ("float32", "Q8_0")
