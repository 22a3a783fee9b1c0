"""`octavo show` and `octavo models`: every parameter, and what ships."""

import json
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo import storage

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


def test_models_lists_what_ships(run: Any, narrow: Any, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PRETRAINED", shelf)
    log = [{"command": "octavo train x -o gru " + "--lots of --options " * 9}, LOGGED]
    (shelf / "gru" / "training.jsonl").write_text("\n".join(map(json.dumps, log)))
    result = run("models")
    (shelf / "gru" / "training.jsonl").unlink()
    assert "octavo train x -o gru --lots of" in result.stdout
    assert "1.250" in result.stdout
    narrow(result.stdout)
    assert "gru" in result.stdout
    assert "plain" in result.stdout
    listed = json.loads(run("models", "--json").stdout)["models"]
    assert [facts["name"] for facts in listed] == ["gru", "plain"]
    assert listed[1]["context"] == 16


def test_models_without_any(refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PRETRAINED", tmp_path / "nothing")
    assert "no model ships" in refused("models")
