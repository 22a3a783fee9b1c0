"""`octavo models`: what ships with the package."""

from __future__ import annotations

import math
from typing import Any

import octavo
from octavo import models, storage
from octavo.cli import loading
from octavo.cli.printing import console, emit, table
from octavo.cli.runs import read_run
from octavo.errors import OctavoError
from octavo.formats import folder

EPILOG = """[bold]Examples[/bold]

octavo models

octavo generate --model christie-gru "poirot " """


def run(json: loading.JsonOption = False) -> None:
    """List the models that ship with octavo, and how they were made."""
    found = [description(name) for name in octavo.bundled()]
    if json:
        emit({"models": found})
    elif found:
        _print(found)
    else:
        raise OctavoError("no model ships with this copy of octavo")


def description(name: str) -> dict[str, Any]:
    """What ``--json`` tells of a model: its config and its log know all of it, and no weight is read."""
    fields, log = folder.read_config(storage.PRETRAINED / name / folder.CONFIG), read_run(name)
    model_type = fields.pop("model_type")
    config, architecture = models.configure(model_type, fields), models.architecture(model_type)
    shapes = architecture.shapes(config)
    return {
        "name": name,
        "model_type": model_type,
        "parameters": sum(math.prod(shapes[p]) for p in shapes if p not in architecture.FIXED),
        "vocab_size": config.vocab_size,
        "context": getattr(config, "context", None),
        "val_loss": log.val_loss,
        "command": log.made["command"],
    }


def _print(found: list[dict[str, Any]]) -> None:
    rows = table("name", "type", "parameters", "vocabulary", "context", "val. loss")
    for column in rows.columns[2:]:
        column.justify = "right"
    for facts in found:
        context = f"{facts['context']:,}" if facts["context"] else "any"
        sizes = (f"{facts['parameters']:,}", f"{facts['vocab_size']:,}", context)
        rows.add_row(f"[bold]{facts['name']}[/bold]", facts["model_type"], *sizes, f"{facts['val_loss']:.3f}")
    from rich.padding import Padding
    from rich.text import Text

    screen = console()
    screen.print(rows)
    screen.print("[dim]val. loss: nats per token of text held out from training[/dim]\n")
    for facts in found:
        screen.print(f"[bold]{facts['name']}[/bold] was made with")
        screen.print(Padding(Text(facts["command"], "dim"), (0, 0, 1, 2)))
