"""Byte-level BPE against tiktoken on the same ranks, and tokenizer.json in and out."""

import json
import random
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer

from octavo import tokenizers
from octavo.errors import OctavoError
from octavo.tokenizers import Tokenizer, chars, fields, patterns
from octavo.tokenizers.published import ByteLevelBPE

from .strategies import PIECES, damaged_bytes, damaged_json, texts, texts_with_surrogates

LEARNED = (
    "the theatre in the other weather, isn't it? 1234 12 中中文 é\n\n  a  aa aaa\r\n\t'Tis 🙂🙂 \u00a0 ſ's "
    * 3
)


def peer_of(tok: ByteLevelBPE, pattern: str = tokenizers.GPT2) -> tiktoken.Encoding:
    ranks = {token: id for id, token in enumerate(tok.tokens)}
    return tiktoken.Encoding("peer", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


SIZE = 300
TRAINED = {pattern: tokenizers.train_bpe(LEARNED, SIZE, pattern) for pattern in patterns.NAMES}
PEERS = {pattern: peer_of(tok, pattern) for pattern, tok in TRAINED.items()}


@pytest.mark.parametrize("pattern", patterns.NAMES, ids=patterns.NAMES.get)
@given(text=texts_with_surrogates)
@example(text="\ud83d\ude42 \ude42\ud83d")
def test_encoding_agrees_with_tiktoken(pattern: str, text: str) -> None:
    ids = TRAINED[pattern].encode(text)
    assert ids == PEERS[pattern].encode_ordinary(text)
    assert TRAINED[pattern].decode(ids) == PEERS[pattern].decode(ids)


@pytest.mark.parametrize("spelling", patterns.SPELLINGS)
@given(text=texts)
@settings(max_examples=40)
def test_every_spelling_of_a_pattern_splits_alike(spelling: str, text: str) -> None:
    canonical = patterns.canonical(spelling)
    assert peer_of(TRAINED[canonical], spelling).encode_ordinary(text) == TRAINED[canonical].encode(text)


@given(st.lists(st.integers(0, SIZE - 1), max_size=30))
def test_decoding_agrees_with_tiktoken(ids: list[int]) -> None:
    tok, peer = TRAINED[patterns.GPT2], PEERS[patterns.GPT2]
    assert tok.decode_bytes(ids) == peer.decode_bytes(ids) == b"".join(map(tok.token_bytes, ids))
    assert tok.decode(ids) == peer.decode(ids)


@given(
    st.lists(st.text("abc", min_size=2, max_size=6), unique=True, max_size=14), st.text("abc ", max_size=30)
)
@example(["aba", "ab", "ba"], "ababa")
@example(["ab", "ba", "aba"], "abababab")
@example(["aaa", "aa", "aaaaa"], "aaaaaaaaa")
@settings(max_examples=300)
def test_ranks_in_any_order_agree_with_tiktoken(words: list[str], text: str) -> None:
    ranks = {bytes([i]): i for i in range(256)} | {word.encode(): 256 + i for i, word in enumerate(words)}
    peer = tiktoken.Encoding("peer", pat_str=patterns.GPT2, mergeable_ranks=ranks, special_tokens={})
    assert tokenizers.from_ranks(ranks).encode(text) == peer.encode_ordinary(text)


@pytest.mark.parametrize("pattern", patterns.NAMES, ids=patterns.NAMES.get)
def test_long_texts_are_encoded_in_blocks_and_agree(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    text = "".join(draw.choices([*PIECES, " the", " a", "中\n文", ".\n/", "\nx", " 1"], k=9_000))
    assert len(text) > 10_000
    monkeypatch.setattr(patterns, "_BLOCK", 500)
    assert len(list(patterns.blocks(text))) > 10
    assert "".join(patterns.blocks(text)) == text
    assert all("".join(patterns.chunks(block)) == block for block in patterns.blocks(text))
    assert TRAINED[pattern].encode(text) == PEERS[pattern].encode_ordinary(text)
    monkeypatch.setattr("octavo.tokenizers.published._REMEMBERED", 5)
    monkeypatch.setattr("octavo.tokenizers.published._TOGETHER", 3)
    assert TRAINED[pattern].encode(text) == PEERS[pattern].encode_ordinary(text)


@cache
def seamless(pattern: str) -> tuple[ByteLevelBPE, tiktoken.Encoding]:
    """A tokenizer that merges any two bytes of `PIECES`, so that no wrong seam goes unseen; and its peer."""
    letters = sorted(set("".join(PIECES).encode()))
    tokens = [bytes([i]) for i in range(256)] + [bytes([i, j]) for i in letters for j in letters]
    tok = tokenizers.from_ranks({token: id for id, token in enumerate(tokens)}, pattern)
    return tok, peer_of(tok, pattern)


@pytest.mark.parametrize("pattern", patterns.NAMES, ids=patterns.NAMES.get)
@given(batches=st.lists(st.lists(texts_with_surrogates, max_size=4), max_size=3))
@example(batches=[["'s", " don't"], ["don't\u0301 ", "  x\n\ny", "don't é 1234 don't"]])
def test_many_texts_are_encoded_as_each_alone(pattern: str, batches: list[list[str]]) -> None:
    (tok, peer), known = seamless(pattern), dict[str, bytes]()
    for batch in batches:
        found = tok.encode_many(batch, known)
        assert [ids.tolist() for ids in found] == [peer.encode_ordinary(text) for text in batch]
        assert all(ids.dtype == np.uint16 for ids in found)
        assert list(map(list, tok.encode_many(batch))) == list(map(list, found))


def test_what_many_texts_have_in_common_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.tokenizers.published._REMEMBERED", 3)
    tok, known = TRAINED[patterns.GPT2], dict[str, bytes]()
    for text in ("a b c d e", "f é", "a b f"):
        assert tok.encode_many([text], known)[0].tolist() == tok.encode(text)
    assert len(known) == 3 + 2  # "f", " é" and all that came after


# Spaces, ends of lines and what may stand before and after them: wherever a text is cut.
SEAMS = st.lists(st.sampled_from(PIECES) | st.sampled_from([" ", "\n", " a", "\na", ".\n", "\n/", "1", "中"]))


@pytest.mark.parametrize("pattern", patterns.NAMES, ids=patterns.NAMES.get)
@given(text=SEAMS.map("".join), size=st.integers(1, 8))
def test_every_pattern_splits_where_blocks_begin(pattern: str, text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "_BLOCK", size)
        blocks = list(patterns.blocks(text))
    assert "".join(blocks) == text
    tok, peer = seamless(pattern)
    whole = peer.encode_ordinary(text)
    assert [id for block in blocks for id in peer.encode_ordinary(block)] == whole
    assert [id for block in blocks for id in tok._encode_whole(block)] == whole


@given(pieces=st.lists(SEAMS.map("".join)), size=st.integers(1, 8))
def test_blocks_are_cut_alike_however_the_text_arrives(pieces: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "_BLOCK", size)
        assert list(patterns.blocks(pieces)) == list(patterns.blocks("".join(pieces)))


@pytest.mark.parametrize("pattern", patterns.NAMES, ids=patterns.NAMES.get)
@given(text=st.text(st.characters(max_codepoint=127)) | st.text("aA1 \n\r\t\x0b\x0c\x1c\x1f'SstTlL_./"))
def test_ascii_is_split_as_by_the_pattern_itself(pattern: str, text: str) -> None:
    import regex

    words = patterns.ascii_twin(pattern).findall(text)
    assert words == regex.findall(pattern, text)
    tok, peer = seamless(pattern)
    assert [id for word in words for id in tok._encode_whole(word)] == peer.encode_ordinary(text)


@pytest.mark.parametrize("name", fields.END_OF_TEXT)
def test_the_token_that_ends_a_text_is_known_by_name(name: str) -> None:
    ranks = {bytes([i]): i for i in range(256)}
    tok = tokenizers.from_ranks(ranks, special_tokens={"<|pad|>": 256, name: 257})
    assert tok.end_of_text == 257
    lengths = tokenizers.token_lengths(tok)
    assert lengths.tolist() == [1] * 256 + [7, 0]


def test_without_such_a_token_there_is_none(tmp_path: Path) -> None:
    assert TRAINED[patterns.GPT2].end_of_text is None
    ranks = {bytes([i]): i for i in range(256)}
    assert tokenizers.from_ranks(ranks, special_tokens={"<|pad|>": 256}).end_of_text is None
    in_texts = published(added_tokens=[added(0, "<|endoftext|>")])  # found in texts, so it parts none
    assert opened(tmp_path, in_texts).end_of_text is None
    assert tokenizers.token_lengths(TRAINED[patterns.GPT2]).tolist() == [
        len(token) for token in TRAINED[patterns.GPT2].tokens
    ]


def test_the_corpus_agrees_with_tiktoken(corpora: Path) -> None:
    text = (corpora / "styles_train.txt").read_text()
    tok = tokenizers.train_bpe(text, 600)
    assert tok.encode(text) == peer_of(tok).encode_ordinary(text)


def test_special_tokens_in_text_are_text(tmp_path: Path) -> None:
    ranks = {token: id for id, token in enumerate(TRAINED[patterns.GPT2].tokens)}
    tok = tokenizers.from_ranks(ranks, special_tokens={"<|endoftext|>": SIZE})
    assert tok.encode("the<|endoftext|>") == TRAINED[patterns.GPT2].encode("the<|endoftext|>")
    assert tok.token_bytes(SIZE) == b"<|endoftext|>"
    assert tok.decode([SIZE, 97]) == "<|endoftext|>a"
    assert tok.vocab_size == SIZE + 1
    tok.save(tmp_path / "tokenizer.json")
    assert tokenizers.open(tmp_path) == tok
    assert tokenizers.open(tmp_path).encode("<|endoftext|>") == tok.encode("<|endoftext|>")
    assert Peer.from_file(str(tmp_path / "tokenizer.json")).encode("<|endoftext|>").ids == [SIZE]


def test_special_tokens_in_text_are_found_when_asked_for(tmp_path: Path) -> None:
    document = published(
        normalizer={"type": "NFC"},
        added_tokens=[
            added(0, "<|endoftext|>", special=True),
            added(300, "<tool>"),
            added(301, "<|end|>", special=True, rstrip=True),
            added(302, "<|e\u0301|>", special=True, lstrip=True, normalized=True),
        ],
    )
    tok, peer = opened(tmp_path, document), Peer.from_str(json.dumps(document))
    text = "the <|end|> <|endoftext|>\n<|e\u0301|><tool><|end|><|end|>the  e\u0301 <|end <|é|>"
    as_text = tok.encode(text)
    assert tok.encode(text, special=True) == peer.encode(text, add_special_tokens=False).ids
    assert {0, 300, 301, 302} <= set(tok.encode(text, special=True))
    assert as_text == tok.encode(text) == tok.encode(text, special=False)  # the one engine leaves the other
    assert not {0, 301, 302} & set(as_text)
    assert tokenizers.char(text).encode(text, special=True) == tokenizers.char(text).encode(text)


@pytest.mark.parametrize("pattern", patterns.NAMES, ids=patterns.NAMES.get)
def test_hugging_face_reads_the_file_the_same(pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    TRAINED[pattern].save(path)
    peer = Peer.from_file(str(path))
    for text in (LEARNED, "".join(PIECES), "\n\n  x", " "):
        ids = TRAINED[pattern].encode(text)
        assert peer.encode(text).ids == ids
        assert peer.decode(ids, skip_special_tokens=False) == text
    again = tokenizers.open(path)
    assert again == TRAINED[pattern]
    assert again.encode(LEARNED) == TRAINED[pattern].encode(LEARNED)


def published(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json in the manner of GPT-2, with parts replaced."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    peer = Peer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    peer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
    )
    peer.train_from_iterator([LEARNED], trainer)
    document: dict[str, Any] = json.loads(peer.to_str())
    return document | changes


def opened(folder: Path, document: object) -> Tokenizer:
    path = folder / "tokenizer.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return tokenizers.open(path)


def added(id: int, content: str, **flags: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": id, "content": content, **plain, **flags}


SPLIT = {"type": "Split", "pattern": {"Regex": patterns.QWEN2}, "behavior": "Isolated", "invert": False}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pre_tokenizer": {**BYTE_LEVEL, "use_regex": True, "add_prefix_space": True}},
        {"normalizer": {"type": "NFC"}, "pre_tokenizer": sequence(SPLIT, BYTE_LEVEL)},
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{**SPLIT, "behavior": "Removed", "invert": True}, BYTE_LEVEL],
            }
        },
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {**BYTE_LEVEL, "use_regex": True},
                ],
            }
        },
        {"added_tokens": [added(0, "<|endoftext|>", special=True), added(300, "<tool>"), added(301, "e t")]},
        {"added_tokens": [added(0, "<|endoftext|>", special=True), added(300, "<tool>")]},
        {"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}},
    ],
)
def test_tokenizers_of_others(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = published(**changes)
    tok = opened(tmp_path, document)
    monkeypatch.setattr(patterns, "_BLOCK", 500)
    peer = Peer.from_str(json.dumps(document | {"truncation": None}))
    peer.encode_special_tokens = True
    for text in (LEARNED, "<tool> the ti<tool>e\u0301 t.<|endoftext|>", (LEARNED + "e\u0301\nthe") * 60):
        assert tok.encode(text) == peer.encode(text, add_special_tokens=False).ids
        assert tok.encode_many([text, "x"])[0].tolist() == tok.encode(text)
    assert len(tok) == peer.get_vocab_size()
    tok.save(tmp_path / "again.json")
    assert tokenizers.open(tmp_path / "again.json") == tok


@pytest.mark.parametrize("unknown", [None, "<|endoftext|>"])
def test_bytes_without_a_token_are_left_out_as_by_hugging_face(unknown: str | None, tmp_path: Path) -> None:
    document = published()  # SmolLM2 lacks fifteen bytes; here it is those of "é"
    vocab = {token: id for token, id in document["model"]["vocab"].items() if not {*token} & {*"Ã©"}}
    merges = [pair for pair in document["model"]["merges"] if not {*"".join(pair)} & {*"Ã©"}]
    document["model"] |= {"vocab": {token: id for id, token in enumerate(vocab)}, "merges": merges}
    document["model"]["unk_token"] = unknown
    tok, peer = opened(tmp_path, document), Peer.from_str(json.dumps(document))
    peer.encode_special_tokens = True
    for text in ("the éé theatre é", LEARNED, (LEARNED + "thé é\n") * 90):
        assert tok.encode(text) == peer.encode(text, add_special_tokens=False).ids
        assert tok.encode_many([text])[0].tolist() == tok.encode(text)
    assert tok.decode(tok.encode("thé")) == ("th" if unknown is None else "th" + unknown * 2)
    tok.save(tmp_path / "again.json")
    assert tokenizers.open(tmp_path / "again.json") == tok


LLAMA3 = {
    "type": "Sequence",
    "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "end", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]},
                "end": {"id": "end", "ids": [0, 0], "tokens": ["<|endoftext|>", "<|endoftext|>"]},
            },
        },
    ],
}


