"""SentencePiece's kind of tokenizer.json against Hugging Face's library, SentencePiece and llama.cpp."""

import copy
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer

from octavo import tokenizers
from octavo.errors import OctavoError
from octavo.tokenizers import sentencepiece
from octavo.tokenizers.sentencepiece import SentencePiece

from .strategies import damaged_bytes, damaged_json, texts, texts_with_surrogates

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokenizers.json").read_text())
DOCUMENTS = GOLDEN["documents"]


@cache
def pair(name: str) -> tuple[SentencePiece, Peer]:
    """Ours and Hugging Face's tokenizer of a golden document."""
    document = DOCUMENTS[name]["document"]
    peer = Peer.from_str(json.dumps(document))
    peer.encode_special_tokens = True
    return sentencepiece.from_document(document), peer


def document(name: str = "llama", **changes: Any) -> dict[str, Any]:
    """A golden document, with parts replaced."""
    return copy.deepcopy(DOCUMENTS[name]["document"]) | changes


@pytest.mark.parametrize("name", DOCUMENTS)
def test_golden_ids_and_texts(name: str) -> None:
    tok, golden = pair(name)[0], DOCUMENTS[name]
    for text, ids, decoded in zip(GOLDEN["texts"], golden["ids"], golden["decoded"], strict=True):
        assert tok.encode(text) == ids
        assert tok.decode(ids) == decoded == tok.decode_bytes(ids).decode()
        assert tok.encode_many([text, "x"])[0].tolist() == ids


@pytest.mark.parametrize("name", DOCUMENTS)
def test_golden_special_tokens_and_beginnings(name: str) -> None:
    tok = pair(name)[0]
    for text, ids in zip(GOLDEN["texts"], DOCUMENTS[name]["special"], strict=True):
        assert [*tok.begins_with, *tok.encode(text, special=True)] == ids
    assert tok.begins_with == (1,)
    assert tok.end_of_text == 2


@pytest.mark.parametrize("name", DOCUMENTS)
@given(text=texts_with_surrogates)
@settings(max_examples=60)
def test_encoding_agrees_with_hugging_face(name: str, text: str) -> None:
    tok, peer = pair(name)
    as_read = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    ids = tok.encode(text)
    assert ids == peer.encode(as_read, add_special_tokens=False).ids
    assert tok.decode(ids) == peer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", DOCUMENTS)
@given(text=texts)
@settings(max_examples=40)
def test_a_text_comes_back_and_piece_by_piece(name: str, text: str) -> None:
    tok, text = pair(name)[0], text.replace("▁", "")  # which is how SentencePiece writes a space
    if name == "mistral":  # whose files put no space before a text that has one
        text = text.lstrip(" ")
    ids = tok.encode(text)
    assert tok.decode(ids) == text
    whole = b"".join(map(tok.token_bytes, ids))
    assert tok.decode_bytes(ids) in (whole, whole[1:])
    for cut in range(1, len(ids)):  # a text written on from a prompt
        assert tok.decode_bytes(ids[:cut]) + b"".join(map(tok.token_bytes, ids[cut:])) == text.encode()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_saving_and_reading_back(name: str, tmp_path: Path) -> None:
    tok = pair(name)[0]
    tok.save(tmp_path / "tokenizer.json")
    again = tokenizers.open(tmp_path)
    assert again == tok
    assert again.begins_with == (1,)
    peer = Peer.from_file(str(tmp_path / "tokenizer.json"))
    for text, special in zip(GOLDEN["texts"], DOCUMENTS[name]["special"], strict=True):
        assert peer.encode(text).ids == special
    assert hash(tok) == hash(again)
    assert repr(tok).startswith("SentencePiece(vocab_size=")
    assert not tok.local


def test_the_space_at_the_beginning_is_taken_away_only_there() -> None:
    tok = pair("llama")[0]
    ids = tok.encode("name name")
    assert [tok.token_bytes(id) for id in ids] == [b" name", b" name"]
    assert tok.decode(ids) == "name name"
    assert tok.decode([1, *ids]) == "<s> name name"
    assert pair("gemma")[0].decode_bytes(pair("gemma")[0].encode(" name")) == b" name"
    assert tok.decode([]) == ""
    with pytest.raises(OctavoError):
        tok.decode([len(tok)])
    with pytest.raises(OctavoError):
        tok.token_bytes(-1)


