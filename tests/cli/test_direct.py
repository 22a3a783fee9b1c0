"""Plain command lines mean without Typer what they mean with it."""

import sys
from functools import wraps
from importlib import import_module
from inspect import signature
from typing import Any

import pytest
import typer

from octavo.cli import direct
from octavo.cli.options import NAMES
from octavo.cli.program import typed

PLAIN = [
    ["generate"],
    ["generate", "To be"],
    ["generate", "To be", "--limit", "3", "--temperature", "0", "--seed", "1", "--json"],
    ["generate", "--json", "--json", "-n", "3", "--limit=3", "To\nbe"],
    ["generate", "-m", "a b.gguf", "--stop", ".", "--stop=a=b", "--top-p", "0.95", "--min-p=1"],
    ["generate", "é", "--set", "n_heads=8", "--logit-bias", "3=-inf", "--chars", "a", "--chars", "b"],
    ["generate", "--prompts", "in.jsonl", "--out", "./out/../x.jsonl", "--cache", "float16", "--slide"],
    ["generate", "--lookup", "--threads", "2", "--top-k", "007", "--repetition-penalty", "1.10"],
    ["chat", "-m", "model", "--system", "Be brief.", "--template", "a.jinja", "-n", "5"],
    ["score", "bard"],
    ["score", "text.txt", "-m", "bard", "--json"],
    ["tokenize", "To be", "--json"],
    ["train", "my.txt", "--out", "my-model", "--minutes", "5"],
    ["show", "bard"],
    ["models", "--json"],
    ["convert", "bard", "--out", "copy"],
    ["bench", "bard", "--rounds", "2"],
]

NOT_PLAIN = [
    [],
    ["--version"],
    ["nothing"],
    ["generate", "--help"],
    ["generate", "-h"],
    ["generate", "--lim", "3"],
    ["generate", "--nothing"],
    ["generate", "a", "b"],
    ["generate", "--limit"],
    ["generate", "--limit", "x"],
    ["generate", "--limit", "-1"],
    ["generate", "--limit", "1_0"],
    ["generate", "--limit", "٣"],
    ["generate", "--limit", "1", "--limit", "2"],
    ["generate", "--temperature", "1e-3"],
    ["generate", "--temperature", "nan"],
    ["generate", "--json=yes"],
    ["generate", "-n3"],
    ["generate", "-n=3"],
    ["generate", "-"],
    ["generate", "--", "-x"],
    ["generate", ""],
    ["generate", "\udce9"],
    ["generate", "--batch", "2"],  # it has a least value
    ["chat"],
    ["plot", "positions"],
]


def by_typer(run: Any, words: list[str]) -> dict[str, Any]:
    """What Typer gives the function of a command."""
    given: dict[str, Any] = {}

    @wraps(run)
    def remember(**found: Any) -> None:
        given.update(found)

    alone = typer.Typer(add_completion=False)
    alone.command()(typed(remember))
    alone(words, standalone_mode=False)
    return given


@pytest.mark.parametrize("line", PLAIN, ids=" ".join)
def test_a_plain_line_is_read_as_by_typer(line: list[str]) -> None:
    run = import_module(f"octavo.cli.{line[0]}").run
    found = direct.arguments(run, line[1:])
    assert found is not None
    bound = signature(run).bind(**found)
    bound.apply_defaults()
    assert list(map(repr, bound.arguments.items())) == list(map(repr, by_typer(run, line[1:]).items()))
    call: Any = direct.call(line)
    assert (call.func, call.keywords) == (run, found)


@pytest.mark.parametrize("line", NOT_PLAIN, ids=ascii)
def test_any_other_line_is_left_to_typer(line: list[str]) -> None:
    assert direct.call(line) is None


def test_every_line_is_left_to_typer_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert direct.call(["models"]) is None


def test_every_command_of_one_function_can_be_plain() -> None:
    runs = [getattr(import_module(f"octavo.cli.{name}"), "run", None) for name in NAMES]
    assert [name for name, run in zip(NAMES, runs, strict=True) if run is None] == ["plot"]
