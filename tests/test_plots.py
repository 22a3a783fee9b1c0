"""Pictures: the data is in the artists, the words on the axes, the bytes in the file."""

import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo import nn, plots
from octavo.errors import OctavoError

REPORTS: list[dict[str, Any]] = [
    {"tokens": 100, "loss": math.nan, "val_loss": None},
    {"tokens": 200, "loss": 3.0, "val_loss": 3.5},
    {"tokens": 300, "loss": 2.5, "val_loss": 3.1},
    {"tokens": 400, "loss": 2.0, "val_loss": 3.3},
]


def test_similarity_shows_the_products() -> None:
    waves = nn.sinusoids(128, 256)
    figure = plots.similarity(waves @ waves.T, 256)
    axes, bar = figure.axes
    np.testing.assert_array_equal(axes.images[0].get_array(), waves @ waves.T)
    assert axes.get_xlabel() == axes.get_ylabel() == "position (tokens)"
    assert "256" in axes.get_title(loc="left")
    assert bar.get_ylabel() == "dot product"


def test_losses_has_both_curves_of_each_run_and_its_best() -> None:
    axes: Any = plots.losses({"one": REPORTS, "two $x$": REPORTS[1:]}).axes[0]
    training, validation, best = axes.lines[:3]
    np.testing.assert_array_equal(training.get_xdata(), [100, 200, 300, 400])
    np.testing.assert_array_equal(training.get_ydata(), [math.nan, 3.0, 2.5, 2.0])
    np.testing.assert_array_equal(validation.get_xdata(), [200, 300, 400])
    np.testing.assert_array_equal(validation.get_ydata(), [3.5, 3.1, 3.3])
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (300, 3.1)
    assert len({line.get_color() for line in axes.lines}) == 2
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend[:2] == ["one, training", "one, validation (best 3.100)"]
    assert axes.get_ylabel() == "loss (nats per token)"
    assert axes.get_xlabel() == "tokens learned from"


def test_losses_without_held_out_text() -> None:
    (axes,) = plots.losses({"run": [{"tokens": 1, "loss": 2.0, "val_loss": None}]}).axes
    assert len(axes.lines) == 1


def test_losses_of_nothing_or_too_much() -> None:
    with pytest.raises(OctavoError, match="no report"):
        plots.losses({"run": []})
    with pytest.raises(OctavoError, match="at most 7 runs"):
        plots.losses({str(i): REPORTS for i in range(8)})


def test_temperatures_has_a_panel_each_with_the_likeliest_on_top(tmp_path: Path) -> None:
    chances = {0.5: np.array([0.8, 0.2]), 1.0: np.array([0.6, 0.3])}
    figure: Any = plots.temperatures(["$a", "b$"], chances, "x" * 100)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["temperature 0.5", "temperature 1"]
    for axes, chance in zip(figure.axes, chances.values(), strict=True):
        assert [bar.get_width() for bar in axes.patches] == list(chance)
        assert axes.get_xlabel() == "probability"
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["$a", "b$"]
    assert first.get_ylim()[0] > first.get_ylim()[1]
    plots.save(figure, tmp_path / "dollars.png")  # which are no formulas


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.svg"])
def test_save_writes_a_picture_and_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("an older picture")
    plots.save(plots.similarity(np.eye(4), 4), path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    if name.lower().endswith("png"):
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert content.rstrip().endswith(b"IEND\xaeB`\x82")
    else:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_same_data_gives_the_same_svg(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plots.save(plots.losses({"run": REPORTS}), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", ["a.pdf", "a", "png"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OctavoError, match=r"\.png or \.svg"):
        plots.save(plots.similarity(np.eye(4), 4), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OctavoError, match="cannot write"):
        plots.save(plots.similarity(np.eye(4), 4), tmp_path / "taken.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.png"]


def test_nothing_of_pyplot_is_imported() -> None:
    code = "import sys, octavo.plots as p; p.similarity([[1]], 2); print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
