"""Encoding by the definition, held to Hugging Face's library."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo import tokenizers
from octavo.tokenizers import engine, merging, patterns, pre_tokenizers
from octavo.tokenizers.merging import Merging
from octavo.tokenizers.published import ByteLevelBPE

LEARNED = (
    "the theatre in the other weather, isn't it? 1234 12 1999\n\n  a  aa aaa\r\n\t'Tis [SAID] he're " * 3
)
SIZE = 290
PIECES = ["the ", "theatre", " weather", "isn't", " 1999", "123", "aaaa", "  ", "\r\n", "\t", "[A]", "/"]
PLAIN = st.lists(st.sampled_from(PIECES) | st.text(st.characters(max_codepoint=127), max_size=4)).map("".join)


def trained(split: pre_tokenizers.Splits, **changes: Any) -> ByteLevelBPE:
    """A tokenizer of its own that splits so; `changes` are of its model."""
    known = tokenizers.train_bpe(LEARNED, SIZE)
    document = {**known.document, "pre_tokenizer": pre_tokenizers.steps(split.patterns)}
    model = {**document["model"], "ignore_merges": split.whole, **changes}
    return ByteLevelBPE(known.tokens, {**document, "model": model})


SPLITS = {
    name: split for name, split in pre_tokenizers.NAMES.items() if merging.ASCII.issuperset(split.patterns)
}
DISTINCT = {split: name for name, split in reversed(SPLITS.items())}  # the first name of each
LEFT_TO_THE_LIBRARY = ["default", "falcon", "deepseek-coder", "deepseek-v3"]
MADE = {name: trained(split) for split, name in DISTINCT.items()}
PAIRS = trained(pre_tokenizers.NAMES["gpt-2"]).document["model"]["merges"]


def test_which_splits_there_are() -> None:
    others = [name for name in pre_tokenizers.NAMES if name not in SPLITS]
    assert {pre_tokenizers.NAMES[name] for name in others} == {
        pre_tokenizers.NAMES[name] for name in LEFT_TO_THE_LIBRARY
    }
    assert {"gpt-2", "smollm", "llama-bpe", "qwen2", "gpt-4o", "tekken"} <= {*MADE}


@pytest.mark.parametrize("name", MADE)
@given(text=PLAIN)
def test_ascii_is_encoded_as_by_the_library(name: str, text: str) -> None:
    assert Merging(MADE[name].document).encode(text) == engine.ids(MADE[name]._engine, text)


@given(text=PLAIN, seed=st.integers(0, 2**32), whole=st.booleans())
def test_whatever_the_order_of_the_merges(text: str, seed: int, whole: bool) -> None:
    merges = [*PAIRS, *PAIRS[:9]]  # what is there twice counts as where it is last
    random.Random(seed).shuffle(merges)
    tok = trained(pre_tokenizers.NAMES["gpt-2"], merges=merges, ignore_merges=whole)
    assert Merging(tok.document).encode(text) == engine.ids(tok._engine, text)


@pytest.mark.parametrize("whole", [False, True])
def test_a_word_that_is_a_token_is_taken_whole_where_asked(whole: bool) -> None:
    tok = trained(pre_tokenizers.NAMES["gpt-2"], merges=[], ignore_merges=whole)
    found = Merging(tok.document).encode(" theatre the")
    assert found == engine.ids(tok._engine, " theatre the")
    assert found is not None
    assert (tok.tokens.index(b" the") in found) is whole


def test_what_is_left_to_the_library() -> None:
    document = MADE["gpt-2"].document
    assert Merging(document).encode("a" * merging.LONGEST) is not None
    for text in ("caf\u00e9", "a" * (merging.LONGEST + 1), "a " * (merging.FEW // 2) + "a"):
        assert Merging(document).encode(text) is None
    apart = [{**tokenizers.fields.added(SIZE, "<tool>"), "special": False}]
    document = {**document, "added_tokens": apart}
    assert Merging(document).encode("a <tool> b") is None is not Merging(document).encode("a tool b")
    vocab = {token: id for token, id in document["model"]["vocab"].items() if token != "~"}
    fewer = {**document, "model": {**document["model"], "vocab": vocab}}
    assert Merging(fewer).encode("a ~ b") is None is not Merging(fewer).encode("a b")
    for name in LEFT_TO_THE_LIBRARY:
        assert Merging(trained(pre_tokenizers.NAMES[name]).document).encode("the") is None


def test_the_library_is_made_when_it_is_worth_it() -> None:
    tok, text = trained(pre_tokenizers.NAMES["smollm"]), "the weather in 1999, " * 50
    for times in range(1, merging.FEW // len(text) + 2):
        assert "_engine" not in tok.__dict__
        assert tok.encode(text) == engine.ids(MADE["smollm"]._engine, text)
        assert tok._merging.left == max(merging.FEW - times * len(text), merging.FEW % len(text))
    assert "_engine" in tok.__dict__


def test_patterns_are_those_that_say_the_same_of_ascii() -> None:
    assert {*patterns.NAMES} < merging.ASCII < {*patterns.NAMES, *patterns.STEPS}
