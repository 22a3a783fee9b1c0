"""Pictures: how alike positions are, how a training run went, what a temperature does.

Every function takes data and returns a matplotlib `Figure`; nothing touches pyplot, so there is no
state and no window. Colours are those of Okabe and Ito (2008) and of the maps viridis and plasma (Smith
and van der Walt 2015), which the colour-blind can tell apart. Matplotlib is the `plot` extra and imported
when used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from octavo.errors import OctavoError
from octavo.nn import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, FAINT = "#222222", "#D9D9D9"
MOST_PANELS = 8  # temperatures side by side
FORMATS = (".png", ".svg")
LONGEST_PROMPT = 48  # characters of it in a title


def similarity(products: Array, width: int) -> Figure:
    """A heat map of the products of positions with each other.

    Parameters
    ----------
    products : array [T, T]
        ``waves @ waves.T`` of `octavo.nn.sinusoids`.
    width : int
        Of the positions, for the title.

    Examples
    --------
    >>> from octavo import nn
    >>> waves = nn.sinusoids(16, 8)
    >>> similarity(waves @ waves.T, 8).axes[0].get_xlabel()
    'position (tokens)'
    """
    figure = _figure(6.4, 5.6, "compressed")  # the layout for panels of a fixed shape
    axes = figure.add_subplot()
    image = axes.imshow(products, cmap="viridis", origin="upper", interpolation="nearest")
    _style(axes, f"Sinusoidal positions, width {width}: how alike they are")
    axes.set(xlabel="position (tokens)", ylabel="position (tokens)")
    axes.locator_params(integer=True)
    bar = figure.colorbar(image, ax=axes)
    bar.set_label("dot product", color=INK)
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.outline.set_visible(False)
    return figure


def losses(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """The training and validation curves of runs, over the tokens learned from.

    Parameters
    ----------
    runs : mapping of name to reports
        A report has `tokens`, `loss` and `val_loss` (None between evaluations), as the lines of
        `training.jsonl` do.

    Raises
    ------
    OctavoError
        If no run has a report, or there are more runs than colours.

    Examples
    --------
    >>> reports = [{"tokens": n, "loss": 3 / n, "val_loss": 4 / n} for n in (1, 2, 3)]
    >>> len(losses({"run": reports}).axes[0].lines)
    3
    """
    if not any(runs.values()):
        raise OctavoError("there is nothing to draw: the log holds no report")
    if len(runs) > len(COLOURS):
        raise OctavoError(f"a picture holds at most {len(COLOURS)} runs, not {len(runs)}")
    figure = _figure(8.0, 4.8)
    axes = figure.add_subplot()
    for colour, (name, reports) in zip(COLOURS, runs.items(), strict=False):
        _draw_run(axes, name, reports, colour)
    _style(axes, "Training" if len(runs) > 1 else f"Training of {next(iter(runs))}")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set(xlabel="tokens learned from", ylabel="loss (nats per token)")
    axes.xaxis.set_major_formatter(lambda count, _: _short(count))
    axes.set_xlim(left=0)
    for text in axes.legend(frameon=False, labelcolor=INK).get_texts():
        text.set_parse_math(False)
    return figure


def _draw_run(axes: Axes, name: str, reports: Sequence[Mapping[str, Any]], colour: str) -> None:
    """A thin line for the text learned from, a bold one for the held-out text, a mark at its best."""
    curve = np.array([(r["tokens"], r["loss"]) for r in reports]).reshape(-1, 2)
    axes.plot(*curve.T, color=colour, linewidth=1, alpha=0.45, label=f"{name}, training")
    held_out = np.array([(r["tokens"], r["val_loss"]) for r in reports if r["val_loss"] is not None])
    if not len(held_out):
        return
    x, best = held_out[held_out[:, 1].argmin()]
    axes.plot(*held_out.T, color=colour, linewidth=2, label=f"{name}, validation (best {best:.3f})")
    axes.plot([x], [best], "o", color=colour, markersize=7, markeredgecolor="white", label="_best")


def temperatures(tokens: Sequence[str], chances: Mapping[float, Array], prompt: str) -> Figure:
    """The probabilities of the likeliest next tokens, a panel per temperature.

    Parameters
    ----------
    tokens : sequence of str
        The likeliest first, as they are to be shown.
    chances : mapping
        Of each temperature to the probabilities of the tokens, [tokens].
    prompt : str
        What they follow, for the title.

    Examples
    --------
    >>> figure = temperatures(["a", "b"], {1.0: [0.7, 0.2], 2.0: [0.5, 0.3]}, "ab")
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['temperature 1', 'temperature 2']
    """
    figure = _figure(max(1.2 + 2.6 * len(chances), 6.0), 1.5 + 0.24 * len(tokens))
    panels = figure.subplots(1, len(chances), sharex=True, sharey=True, squeeze=False)[0]
    places = np.arange(len(tokens))
    for axes, colour, (temperature, chance) in zip(
        panels, _shades(len(chances)), chances.items(), strict=True
    ):
        axes.barh(places, chance, color=colour, height=0.78)
        _style(axes, f"temperature {temperature:g}")
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("probability")
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(places, labels=tokens, family="monospace", parse_math=False)
    panels[0].set_ylabel("next token")
    panels[0].set_ylim(len(tokens) - 0.4, -0.6)  # the likeliest on top
    shown = prompt if len(prompt) <= LONGEST_PROMPT else "…" + prompt[-LONGEST_PROMPT:]
    figure.suptitle(
        f"What comes after “{shown}”", x=0.01, ha="left", color=INK, fontsize=12, parse_math=False
    )
    return figure


def _shades(count: int) -> list[Any]:
    """Colours from cold to hot, for values in an order."""
    from matplotlib import colormaps

    return [colormaps["plasma"](0.05 + 0.7 * i / max(count - 1, 1)) for i in range(count)]


def require_picture(path: Path) -> None:
    """Refuse a file name that is neither .png nor .svg, and a missing matplotlib, before any work."""
    if path.suffix.lower() not in FORMATS:
        raise OctavoError(f"a picture is a {' or '.join(FORMATS)} file, not {path.name!r}")
    _matplotlib()


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG or SVG, as the name says; it appears whole or not at all.

    Raises
    ------
    OctavoError
        If the name says neither, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(similarity(np.eye(4), 4), f"{folder}/positions.svg")
    """
    path = Path(path)
    require_picture(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    kind = path.suffix[1:].lower()
    try:
        with _matplotlib().rc_context({"svg.hashsalt": "octavo"}):  # the same data, the same file
            figure.savefig(partial, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
        os.replace(partial, path)
    except OSError as error:
        raise OctavoError(f"cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise OctavoError("plots need Matplotlib: pip install matplotlib") from None
    return matplotlib


def _figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Figure:
    """An empty figure, in inches."""
    _matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def _style(axes: Axes, title: str) -> None:
    """What all panels have in common: a title on the left, no frame."""
    axes.set_title(title, loc="left", color=INK, fontsize=11, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def _short(count: float) -> str:
    """A count with at most one letter: 250k, 1.5M."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= limit:
            return f"{count / limit:g}{letter}"
    return f"{count:g}"
