"""What a training run leaves on the disk: log, best weights so far, checkpoints, and in the end a model.

    FOLDER/config.json, model.safetensors, tokenizer.json    the weights with the least held-out loss
    FOLDER/training.jsonl                                    the recipe, reports on the way, the summary
    FOLDER/last/                                             the last weights, a model folder of its own
    FOLDER/checkpoints/00000120/                             while the run lasts (`octavo.checkpoint`)

The folder appears with the first checkpoint. Of several processes the first writes all but its parts.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from octavo import checkpoint, mesh, models
from octavo.errors import OctavoError
from octavo.formats import folder
from octavo.learn import Learner, State
from octavo.model import Model
from octavo.nn import Array
from octavo.recipe import Report
from octavo.run import Position

LOG, LAST, NEW = "training.jsonl", "last", ".new"
LINES = 100  # reports in a log, about, that no measure of the held-out text goes with


class Journal:
    """What a run has learned and noted so far, and the folder where it is kept, if it is.

    Parameters
    ----------
    model : Model
        The weights it begins with.
    out : Path or None
        The model folder.
    made : mapping
        The first line of the log: how the model was made.
    identity : mapping
        What a checkpoint has to agree with before another process goes on from it.
    """

    def __init__(
        self, model: Model, out: Path | None, made: Mapping[str, Any], identity: Mapping[str, Any]
    ) -> None:
        self.model, self.out, self.identity = model, out, dict(identity)
        self.lines = [json.dumps(made)]
        self.best, self.kept = math.inf, dict[str, Array]()  # held-out loss; nothing kept yet
        self.writer = checkpoint.Writer(out) if out is not None else None
        self.took = 0.0  # seconds, to write the model once

    def note(self, report: Report) -> None:
        """Log a report: all that tell a held-out loss, and of the others ever fewer."""
        if report.val_loss is not None or report.step % max(report.step // LINES, 1) == 0:
            self.lines.append(line(asdict(report)))

    def keep(self, val_loss: float, params: Mapping[str, Array]) -> None:
        """Keep copies of the parameters if no others had a smaller held-out loss."""
        if val_loss < self.best:
            self.best, self.kept = val_loss, {name: mesh.gather(p) for name, p in params.items()}

    # ------------------------------------------------------------ on the way

    def save(self, learner: Learner, state: State, position: Position) -> None:
        """Write a checkpoint, after the folder it stands in."""
        if self.writer is None:
            return
        self.writer.wait()
        current = self.kept or {name: mesh.gather(p) for name, p in state.params.items()}
        log = list(self.lines)
        run = self.identity | {
            "step": position.step,
            "position": asdict(position),
            "best": self.best,
            "log": log,
        }
        best = {f"best.{name}": array for name, array in self.kept.items()}
        self.writer.write(run, learner.named(state) | best, lambda: self.publish(current, log))

    def writing(self) -> float:
        """The seconds that `finish` writes for, as far as is known; raises what a checkpoint failed of."""
        if self.writer is not None:
            self.writer.check()
        return 2 * self.took  # the best weights and the last

    def restore(self, kept: checkpoint.Checkpoint) -> Position:
        """Go on as a checkpoint left off."""
        self.best, self.lines = float(kept.run["best"]), list(kept.run["log"])
        names = [name.removeprefix("best.") for name in kept.names if name.startswith("best.")]
        self.kept = {name: kept.read(f"best.{name}") for name in names}
        if self.writer is not None:
            self.writer.written = int(kept.run["step"])
        return Position(**kept.run["position"])

    def rescued(self, error: OctavoError) -> OctavoError:
        """The error that ended a run, which says where the best weights before it are."""
        if self.writer is None or self.out is None:
            return error
        self.writer.wait()
        if self.kept:
            self.publish(self.kept, self.lines)
            return OctavoError(f"{error}; the best weights before that are in {self.out}")
        return error

    # ------------------------------------------------------------ in the end

    def finish(self, last: Mapping[str, Array], summary: Mapping[str, Any]) -> Model:
        """The model of the weights that were kept; in the folder the last ones stand beside them."""
        self.lines.append(json.dumps({"summary": finite(summary)}))
        kept = self.kept or dict(last)
        if self.writer is not None and self.out is not None:
            self.writer.wait()
            self.publish(kept, self.lines)
            if mesh.leads() and not summary["interrupted"]:
                replace_folder(self.out / LAST, self._with(last))
                checkpoint.remove(self.out)
        return self._with(kept)

    def publish(self, params: Mapping[str, Array], lines: Sequence[str]) -> None:
        """Bring the model folder and its log up to date; each of its files changes in one instant."""
        if self.out is None or not mesh.leads():
            return
        started = time.perf_counter()
        model, log = self._with(params), {LOG: "\n".join(lines) + "\n"}
        if not self.out.exists() or not any(self.out.iterdir()):
            write(self.out, model, log)
        else:
            self._replace(self.out, model, log)
        self.took = time.perf_counter() - started

    def _replace(self, out: Path, model: Model, log: Mapping[str, str]) -> None:
        for old in out.glob(f"{NEW}-*"):  # of a run that was killed
            shutil.rmtree(old, ignore_errors=True)
        beside = out / f"{NEW}-{secrets.token_hex(4)}"
        try:
            write(beside, model, log)
            for file in beside.iterdir():
                os.replace(file, out / file.name)
            checkpoint.to_disk(out)
        except (OSError, OctavoError) as error:
            reason = getattr(error, "strerror", None)
            refusal = f"cannot write {out}: {reason}" if reason else str(error)
            raise OctavoError(refusal + checkpoint.intact(out)) from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _with(self, params: Mapping[str, Array]) -> Model:
        return self.model.with_params(self.model.params | dict(params))


def write(path: Path, model: Model, extras: Mapping[str, str] | None = None) -> None:
    """Write a new model folder with further files, and have the system bring them to the disk."""
    description = models.describe(model.model_type, model.config)
    folder.write(
        path,
        description,
        model.params,
        model.tokenizer,
        extras or {},
        chat_template=model.chat_template,
        generation_config=model.generation_config,
    )
    try:
        for file in (*path.iterdir(), path, path.parent):
            checkpoint.to_disk(file)
    except OSError as error:
        raise OctavoError(f"cannot write {path}: {error.strerror}") from None


def replace_folder(path: Path, model: Model) -> None:
    """Write a model folder in place of one that a run before may have left."""
    shutil.rmtree(path, ignore_errors=True)
    write(path, model)


def line(entry: Mapping[str, Any]) -> str:
    """A line of the log; the first step has no loss yet, and what is not known is left out."""
    optional = ("val_bits_per_byte", "sample")
    return json.dumps({k: v for k, v in finite(entry).items() if v is not None or k not in optional})


def finite(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with null for numbers that JSON does not have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in entry.items()
    }


def logged(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the run in a folder was made, and the last line of its log; empty if there is none."""
    try:
        first, *_, last = (out / LOG).read_text(encoding="utf-8").splitlines()
        return dict(json.loads(first)), dict(json.loads(last))
    except (OSError, ValueError, TypeError):
        return {}, {}


def is_finished(out: Path) -> bool:
    """Whether a run in this folder has spent its budget."""
    summary = logged(out)[1].get("summary")
    return isinstance(summary, dict) and summary.get("interrupted") is False


def is_hardly_begun(out: Path) -> bool:
    """Whether a run in this folder was killed before its first checkpoint was whole."""
    begun = (out / checkpoint.FOLDER).is_dir() and checkpoint.latest(out) is None
    return begun and "step" in logged(out)[1]


def require_place(out: Path, resume: bool) -> None:
    """Refuse a folder that holds something; a run that has not come to a checkpoint may be begun again."""
    if resume and is_hardly_begun(out):
        return
    if not resume and checkpoint.latest(out) is not None:
        raise OctavoError(
            f"{out} holds a run that was stopped: go on with it (--resume), or name a new folder"
        )
    folder.refuse_existing(out)
