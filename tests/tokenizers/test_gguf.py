"""Tokenizers in GGUF metadata: against llama.cpp and SentencePiece, there and back, and damaged."""

import copy
import json
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import tokenizers
from octavo.errors import OctavoError
from octavo.tokenizers import Tokenizer, gguf, patterns, pre_tokenizers, sentencepiece
from octavo.tokenizers.tokenizer_json import SPELLING

from .strategies import values

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokenizers.json").read_text())
TEXTS, PIECES = GOLDEN["texts"], GOLDEN["pieces"]
P = "tokenizer.ggml."
# Here a unigram model falls short: its vocabulary lacks "<", so that a name costs less than its letters do.
NAMED = re.compile("<s>|</s>|<unk>|<0x")


def byte_level(**changes: Any) -> dict[str, Any]:
    """The vocabulary with which llama.cpp's splits were recorded."""
    letters = sorted(SPELLING.values())
    pairs = [f"{a} {b}" for a in letters for b in letters if (ord(a) + ord(b)) % 16 == 0]
    tokens = letters + [pair.replace(" ", "") for pair in pairs]
    found = {"model": "gpt2", "pre": "gpt-2", "tokens": tokens, "merges": pairs, "bos_token_id": 0}
    return {P + name: value for name, value in {**found, "eos_token_id": 0, **changes}.items()}


@cache
def read(name: str) -> Tokenizer:
    return gguf.from_metadata(PIECES[name]["metadata"])


@pytest.mark.parametrize("name", GOLDEN["splits"])
def test_splits_agree_with_llama_cpp(name: str) -> None:
    tok = gguf.from_metadata(byte_level(pre=name))
    assert [tok.encode(text) for text in TEXTS] == GOLDEN["splits"][name]
    assert all(tok.decode(tok.encode(text)) == text for text in TEXTS)
    assert tok.begins_with == ((0,) if name == "llama-bpe" else ())


@pytest.mark.parametrize("name", PIECES)
def test_pieces_agree_with_sentencepiece(name: str) -> None:
    tok, golden = read(name), PIECES[name]
    rows = zip(TEXTS, golden["sentencepiece"], golden["llama.cpp"], strict=True)
    for text, ids, by_llama_cpp in rows:
        found = tok.encode(text)
        if name == "llama":
            assert found == ids == by_llama_cpp
        elif name == "gemma":
            assert found == by_llama_cpp
        elif not NAMED.search(text) and found != ids:  # llama.cpp spells no bytes with a unigram model
            scores = np.array(golden["metadata"][P + "scores"])  # two ways to cut a run that are as likely
            assert scores[found].sum() == pytest.approx(scores[ids].sum(), abs=1e-4)
            assert sorted(found) == sorted(ids)
        if name != "unigram" or not NAMED.search(text):
            assert tok.decode(found) == text.replace("▁", " ")


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_special_tokens_agree_with_llama_cpp(name: str) -> None:
    tok = read(name)
    for text, ids in zip(TEXTS, PIECES[name]["llama.cpp_special"], strict=True):
        assert [*tok.begins_with, *tok.encode(text, special=True)] == ids


def test_scores_give_the_merges_of_the_published_file() -> None:
    published = sentencepiece.from_document(GOLDEN["documents"]["llama"]["document"])
    assert [read("llama").encode(text) for text in TEXTS] == [published.encode(text) for text in TEXTS]
    assert read("llama").begins_with == published.begins_with == (1,)


@pytest.mark.parametrize("name", [*PIECES, *GOLDEN["splits"]])
def test_metadata_come_back(name: str, tmp_path: Path) -> None:
    tok = read(name) if name in PIECES else gguf.from_metadata(byte_level(pre=name))
    again = gguf.from_metadata(gguf.to_metadata(tok))
    assert again.begins_with == tok.begins_with
    assert [again.encode(text) for text in TEXTS] == [tok.encode(text) for text in TEXTS]
    assert [again.encode(text, special=True) for text in TEXTS] == [
        tok.encode(text, special=True) for text in TEXTS
    ]
    if name not in ("unigram", "gemma"):  # where scores that are never used are others
        assert again == tok
    again.save(tmp_path / "tokenizer.json")
    assert tokenizers.open(tmp_path) == again


@pytest.mark.parametrize("name", ["llama", "mistral", "unigram"])
def test_published_files_become_metadata(name: str) -> None:
    golden = GOLDEN["documents"][name]
    again = gguf.from_metadata(gguf.to_metadata(sentencepiece.from_document(golden["document"])))
    for text, ids in zip(TEXTS, golden["ids"], strict=True):
        if not (name == "mistral" and text.startswith((" ", "▁"))):  # llama.cpp puts a space before any text
            assert again.encode(text) == ids


