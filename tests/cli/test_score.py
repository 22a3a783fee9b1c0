"""`octavo score`: the numbers of the verb, from files and standard input."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo

KEYS = ["nats", "tokens", "chars", "bytes", "perplexity", "per_char", "bits_per_byte"]


@pytest.mark.parametrize("model", ["shelf/gru", "shelf/plain"])
def test_json_is_what_the_verb_says(run: Any, model: str) -> None:
    found = json.loads(run("score", "-m", model, "shelf/text.txt", "--limit", "50", "--json").stdout)
    expected = octavo.score(octavo.load(model), Path("shelf/text.txt").read_text(), limit=50)
    told = {key: getattr(expected, key) for key in KEYS} | {"protocol": expected.protocol.name}
    sizes = {"window": 17, "stride": 8} if model == "shelf/plain" else {}
    assert found == told | sizes


def test_a_protocol_is_told_beside_its_numbers(run: Any, narrow: Any) -> None:
    args = ["score", "-m", "shelf/plain", "shelf/text.txt", "-n", "100"]
    for options, words in (
        (["--protocol", "strided", "--window", "9", "--stride", "3"], "windows of 9, 3 further each"),
        (["--protocol", "chunked", "--window", "12"], "chunks of 12 tokens; the second half of each counts"),
        (["--window", "16"], "windows of 16, 8 further each; new tokens count"),
    ):
        out = run(*args, *options).stdout
        narrow(out)
        assert words in out
        found = json.loads(run(*args, *options, "--json").stdout)
        sizes = {o[2:]: int(v) for o, v in itertools.pairwise(options) if v.isdigit()}
        protocol = found["protocol"]
        expected = octavo.score(
            octavo.load("shelf/plain"),
            Path("shelf/text.txt").read_text(),
            protocol=protocol,
            limit=100,
            **sizes,
        )
        assert found["perplexity"] == expected.perplexity
        assert sizes.items() <= found.items()


def test_rolling_is_told_per_word_and_byte(run: Any, narrow: Any) -> None:
    model = octavo.load("shelf/gru")
    config = octavo.models.design("llama", model.vocab_size, hidden_size=8, num_hidden_layers=1)
    config = dataclasses.replace(config, bos_token_id=1)
    params = octavo.models.initial_params("llama", config, np.random.default_rng(0))
    octavo.save(octavo.Model("llama", config, params, model.tokenizer), "llama")
    args = ["score", "-m", "./llama", "shelf/text.txt", "--protocol", "rolling"]
    out = run(*args).stdout
    narrow(out)
    found = json.loads(run(*args, "--json").stdout)
    text = Path("shelf/text.txt").read_text()
    assert found["begin"] == [1]
    assert found["words"] == len(text.split()) + 1  # white space ends the text, as the harness counts
    assert found["word_perplexity"] == pytest.approx(np.exp(found["nats"] / found["words"]))
    assert found["byte_perplexity"] == pytest.approx(np.exp(found["nats"] / len(text)))
    for word in ("protocol", "per word", "per byte"):
        assert any(line.startswith(word) for line in out.splitlines())


def test_files_are_read_one_after_the_other_and_like_standard_input(run: Any) -> None:
    Path("a.txt").write_text("It was ")
    Path("b.txt").write_text("the best")
    args = ["score", "-m", "shelf/gru", "--json"]
    assert run(*args, "a.txt", "b.txt").stdout == run(*args, stdin="It was the best").stdout
    assert run(*args, "-", stdin="It was the best").stdout == run(*args, stdin="It was the best").stdout


def test_the_mark_of_utf_8_is_no_text(run: Any) -> None:
    args, marked = ["score", "-m", "shelf/gru", "--json"], b"\xef\xbb\xbfIt was the best"
    Path("a.txt").write_bytes(marked)
    plain = run(*args, stdin="It was the best").stdout
    assert run(*args, stdin=marked).stdout == run(*args, "-", stdin=marked).stdout == plain
    assert run(*args, "a.txt").stdout == plain


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
    assert "not 'halves'" in refused("score", "-m", "shelf/gru", "--protocol", "halves", "shelf/text.txt")
    assert "use strided" in refused("score", "-m", "shelf/plain", "--protocol", "whole", "shelf/text.txt")
    assert "shelf/gru cannot be read" in refused("score", "-m", "shelf/gru", "shelf/gru")


def test_threads_are_those_that_are_said(run: Any, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    loaded = octavo.load

    def load(*args: Any, **options: Any) -> octavo.Model:
        said.append(options["threads"])
        return loaded(*args, **options)

    monkeypatch.setattr(octavo, "load", load)
    score = ("score", "shelf/text.txt", "-m", "shelf/gru", "-n", "5")
    run(*score)
    run(*score, "--threads", "1")
    run("generate", "It", "-m", "shelf/gru", "-n", "2", "--threads", "1")
    assert said == [None, 1, 1]
    for wrong in ("0", "100000"):
        assert "threads is a whole number from 1 to" in refused(*score, "--threads", wrong)
    assert "--set gives fields of a config; threads is none" in refused(*score, "--set", "threads=1")
