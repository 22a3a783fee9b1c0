"""One id per character: against the definition, and against Hugging Face on the saved file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer

from octavo import tokenizers
from octavo.errors import OctavoError
from octavo.tokenizers import Tokenizer, gguf

alphabets = st.text(min_size=1, max_size=30)


@given(alphabets, st.data())
def test_ids_are_places_among_the_sorted_characters(alphabet: str, data: st.DataObject) -> None:
    tok: Tokenizer = tokenizers.char(alphabet)
    text = data.draw(st.text(st.sampled_from(alphabet), max_size=50))
    order = sorted(set(alphabet))
    ids = tok.encode(text)
    assert ids == [order.index(c) for c in text]
    assert all(type(id) is int for id in ids)
    assert tok.decode(ids) == text
    assert tok.decode_bytes(ids) == text.encode() == b"".join(map(tok.token_bytes, ids))
    assert len(tok) == tok.vocab_size == len(order)


@given(st.text("\n\r \t\"'\\aé中🙂\x00\x85\u2028\u0301", min_size=1, max_size=30), st.data())
def test_hugging_face_reads_the_file_the_same(tmp_path_factory, alphabet: str, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("char") / "tokenizer.json"
    tok = tokenizers.char(alphabet)
    tok.save(path)
    text = data.draw(st.text(st.sampled_from(alphabet), max_size=50))
    peer = Peer.from_file(str(path))
    assert peer.encode(text).ids == tok.encode(text)
    assert peer.decode(tok.encode(text)) == text
    assert peer.get_vocab_size() == len(tok)
    assert tokenizers.open(path) == tok == tokenizers.open(path.parent)


@given(st.lists(st.text(max_size=10)), st.data())
def test_many_texts_are_encoded_as_each_alone(parts: list[str], data: st.DataObject) -> None:
    tok = tokenizers.char(["a", *parts])  # of texts in parts, and of the whole
    assert tok == tokenizers.char(iter(["a", *parts])) == tokenizers.char("a" + "".join(parts))
    found = tok.encode_many(parts)
    assert [ids.tolist() for ids in found] == [tok.encode(part) for part in parts]
    assert all(ids.dtype == np.uint16 for ids in found)
    assert tokenizers.token_lengths(tok)[tok.encode("".join(parts))].sum() == len("".join(parts).encode())
    assert tok.end_of_text is None
    with pytest.raises(OctavoError, match="unknown character"):
        tokenizers.char("a").encode_many(["a", "b"])


@given(st.text("\n\t\\aé中🙂<|endofx>", min_size=1, max_size=30), st.data())
def test_a_token_may_stand_between_documents(tmp_path_factory, alphabet: str, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("char") / "tokenizer.json"
    bare, tok = tokenizers.char(alphabet), tokenizers.char(alphabet, end_of_text=True)
    tok.save(path)
    assert tok != bare
    assert tokenizers.open(path) == tok == gguf.from_metadata(gguf.to_metadata(tok))
    end = tok.end_of_text
    assert (end, len(tok), tok.token_bytes(len(bare))) == (len(bare), len(bare) + 1, b"<|endoftext|>")
    one, other = (data.draw(st.text(st.sampled_from(alphabet), max_size=20)) for _ in range(2))
    assert tok.encode(one) == bare.encode(one)
    ids = [*tok.encode(one), end, *tok.encode(other)]
    whole = f"{one}<|endoftext|>{other}"
    assert tok.encode(whole, special=True) == ids == Peer.from_file(str(path)).encode(whole).ids
    assert tok.decode(ids) == whole
    assert b"".join(map(tok.token_bytes, ids)) == tok.decode_bytes(ids) == whole.encode()
    if set("<|endoftext|>") <= set(alphabet):
        assert end not in tok.encode(whole)  # what is written in a text is text
        assert tok.decode(tok.encode(whole)) == whole


@pytest.mark.parametrize("change", [{"id": 2}, {"id": 4}, {"content": "<end>"}, {"special": False}])
def test_no_other_token_is_read(change: dict[str, object], tmp_path: Path) -> None:
    tokenizers.char("abc", end_of_text=True).save(tmp_path / "tokenizer.json")
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    document["added_tokens"][0] |= change
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(OctavoError, match="one token that a character tokenizer has beside"):
        tokenizers.open(tmp_path)


def test_more_characters_than_16_bits_count() -> None:
    tok = tokenizers.char(map(chr, (*range(0xD800), *range(0xE000, 0x12000))))
    text = chr(0x11FFF) + "a"
    assert tok.encode_many([text])[0].dtype == np.uint32
    assert tok.encode_many([text])[0].tolist() == tok.encode(text) == [0x11FFF - 0x800, ord("a")]


def test_the_corpus_comes_back(corpora: Path) -> None:
    text = (corpora / "tinyshakespeare.txt").read_text()
    tok = tokenizers.char(text)
    assert len(tok) == 65
    assert tok.decode(tok.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "named"), [("abz", "'z' (U+007A) at position 2"), ("🙂", "U+1F642) at position 0")]
)
def test_an_unknown_character_is_named_with_its_place(text: str, named: str) -> None:
    with pytest.raises(OctavoError) as caught:
        tokenizers.char("abc").encode(text)
    assert named in str(caught.value)


@pytest.mark.parametrize("unknown", ["\x00", "`", "bb\uffff", "\ud800", "\U0010ffff"])
def test_characters_below_between_and_above_the_alphabet_are_unknown(unknown: str) -> None:
    with pytest.raises(OctavoError, match="unknown character"):
        tokenizers.char("abc中").encode("a" + unknown)


@pytest.mark.parametrize("ids", [[3], [-1], [10**30], [0.5], ["a"], [[0]], [[0], [0, 1]], [None], 3])
def test_ids_outside_the_vocabulary_are_refused(ids: list[int]) -> None:
    with pytest.raises(OctavoError):
        tokenizers.char("abc").decode(ids)


def test_ids_may_be_an_array_and_none() -> None:
    tok = tokenizers.char("abc")
    assert tok.decode(np.array([2, 0], np.uint8)) == "ca"
    assert tok.decode([]) == ""
    assert tok.encode("") == []


@pytest.mark.parametrize("id", [3, -1, 10**30])
def test_token_bytes_refuses_other_ids(id: int) -> None:
    with pytest.raises(OctavoError, match="0 to 2"):
        tokenizers.char("abc").token_bytes(id)


@pytest.mark.parametrize("text", ["", "a\ud800", [], ["", ""]])
def test_texts_that_make_no_alphabet(text: str | list[str]) -> None:
    with pytest.raises(OctavoError):
        tokenizers.char(text)


def test_equality_and_repr() -> None:
    assert tokenizers.char("abba") == tokenizers.char("ab") != tokenizers.char("abc")
    assert hash(tokenizers.char("abba")) == hash(tokenizers.char("ab"))
    assert repr(tokenizers.char("ab\n")) == r"Char(vocab_size=3, alphabet='\nab')"
    assert len(repr(tokenizers.char("".join(map(chr, range(1000)))))) < 200


def test_characters_need_neither_library(tmp_path: Path) -> None:
    code = (
        "import sys; from octavo import tokenizers as t; c = t.char('abc'); c.save(sys.argv[1]);"
        "assert t.open(sys.argv[1]).encode('cab') == [2, 0, 1];"
        "sys.exit(bool({'tokenizers', 'regex', 'tiktoken'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.json")], check=True)


def test_saving_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizers.char("abc").save(path)
    tokenizers.char("abcd").save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
    with pytest.raises(OctavoError, match="cannot be written"):
        tokenizers.char("abc").save(tmp_path / "missing" / "tokenizer.json")
    with pytest.raises(OctavoError, match="cannot be written"):
        tokenizers.char("abc").save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
