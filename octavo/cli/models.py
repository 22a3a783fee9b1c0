"""`octavo models`: what ships with the package."""

from __future__ import annotations

from typing import Any

import octavo
from octavo.cli import loading
from octavo.cli.printing import console, emit, table
from octavo.cli.runs import Run, read_run
from octavo.errors import OctavoError

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
    """What ``--json`` tells of a model."""
    model, run = octavo.load(name), _run(name)
    return {
        "name": name,
        "model_type": model.model_type,
        "parameters": model.count(),
        "vocab_size": model.vocab_size,
        "context": model.context,
        "val_loss": run.val_loss,
        "command": run.made.get("command"),
    }


def _run(name: str) -> Run:
    try:
        return read_run(name)
    except OctavoError:  # a model may ship without its log
        return Run({}, [])


def _print(found: list[dict[str, Any]]) -> None:
    rows = table("name", "type", "parameters", "vocabulary", "context", "val. loss")
    for column in rows.columns[2:]:
        column.justify = "right"
    for facts in found:
        context = f"{facts['context']:,}" if facts["context"] else "any"
        loss = f"{facts['val_loss']:.3f}" if facts["val_loss"] is not None else "?"
        numbers = (f"{facts['parameters']:,}", f"{facts['vocab_size']:,}", context, loss)
        rows.add_row(f"[bold]{facts['name']}[/bold]", facts["model_type"], *numbers)
    from rich.padding import Padding
    from rich.text import Text

    screen = console()
    screen.print(rows)
    screen.print("[dim]val. loss: nats per token of text held out from training[/dim]\n")
    for facts in found:
        screen.print(f"[bold]{facts['name']}[/bold] was made with")
        screen.print(Padding(Text(facts["command"] or "an unknown command", "dim"), (0, 0, 1, 2)))
