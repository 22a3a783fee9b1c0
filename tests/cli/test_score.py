"""`octavo score`: the numbers of the verb, from files and standard input."""

import json
from pathlib import Path
from typing import Any

import pytest

import octavo

KEYS = ["nats", "tokens", "chars", "bytes", "perplexity", "per_char", "bits_per_byte"]


@pytest.mark.parametrize("model", ["shelf/gru", "shelf/plain"])
def test_json_is_what_the_verb_says(run: Any, model: str) -> None:
    found = json.loads(run("score", "-m", model, "shelf/text.txt", "--limit", "50", "--json").stdout)
    expected = octavo.score(octavo.load(model), Path("shelf/text.txt").read_text(), limit=50)
    assert found == {key: getattr(expected, key) for key in KEYS}


def test_files_are_read_one_after_the_other_and_like_standard_input(run: Any) -> None:
    Path("a.txt").write_text("It was ")
    Path("b.txt").write_text("the best")
    args = ["score", "-m", "shelf/gru", "--json"]
    assert run(*args, "a.txt", "b.txt").stdout == run(*args, stdin="It was the best").stdout


def test_the_tokenizer_of_texts_together(run: Any) -> None:
    half = sorted(set(Path("shelf/text.txt").read_text()))
    Path("a.txt").write_text("".join(half[::2]))
    Path("b.txt").write_text("".join(half[1::2]))
    args = ["score", "-m", "shelf/gru", "shelf/text.txt", "--json"]
    assert run(*args, "--chars", "a.txt", "--chars", "b.txt").stdout == run(*args).stdout


def test_the_table_says_what_each_number_is(run: Any, narrow: Any) -> None:
    out = run("score", "-m", "shelf/gru", "shelf/text.txt", "-n", "20").stdout
    narrow(out)
    for word in ("perplexity", "per character", "bits per byte", "nats", "tokens", "characters", "bytes"):
        assert any(line.startswith(word) for line in out.splitlines())
    score = octavo.score(octavo.load("shelf/gru"), Path("shelf/text.txt").read_text(), limit=20)
    assert f"{score.perplexity:.3f}" in out


def test_what_cannot_be_scored(refused: Any) -> None:
    assert "there is no file none.txt" in refused("score", "-m", "shelf/gru", "none.txt")
    assert "at least two tokens" in refused("score", "-m", "shelf/gru", stdin="I")
    assert "at least 1" in refused("score", "-m", "shelf/gru", "--limit", "0", "shelf/text.txt")
    assert "shelf/gru cannot be read" in refused("score", "-m", "shelf/gru", "shelf/gru")
