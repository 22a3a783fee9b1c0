"""Nothing is lost: runs that are killed, stopped or refused, and go on as if they had not been."""

import errno
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import OctavoError, checkpoint

from . import lives

STEPS = 600
HERE = Path(__file__).with_name("lives.py")


def live(out: Path, cache: Path, *args: str) -> subprocess.Popen[str]:
    """A process that trains, or goes on training."""
    quick = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.Popen(
        [sys.executable, str(HERE), str(out), *args],
        env=os.environ | quick,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to, and beside it the compiled code."""
    out = tmp_path_factory.mktemp("whole") / "model"
    process = live(out, out.parent / "cache", str(STEPS))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return out


def assert_same_weights(a: Path, b: Path) -> None:
    for part in ("", "last"):
        one, other = octavo.load(a / part), octavo.load(b / part)
        for name, value in one.params.items():
            np.testing.assert_array_equal(value, other.params[name])


def test_dozens_of_kills_change_nothing(whole: Path, tmp_path: Path) -> None:
    out, rng = tmp_path / "model", random.Random(0)
    kills, steps = 0, [0]
    while True:
        process = live(out, whole.parent / "cache", str(STEPS))
        assert process.stdout is not None
        if first := process.stdout.readline():  # training has begun
            steps.append(int(first))
            time.sleep(rng.uniform(0, 0.12) if kills < 24 else 60)
        process.kill() if kills < 24 else None
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
    assert kills >= 24
    assert steps == sorted(steps), "a kill has set a run back behind its checkpoint"
    assert_same_weights(whole, out)
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize("moment", ["half a file", "before the rename", "after the rename"])
def test_a_kill_while_a_checkpoint_is_written(moment: str, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    process = live(out, whole.parent / "cache", str(STEPS), moment)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = checkpoint.latest(out)
    assert kept is not None
    assert int(kept.name) == (2 if moment == "after the rename" else 1)
    process = live(out, whole.parent / "cache", str(STEPS))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_same_weights(whole, out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_goes_on(number: int, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    process = live(out, whole.parent / "cache", str(STEPS))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 0
    stopped = json.loads((out / "training.jsonl").read_text().splitlines()[-1])["summary"]
    assert stopped["interrupted"] is True
    assert stopped["steps"] < STEPS
    kept = checkpoint.latest(out)
    assert kept is not None
    assert int(kept.name) == stopped["steps"]
    assert octavo.load(out).count()
    process = live(out, whole.parent / "cache", str(STEPS))
    process.communicate()
    assert process.returncode == 0
    assert_same_weights(whole, out)
    logged = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "step" in line][-1] == STEPS
    assert logged[-1]["summary"]["interrupted"] is False
    assert sum("summary" in line for line in logged) == 1


# ---------------------------------------------------------------- within one process


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 steps that was interrupted at the fifth."""
    out = tmp_path_factory.mktemp("interrupted") / "model"

    def interrupt(now: octavo.recipe.Report) -> None:
        if now.step == 5:
            raise KeyboardInterrupt

    octavo.train(lives.TEXT, steps=40, out=out, report=interrupt, **lives.RUN)
    assert checkpoint.latest(out) == out / "checkpoints" / "00000005"
    return out


@pytest.fixture
def out(interrupted: Path, tmp_path: Path) -> Path:
    """That run, for one test to go on with or to damage."""
    return shutil.copytree(interrupted, tmp_path / "model")


def resumed(out: Path, text: Any = lives.TEXT, **options: Any) -> Any:
    return octavo.train(text, out=out, resume=True, **{"steps": 40} | lives.RUN | options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"text": lives.TEXT + "!"}, "another text|character"),
        ({"text": lives.TEXT + "to"}, "of a run on another text"),
        ({"steps": 50}, "a run with steps 40, not 50"),
        ({"lr": 0.5}, "a run with lr 0.01, not 0.5"),
        ({"model_type": "rnn"}, "a run with model gru, not rnn"),
        ({"sizes": {"units": (9,)}}, "a run with size"),
        ({"tokenizer": "bpe:300"}, "a run with tokenizer"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(options: dict[str, Any], named: str, out: Path) -> None:
    before = contents(out)
    with pytest.raises(OctavoError, match=named) as caught:
        resumed(out, **options)
    assert "\n" not in str(caught.value)
    assert contents(out) == before
    assert resumed(out).count()


def test_what_is_not_said_again_is_taken_from_the_checkpoint(out: Path) -> None:
    model = octavo.train(lives.TEXT, out=out, resume=True)
    whole = octavo.train(lives.TEXT, steps=40, **lives.RUN)
    for name, value in whole.params.items():
        np.testing.assert_array_equal(model.params[name], value)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    out = tmp_path / "model"
    first = resumed(out)  # there was nothing to go on from
    before = contents(out)
    again = resumed(out)
    assert contents(out) == before
    for name, value in first.params.items():
        np.testing.assert_array_equal(again.params[name], value)
    with pytest.raises(OctavoError, match="exists already"):
        octavo.train(lives.TEXT, steps=40, out=out, **lives.RUN)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 50}, "with steps 40, not 50"),
        ({"lr": 0.5}, "with lr"),
        ({"model_type": "rnn"}, "with model gru, not rnn"),
        ({"sizes": {"units": (9,)}}, "with sizes"),
        ({"size": "large"}, "with (no )?size"),
        ({"tokenizer": "bpe:300"}, "with tokenizer char, not bpe:300"),
        ({"base": "bard"}, "with no from, not bard"),
        ({"text": lives.TEXT + "to"}, "on another text"),
    ],
)
def test_a_finished_run_is_not_taken_for_another(
    options: dict[str, Any], named: str, out: Path, interrupted: Path
) -> None:
    resumed(out)
    before = contents(out)
    with pytest.raises(OctavoError, match=f"is finished, {named}.*--from"):
        resumed(out, **options)
    assert contents(out) == before
    assert octavo.train(lives.TEXT, out=out, resume=True).count()


