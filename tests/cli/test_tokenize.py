"""`octavo tokenize`: pieces, ids and counts."""

import json
from typing import Any

import octavo


def test_json_has_the_ids_and_their_pieces(run: Any) -> None:
    found = json.loads(run("tokenize", "-m", "shelf/plain", "It was the\n", "--json").stdout)
    tokenizer = octavo.load("shelf/plain").text_tokenizer()
    assert found["ids"] == tokenizer.encode("It was the\n")
    assert "".join(found["pieces"]) == "It was the\n"
    assert len(found["pieces"]) == len(found["ids"])


def test_a_part_of_a_character_is_escaped(run: Any) -> None:
    found = json.loads(run("tokenize", "-m", "shelf/plain", "é", "--json").stdout)
    assert found == {"ids": [0xC3, 0xA9], "pieces": ["\\xc3", "\\xa9"]}


def test_a_tokenizer_needs_no_model(run: Any) -> None:
    args = ["tokenize", "It was", "--json"]
    by_model = run(*args, "--model", "shelf/plain").stdout
    assert run(*args, "--tokenizer", "shelf/plain/tokenizer.json").stdout == by_model
    assert json.loads(run("tokenize", "ba", "--chars", "shelf/text.txt", "--json").stdout)["pieces"] == [
        "b",
        "a",
    ]


def test_standard_input_is_taken_as_it_is(run: Any) -> None:
    found = json.loads(run("tokenize", "-m", "shelf/plain", "--json", stdin="It\r\n").stdout)
    assert "".join(found["pieces"]) == "It\r\n"


def test_the_mark_of_utf_8_is_shown_too(run: Any) -> None:
    found = json.loads(run("tokenize", "-m", "shelf/plain", "--json", stdin=b"\xef\xbb\xbfIt").stdout)
    assert found["ids"] == octavo.load("shelf/plain").text_tokenizer().encode("\ufeffIt")


def test_bytes_that_are_no_text_are_refused(refused: Any) -> None:
    said = "the text is not UTF-8 text: byte 3 cannot be decoded"
    assert said in refused("tokenize", "-m", "shelf/plain", "caf\udcff")


def test_the_output_for_people(run: Any, narrow: Any) -> None:
    out = run("tokenize", "-m", "shelf/plain", "It was the best\nof times[bold]").stdout
    narrow(out)
    assert "It| was| the| best|⏎\n|" in out
    assert "␣was" in out
    assert "[|b" in out  # no markup is read into the text
    assert "tokens, 30 characters, 30 bytes" in out


def test_a_long_text_is_shown_in_part_and_counted_whole(run: Any, narrow: Any) -> None:
    out = run("tokenize", "-m", "shelf/gru", "-", stdin="It was " * 100).stdout
    narrow(out)
    assert "... and 460 more; --json prints them all" in out
    assert "700 tokens, 700 characters" in out


def test_an_empty_text_has_no_tokens(run: Any) -> None:
    assert "0 tokens, 0 characters, 0 bytes" in run("tokenize", "-m", "shelf/gru", "").stdout
