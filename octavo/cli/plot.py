"""`octavo plot`: pictures of positions, of training and of what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np

from octavo import nn, plots
from octavo.cli import loading
from octavo.cli.options import Argument, Option
from octavo.cli.printing import emit, piece, say, visible
from octavo.cli.runs import read_run
from octavo.errors import OctavoError
from octavo.texts import prompt_ids

HELP = "Draw pictures, as PNG or SVG."
OutOption = Annotated[
    Path, Option("--out", "-o", help="The picture, .png or .svg.", metavar="FILE", show_default=True)
]


def positions(
    out: OutOption = Path("positions.png"),
    length: Annotated[int, Option(help="How many positions.")] = 128,
    width: Annotated[int, Option(help="The width of the model, even.")] = 256,
    interleaved: Annotated[
        bool, Option("--interleaved", help="Sine and cosine side by side, not in halves.")
    ] = False,
    json: loading.JsonOption = False,
) -> None:
    """Draw how alike sinusoidal positions are, as a heat map."""
    plots.require_picture(out)
    if not (1 <= length <= 4096 and 2 <= width <= 2**16):
        raise OctavoError("--length is from 1 to 4096 and --width from 2 to 65536")
    waves = nn.sinusoids(length, width, interleaved=interleaved)  # [T, D]
    plots.save(plots.similarity(waves @ waves.T, width), out)
    _tell(out, json, {"length": length, "width": width})


def loss(
    runs: Annotated[
        list[str],
        Argument(
            help="Folders that octavo train wrote, or shipped models.",
            metavar="FOLDER",
            show_default=False,
        ),
    ],
    out: OutOption = Path("loss.png"),
    json: loading.JsonOption = False,
) -> None:
    """Draw the training curves of one or several runs."""
    plots.require_picture(out)
    found = {name: read_run(name) for name in dict.fromkeys(runs)}
    plots.save(plots.losses({_label(name): run.reports for name, run in found.items()}), out)
    _tell(out, json, {"val_loss": {name: run.val_loss for name, run in found.items()}})


def temperature(
    model: loading.ModelArgument,
    prompt: Annotated[
        str | None,
        Argument(
            help="The text before; standard input without one, or for -.",
            metavar="PROMPT",
            show_default=False,
        ),
    ] = None,
    temperatures: Annotated[
        str, Option(help="The temperatures, between commas.", metavar="T,T,...")
    ] = "0.5,1,2",
    top: Annotated[int, Option(help="How many of the likeliest tokens.")] = 20,
    out: OutOption = Path("temperature.png"),
    json: loading.JsonOption = False,
    weights: loading.WeightsOption = None,
    tokenizer: loading.TokenizerOption = None,
    chars: loading.CharsOption = None,
    settings: loading.SetOption = None,
    threads: loading.ThreadsOption = None,
) -> None:
    """Draw what comes next, and what a temperature makes of it."""
    plots.require_picture(out)
    text = loading.prompt_or_stdin(prompt)
    if top < 1:
        raise OctavoError(f"--top is at least 1, not {top}")
    scales = _numbers(temperatures)
    loaded = loading.load_reader(model, weights, tokenizer, chars, settings, threads)
    reader = loaded.text_tokenizer()
    logits = loaded.forward(prompt_ids(loaded, text))[0][-1]  # [V]
    ids = np.argsort(logits)[::-1][:top]
    chances = {scale: nn.softmax(logits, scale)[ids] for scale in scales}
    tokens = [piece(reader.token_bytes(int(id))) for id in ids]
    plots.save(
        plots.temperatures([visible(token) for token in tokens], chances, visible(text).replace("␣", " ")),
        out,
    )
    listed = {f"{scale:g}": chance.tolist() for scale, chance in chances.items()}
    _tell(out, json, {"ids": ids.tolist(), "pieces": tokens, "probabilities": listed})


COMMANDS = {
    positions: "[bold]Example[/bold]\n\noctavo plot positions --length 128 --width 256 --out positions.svg",
    loss: "[bold]Example[/bold]\n\noctavo plot loss christie-rnn christie-gru --out loss.png",
    temperature: '[bold]Example[/bold]\n\noctavo plot temperature bard "O, she doth" --temperatures 0.5,1,2',
}
"""Each with its example."""


def _numbers(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or len(found) > plots.MOST_PANELS or not all(0 <= number < np.inf for number in found):
        raise OctavoError(
            f"--temperatures takes 1 to {plots.MOST_PANELS} numbers between commas, not {text!r}"
        )
    return list(dict.fromkeys(found))


def _label(name: str) -> str:
    """A run's name in the legend: the folder without the way to it."""
    return Path(name).name or name


def _tell(out: Path, json: bool, facts: dict[str, Any]) -> None:
    if json:
        emit({"out": str(out)} | facts)
    else:
        say(f"wrote {out}")