@pytest.mark.parametrize("options", [{"model_type": "auto"}, {"model_type": "gru"}, {"tokenizer": "char"}])
def test_a_run_may_be_told_what_it_has_anyway(options: dict[str, Any], out: Path) -> None:
    assert checkpoint.latest(out) is not None
    assert resumed(out, **options).count()
    assert checkpoint.latest(out) is None
    assert resumed(out, **options).count()  # now that it is finished


def test_a_log_that_does_not_tell_what_was_asked_is_believed(out: Path) -> None:
    resumed(out)
    first, rest = (out / "training.jsonl").read_text().split("\n", 1)
    made = {name: value for name, value in json.loads(first).items() if name not in ("asked", "text")}
    (out / "training.jsonl").write_text(json.dumps(made) + "\n" + rest)
    assert resumed(out, tokenizer="bpe:300").count()
    assert resumed(out, text="A TEXT OF OTHER CHARACTERS").count()
    with pytest.raises(OctavoError, match="with steps 40, not 50"):
        resumed(out, steps=50)


def test_who_forgets_to_resume_is_not_told_to_remove_the_run(out: Path) -> None:
    before = contents(out)
    with pytest.raises(OctavoError, match="holds a run that was stopped: go on with it") as caught:
        octavo.train(lives.TEXT, steps=40, out=out, **lives.RUN)
    assert "remove" not in str(caught.value)
    assert contents(out) == before


def killed_at_its_first_checkpoint(out: Path) -> None:
    """What such a kill leaves: a folder, a log without a summary, and no checkpoint that is whole."""
    (out / "checkpoints" / "00000005").rename(out / "checkpoints" / ".partial-00000005")
    log = (out / "training.jsonl").read_text().splitlines()
    (out / "training.jsonl").write_text("\n".join(log[:-1]) + "\n")
    (out / ".new-0badcafe").mkdir()


def test_a_run_without_its_first_checkpoint_is_begun_again(out: Path) -> None:
    killed_at_its_first_checkpoint(out)
    resumed(out)
    whole = octavo.train(lives.TEXT, steps=40, out=out.with_name("whole"), **lives.RUN)
    assert whole.count()
    assert_same_weights(out, out.with_name("whole"))
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in out.with_name("whole").iterdir())


def test_a_stopped_run_whose_checkpoints_somebody_removed_is_left_alone(out: Path) -> None:
    shutil.rmtree(out / "checkpoints")
    before = contents(out)
    with pytest.raises(OctavoError, match="exists already"):
        resumed(out)
    assert contents(out) == before


