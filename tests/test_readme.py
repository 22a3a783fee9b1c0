"""What the README shows, run: its Python, and the commands that need no file of the reader's."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import octavo
from octavo import models
from octavo.asked import sizes_of
from octavo.cli import program
from octavo.cli.models import description
from octavo.cli.runs import read_run
from octavo.recipe import DEFAULTS, STANDARD, Recipe, named_size

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


def commands() -> list[str]:
    table = re.findall(r"^\| .*", README, re.M)
    return [found for row in table for found in re.findall(r"`(octavo [^`]*)`", row)]


def test_the_two_commands_stand_first_and_word_for_word() -> None:
    write, test = blocks("sh")[:2]
    assert write == 'pip install -e . && octavo generate "ANTONIO:\nDo you not hear me speak?"\n'
    assert test == "pip install -e '.[test]' && pytest\n"


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_runs(block: str) -> None:
    found = subprocess.run([sys.executable, "-W", "error", "-c", block], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout


@pytest.mark.parametrize("command", [c for c in commands() if not re.search(r"my|train|\.npz", c)])
def test_the_commands_run(command: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command)
    assert program == "octavo"
    found = subprocess.run(
        [sys.executable, "-m", "octavo", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout


def test_the_commands_with_files_of_the_reader_are_spelt_as_the_program_has_them() -> None:
    helps: dict[str, str] = {}
    for command in (c for c in commands() if re.search(r"my|train|\.npz", c)):
        name, options = shlex.split(command)[1], re.findall(r"--[a-z-]+", command)
        if name not in helps:
            helps[name] = subprocess.run(
                [sys.executable, "-m", "octavo", name, "--help"], capture_output=True, text=True, check=True
            ).stdout
        assert all(option in helps[name] for option in options), command


@pytest.mark.parametrize("name", octavo.bundled())
def test_how_a_shipped_model_was_made_is_what_the_readme_says(name: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
    assert description(name)["command"] == " && ".join(re.findall(r"`(octavo train [^`]*)`", row))


@pytest.mark.parametrize("name", octavo.bundled())
def test_the_command_of_a_shipped_model_asks_for_its_recipe_today(name: str) -> None:
    """Defaults that changed since its run have to be said."""
    made, config = read_run(name).made, octavo.load(name).config
    commands = made["command"].split(" && ")
    asked = [program.command("train").make_context("train", shlex.split(c)[2:]).params for c in commands]
    first, last = ({k: v for k, v in params.items() if v is not None} for params in (asked[0], asked[-1]))
    fields = Recipe.__dataclass_fields__
    recipe = Recipe(**DEFAULTS[first["model"]] | {k: v for k, v in last.items() if k in fields})
    assert made["recipe"].items() >= {k: getattr(recipe, k) for k in made["recipe"] if k in fields}.items()
    size = next(iter(first.get("size", ())), STANDARD.get(first["model"]))
    sizes = sizes_of(first["model"], named_size(first["model"], size) if size else {}, recipe)
    assert models.design(first["model"], config.vocab_size, **sizes) == config
