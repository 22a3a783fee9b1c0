"""`octavo show`: a model's parameters, one row each."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import octavo
from octavo.cli import loading
from octavo.cli.printing import console, emit, size, table
from octavo.models import describe
from octavo.nn import Array
from octavo.quant import Quantized

if TYPE_CHECKING:
    from rich.table import Table

EPILOG = """[bold]Examples[/bold]

octavo show bard

octavo show RNN_model.json --weights RNN_model.h5

octavo show weights.npz --set n_heads=8 --json"""


def run(
    model: loading.ModelArgument,
    json: loading.JsonOption = False,
    weights: loading.WeightsOption = None,
    tokenizer: loading.TokenizerOption = None,
    chars: loading.CharsOption = None,
    settings: loading.SetOption = None,
) -> None:
    """Show a model's parameters: names, shapes, counts."""
    loaded = loading.load_model(model, weights, tokenizer, chars, settings)
    if json:
        emit(description(loaded))
    else:
        _print(loaded)


def description(model: octavo.Model) -> dict[str, Any]:
    """What ``--json`` prints."""
    fixed = sum(int(model.params[name].size) for name in model.architecture.FIXED if name in model.params)
    return {
        "model_type": model.model_type,
        "config": describe(model.model_type, model.config),
        "vocab_size": model.vocab_size,
        "tokenizer": repr(model.tokenizer) if model.tokenizer else None,
        "parameters": [
            {
                "name": name,
                "shape": list(array.shape),
                "count": int(array.size),
                "dtype": array.format.name if isinstance(array, Quantized) else str(array.dtype),
                "trainable": name not in model.architecture.FIXED,
            }
            for name, array in _in_order(model).items()
        ],
        "trainable": model.count(),
        "fixed": fixed,
        "bytes": sum(int(array.nbytes) for array in model.params.values()),
    }


def _in_order(model: octavo.Model) -> dict[str, Array]:
    """The parameters from the tokens to the logits: files hold them by the alphabet."""
    return {name: model.params[name] for name in model.architecture.shapes(model.config)}


def _print(model: octavo.Model) -> None:
    from rich.text import Text

    facts = description(model)
    screen = console()
    for label, fact in (
        (model.model_type, config_line(facts["config"])),
        ("tokenizer", facts["tokenizer"] or "none"),
    ):
        screen.print(Text.assemble((f"{label:<11}", "bold"), fact))
    screen.print()
    screen.print(_rows(facts["parameters"]))
    screen.print()
    totals = table("", "", numbers=("",))
    totals.show_header = False
    totals.add_row("trainable", f"{facts['trainable']:,}")
    totals.add_row("not trained", f"{facts['fixed']:,}")
    totals.add_row("[bold]total[/bold]", f"[bold]{facts['trainable'] + facts['fixed']:,}[/bold]")
    totals.add_row("in memory", size(facts["bytes"]))
    screen.print(totals)


def _rows(parameters: list[dict[str, Any]]) -> Table:
    """One row per parameter, a blank line between layers."""
    rows = table("parameter", "shape", "count", numbers=("count",))
    for _, members in groupby(parameters, key=lambda parameter: _group(parameter["name"])):
        for parameter in members:
            note = "" if parameter["trainable"] else " [dim](fixed)[/dim]"
            shape = " x ".join(map(str, parameter["shape"]))
            rows.add_row(parameter["name"] + note, shape, f"{parameter['count']:,}")
        rows.add_section()
    return rows


def _group(name: str) -> str:
    """``layers.0`` of ``layers.0.attention.wq.weight``; nothing of a name without a layer's number."""
    parts = name.split(".")
    numbered = next((i for i, part in enumerate(parts) if part.isdecimal()), -1)
    return ".".join(parts[: numbered + 1])


def config_line(config: dict[str, Any]) -> str:
    """A config in a line: its sizes, or its layers from the tokens up."""
    layers = [
        f"{layer['kind']} {layer['units'] or layer['activation']}" for layer in config.get("layers", ())
    ]
    if layers:
        return f"{config['vocab_size']} tokens → {' → '.join(layers)}"
    return ", ".join(f"{name} {value}" for name, value in config.items() if name != "model_type")
