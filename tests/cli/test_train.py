"""`octavo train`: a run from text to folder, its reports, and Ctrl-C in the middle."""

import io
import json
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import octavo
from octavo.cli import progress, train
from octavo.recipe import DEFAULTS, Recipe, Report

from .conftest import TEXT, make

SUMMARY = {
    "val_loss": 1.0,
    "val_bits_per_byte": 1.0,
    "loss": 1.0,
    "steps": 1,
    "tokens": 8,
    "seconds": 1.0,
    "interrupted": True,
}
SMALL = ["--model", "gru", "--size", "units=4", "--context", "8", "--batch", "2"]


def test_a_run_for_people(run: Any, narrow: Any) -> None:
    out = run("train", "shelf/text.txt", "--out", "new", "--steps", "20", *SMALL).stdout
    narrow(out)
    lines = out.splitlines()
    assert len([line for line in lines if "step " in line]) == 20  # evaluations
    assert any(line.startswith("validation loss") for line in lines)
    assert lines[-1] == "next: octavo generate --model new 'It was the'"
    model = octavo.load("new")
    assert (model.model_type, model.config.layers[0].units) == ("gru", 4)
    assert octavo.generate(model, "It was the", limit=3)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (" \n  to be or not\n", "to be or"),
        ("to\tbe\tor not", "to\tbe\tor"),
        ("to  be\nor", "to  be"),
        (" \n \n", " \n \n"),
        ("a" * 99, "a" * 30),
    ],
)
def test_the_prompt_that_is_proposed_stands_in_the_text(text: str, prompt: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert train.opening([str(tmp_path / "a.txt")], "text") == prompt
    assert prompt in text


def test_json_reports_and_the_log(start: Any) -> None:
    args = ["train", "shelf/text.txt", "-o", "new", "-m", "rnn", "--epochs", "0.2", "--size", "units=6,4"]
    process = start([*args, "--context", "8", "--batch", "2", "--seed", "1", "--json"])
    out, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    *reports, last = [json.loads(line) for line in out.splitlines()]
    assert len(reports) == 20
    assert {"step", "loss", "val_loss", "tokens", "seconds", "tokens_per_second"} <= set(reports[0])
    assert {"val_loss", "steps", "tokens", "seconds", "out", "interrupted"} <= set(last)
    assert {"val_bits_per_byte"} <= set(reports[0]) & set(last)
    assert last["val_loss"] == pytest.approx(min(report["val_loss"] for report in reports), rel=1e-6)
    made, *log, end = [json.loads(line) for line in Path("new/training.jsonl").read_text().splitlines()]
    assert made["command"].startswith("octavo train shelf/text.txt -o new -m rnn --epochs 0.2")
    assert made["recipe"]["seed"] == 1
    assert "NaN" not in Path("new/training.jsonl").read_text()
    assert end["summary"].items() <= last.items()
    assert [line["val_loss"] for line in log if line["val_loss"] is not None] == [
        r["val_loss"] for r in reports
    ]
    assert [layer.units for layer in octavo.load("new").config.layers[:2]] == [6, 4]


def test_a_run_as_xla_compiles_it_for_people(run: Any, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests have it compile sooner, and less."""
    args = ["train", "shelf/text.txt", "--steps", "4", "--context", "8", "--batch", "2", "--json", "--out"]
    quick = json.loads(run(*args, "quick").stdout.splitlines()[-1])
    for name in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):
        monkeypatch.delenv(name)
    process = start([*args, "slow"])
    out, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    slow = json.loads(out.splitlines()[-1])
    assert slow["val_loss"] == pytest.approx(quick["val_loss"], rel=1e-4)


def test_control_c_saves_what_there_is(start: Any) -> None:
    process = start(["train", "shelf/text.txt", "-o", "new", "--steps", "10000", *SMALL, "--json"])
    assert json.loads(process.stdout.readline())["progress"] == 0.05
    process.send_signal(signal.SIGINT)
    out, complaints = process.communicate(timeout=30)
    assert process.returncode == 130, complaints
    assert complaints == b""
    assert json.loads(out.splitlines()[-1])["interrupted"] is True
    assert octavo.generate(octavo.load("new"), "It", limit=2)
    end = json.loads(Path("new/training.jsonl").read_text().splitlines()[-1])
    assert end["summary"]["interrupted"] is True


def test_control_c_says_how_to_go_on(start: Any, narrow: Any) -> None:
    args = ["train", "shelf/text.txt", "-o", "new", "--steps", "4000", "-m", "gru", "--size", "units=4"]
    process = start([*args, "--context", "8", "--batch", "2"])
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    lines = out.decode().splitlines()
    assert any(line.startswith("stopped after") for line in lines)
    (again,) = [line.removeprefix("go on: ") for line in lines if line.startswith("go on: ")]
    assert again == shlex.join(["octavo", *args, "--context", "8", "--batch", "2", "--resume"])
    process = start(shlex.split(again)[1:])
    out, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert not Path("new/checkpoints").exists()
    assert "4,000 steps" in out.decode()


def test_the_words_to_go_on_from_are_the_first_there_are(tmp_path: Path) -> None:
    """The run is over when they are looked for: it must not end with a complaint."""
    contents = {"empty.txt": "", "blank.txt": "\n \n", "text.txt": "\nIt was the best of times\n"}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    names = [str(tmp_path / name) for name in contents]
    assert train.opening(names, "text") == "It was the"


def report(step: int, total: int, val_loss: float | None = None, **more: Any) -> Report:
    return Report(step, step / total, step * 8, step * 0.5, 1.5, val_loss, 1e-3, 16.0, 3.0, **more)


def test_a_line_is_said_per_evaluation_even_without_held_out_text(capsys: Any, narrow: Any) -> None:
    history = progress.History()
    with progress.watched(history, json=False) as say:
        for step in range(1, 101):
            say(report(step, 100))
    out = capsys.readouterr().out
    narrow(out)
    assert len(out.splitlines()) == 20
    assert "val" not in out
    assert history.last is not None
    assert history.last.progress == 1


def test_the_history_keeps_the_best() -> None:
    history = progress.History()
    for step, val_loss in enumerate([3.0, 2.0, None, 2.5], 1):
        history.add(report(step, 8, val_loss, val_bits_per_byte=val_loss))
    assert (history.val_loss, history.bits) == (2.0, 2.0)


def test_the_bar_fits_beside_what_it_says(narrow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False)
    monkeypatch.setattr(progress, "console", lambda: screen)
    with progress.watched(progress.History(), json=False) as draw:
        sample = "ROMEO:\n\nWhat \x1b[31m say" + "you " * 30
        draw(Report(10, 0.5, 10**9, 36000.0, 10.123, 10.456, 1e-3, 27777.8, 36000.0, 12.345, sample))
    plain = screen.file.getvalue().replace("\r", "\n")  # type: ignore[attr-defined]
    bare = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", plain)
    narrow(bare)
    said = " ".join(bare.split())
    assert "loss 10.123 val 10.456 12.35 bits/byte 27.8k tok/s 10:00:00 left" in said
    assert "│ ROMEO: │ What \\x1b[31m sayyou you" in said


def test_curves_for_tensorboard(run: Any, narrow: Any) -> None:
    args = ["train", "shelf/text.txt", "--out", "new", "--steps", "20", *SMALL]
    run(*args, "--log", "tensorboard")
    (events,) = Path("new/tensorboard").iterdir()
    content = events.read_bytes()
    for name in (b"loss/train", b"loss/validation", b"bits_per_byte/validation", b"learning_rate"):
        assert content.count(name) >= 18
    assert octavo.load("new").count()


def test_a_run_that_is_refused_leaves_no_curves(refused: Any) -> None:
    Path("taken").mkdir()
    (Path("taken") / "note").write_text("")
    Path("empty").mkdir()
    curves = ["--steps", "1", "--log", "tensorboard"]
    assert "exists already" in refused("train", "shelf/text.txt", "--out", "taken", *curves)
    assert "there is no file" in refused("train", "nothing.txt", "--out", "empty", *curves)
    assert [path.name for path in Path("taken").iterdir()] == ["note"]
    assert not any(Path("empty").iterdir())


def test_a_text_may_be_gone_in_the_end(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("gone.txt").write_text(TEXT)
    inner = octavo.train

    def train(*args: Any, **options: Any) -> octavo.Model:
        made = inner(*args, **options)
        Path("gone.txt").unlink()
        return made

    monkeypatch.setattr(octavo, "train", train)
    out = run("train", "gone.txt", "--out", "new", "--steps", "2", *SMALL).stdout
    assert out.splitlines()[-1] == "next: octavo generate --model new 'It was the'"


def test_training_goes_on_from_a_gguf_file(run: Any) -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "context": 16}
    octavo.save(make("llama", octavo.tokenizers.char(TEXT), **sizes), "small.gguf", dtype="Q4_1")
    run("train", "shelf/text.txt", "-o", "new", "--from", "small.gguf", "--steps", "2", "--context", "8")
    made, begun = octavo.load("new"), octavo.load("small.gguf")
    assert made.model_type == "llama"
    for name, array in begun.params.items():
        np.testing.assert_allclose(made.params[name], np.asarray(array), atol=0.1)
        assert (made.params[name] != np.asarray(array)).any()


def test_words_that_look_like_an_option_are_none(run: Any) -> None:
    Path("list.txt").write_text("- one thing\n- and another\n" * 20)
    out = run("train", "list.txt", "--steps", "1", "-o", "new", *SMALL).stdout
    command = shlex.split(out.splitlines()[-1].removeprefix("next: octavo "))
    assert command[-2:] == ["--", "- one thing"]
    assert run(*command, "--limit", "3", code=2)  # after these two nothing is an option
    assert run(command[0], "--limit", "3", *command[1:]).stdout.startswith("- one thing")


def test_a_run_that_betters_nothing_says_so(run: Any, narrow: Any) -> None:
    args = ["train", "shelf/text.txt", "--context", "8", "--batch", "2", "--steps", "1", "--lr"]
    run(*args, "0.01", "-o", "first", "--model", "gru", "--size", "units=4")
    out = run(*args, "100", "-o", "worse", "--from", "first").stdout
    narrow(out)
    assert re.match(r"before training val [\d.]+  [\d.]+ bits/byte\n100% step 1 ", out)
    assert "worse holds the weights that the run began from" in " ".join(out.split())
    assert "no less than before" not in run(*args, "1e-4", "-o", "better", "--from", "first").stdout


def test_defaults_are_those_of_the_recipe() -> None:
    assert train.default("clip") == rf"\[default: {Recipe(steps=1).clip:g}]"
    assert train.default("optimizer").startswith((r"\[default: adamw (", r"\[default: muon ("))
    assert f"{DEFAULTS['plain']['lr']:g}" in train.default("lr")


def test_options_reach_the_verb(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def verb(text: str, **options: Any) -> octavo.Model:
        asked.update(options)
        Path(options["out"]).mkdir(exist_ok=True)
        Path(options["out"], "training.jsonl").write_text(f"{{}}\n{json.dumps({'summary': SUMMARY})}\n")
        return octavo.load("shelf/gru")

    monkeypatch.setattr(octavo, "train", verb)
    run(
        "train", "shelf/text.txt", "-o", "new", code=130
    )  # no report ever came: not the whole budget was spent
    assert asked["minutes"] == 5
    assert not set(asked) & set(Recipe.__dataclass_fields__) - {"minutes"}
    options = "--lr 0.1 --warmup 0.2 --weight-decay 0.3 --dropout 0.4 --clip 0.5 --validation 0.7"
    run(
        "train",
        "shelf/text.txt",
        "-o",
        "other",
        "--epochs",
        "2",
        "--tokenizer",
        "bpe:300",
        *options.split(),
        code=130,
    )
    given = {name: asked[name] for name in ("lr", "warmup", "weight_decay", "dropout", "clip")}
    assert list(given.values()) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert (asked["validation"], asked["epochs"], asked["tokenizer"]) == (0.7, 2.0, "bpe:300")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.txt", "-o", "new"], "there is no file none.txt"),
        (["shelf/text.txt", "-o", "shelf/gru"], "exists already"),
        (["shelf/text.txt", "-o", "new", "--steps", "2", "--epochs", "2"], "steps and epochs"),
        (["shelf/text.txt", "-o", "new", "--context", "99999"], "fewer than one window"),
        (["shelf/text.txt", "-o", "new", "-m", "gru", "--size", "wings=2"], "no size wings"),
        (["shelf/text.txt", "-o", "new", "--size", "vocab_size=2"], "--tokenizer"),
        (["shelf/text.txt", "-o", "new", "--tokenizer", "bpe:many"], "bpe:N"),
        (["shelf/text.txt", "-o", "new", "-m", "oracle"], "oracle"),
        (["shelf/text.txt"], "--out"),
    ],
)
def test_what_cannot_be_trained(refused: Any, args: list[str], message: str) -> None:
    assert message in refused("train", *args)
    assert not Path("new").exists()
