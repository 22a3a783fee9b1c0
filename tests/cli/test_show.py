"""`octavo show` and `octavo models`: every parameter, and what ships."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo import OctavoError, storage
from octavo.cli.runs import read_run

LOGGED = {"step": 2, "tokens": 64, "loss": 1.5, "val_loss": 1.25}


@pytest.mark.parametrize("name", ["gru", "plain"])
def test_every_parameter_has_a_row_and_the_total_is_theirs(run: Any, narrow: Any, name: str) -> None:
    out = run("show", f"shelf/{name}").stdout
    narrow(out)
    model = octavo.load(f"shelf/{name}")
    for parameter, array in model.params.items():
        row = next(line for line in out.splitlines() if line.startswith(parameter))
        assert row.split()[-1] == f"{array.size:,}"
        assert " x ".join(map(str, array.shape)) in row
        assert ("(fixed)" in row) == (parameter in model.architecture.FIXED)
    total = next(line for line in out.splitlines() if line.strip().startswith("total"))
    assert total.split()[-1] == f"{sum(array.size for array in model.params.values()):,}"
    assert f"{model.count():,}" in next(
        line for line in out.splitlines() if line.strip().startswith("trainable")
    )


def test_json_lists_the_parameters_in_the_order_of_the_model(run: Any) -> None:
    found = json.loads(run("show", "shelf/plain", "--json").stdout)
    model = octavo.load("shelf/plain")
    assert [p["name"] for p in found["parameters"]] == list(model.architecture.shapes(model.config))
    assert found["trainable"] == model.count()
    assert found["fixed"] == 4
    assert found["bytes"] == 4 * (found["trainable"] + found["fixed"])
    assert found["config"]["d_model"] == 8


def test_the_lines_above_tell_config_and_tokenizer(run: Any) -> None:
    assert "gru 8 → dense" in run("show", "shelf/gru").stdout
    out = run("show", "shelf/plain").stdout
    assert "d_model 8" in out
    assert "ByteLevelBPE(vocab_size=280)" in out


@pytest.fixture
def shipped(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the one that ships, with configs and logs, and without a weight."""
    log = [{"command": "octavo train x -o gru " + "--lots of --options " * 9}, LOGGED]
    for name in ("gru", "plain"):
        folder = tmp_path / "shipped" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_bytes((shelf / name / "config.json").read_bytes())
        (folder / "training.jsonl").write_text("\n".join(map(json.dumps, log)))
    monkeypatch.setattr(storage, "PRETRAINED", tmp_path / "shipped")
    return tmp_path / "shipped"


def test_models_lists_what_ships_without_reading_a_weight(run: Any, narrow: Any, shipped: Path) -> None:
    result = run("models")
    assert "octavo train x -o gru --lots of" in result.stdout
    assert "1.250" in result.stdout
    narrow(result.stdout)
    assert "gru" in result.stdout
    assert "plain" in result.stdout
    listed = json.loads(run("models", "--json").stdout)["models"]
    assert [facts["name"] for facts in listed] == ["gru", "plain"]
    assert [facts["context"] for facts in listed] == [None, 16]
    for facts in listed:
        model = octavo.load(f"shelf/{facts['name']}")
        assert (facts["parameters"], facts["vocab_size"]) == (model.count(), model.vocab_size)


def test_a_shipped_model_without_its_log_is_a_defect(refused: Any, shipped: Path) -> None:
    (shipped / "gru" / "training.jsonl").unlink()
    assert "gru/training.jsonl" in refused("models")


def test_a_loss_that_is_missing_is_null_in_the_log_and_never_nan(shipped: Path) -> None:
    log = shipped / "gru" / "training.jsonl"
    log.write_text("{}\n" + json.dumps(LOGGED | {"loss": None}))
    assert math.isnan(read_run("gru").reports[0]["loss"])
    log.write_text("{}\n" + json.dumps(LOGGED | {"loss": math.nan}))
    with pytest.raises(OctavoError, match="no log of a training run"):
        read_run("gru")


def test_what_ships() -> None:
    assert octavo.bundled()
    for name in octavo.bundled():
        run = read_run(name)
        assert run.made["command"].startswith("octavo train ")
        assert run.val_loss is not None
    files = [path for path in storage.PRETRAINED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 32_000_000


def test_models_without_any(refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PRETRAINED", tmp_path / "nothing")
    assert "no model ships" in refused("models")
