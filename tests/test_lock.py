"""One run at a time writes a folder."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import octavo
from octavo import OctavoError
from octavo.lock import alone, take

from . import lives

HELD = """
import sys, time
from pathlib import Path
from octavo.lock import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_the_first_one_goes_on(tmp_path: Path) -> None:
    out, refused = tmp_path / "new" / "model", list[str]()

    def again(_: object) -> None:
        for resume in (False, True):
            with pytest.raises(OctavoError) as caught:
                octavo.train(lives.TEXT, steps=1, out=out, resume=resume, **lives.RUN)
            refused.append(str(caught.value))

    octavo.train(lives.TEXT, steps=2, out=out, report=again, **lives.RUN)
    assert len(refused) == 4
    assert {*refused} == {
        f"another run is writing {out}; wait for it, stop it, or name a new folder",
    }
    assert [path.name for path in out.parent.iterdir()] == ["model"]  # the lock is gone
    assert octavo.load(out).count()


def test_another_process_keeps_us_out_until_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with subprocess.Popen(
        [sys.executable, "-c", HELD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OctavoError, match="another run is writing"), alone(folder):
            pass
        with alone(tmp_path / "other"):
            pass
        holder.kill()
    with alone(folder):  # what was left behind keeps nobody out
        assert (tmp_path / ".model.lock").exists()
    assert not any(tmp_path.iterdir())


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, taken = tmp_path / ".model.lock", list[int]()

    def late(handle: int) -> bool:
        if not taken:
            path.unlink()  # by who had it before
        taken.append(handle)
        return take(handle)

    monkeypatch.setattr("octavo.lock.take", late)
    with alone(tmp_path / "model"):
        assert path.exists()
    assert len(taken) == 2


def test_two_names_of_a_folder_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "model")
    with alone(Path("model")):
        for other in (tmp_path / "model", Path("a/../model"), Path("link")):
            with pytest.raises(OctavoError, match="another run"), alone(other):
                pass


def test_where_nothing_can_be_locked_nobody_is_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octavo.lock.take", lambda file: False)
    with alone(tmp_path / "model"), alone(tmp_path / "model"):
        pass


def test_a_place_that_cannot_be_written_to_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path("/proc/model")  # of which the system says that it may be written to
    if not place.parent.is_dir():
        pytest.skip("there is no /proc")
    monkeypatch.setattr(importlib.import_module("octavo.train"), "run", None)
    with pytest.raises(OctavoError, match="cannot write /proc/model: "):
        octavo.train(lives.TEXT, steps=1, out=place, **lives.RUN)