def test_gemmas_runs_of_spaces_are_found_before_spaces_are_replaced() -> None:
    metadata = gguf.to_metadata(sentencepiece.from_document(GOLDEN["documents"]["gemma"]["document"]))
    again = gguf.from_metadata(metadata)
    assert "  " in metadata[P + "tokens"]
    assert [again.encode(text) for text in TEXTS] == [read("gemma").encode(text) for text in TEXTS]


@pytest.mark.parametrize("pattern", patterns.NAMES, ids=patterns.NAMES.get)
def test_tokenizers_trained_here_become_metadata(pattern: str) -> None:
    tok = tokenizers.train_bpe(
        "the theatre in the other weather, isn't it? 1234\n\n  中中文 é" * 3, 285, pattern
    )
    again = gguf.from_metadata(gguf.to_metadata(tok))
    assert [again.encode(text) for text in TEXTS] == [tok.encode(text) for text in TEXTS]
    assert again.vocab_size == tok.vocab_size


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\\n\r\t\0x41n"), min_size=1))
def test_characters_come_back(text: str) -> None:
    tok = tokenizers.char(text)
    assert gguf.from_metadata(gguf.to_metadata(tok)) == tok


def test_every_name_is_read_and_the_first_of_a_row_is_written() -> None:
    for name, splits in pre_tokenizers.NAMES.items():
        assert pre_tokenizers.patterns(pre_tokenizers.steps(splits.patterns)) == splits.patterns, name
    few = gguf.to_metadata(tokenizers.train_bpe("a", 256))
    for name, written in (
        ("mpt", "gpt-2"),
        ("starcoder", "smollm"),
        ("smaug-bpe", "dbrx"),
        ("glm4", "llama-bpe"),
    ):
        assert gguf.to_metadata(gguf.from_metadata(few | {P + "pre": name}))[P + "pre"] == written


def test_lists_may_be_arrays_and_types_may_be_missing() -> None:
    metadata = PIECES["llama"]["metadata"]
    arrays = metadata | {
        P + "scores": np.array(metadata[P + "scores"], np.float32),
        P + "token_type": np.array(metadata[P + "token_type"], np.int32),
    }
    assert gguf.from_metadata(arrays).encode("a name") == read("llama").encode("a name")
    untyped = {key: value for key, value in metadata.items() if key != P + "token_type"}
    assert gguf.from_metadata(untyped).encode("</s> a") == read("llama").encode("</s> a")
    assert gguf.from_metadata(untyped).end_of_text == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "bert"}, "'bert'; supported are"),
        ({"model": None}, "supported are"),
        ({"pre": "chameleon"}, "'chameleon'; supported are"),
        ({"pre": 3}, "pre is 3"),
        ({"tokens": []}, "no tokenizer.ggml.tokens"),
        ({"tokens": ["a", 3]}, "list of texts"),
        ({"tokens": {"a": 1}}, "must be a list"),
        ({"merges": None}, "no tokenizer.ggml.merges"),
        ({"merges": ["a zzz"]}, "takes 'zzz'"),
        ({"merges": ["a"]}, "two tokens"),
        ({"token_type": [1]}, "1 values for"),
        ({"bos_token_id": 10**9}, "bos_token_id must be an id"),
        ({"eos_token_id": -1}, "eos_token_id must be an id"),
        ({"eos_token_id": 2.5}, "eos_token_id must be an id"),
        ({"add_bos_token": 1}, "true or false"),
    ],
)
def test_metadata_of_byte_pairs_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OctavoError, match=message) as caught:
        gguf.from_metadata(byte_level(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"scores": None}, "no tokenizer.ggml.scores"),
        ("llama", {"scores": [0.0]}, "1 values for"),
        ("llama", {"scores": "nan"}, "must be a list"),
        ("unigram", {"precompiled_charsmap": [1, 2]}, "precompiled_charsmap"),
        ("unigram", {"remove_extra_whitespaces": True}, "remove_extra_whitespaces"),
        ("unigram", {"scores": None}, "no tokenizer.ggml.scores"),
        ("llama", {"add_eos_token": True, "eos_token_id": None}, "eos_token_id must be an id"),
    ],
)
def test_metadata_of_pieces_that_are_refused(name: str, changes: dict[str, Any], message: str) -> None:
    metadata = PIECES[name]["metadata"] | {P + key: value for key, value in changes.items()}
    with pytest.raises(OctavoError, match=message):
        gguf.from_metadata(metadata)