def test_the_last_checkpoint_goes_when_the_model_is_on_the_disk(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, flushed = os.fsync, set[int]()

    def fsync(handle: int) -> None:
        if (out / "checkpoints").exists():
            flushed.add(os.fstat(handle).st_ino)
        inner(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    resumed(out)
    assert not (out / "checkpoints").exists()
    assert flushed >= {path.stat().st_ino for path in (out, *out.rglob("*"))}


def test_a_folder_without_a_run_is_not_gone_on_from(tmp_path: Path) -> None:
    octavo.save(octavo.load("christie-rnn"), tmp_path / "model")
    with pytest.raises(OctavoError, match="exists already"):
        resumed(tmp_path / "model")


@pytest.mark.parametrize("file", ["run.json", "0.safetensors"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\x00" * 100, None])
def test_a_damaged_checkpoint_is_one_line(file: str, damage: bytes | None, out: Path) -> None:
    path = out / "checkpoints" / "00000005" / file
    if damage is None:
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.write_bytes(damage)
    with pytest.raises(OctavoError, match="checkpoint") as caught:
        resumed(out)
    assert "\n" not in str(caught.value)


def full_disk(monkeypatch: pytest.MonkeyPatch, from_now: threading.Event) -> None:
    inner = os.fsync

    def fsync(handle: int) -> None:
        if from_now.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        inner(handle)

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, full = tmp_path / "model", threading.Event()
    full_disk(monkeypatch, full)

    def fill(now: octavo.recipe.Report) -> None:
        if now.step == 6:
            full.set()

    with pytest.raises(OctavoError, match=r"No space left on device; the checkpoint of step \d is intact"):
        octavo.train(lives.TEXT, steps=40, out=out, save_every=0, report=fill, **lives.RUN)
    kept = checkpoint.latest(out)
    assert kept is not None
    assert [p.name for p in (out / "checkpoints").iterdir()] == [kept.name]
    full.clear()
    model = resumed(out)
    whole = octavo.train(lives.TEXT, steps=40, **lives.RUN)
    for name, value in whole.params.items():
        np.testing.assert_array_equal(model.params[name], value)


def test_a_full_disk_at_the_end_leaves_the_checkpoint(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = importlib.import_module("octavo.journal")

    def refuse(*_: Any) -> None:
        raise OctavoError("cannot write the model: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "replace_folder", refuse)
        with pytest.raises(OctavoError, match="No space left"):
            resumed(out)
    assert checkpoint.latest(out) is not None
    assert resumed(out).count()
    assert octavo.load(out / "last").count()


def test_what_a_checkpoint_failed_of_is_said_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, saved = threading.Event(), list[int]()
    full_disk(monkeypatch, full)
    full.set()
    inner = checkpoint.Writer.write

    def write(self: checkpoint.Writer, *args: Any) -> None:
        inner(self, *args)
        saved.append(args[0]["step"])
        while self.busy:
            time.sleep(0.01)

    monkeypatch.setattr(checkpoint.Writer, "write", write)
    seen: list[int] = []
    options = lives.RUN | {"report": lambda now: seen.append(now.step)}
    with pytest.raises(OctavoError, match=r"cannot write .*No space left on device"):
        octavo.train(lives.TEXT, steps=10**6, out=tmp_path / "model", save_every=0.5, **options)
    assert len(saved) == 1
    assert seen[-1] == saved[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder(out: Path) -> None:
    (out / "checkpoints").chmod(0o500)
    with pytest.raises(OctavoError, match="cannot write a checkpoint"):
        resumed(out, save_every=0)


def test_a_checkpoint_holds_all_that_changes(out: Path) -> None:
    kept = checkpoint.Checkpoint(out / "checkpoints" / "00000005")
    names = {name.split(".")[0] for name in kept.names}
    assert names == {"params", "memory", "best"}
    assert kept.run["step"] == 5
    assert kept.run["position"]["loss"] > 0
    with pytest.raises(OctavoError, match=r"lacks params\.wings"):
        kept.read("params.wings")


def test_parts_that_are_no_whole_array_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    (tmp_path / checkpoint.RUN).write_text(
        '{"processes": 1}\n' + json.dumps({"format": checkpoint.FORMAT, "step": 1})
    )
    part = np.ones((2, 3), np.float32)
    for second in ("a@3:5,0:3", "a@1:3,0:3", "a@2:1000000000000,0:3", "a@2:4", "a@", "a@2:4,0:3,0:1"):
        save_file({"a@0:2,0:3": part, second: part}, tmp_path / "0.safetensors")
        with pytest.raises(octavo.OctavoError, match="no readable checkpoint") as refusal:
            checkpoint.Checkpoint(tmp_path).read("a")
        assert "\n" not in str(refusal.value)
    for name in ("a@x", "a@1:2:3:4"):
        save_file({name: part}, tmp_path / "0.safetensors")
        with pytest.raises(octavo.OctavoError, match="no readable checkpoint"):
            checkpoint.Checkpoint(tmp_path)
    save_file({"a@0:2,0:3": part, "a@2:4,0:3": 2 * part}, tmp_path / "0.safetensors")
    assert checkpoint.Checkpoint(tmp_path).read("a").tolist() == [[1] * 3] * 2 + [[2] * 3] * 2
