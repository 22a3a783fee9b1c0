"""The log of a training run, as `octavo.train` leaves it in the model's folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import octavo
from octavo import storage
from octavo.errors import OctavoError
from octavo.journal import LOG


class Run(NamedTuple):
    """How a model was made, and the reports on the way."""

    made: dict[str, Any]
    reports: list[dict[str, Any]]
    summary: dict[str, Any]  # empty while the run lasts, and for logs of earlier versions

    @property
    def val_loss(self) -> float | None:
        """The least loss on the held-out text, in nats per token."""
        return min((r["val_loss"] for r in self.reports if r["val_loss"] is not None), default=None)

    @property
    def in_vain(self) -> bool:
        """Whether a whole run left the held-out loss of the weights that it began from where it was."""
        before = [r["val_loss"] for r in self.reports[:1] if r["step"] == 0]
        return before == [self.val_loss] and not self.summary["interrupted"]


def read_run(model: str) -> Run:
    """The run that made a shipped model or a model folder; the log itself may be named too."""
    folder = storage.PRETRAINED / model if model in octavo.bundled() else Path(model)
    path = folder / LOG if folder.is_dir() else folder
    try:
        made, *lines = [_parse(line) for line in path.read_text(encoding="utf-8").splitlines()]
        ends = [dict(line["summary"]) for line in lines if "summary" in line]
        reports = [_report(line) for line in lines if "step" in line]
        return Run(dict(made), reports, ends[-1] if ends else {})
    except FileNotFoundError:
        raise OctavoError(f"there is no {path}; a folder that octavo train wrote has one") from None
    except OSError as error:
        raise OctavoError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise OctavoError(f"{path} is no log of a training run, or is damaged") from None


def _parse(line: str) -> Any:
    """A line of JSON, which has no NaN."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(line, parse_constant=refuse)


def _report(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the log; a loss that is missing, as it may be at the first step, draws as NaN."""
    val_loss = line["val_loss"]
    return line | {
        "tokens": int(line["tokens"]),
        "loss": math.nan if line["loss"] is None else float(line["loss"]),
        "val_loss": None if val_loss is None else float(val_loss),
    }
