"""Protocols: the windows by definition, and the scores of the peers that have them."""

import dataclasses
import importlib
import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo import OctavoError, protocols
from octavo.model import Model
from octavo.protocols import Protocol, choose
from octavo.tokenizers import char
from octavo.tokenizers.chars import Char

from .conftest import GOLDEN, build

scoring = importlib.import_module("octavo.score")  # the name octavo.score is the verb's
EXPECTED = json.loads((GOLDEN / "protocols.json").read_text(encoding="utf-8"))
BEGIN = EXPECTED["begin"]
SMALL = st.integers(1, 40)


class Begun(Char):
    """Characters, with one that stands before a text."""

    begins_with = (2,)


def published(name: str) -> Model:
    """A published checkpoint that reads the characters of the golden texts."""
    model = octavo.load(GOLDEN / "huggingface" / name, tokenizer=Char(EXPECTED["alphabet"]))
    return dataclasses.replace(model, config=dataclasses.replace(model.config, bos_token_id=BEGIN))


def naive(model: Model, ids: list[int], at: int) -> float:
    """The nats of ids[at] after all before it."""
    x = model.forward(ids[:at])[0][-1].astype(np.float64)
    return float(np.log(np.exp(x - x.max()).sum()) + x.max() - x[ids[at]])


# ---------------------------------------------------------------- windows


@settings(deadline=None)
@given(length=SMALL, window=st.integers(2, 20), share=st.floats(0, 1))
def test_a_strided_text_is_gone_through_once(length: int, window: int, share: float) -> None:
    stride = max(round(share * window), 1)
    found = list(protocols.strided(length, window, stride))
    counted = [i for w in found for i in range(w.counted, w.stop)]
    starts = range(0, length, stride) if stride == window else ()
    assert counted == [i for i in range(1, length) if i not in starts]  # the first of a window sees nothing
    for w in found:
        assert w.start % stride == 0
        assert w.start < w.counted < w.stop <= w.start + window


@settings(deadline=None)
@given(length=SMALL, window=st.integers(1, 20))
def test_a_rolling_text_counts_every_token(length: int, window: int) -> None:
    found = list(protocols.rolling(1 + length, window))
    assert [i for w in found for i in range(w.counted, w.stop)] == list(range(1, 1 + length))
    for w in found:
        assert w.stop - w.start == min(window, length) + 1
        assert w.start < w.counted
    assert all(w.start == w.counted - 1 for w in found[:-1])