def test_what_goes_around_a_text_is_kept(tmp_path: Path) -> None:
    tok = opened(tmp_path, published(post_processor=LLAMA3))
    tok.save(tmp_path / "again.json")
    peer = Peer.from_file(str(tmp_path / "again.json"))
    assert peer.encode("the").ids == [0, *tok.encode("the"), 0, 0]
    assert tok.begins_with == tokenizers.open(tmp_path / "again.json").begins_with == (0,)
    assert json.loads((tmp_path / "again.json").read_text())["post_processor"] == LLAMA3
    assert opened(tmp_path, published()).begins_with == () == tokenizers.char("a").begins_with
    twice = {"type": "Sequence", "processors": [LLAMA3["processors"][1]] * 2}  # type: ignore[index]
    with pytest.raises(OctavoError, match="one TemplateProcessing at most"):
        opened(tmp_path, published(post_processor=twice))


@pytest.mark.parametrize("normalizer", [None, {"type": "NFC"}])
@pytest.mark.parametrize("steps", [(), ({"type": "Digits", "individual_digits": True},)])
def test_merges_that_no_split_keeps_inside_words(
    steps: tuple[dict[str, Any], ...], normalizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = published(pre_tokenizer=sequence(*steps, BYTE_LEVEL), normalizer=normalizer)
    document["model"]["vocab"] |= {"rĠ": 300, "rĠw": 301}
    document["model"]["merges"] = [["r", "Ġ"], ["rĠ", "w"], *document["model"]["merges"]]
    tok, peer = opened(tmp_path, document), Peer.from_str(json.dumps(document))
    monkeypatch.setattr(patterns, "_BLOCK", 500)
    text = " ".join(random.Random(1).choices(LEARNED.split(), k=5_000))
    assert len(text) > 10_000
    assert 301 in tok.encode(text)
    assert tok.encode(text) == peer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "WordPiece", "vocab": {}}}, "WordPiece"),
        ({"model": {"type": "Unigram", "vocab": []}, "decoder": {"type": "Metaspace"}}, "Unigram.*Metaspace"),
        ({"decoder": None}, "ByteLevel decoder"),
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ({"pre_tokenizer": None}, "ByteLevel"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace"),
        ({"pre_tokenizer": sequence()}, "sequence of 0"),
        (
            {"pre_tokenizer": sequence({"type": "Punctuation"}, BYTE_LEVEL)},
            "Punctuation",
        ),
        (
            {
                "pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [{**SPLIT, "pattern": {"Regex": "(a+)+$"}}, BYTE_LEVEL],
                }
            },
            "unknown split",
        ),
        ({"added_tokens": [added(7, "new")]}, "two tokens have id 7"),
        ({"added_tokens": [added(400, "new")]}, "none has id 300"),
        ({"added_tokens": [added(300, "the")]}, "has id 300 but is read as"),
        ({"added_tokens": [added(300, "new"), added(301, "new")]}, "has id 301 but is read as 300"),
        ({"added_tokens": 3}, "added_tokens must be a list"),
    ],
)
def test_what_is_not_supported_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match=message) as caught:
        opened(tmp_path, published(**change))
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merges": [["t", "zzz"]]}, "takes 'zzz'"),
        ({"merges": [["h", "t"]]}, "makes or takes 'ht'"),
        ({"merges": [["", "t"]]}, "makes or takes ''"),
        ({"merges": [["t"]]}, "two tokens"),
        ({"merges": None}, "merges must be a list"),
        ({"vocab": {"a": 0}, "merges": []}, "printable character of ASCII"),
        ({"vocab": []}, "vocab"),
        ({"dropout": 0.5}, "dropout"),
    ],
)
def test_inconsistent_models(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    document = published()
    document["model"] |= change
    with pytest.raises(OctavoError, match=message):
        opened(tmp_path, document)


SMALL = {
    "char": json.dumps({**chars.FRAME, "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}}}),
    "bpe": json.dumps(tokenizers.train_bpe("the theatre", 260).document),
    "published": json.dumps(published(post_processor=LLAMA3)),
}


def test_a_merge_longer_than_every_token(tmp_path: Path) -> None:
    document = json.loads(SMALL["bpe"])
    longest = max(document["model"]["vocab"], key=len)
    del document["model"]["vocab"][longest]
    with pytest.raises(OctavoError, match="makes or takes"):
        opened(tmp_path, document)


@pytest.mark.parametrize("id", [298, 300, -1, 10**30, 1.0, True, "0", None])
def test_holes_repeats_and_non_ids(id: Any, tmp_path: Path) -> None:
    document = published()
    document["model"]["vocab"][list(document["model"]["vocab"])[-1]] = id
    with pytest.raises(OctavoError):
        opened(tmp_path, document)


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, '{"a":' * 100_000, "{", "[]", "3", "{}", '{"model": {}}', "\x00"]
)
def test_files_that_are_no_tokenizer(text: str, tmp_path: Path) -> None:
    with pytest.raises(OctavoError):
        opened(tmp_path, text)


def test_missing_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(OctavoError, match="no such file"):
            tokenizers.open(path)


DAMAGED = st.sampled_from(sorted(SMALL.values())).flatmap(
    lambda text: st.one_of(damaged_json(text), damaged_bytes(text.encode()))
)


@given(DAMAGED)
@settings(max_examples=300)
def test_damage_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(data)
    message, began = "", time.process_time()
    try:
        tok = tokenizers.open(path)
        tok.decode(tok.encode("ab" if isinstance(tok, chars.Char) else "the other 中"))
    except OctavoError as error:
        message = str(error)
    assert "\n" not in message
    assert time.process_time() - began < 1


@pytest.mark.parametrize("ranks", [{}, {b"a": 0}, {bytes([i]): i + 1 for i in range(256)}])
def test_ranks_with_holes(ranks: dict[bytes, int]) -> None:
    with pytest.raises(OctavoError):
        tokenizers.from_ranks(ranks)


@pytest.mark.parametrize(
    ("special", "message"),
    [
        ({"<a>": 257}, "none has id 256"),
        ({"a": 256}, "is read as"),
        ({"": 256}, "empty"),
        ({"\ud800": 256}, "valid Unicode"),
    ],
)
def test_special_tokens_that_clash(special: dict[str, int], message: str) -> None:
    with pytest.raises(OctavoError, match=message):
        tokenizers.from_ranks({bytes([i]): i for i in range(256)}, special_tokens=special).encode("a")


def test_equality_hash_repr_and_bad_ids() -> None:
    tok = TRAINED[patterns.GPT2]
    assert tok == tokenizers.train_bpe(LEARNED, SIZE) != TRAINED[patterns.QWEN2]
    assert hash(tok) == hash(tokenizers.train_bpe(LEARNED, SIZE))
    assert repr(tok) == f"ByteLevelBPE(vocab_size={SIZE})"
    for ids in ([SIZE], [-1], [10**30], [1.0], ["a"], (-1,)):
        with pytest.raises(OctavoError):
            tok.decode(ids)
    with pytest.raises(OctavoError):
        tok.token_bytes(SIZE)
    assert tok.decode(np.array([97, 98])) == tok.decode((97, 98)) == "ab"
    assert tok.decode([]) == ""
    assert tok.encode("") == []