def test_bytes_that_are_no_text() -> None:
    tok = pair("llama")[0]
    ids = [tok.tokens.index(b"\xe2"), tok.tokens.index(b"\x82")]
    assert tok.decode_bytes(ids) == b"\xe2\x82"
    assert tok.decode(ids) == "\ufffd"


REPLACE = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "NFKC"}}, "NFKC"),
        ({"normalizer": {"type": "Prepend", "prepend": "x"}}, "'Prepend' is not supported as it stands"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace"),
        ({"pre_tokenizer": {"type": "Metaspace", "replacement": "_"}}, "'Metaspace' is not supported"),
        ({"decoder": {"type": "Sequence", "decoders": [REPLACE, {"type": "WordPiece"}]}}, "WordPiece"),
        ({"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, REPLACE]}}, "in that order"),
        ({"decoder": REPLACE}, "ByteFallback"),
        ({"decoder": {"type": "Sequence", "decoders": [REPLACE] * 9}}, "sequence of 9"),
        ({"decoder": {"type": "Metaspace"}}, "Metaspace"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, "WordPiece"),
        ({"model": None}, "has no 'model'"),
        ({"post_processor": {"type": "BertProcessing"}}, "BertProcessing"),
        ({"post_processor": {"type": "TemplateProcessing", "single": [], "pair": []}}, "once in 'single'"),
        (
            {"post_processor": {"type": "Sequence", "processors": [{"type": "Sequence", "processors": []}]}},
            "Seq",
        ),
    ],
)
def test_what_is_not_supported_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(document(**changes)))
    with pytest.raises(OctavoError, match=message):
        tokenizers.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"unk_token": None, "byte_fallback": False}, "lacks need an unk_token"),
        ("llama", {"unk_token": "<none>"}, "unk_token '<none>'"),
        ("llama", {"dropout": 0.5}, "dropout"),
        ("llama", {"merges": [["n", "zz"]]}, "takes 'zz'"),
        ("unigram", {"unk_id": 10**6}, "unk_id"),
        ("unigram", {"unk_id": None}, "unk_id"),
        ("unigram", {"vocab": [["a", float("nan")]]}, "finite score"),
        ("unigram", {"vocab": [["a", 0], ["a", 1]]}, "twice"),
        ("unigram", {"vocab": [["a", 0.0], ["", 1.0]]}, "empty"),
        ("unigram", {"vocab": [["\ud800", 0.0]]}, "valid Unicode|has id"),
    ],
)
def test_inconsistent_models(name: str, changes: dict[str, Any], message: str) -> None:
    content = document(name)
    content["model"] |= changes
    if "vocab" in changes:
        content |= {"added_tokens": [], "post_processor": None}
        content["model"] |= {"unk_id": 0} if "unk_id" not in changes else {}
    with pytest.raises(OctavoError, match=message):
        sentencepiece.from_document(content)


@pytest.mark.parametrize(
    ("specials", "message"),
    [
        ({"<s>": {"id": "<s>", "ids": [10**6], "tokens": ["<s>"]}}, "none of the"),
        ({"<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]}}, "none of the"),
        ({}, "its special_tokens"),
        (3, "must be an object"),
    ],
)
def test_templates_that_name_no_token(specials: Any, message: str) -> None:
    content = document()
    content["post_processor"]["special_tokens"] = specials
    with pytest.raises(OctavoError, match=message):
        sentencepiece.from_document(content)


def smallest(name: str) -> str:
    """A golden document with few of its merges and added tokens: damage falls on the parts that decide."""
    content = document(name)
    if name != "unigram":
        content["model"]["merges"] = content["model"]["merges"][:6]
    return json.dumps(content)


SMALL = [smallest("mistral"), smallest("gemma"), smallest("unigram")]
DAMAGED = st.sampled_from(SMALL).flatmap(
    lambda text: st.one_of(damaged_json(text), damaged_json(text), damaged_bytes(text.encode()))
)


@given(DAMAGED)
@settings(max_examples=200)
def test_damage_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(data)
    message, began = "", time.process_time()
    try:
        tok = tokenizers.open(path)
        tok.decode([*tok.begins_with, *tok.encode("the other 中"), *tok.encode("<s> a", special=True)])
    except OctavoError as error:
        message = str(error)
    assert "\n" not in message
    assert time.process_time() - began < 1
