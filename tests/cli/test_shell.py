"""The program as a whole: help, version, wrong usage, errors in a line, exit codes."""

import json
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo.cli import shell
from octavo.cli.printing import emit
from octavo.cli.program import app

COMMANDS = ["generate", "chat", "score", "train", "tokenize", "show", "models", "convert", "bench", "plot"]
HEAVY = ("typer", "pydantic", "rich", "matplotlib", "jax", "tokenizers", "h5py", "llvmlite", "safetensors")
UNUSED = tuple(
    f"octavo.{room}" for room in ("train", "encoded", "plots", "bench", "cli.train", "formats.keras")
)
HELP = [
    [],
    *([name] for name in COMMANDS),
    *(["plot", name] for name in ("positions", "loss", "temperature")),
]


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_fits_80_columns_and_has_an_example(run: Any, narrow: Any, command: list[str]) -> None:
    out = run(*command, "--help").stdout
    narrow(out)
    assert "completion" not in out  # an option of Typer's, which octavo does not have
    assert f"Usage: {' '.join(['octavo', *command])}" in out
    if command != ["plot"]:
        assert " ".join(["octavo", *command]).strip() in out.split("Usage")[1].split("\n", 1)[1]


def test_no_argument_is_help(run: Any) -> None:
    out = run().stdout
    assert all(name in out for name in COMMANDS)
    assert "positions" in run("plot").stdout


def test_the_version(run: Any) -> None:
    assert run("--version").stdout == f"octavo {octavo.__version__}\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["generat"], "no such command 'generat'. Did you mean 'generate'? See: octavo --help"),
        (["generate", "--qqq"], "no such option: --qqq. See: octavo generate --help"),
        (["plot", "loss"], "See: octavo plot loss --help"),
        (["score", "--limit", "x"], "'--limit'"),
    ],
)
def test_wrong_usage_is_a_line_that_points_to_help(refused: Any, args: list[str], message: str) -> None:
    assert message in refused(*args)


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (octavo.OctavoError("the\nroof is wet"), "octavo: the roof is wet\n", 2),
        (
            MemoryError(),
            "octavo: there is not enough memory for this; try a smaller model, batch or text\n",
            2,
        ),
        (OSError(28, "No space left on device", "a.png"), "octavo: No space left on device: a.png\n", 2),
        (BrokenPipeError(32, "Broken pipe"), "", 1),
        (KeyboardInterrupt(), "", 130),
    ],
)
def test_each_error_has_its_line_and_its_exit_code(
    run: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, message: str, code: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(octavo, "load", fail)
    result = run("show", "shelf/gru", code=code)
    assert result.stderr == message


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(octavo, "load", fail)
    with pytest.raises(ZeroDivisionError):
        app(["show", "x"], prog_name="octavo")


def test_only_octavos_warnings_are_shown_once_and_after_the_output(capsys: Any) -> None:
    with shell.gathered_warnings():
        for _ in range(2):
            warnings.warn_explicit("too long", UserWarning, "generate.py", 1, module="octavo.generate")
        warnings.warn_explicit("donated", UserWarning, "jax.py", 1, module="jax")
        warnings.warn_explicit("old", DeprecationWarning, "x.py", 1, module="octavo.x")
        print("text")
    out, err = capsys.readouterr()
    assert (out, err) == ("text\n", "octavo: note: too long\n")


def test_a_process_of_its_own_exits_with_the_code(start: Any) -> None:
    process = start(["show", "nothing"])
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, b"")
    assert err.startswith(b"octavo: there is no file or folder 'nothing'")
    assert b"Traceback" not in err


def test_json_has_no_nan(capsys: Any) -> None:
    emit({"a": float("nan"), "b": [float("-inf"), 1.0], "c": {"d": float("inf")}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.0], "c": {"d": None}}


def test_the_heavy_libraries_wait_until_they_are_needed(start: Any) -> None:
    """What `generate` imports before it writes; each of these would cost a tenth of a second or more."""
    code = (
        "import sys, octavo.cli\n"
        "sys.argv = ['octavo', 'generate', '-m', 'shelf/gru', 'It', '-n', '2']\n"
        "try: octavo.cli.main()\n"
        "except SystemExit: pass\n"
        f"print([m for m in {(*HEAVY, *UNUSED)} if m in sys.modules])"
    )
    out, complaints = start([], program=("-c", code)).communicate(timeout=20)
    assert out.splitlines()[-1] == b"[]", complaints


SPOILED = """
import signal, sys
from octavo import cli
from octavo.cli import direct

def spoiled(name):  # as a library in C does
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError("numpy is broken") from None

direct.import_module = spoiled
sys.argv = ["octavo", "generate", "a"]
cli.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there a signal ends no process")
def test_ctrl_c_while_libraries_are_imported_ends_the_process_without_a_word() -> None:
    # Whoever runs the tests may have Ctrl-C ignored, which is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = subprocess.run([sys.executable, "-c", SPOILED], capture_output=True, text=True)
    signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there a signal ends no process")
def test_so_does_one_while_jax_is(tmp_path: Path) -> None:
    jax = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    pass  # and training goes on
"""
    (tmp_path / "jax.py").write_text(jax)
    (tmp_path / "text.txt").write_text("to be or not to be " * 50)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "octavo", "train", "text.txt", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN, lambda *_: None])
def test_who_hears_ctrl_c_hears_it_again(handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with shell.nothing_to_lose():
            default = handler is signal.default_int_handler
            assert signal.getsignal(signal.SIGINT) is (signal.SIG_DFL if default else handler)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
