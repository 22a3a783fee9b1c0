"""`octavo bench`: what it measures, of octavo and of peers, which are stand-ins here."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import OctavoError, bench, engines, models, processes
from octavo.checks import cores
from octavo.model import Model

FIGURES = {"prompt", "decode", "load", "first", "peak"}
PEER = """
__version__ = "1.2"
class Llama:
    ctx = model = None
    def __init__(self, path, n_ctx, n_threads, n_threads_batch, n_gpu_layers, verbose):
        assert open(path, "rb").read(4) == b"GGUF" and n_threads == n_threads_batch == 1 and not verbose
        self.room = n_ctx
    def reset(self): self.seen = 0
    def eval(self, ids):
        self.seen += len(ids)
        assert ids and self.seen <= self.room
def llama_synchronize(context): print("loaded in 3 ms")
"""


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A small GGUF file that goes on for longer than the long text."""
    sizes = {"vocab_size": 11, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config = models.configure("llama", {**sizes, "max_position_embeddings": 4096})
    params = models.initial_params("llama", config, np.random.default_rng(0))
    octavo.save(Model("llama", config, params), tmp_path / "a.gguf", dtype="Q8_0")
    return tmp_path / "a.gguf"


def peer(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a stand-in for llama-cpp-python where Python finds it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "llama_cpp.py").write_text(program)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


def test_json_has_every_figure(run: Any) -> None:
    found = json.loads(run("bench", "shelf/plain", "--rounds", "1", "--threads", "1", "--json").stdout)
    (program,) = found["programs"]
    assert (program["name"], program["version"], program["error"]) == ("octavo", octavo.__version__, "")
    assert set(program["figures"]) == FIGURES
    assert all(len(rounds) == 1 and min(rounds) > 0 for rounds in program["figures"].values())
    for name in FIGURES:
        assert [program["medians"][name]] == program["figures"][name]
    assert program["medians"]["long"] is None
    assert program["medians"]["load"] < program["medians"]["first"]
    model = octavo.load("shelf/plain")
    told = {"model_type": "plain", "weights": "float32", "threads": 1, "rounds": 1, "prompt_tokens": 16}
    assert {name: found[name] for name in told} == told
    assert found["parameters"] == sum(p.size for p in model.params.values())
    assert found["bytes_per_token"] < sum(p.nbytes for p in model.params.values())
    assert found["file_bytes"] == Path("shelf/plain/model.safetensors").stat().st_size
    streamed = np.median(found["memory"])
    speed = program["medians"]["decode"]
    assert found["memory_share"] == pytest.approx(speed * found["bytes_per_token"] / streamed)


def test_a_peer_stands_beside(
    run: Any, narrow: Any, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer(PEER, tmp_path, monkeypatch)
    out = run("bench", str(gguf), "--rounds", "1", "--threads", "1").stdout
    narrow(out)
    lines = out.splitlines()
    assert lines[0].startswith("a.gguf: llama, ")
    assert "in Q8_0" in lines[0]
    assert lines[1] == "1 thread, one round, every figure from fresh processes"
    assert any(line.split()[:2] == ["octavo", "llama_cpp"] for line in lines)
    for label in ("read 512 tokens", "write 64 tokens", "write them after 2,000", "start to first", "memory"):
        (row,) = (line for line in lines if line.startswith(label))
        assert len(row.removeprefix(label).split()) >= 3
    assert "llama_cpp: 1.2" in out
    assert "a peer's is its evaluation alone" in " ".join(out.split())


@pytest.mark.parametrize(
    ("program", "named"),
    [
        ("raise ImportError('no\\nlibrary')", "llama_cpp: ImportError: no library"),
        ("import os; os._exit(3)", "llama_cpp ended with 3: it said nothing"),
        ("import os, sys; print('luck', file=sys.stderr, flush=True); os._exit(3)", "with 3: luck"),
    ],
)
def test_a_peer_that_fails_says_why(
    program: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer(program, tmp_path, monkeypatch)
    with pytest.raises(OctavoError) as caught:
        processes.run("llama_cpp", sys.executable, {"path": "a.gguf", "threads": 1})
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_peer_that_fails_is_left_out_of_the_rounds(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer("raise ImportError('no library')", tmp_path, monkeypatch)
    steps: list[tuple[int, int, str]] = []
    report = bench.measure(gguf, threads=1, rounds=2, asked=[], progress=lambda *step: steps.append(step))
    ours, theirs = report.programs
    assert (theirs.error, theirs.median("load")) == ("llama_cpp: ImportError: no library", None)
    assert set(ours.figures) == {"load", "first", "peak"}
    assert ours.median("load") == pytest.approx(sum(ours.figures["load"]) / 2)
    assert [name for _, _, name in steps] == ["memory", "octavo", "llama_cpp", "memory", "octavo"]


def test_sequences_together(gguf: Path) -> None:
    (program,) = bench.measure(gguf, threads=1, rounds=1, asked=["together"], pythons={}).programs
    assert (program.median("together") or 0) > 0


def test_which_peers_open_what(gguf: Path, shelf: Path, tmp_path: Path) -> None:
    model = octavo.load(gguf)
    octavo.save(model, tmp_path / "blocks")
    octavo.save(model, tmp_path / "plain", dtype="float32")
    for path, opening in (
        (gguf, {"llama_cpp", "transformers"}),
        (tmp_path / "plain", {"transformers"}),
        (tmp_path / "blocks", set()),
        (shelf / "gru", set()),
    ):
        loaded = octavo.load(path)
        assert {name for name in engines.ENGINES if bench.opens(name, path, loaded)} - {"octavo"} == opening


def test_the_size_is_that_of_the_weights(gguf: Path, tmp_path: Path) -> None:
    weights = {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    for name, count in (("one.safetensors", 5), ("two.safetensors", 7), ("training.jsonl", 1000)):
        (tmp_path / name).write_bytes(bytes(count))
    assert bench.size_of(tmp_path) == 12
    (tmp_path / "model.safetensors").write_bytes(bytes(9))
    assert bench.size_of(tmp_path) == 9
    assert bench.size_of(gguf) == gguf.stat().st_size


def test_the_most_memory_of_this_process() -> None:
    before = engines.peak()
    block = np.ones(2**23)
    assert engines.peak() >= max(before, block.nbytes)


def test_what_is_refused(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no file or folder 'nothing'" in refused("bench", "nothing")
    for rounds in ("0", "101"):
        assert "rounds are from 1 to 100" in refused("bench", "shelf/gru", "--rounds", rounds)
    assert f"from 1 to {cores()}" in refused("bench", "shelf/gru", "--threads", "0")
    short = models.configure("gpt2", {"vocab_size": 11, "n_embd": 4, "n_head": 1, "n_positions": 15})
    params = models.initial_params("gpt2", short, np.random.default_rng(0))
    octavo.save(Model("gpt2", short, params), "short")
    assert "a context of 15 tokens is too short" in refused("bench", "short")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "cannot start /nowhere/python" in refused("bench", "shelf/gru")


def test_the_shortest_context_is_enough(tmp_path: Path) -> None:
    config = models.configure("gpt2", {"vocab_size": 11, "n_embd": 4, "n_head": 1, "n_positions": 16})
    params = models.initial_params("gpt2", config, np.random.default_rng(0))
    octavo.save(Model("gpt2", config, params), tmp_path / "a")
    (program,) = bench.measure(tmp_path / "a", threads=1, rounds=1, pythons={}).programs
    assert set(program.figures) == FIGURES


def test_octavo_s_own_failure_is_an_error(shelf: Path) -> None:
    job = {"path": "nothing", "threads": 1}
    with pytest.raises(OctavoError, match="octavo: OctavoError: there is no file or folder 'nothing'"):
        processes.run("octavo", sys.executable, job)
