"""`octavo generate`: what it writes, its JSON, prompts from everywhere, and how it ends."""

import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo.cli import generate
from octavo.generate import Piece, Token
from octavo.lookup import Lookup

KEYS = ["prompt", "text", "ids", "logprobs", "tokens_per_second", "finish_reason"]


def test_writes_the_prompt_and_what_octavo_generate_gives(run: Any) -> None:
    out = run("generate", "-m", "shelf/gru", "It was", "--limit", "20", "--seed", "3").stdout
    model = octavo.load("shelf/gru")
    assert out == "It was" + octavo.generate(model, "It was", limit=20, seed=3) + "\n"


def test_json_is_one_object_with_every_token_drawn(run: Any) -> None:
    options = ["--limit", "12", "--seed", "1", "--top-k", "5", "--temperature", "0.7", "--json"]
    out = run("generate", "-m", "shelf/plain", "It was", *options).stdout
    assert out.count("\n") == 1
    found = json.loads(out)
    assert list(found) == KEYS
    model = octavo.load("shelf/plain")
    drawn = list(
        octavo.tokens(
            model, model.text_tokenizer().encode("It was"), limit=12, seed=1, top_k=5, temperature=0.7
        )
    )
    assert found["ids"] == [token.id for token in drawn]
    assert found["logprobs"] == pytest.approx([token.logprob for token in drawn])
    assert found["text"] == octavo.generate(model, "It was", limit=12, seed=1, top_k=5, temperature=0.7)
    assert found["tokens_per_second"] > 0
    assert (found["prompt"], found["finish_reason"]) == ("It was", "length")


def test_stop_ends_before_its_text(run: Any) -> None:
    args = ["generate", "-m", "shelf/gru", "It was", "--seed", "3", "--limit", "200", "--json"]
    whole = json.loads(run(*args).stdout)["text"]
    found = json.loads(run(*args, "--stop", whole[7:9], "--stop", "@@").stdout)
    assert found["text"] == whole[: whole.index(whole[7:9])]
    assert found["finish_reason"] == "stop"


