"""Training byte pairs: the quick trainer against its specification, the course and a peer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from octavo import tokenizers
from octavo.errors import OctavoError
from octavo.tokenizers import bpe, patterns

# Few letters, many repeats: ties, runs of one letter, and pairs that spell the same bytes.
tied = st.lists(
    st.sampled_from(["a", "b", "ab", "aa", "aaa", "ba", " ", "  ", "c", "é", "\n"]), min_size=1, max_size=40
)


def tokens_or_refusal(train: Callable[[str, int], list[bytes]], text: str, merges: int) -> list[bytes] | str:
    try:
        return train(text, 256 + merges)
    except OctavoError as refusal:
        return str(refusal)


@given(tied.map("".join), st.integers(0, 40))
@example("aaaa", 2)
@example("aaaaa aaa aa", 4)
@example("abababa ababab", 5)
@example("aaab aab ab abb abbb", 8)
@example("abcabc bcabc cab abc ab bc", 12)
def test_training_is_what_the_textbook_says(text: str, merges: int) -> None:
    assert tokens_or_refusal(bpe.train, text, merges) == tokens_or_refusal(bpe.train_spec, text, merges)


@given(st.text(min_size=1, max_size=100), st.sampled_from(list(patterns.NAMES)))
def test_training_on_any_text(text: str, pattern: str) -> None:
    def quick(text: str, size: int) -> list[bytes]:
        return bpe.train(text, size, pattern)

    def slow(text: str, size: int) -> list[bytes]:
        return bpe.train_spec(text, size, pattern)

    assert tokens_or_refusal(quick, text, 8) == tokens_or_refusal(slow, text, 8)


@given(tied.map("".join), st.integers(0, 40))
def test_no_bytes_become_a_token_twice(text: str, merges: int) -> None:
    tokens = tokens_or_refusal(bpe.train, text, merges)
    assert isinstance(tokens, str) or len(set(tokens)) == 256 + merges


@given(st.text(" \n\tab1中_'.,\r\x1c\x85\u2028", max_size=200))
def test_counting_by_chunks_is_counting_all(text: str) -> None:
    import regex

    for pattern in patterns.NAMES:
        expected: dict[str, int] = {}
        for word in regex.findall(pattern, text):
            expected[word] = expected.get(word, 0) + 1
        found = bpe.count_words(text, pattern)
        assert list(found.items()) == list(expected.items())


@given(st.text(" \n\tab1中_'.,\r", max_size=100), st.sampled_from(list(patterns.NAMES)))
def test_a_text_may_come_in_blocks(text: str, pattern: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "_BLOCK", 3)
        blocks = list(patterns.blocks(text))
        patch.setattr(bpe, "_AT_ONCE", 2)
        counted = bpe.count_words(iter(blocks), pattern)
        trained = tokens_or_refusal(bpe.train, iter(blocks), 5)  # type: ignore[arg-type]
    assert list(counted.items()) == list(bpe.count_words(text, pattern).items())
    assert trained == tokens_or_refusal(bpe.train, text, 5)


def test_nothing_is_joined_across_documents() -> None:
    assert tokenizers.train_bpe(["ab", "ab", "", "ba"], 257).token_bytes(256) == b"ab"
    with pytest.raises(OctavoError, match="supports 256 tokens"):
        tokenizers.train_bpe(["a", "b"] * 9, 257)


def test_the_course_tokenizer(corpora: Path) -> None:
    text = (corpora / "tinyshakespeare.txt").read_text()
    tok = tokenizers.train_bpe(text, 1024)
    rose = "What's in a name? that which we call a rose\nBy any other name would smell as sweet;"
    # fmt: off
    assert tok.encode(rose) == [
        462, 320, 307, 258, 813, 63, 323, 621, 331, 800, 258, 697, 305,
        10, 889, 801, 845, 813, 504, 260, 109, 408, 366, 818, 59,
    ]
    # fmt: on
    ids = tok.encode(text)
    assert len(ids) == 459_760
    assert tok.decode(ids) == text
    assert [tok.token_bytes(i) for i in range(256)] == [bytes([i]) for i in range(256)]


def test_the_peer_trainer(corpora: Path) -> None:
    golden = json.loads((Path(__file__).parents[1] / "golden" / "bpe_tinyshakespeare.json").read_text())
    text = (corpora / "tinyshakespeare.txt").read_text()[: golden["characters"]]
    tok = tokenizers.train_bpe(text, golden["vocab_size"])
    assert [tok.token_bytes(i).hex() for i in range(256, len(tok))] == golden["merged"]
    assert tok.encode(golden["text"]) == golden["ids"]


@pytest.mark.parametrize(
    ("text", "size", "message"),
    [
        ("abc", 255, "at least 256"),
        ("", 300, "empty"),
        ([], 300, "empty"),
        (iter(["", ""]), 300, "empty"),
        ("aaaa", 259, "supports 258 tokens"),
        ("a b", 258, "supports 257 tokens"),
    ],
)
def test_refusals(text: str, size: int, message: str) -> None:
    with pytest.raises(OctavoError, match=message):
        tokenizers.train_bpe(text, size)


def test_one_of_the_tokens_may_stand_between_documents() -> None:
    whole, ended = (tokenizers.train_bpe("low lower lowest", 260, end_of_text=end) for end in (False, True))
    assert (whole.end_of_text, ended.end_of_text) == (None, 259)
    assert ended.tokens == (*whole.tokens[:259], b"<|endoftext|>")
    text = "lowest<|endoftext|>"
    assert ended.decode(ended.encode(text)) == text  # written in a text it is text
    assert 259 not in ended.encode(text)
    assert ended.encode(text, special=True)[-1] == 259
    with pytest.raises(OctavoError, match=r"at least 257, .* found 256"):
        tokenizers.train_bpe(text, 256, end_of_text=True)


def test_the_bytes_alone() -> None:
    tok = tokenizers.train_bpe("hello", 256)
    assert tok.encode("hé") == list("hé".encode())


def test_lone_surrogates_count_as_replacement_characters() -> None:
    assert tokenizers.train_bpe("\ud800\ud800", 258) == tokenizers.train_bpe("\ufffd\ufffd", 258)


def test_unknown_patterns_are_refused() -> None:
    with pytest.raises(OctavoError, match="unknown split pattern"):
        tokenizers.train_bpe("abc", 256, r"(a+)+$")