@pytest.mark.parametrize(
    ("key", "at", "value", "message"),
    [
        ("scores", 300, float("nan"), "no finite number"),
        ("scores", 300, float("inf"), "no finite number"),
        ("scores", 300, True, "list of numbers"),
        ("token_type", 300, 9, "from 0 to 6"),
        ("tokens", 300, "<s>", "'<s>' twice"),
        ("tokens", 300, "\udce2", "not valid UTF-8"),
        ("tokens", 3, "no byte", ""),
    ],
)
def test_single_values_that_are_refused(key: str, at: int, value: Any, message: str) -> None:
    metadata = copy.deepcopy(PIECES["llama"]["metadata"])
    metadata[P + key][at] = value
    if not message:  # a byte less is no error while there is an unknown token
        assert 0 in gguf.from_metadata(metadata).encode("\x00")
        return
    with pytest.raises(OctavoError, match=message):
        gguf.from_metadata(metadata)


def test_a_huge_token_takes_no_time() -> None:
    metadata = copy.deepcopy(PIECES["llama"]["metadata"])
    metadata[P + "tokens"][300] = "a" * 10**6
    began = time.process_time()
    with pytest.raises(OctavoError, match="1000000 characters"):
        gguf.from_metadata(metadata)
    tokens = [str(id) for id in range(100_000)]
    with pytest.raises(OctavoError, match="'99999' twice"):
        gguf.from_metadata(metadata | {P + "tokens": [*tokens, "99999"]})
    assert time.process_time() - began < 2


def test_scores_that_tie_are_refused_but_for_runs_of_a_letter() -> None:
    tokens = ["<unk>", "a", "b", "aa", "aaa", "ab"]
    types = [2, 1, 1, 1, 1, 1]
    metadata = {P + "model": "llama", P + "tokens": tokens, P + "token_type": types, P + "bos_token_id": 1}
    runs = gguf.from_metadata(metadata | {P + "scores": [0, 0, 0, -1, -1, -2]})
    assert runs.encode("aaaaaaab")[-3:] == [4, 4, 5]
    with pytest.raises(OctavoError, match="same score"):
        gguf.from_metadata(metadata | {P + "scores": [0, 0, 0, -1, -2, -1]})


def test_what_gguf_cannot_say_is_refused() -> None:
    llama = GOLDEN["documents"]["llama"]["document"]
    splits = llama | {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁"}}
    fewer = llama | {"model": llama["model"] | {"merges": llama["model"]["merges"][1:]}}
    plain = llama | {"normalizer": None}
    for document, message in (
        (splits, "splits a text"),
        (fewer, "merges are others"),
        (plain, "as they are"),
    ):
        with pytest.raises(OctavoError, match=message):
            gguf.to_metadata(sentencepiece.from_document(document))
    tok = gguf.from_metadata(byte_level())
    twice = tok.document | {"pre_tokenizer": pre_tokenizers.steps((patterns.QWEN2, patterns.GPT2))}
    with pytest.raises(OctavoError, match="no name for how"):
        gguf.to_metadata(type(tok)(tok.tokens, twice))


SMALL = [
    {key: value for key, value in PIECES[name]["metadata"].items() if key.startswith(P)} for name in PIECES
] + [gguf.to_metadata(tokenizers.train_bpe("the theatre", 260)), gguf.to_metadata(tokenizers.char("ab\n"))]


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """Metadata with an entry, or a value in a list of them, replaced or taken out."""
    metadata = dict(draw(st.sampled_from(SMALL)))
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from(sorted(metadata)))
        if isinstance(metadata[key], list) and metadata[key] and draw(st.booleans()):
            items = list(metadata[key])
            at = draw(st.integers(0, len(items) - 1))
            items[at : at + 1] = draw(st.lists(values | st.sampled_from(items), max_size=2))
            metadata[key] = items
        elif draw(st.booleans()):
            metadata[key] = draw(values)
        else:
            del metadata[key]
            if not metadata:
                break
    return metadata


@given(damaged())
@settings(max_examples=150)
def test_damage_is_refused_or_harmless(metadata: dict[str, Any]) -> None:
    message, began = "", time.process_time()
    try:
        tok = gguf.from_metadata(metadata)
        tok.decode(tok.encode("ab" if isinstance(tok, tokenizers.chars.Char) else "the other 中"))
        gguf.to_metadata(tok)
    except OctavoError as error:
        message = str(error)
    assert "\n" not in message
    assert time.process_time() - began < 1
