"""A way to run the command line, in this process and in one of its own, and small models to run it on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import octavo
from octavo import models
from octavo.cli.program import app
from octavo.tokenizers import Tokenizer

TEXT = "It was the best of times, it was the worst of times,\nit was the age of wisdom.\n" * 30
SIZES: dict[str, Any] = {"d_model": 8, "n_layers": 2, "n_heads": 2, "d_ff": 12, "context": 16}


def make(model_type: str, tokenizer: Tokenizer, **sizes: Any) -> octavo.Model:
    """A small model with random weights."""
    config = models.design(model_type, tokenizer.vocab_size, **sizes)
    rng = np.random.default_rng(0)
    params = models.initial_params(model_type, config, rng)
    fixed = models.architecture(model_type).FIXED
    noise = {
        name: p if name in fixed else p + 0.3 * rng.standard_normal(p.shape) for name, p in params.items()
    }
    return octavo.Model(model_type, config, {n: p.astype(np.float32) for n, p in noise.items()}, tokenizer)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models `gru` (characters) and `plain` (byte pairs) and the text they are of."""
    folder = tmp_path_factory.mktemp("shelf")
    octavo.save(make("gru", octavo.tokenizers.char(TEXT), units=(8,)), folder / "gru")
    octavo.save(make("plain", octavo.tokenizers.train_bpe(TEXT, 280), **SIZES), folder / "plain")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture
def run(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command line in a new folder beside which the shelf stands; checks the exit code."""
    (tmp_path / "shelf").symlink_to(shelf)
    monkeypatch.chdir(tmp_path)

    def invoke(*args: str, code: int = 0, stdin: str | bytes | None = None) -> Any:
        result = CliRunner(env={"COLUMNS": "80", "NO_COLOR": None}).invoke(
            app, args, stdin, prog_name="octavo"
        )
        assert result.exit_code == code, f"{result.output}\n{result.exc_info}"
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def refused(run: Callable[..., Any]) -> Callable[..., str]:
    """Run a command line that is refused: one line on standard error, nothing on standard output."""

    def invoke(*args: str, stdin: str | bytes | None = None) -> str:
        result = run(*args, code=2, stdin=stdin)
        assert result.stdout == ""
        assert result.stderr.startswith("octavo: ")
        assert result.stderr.count("\n") == 1
        return str(result.stderr)

    return invoke


@pytest.fixture
def start(run: Callable[..., Any]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a command line in a process of its own, in the folder of `run`."""

    def popen(args: Sequence[str], program: Sequence[str] = ("-m", "octavo")) -> subprocess.Popen[bytes]:
        root = str(Path(octavo.__file__).parents[1])
        env = os.environ | {"PYTHONPATH": root, "COLUMNS": "80"}
        pipes: dict[str, Any] = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "stdin": subprocess.DEVNULL,
        }
        return subprocess.Popen([sys.executable, *program, *args], env=env, **pipes)

    # A job that a script starts in the background is deaf to Ctrl-C, and so are its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield popen
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def narrow() -> Callable[[str], None]:
    """Checks that no line is wider than 80 columns."""
    from rich.cells import cell_len

    def check(output: str) -> None:
        wide = [line for line in output.splitlines() if cell_len(line) > 80]
        assert not wide

    return check