def test_every_sampling_option_reaches_the_verb(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def pieces(model: octavo.Model, prompt: str, **options: Any) -> Iterator[Piece]:
        asked.update(options)
        yield Piece("x", (Token(1, -0.5),), "length")

    monkeypatch.setattr(generate, "pieces", pieces)
    options = (
        "-n 7 --temperature 0.5 --top-k 3 --top-p 0.9 --min-p 0.1 --repetition-penalty 1.2 --seed 4 --stop a"
    )
    biases = ["--logit-bias", "3=-inf", "--logit-bias", "4=1.5", "--slide", "--cache", "float16", "--lookup"]
    run("generate", "-m", "shelf/gru", "It", *options.split(), *biases)
    assert asked == {
        "limit": 7,
        "stop": ["a"],
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "logit_bias": {3: -math.inf, 4: 1.5},
        "seed": 4,
        "slide": True,
        "cache": "float16",
        "lookup": Lookup(),
    }


@pytest.mark.parametrize(
    ("stdin", "prompt"),
    [("It was", "It was"), ("It was\n", "It was"), ("It was\n\n", "It was\n"), ("It was\r\n", "It was")],
)
@pytest.mark.parametrize("dash", [[], ["-"]])
def test_standard_input_is_the_prompt_less_one_newline(
    run: Any, dash: list[str], stdin: str, prompt: str
) -> None:
    out = run("generate", "-m", "shelf/plain", *dash, "-n", "1", "--json", stdin=stdin).stdout
    assert json.loads(out)["prompt"] == prompt


def test_the_argument_keeps_its_newline(run: Any) -> None:
    assert run("generate", "-m", "shelf/gru", "It\n", "-n", "0").stdout == "It\n\n"


def test_the_context_warning_is_one_line_on_standard_error(run: Any) -> None:
    result = run("generate", "-m", "shelf/plain", "It was", "-n", "30", "--json", "--seed", "0")
    json.loads(result.stdout)
    assert result.stderr.startswith("octavo: note: the text is longer than the 16 tokens")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["It€"], "unknown character '€'"),
        ([""], "the prompt is empty"),
        (["It", "--temperature", "-1"], "temperature must be"),
        (["It", "--temperature", "warm"], "--temperature"),
        (["It", "--logit-bias", "a=1"], "ID=VALUE"),
        (["It", "--logit-bias", "7"], "ID=VALUE"),
        (["It", "--logit-bias", "999=1"], "token 999"),
        (["It", "--stop", ""], "stop string"),
        (["It", "--limit", "-3"], "limit"),
        (["It", "--chars", "shelf/text.txt", "--tokenizer", "shelf/gru"], "not both"),
        (["It", "--set", "path=3"], "path is none"),
        (["It", "--set", "n_heads"], "KEY=VALUE"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(refused: Any, args: list[str], message: str) -> None:
    assert message in refused("generate", "-m", "shelf/gru", *args)


def test_a_missing_prompt_and_a_damaged_one(refused: Any) -> None:
    assert "the prompt is empty" in refused("generate", "-m", "shelf/gru", stdin="")
    assert "not UTF-8 text: byte 1" in refused("generate", "-m", "shelf/gru", stdin=b"a\xff")


def test_bytes_of_an_argument_that_are_no_text_are_refused(run: Any, start: Any) -> None:
    process = start([b"generate", b"-m", b"shelf/gru", "é".encode() + b"caf\xff"])
    printed, complaint = process.communicate(timeout=60)
    assert (process.returncode, printed) == (2, b"")
    assert complaint == b"octavo: the prompt is not UTF-8 text: byte 5 cannot be decoded\n"


def test_the_mark_of_utf_8_is_no_part_of_a_prompt(run: Any) -> None:
    args = ["generate", "-m", "shelf/gru", "-n", "3", "--seed", "0"]
    plain = run(*args, stdin="It was\n").stdout
    assert run(*args, stdin=b"\xef\xbb\xbfIt was\r\n").stdout == plain


def test_a_model_without_a_tokenizer_asks_for_one(run: Any, refused: Any) -> None:
    Path("bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        Path("bare", name).write_bytes(Path("shelf/gru", name).read_bytes())
    assert "--chars FILE" in refused("generate", "-m", "bare", "It")
    run("generate", "-m", "bare", "--chars", "shelf/text.txt", "It", "-n", "3")


def test_an_archive_is_told_its_tokenizer_and_its_heads(run: Any, refused: Any) -> None:
    import numpy as np

    np.savez("weights.npz", **octavo.load("shelf/plain").params)
    archive = [
        "generate",
        "-m",
        "weights.npz",
        "--tokenizer",
        "shelf/plain/tokenizer.json",
        "It",
        "--seed",
        "1",
        "-n",
        "5",
    ]
    same = ["generate", "-m", "shelf/plain", "It", "--seed", "1", "-n", "5"]
    assert run(*archive, "--set", "n_heads=2").stdout == run(*same).stdout
    assert "multiple of n_heads" in refused(*archive, "--set", "n_heads=3")


def test_interrupted_with_json_prints_what_there_is(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(*_: Any, **__: Any) -> Iterator[Piece]:
        yield Piece("ab", (Token(1, -0.5), Token(2, -0.25)), None)
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "pieces", pieces)
    found = json.loads(run("generate", "-m", "shelf/gru", "It", "--json", code=130).stdout)
    assert found["ids"] == [1, 2]
    assert (found["text"], found["finish_reason"]) == ("ab", "interrupted")


def test_control_c_ends_the_text_with_a_newline(start: Any) -> None:
    process = start(["generate", "-m", "shelf/gru", "It was", "-n", "10000000"])
    assert process.stdout.read(50).startswith(b"It was")
    process.send_signal(signal.SIGINT)
    rest, complaints = process.communicate(timeout=10)
    assert process.returncode == 130
    assert rest.endswith(b"\n")
    assert complaints == b""


def test_a_reader_that_goes_away_is_no_error(start: Any) -> None:
    process = start(["generate", "-m", "shelf/gru", "It was", "-n", "10000000"])
    assert process.stdout.read(6) == b"It was"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=10) == 1
    process.stderr.close()


def test_the_model_that_ships(run: Any) -> None:
    assert run("generate", "ROMEO:", "-n", "5", "--seed", "0").stdout.startswith("ROMEO:")
