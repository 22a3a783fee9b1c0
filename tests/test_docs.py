"""The guides: every block of code runs, or stands in the file that is named above it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "adding-a-model.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:^<!-- (\S+) -->\n)?^```(\w*)\n(.*?)^```", TEXT, re.S | re.M)


def test_every_block_is_python() -> None:
    assert len(BLOCKS) == TEXT.count("```") / 2 == 9
    assert {language for _, language, _ in BLOCKS} == {"python"}


@pytest.mark.parametrize(("path", "block"), [(path, block) for path, _, block in BLOCKS if path])
def test_what_a_block_quotes_stands_in_the_file(path: str, block: str) -> None:
    assert block in (ROOT / path).read_text(encoding="utf-8")


def test_the_other_blocks_run_one_after_the_other() -> None:
    code = "".join(block for path, _, block in BLOCKS if not path)
    assert code.count("assert") == 3
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert found.returncode == 0, found.stderr


def test_the_block_of_converting_runs() -> None:
    text = (ROOT / "docs" / "converting.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], capture_output=True, text=True, cwd=ROOT
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("guide", ["adding-a-model.md", "converting.md"])
def test_the_files_that_the_text_names_are_there(guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    named = set(re.findall(r"\b((?:octavo|tests|bench)/[\w/.]+\w)", text))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