@settings(deadline=None)
@given(length=SMALL, window=st.integers(3, 20))
def test_chunks_are_whole(length: int, window: int) -> None:
    found = list(protocols.chunked(length, window))
    assert [w.start for w in found] == [i * window for i in range(length // window)]
    for w in found:
        assert w.stop - w.start == window
        assert w.stop - w.counted == window - window // 2 - 1


def test_what_begins_a_text_is_never_counted() -> None:
    two = Protocol("strided", window=4, stride=2, begin=(7, 8))
    assert [tuple(w) for w in two.windows(6)] == [(0, 2, 4), (2, 4, 6)]
    assert list(Protocol("whole", begin=(7, 8, 9)).windows(3)) == []


# ---------------------------------------------------------------- by the definitions, naively


@pytest.mark.parametrize("name", ["gru", "llama", "folio"])
@pytest.mark.parametrize("begin", [(), (2,)])
@pytest.mark.parametrize(("window", "stride"), [(2, 1), (5, 5), (16, 7), (17, None)])
def test_strided(name: str, begin: tuple[int, ...], window: int, stride: int | None) -> None:
    text = "abcdefghijkkjihgfedcbaabcabcabcab"
    model = build(name, tokenizer=(Begun if begin else Char)("abcdefghijk"))
    ids = [*begin, *model.text_tokenizer().encode(text)]
    expected, seen = [], 0
    for start in range(0, len(ids), stride or 8):
        stop = min(start + window, len(ids))
        expected += [naive(model, ids[start:stop], i - start) for i in range(max(seen, start + 1), stop)]
        if (seen := stop) == len(ids):
            break
    score = octavo.score(model, text, protocol="strided", window=window, stride=stride)
    np.testing.assert_allclose(score.per_token, expected, rtol=1e-4, atol=1e-6)
    assert score.tokens == len(expected)
    assert score.protocol == Protocol("strided", window, stride or 8, begin)


@pytest.mark.parametrize("name", ["gru", "llama"])
@pytest.mark.parametrize("begin", [(), (2,)])
@pytest.mark.parametrize("window", [3, 8, 11])
def test_chunked(name: str, begin: tuple[int, ...], window: int) -> None:
    text = "abcdefghijkkjihgfedcbaabcabcabcab"
    model = build(name, tokenizer=(Begun if begin else Char)("abcdefghijk"))
    ids = [*begin, *model.text_tokenizer().encode(text)]
    expected, counted = [], []
    for chunk in range(len(ids) // window):
        here = ids[chunk * window : (chunk + 1) * window]
        seen = [*begin, *here[len(begin) :]]
        for j in range(window // 2, window - 1):
            expected.append(naive(model, seen, j + 1))
            counted.append(here[j + 1])
    score = octavo.score(model, text, protocol="chunked", window=window)
    np.testing.assert_allclose(score.per_token, expected, rtol=1e-4, atol=1e-6)
    assert (score.tokens, score.chars) == (len(counted), len(counted))


@pytest.mark.parametrize("name", ["gru", "llama"])
def test_whole_begins_with_what_begins_a_text(name: str) -> None:
    model = build(name, tokenizer=Begun("abcdefghijk"))
    score = octavo.score(model, "abcabcabc", protocol="whole")
    expected = [naive(model, [2, 0, 1, 2, 0, 1, 2, 0, 1, 2], i) for i in range(1, 10)]
    np.testing.assert_allclose(score.per_token, expected, rtol=1e-4, atol=1e-6)
    assert score.bytes == 9
    one = octavo.score(model, "a", protocol="whole")  # enough, as a token stands before it
    assert one.per_token == pytest.approx(expected[:1], rel=1e-4)


@pytest.mark.parametrize("name", ["gru", "llama", "folio", "gpt2"])
def test_what_is_read_in_pieces_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, text = build(name), "abcdefghijkkjihgf"
    options: list[dict[str, Any]] = [{"protocol": "whole"}, {"protocol": "strided", "window": 9}]
    options += [{"protocol": "chunked", "window": 7}]
    expected = [octavo.score(model, text, **o).per_token for o in options]
    for limit, value in itertools.product(("LOGITS", "ATTENTION", "CHUNK", "AT_ONCE"), (1, 30, 80)):
        with monkeypatch.context() as bound:
            bound.setattr(scoring, limit, value)
            for o, whole in zip(options, expected, strict=True):
                np.testing.assert_allclose(
                    octavo.score(model, text, **o).per_token, whole, rtol=1e-4, atol=1e-6
                )


def test_logits_of_a_large_vocabulary_are_never_there_together(peak_memory: Any) -> None:
    model = build("llama", vocab_size=100_000, max_position_embeddings=1000, tokenizer=char("abc"))
    text = "abc" * 330  # whose logits are 400 MB
    assert peak_memory(lambda: octavo.score(model, text, protocol="whole")) < 2**28


# ---------------------------------------------------------------- peers


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda c: f"{c['model']}-{len(c['text'])}")
def test_strided_is_hugging_face_s(case: dict[str, Any]) -> None:
    model = published(case["model"])
    for peer in case["strided"]:
        found = octavo.score(
            model, case["text"], protocol="strided", window=peer["window"], stride=peer["stride"]
        )
        assert found.tokens == peer["tokens"]
        assert found.nats == pytest.approx(peer["nats"], rel=1e-5)


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda c: f"{c['model']}-{len(c['text'])}")
def test_rolling_is_the_harness_s(case: dict[str, Any]) -> None:
    model = published(case["model"])
    for peer in case["rolling"]:
        found = octavo.score(model, case["text"], protocol="rolling", window=peer["window"])
        assert found.protocol.begin == (BEGIN,)
        assert found.tokens == found.chars == len(case["text"])
        assert found.bytes == len(case["text"].encode())
        for name in ("nats", "word_perplexity", "byte_perplexity", "bits_per_byte"):
            assert getattr(found, name) == pytest.approx(peer[name], rel=1e-4), name


# ---------------------------------------------------------------- what is chosen, and what is refused


def test_what_is_chosen_unasked() -> None:
    assert choose(build("gru")) == Protocol("whole")
    assert choose(build("plain", context=16)) == Protocol("strided", 17, 8)
    assert choose(build("plain", context=1)) == Protocol("strided", 2, 1)
    assert choose(build("plain", context=16), "strided", 9) == Protocol("strided", 9, 4)
    assert choose(build("gpt2", n_positions=600), "chunked") == Protocol("chunked", 512)


@pytest.mark.parametrize(
    ("fields", "end", "begin"),
    [
        ({"bos_token_id": 3, "eos_token_id": 4}, 5, 3),
        ({"eos_token_id": 4}, 5, 4),
        ({"eos_token_id": (6, 4)}, None, 6),
        ({}, 5, 5),
    ],
)
def test_rolling_follows_the_token_that_begins_a_text_or_ends_one(
    fields: dict[str, Any], end: int | None, begin: int
) -> None:
    class Ended(Char):
        end_of_text = end  # type: ignore[assignment]

    model = build("llama", tokenizer=Ended("abcdefghijk"), **fields)
    assert choose(model, "rolling") == Protocol("rolling", 16, begin=(begin,))


def test_a_limit_of_rolling_counts_the_words_that_are_read() -> None:
    model, text = published("gpt2"), "he had a bad bed"
    score = octavo.score(model, text, protocol="rolling", limit=8)
    short = octavo.score(model, text[:8], protocol="rolling")
    assert score == dataclasses.replace(short, per_token=score.per_token)
    assert (score.words, score.bytes, score.tokens) == (3, 8, 8)
    assert np.isnan(octavo.score(model, text).word_perplexity)


def test_a_text_of_which_nothing_counts_is_refused() -> None:
    class Twice(Char):
        begins_with = (2, 3)

    model = build("llama", tokenizer=Twice("abcdefghijk"))
    with pytest.raises(OctavoError, match=r"no token of this text counts by strided \(window 2, stride 2\)"):
        octavo.score(model, "a", protocol="strided", window=2, stride=2)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("gru", {"protocol": "halves"}, "whole, strided, rolling or chunked, not 'halves'"),
        ("gru", {"window": 4}, "window is a size of strided and rolling and chunked; whole has none"),
        ("plain", {"protocol": "chunked", "stride": 4}, "stride is a size of strided; chunked has none"),
        ("gru", {"protocol": "strided"}, "recurrent model has no context"),
        ("plain", {"window": 0}, "window of strided is at least 2 tokens, not 0"),
        ("plain", {"window": 1}, "window of strided is at least 2 tokens, not 1"),
        ("plain", {"protocol": "chunked", "window": 2}, "at least 3 tokens, not 2"),
        ("plain", {"window": 4.5}, "not 4.5"),
        ("plain", {"stride": 0}, "stride is 1 to the window"),
        ("plain", {"window": 4, "stride": 5}, "stride is 1 to the window"),
        ("plain", {"window": 18}, "reads? 17 tokens at once, more than its context of 16"),
        ("plain", {"protocol": "chunked"}, "more than its context of 16"),
        ("plain", {"protocol": "whole"}, "34 tokens are more than the model's context of 16; use strided"),
        ("plain", {"protocol": "chunked", "window": 16, "limit": 9}, "this text has 10 tokens"),
        ("plain", {"protocol": "rolling"}, "neither"),
    ],
)
def test_what_is_no_protocol_for_a_model_is_refused(name: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(OctavoError, match=named) as refusal:
        octavo.score(build(name), "ab" * 17, **options)
    assert "\n" not in str(refusal.value)
