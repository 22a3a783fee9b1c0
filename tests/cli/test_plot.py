"""`octavo plot`: pictures in files, what they show in JSON."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import plots
from octavo.cli import loading
from octavo.cli.runs import read_run

from ..conftest import begun


@pytest.fixture
def runs(run: Any) -> list[str]:
    """Two folders with logs of training."""
    for name, worse in (("a", 0.0), ("b", 0.5)):
        reports = [
            {
                "step": n,
                "tokens": 100 * n,
                "loss": worse + 3 / n,
                "val_loss": worse + 4 / n if n % 2 else None,
            }
            for n in range(1, 10)
        ]
        lines = [{"octavo": "0", "command": "octavo train ..."}, *reports, {"interrupted": True}]
        Path(name).mkdir()
        Path(name, "training.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return ["a", "b"]


def is_picture(path: str) -> bool:
    start = Path(path).read_bytes()[:200]
    return start.startswith(b"\x89PNG\r\n\x1a\n") if path.endswith(".png") else b"<?xml" in start


@pytest.mark.parametrize("out", ["positions.png", "p.svg"])
def test_positions(run: Any, out: str) -> None:
    args = [] if out == "positions.png" else ["--out", out, "--interleaved"]
    assert run("plot", "positions", "--length", "16", "--width", "8", *args).stdout == f"wrote {out}\n"
    assert is_picture(out)
    assert sorted(path.name for path in Path().iterdir()) == [out, "shelf"]


def test_loss_of_several_runs(run: Any, runs: list[str]) -> None:
    found = json.loads(run("plot", "loss", *runs, "--json").stdout)
    assert found == {"out": "loss.png", "val_loss": {"a": 4 / 9, "b": 0.5 + 4 / 9}}
    assert is_picture("loss.png")


def test_temperature(run: Any) -> None:
    args = ["plot", "temperature", "shelf/gru", "It was", "--temperatures", "0,1", "--top", "4"]
    found = json.loads(run(*args, "--out", "t.svg", "--json").stdout)
    assert is_picture("t.svg")
    assert len(found["ids"]) == len(found["pieces"]) == 4
    assert found["probabilities"]["0"] == [1, 0, 0, 0]
    assert found["probabilities"]["1"] == sorted(found["probabilities"]["1"], reverse=True)


def test_a_prompt_is_read_as_by_generate(run: Any, refused: Any) -> None:
    args = ["plot", "temperature", "shelf/gru", "--json"]
    assert run(*args, stdin=b"\xef\xbb\xbfIt was\n").stdout == run(*args, "It was").stdout
    assert "the prompt is not UTF-8 text: byte 2" in refused(*args, "It\udcff")


def test_what_comes_next_follows_what_begins_a_text(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = octavo.load("shelf/plain")
    model = replace(model, tokenizer=begun(model.text_tokenizer(), 7))
    monkeypatch.setattr(loading, "load_reader", lambda *_: model)
    logits, _ = model.forward([7, *model.text_tokenizer().encode("It")])
    found = json.loads(run("plot", "temperature", "shelf/plain", "It", "--top", "5", "--json").stdout)
    assert found["ids"] == np.argsort(logits[-1])[::-1][:5].tolist()


def test_a_log_that_says_nothing_or_nonsense(refused: Any, runs: list[str]) -> None:
    assert "there is no shelf/gru/training.jsonl" in refused("plot", "loss", "shelf/gru")
    for content in (
        "",
        "{",
        "[]\n3",
        '{}\n{"step": 1}',
        '{}\n{"step": 1, "tokens": "x", "loss": 1, "val_loss": null}',
    ):
        Path("a/training.jsonl").write_text(content)
        assert "a/training.jsonl is no log" in refused("plot", "loss", "a")
    Path("a/training.jsonl").write_text("{}")
    assert "holds no report" in refused("plot", "loss", "a")
    assert not Path("loss.png").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["positions", "--out", "a.pdf"], "'a.pdf'"),
        (["positions", "--out", "nowhere/a.png"], "cannot write nowhere/a.png"),
        (["positions", "--width", "3"], "even width"),
        (["positions", "--length", "0"], "--length"),
        (["temperature", "shelf/gru", "It", "--temperatures", "a"], "--temperatures"),
        (["temperature", "shelf/gru", "It", "--temperatures", "-1"], "--temperatures"),
        (["temperature", "shelf/gru", "It", "--top", "0"], "--top"),
        (["temperature", "shelf/gru", ""], "prompt is empty"),
        (["temperature", "shelf/gru", "€"], "unknown character"),
    ],
)
def test_what_cannot_be_drawn(refused: Any, args: list[str], message: str) -> None:
    assert message in refused("plot", *args)


def test_without_matplotlib(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install matplotlib" in refused("plot", "positions")


def test_the_log_itself_may_be_named(runs: list[str]) -> None:
    assert read_run("a/training.jsonl") == read_run("a")
    assert read_run("a").val_loss == 4 / 9
    assert len(read_run("a").reports) == 9
    assert plots.losses({"a": read_run("a").reports})
