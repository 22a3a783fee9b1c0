"""Scores: against the course's definition by a naive loop, over any chunking, in bounded memory."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import octavo
from octavo import OctavoError
from octavo.model import Model
from octavo.tokenizers import char, train_bpe

from .conftest import ALPHABET, V, build

scoring = importlib.import_module("octavo.score")  # the name octavo.score is the verb's
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}
RNG = np.random.default_rng(2)
recurrent = pytest.mark.parametrize("name", ["rnn", "gru", "gru-before", "lstm", "mixed"])
transformers = pytest.mark.parametrize("name", ["plain", "prenorm-wide"])


def text_of(length: int) -> str:
    return "".join(RNG.choice(list(ALPHABET), length))


def naive_nats(model: Model, ids: list[int], start: int, stop: int, seen_from: int = 0) -> list[float]:
    """``-log p(ids[i] | ids[seen_from..i-1])`` for i from start to stop, each from its own pass."""
    found = []
    for i in range(start, stop):
        x = model.forward(ids[seen_from:i])[0][-1].astype(np.float64)
        found.append(float(np.log(np.exp(x - x.max()).sum()) + x.max() - x[ids[i]]))
    return found


# ---------------------------------------------------------------- definitions


@recurrent
def test_the_score_of_a_character_model_is_the_course_s(name: str) -> None:
    model, text = build(name), text_of(40)
    ids = model.text_tokenizer().encode(text)
    score = octavo.score(model, text)
    expected = naive_nats(model, ids, 1, 40)
    np.testing.assert_allclose(score.per_token, expected, **TOLERANCE)
    assert score.nats == pytest.approx(sum(expected), rel=1e-5)
    assert (score.tokens, score.chars, score.bytes) == (39, 39, 39)
    assert score.perplexity == pytest.approx(np.exp(sum(expected) / 39), rel=1e-5)
    assert score.per_char == pytest.approx(score.perplexity)
    assert score.bits_per_byte == pytest.approx(sum(expected) / 39 / np.log(2), rel=1e-5)


def test_a_limit_scores_the_first_transitions() -> None:
    model, text = build("gru"), text_of(60)
    whole = octavo.score(model, text)
    for limit in (1, 2, 39, 59, 60, 10**9):
        score = octavo.score(model, text, limit=limit)
        assert score.tokens == min(limit, 59)
        np.testing.assert_allclose(score.per_token, whole.per_token[:limit], rtol=1e-5)
        assert score.nats == pytest.approx(whole.per_token[:limit].sum())


@recurrent
@pytest.mark.parametrize("length", [256, 257, 258, 513, 700])
def test_chunks_meet_without_a_seam(name: str, length: int) -> None:
    model, text = build(name), text_of(length)
    ids = np.array(model.text_tokenizer().encode(text))
    score = octavo.score(model, text)
    logits, _ = model.forward(ids[:-1])
    np.testing.assert_allclose(score.per_token, scoring.nats(logits, ids[1:]), **TOLERANCE)
    assert score.tokens == length - 1


@transformers
@pytest.mark.parametrize("length", [2, 9, 16, 17])
def test_a_text_within_the_context_is_one_pass(name: str, length: int) -> None:
    model, text = build(name, context=16), text_of(length)
    ids = model.text_tokenizer().encode(text)
    np.testing.assert_allclose(
        octavo.score(model, text).per_token, naive_nats(model, ids, 1, length), **TOLERANCE
    )


@transformers
@pytest.mark.parametrize(
    ("context", "length"), [(16, 18), (16, 25), (16, 26), (16, 90), (5, 40), (1, 12), (2, 12)]
)
def test_in_a_longer_text_every_token_counts_once(name: str, context: int, length: int) -> None:
    model, text = build(name, context=context), text_of(length)
    ids = model.text_tokenizer().encode(text)
    score = octavo.score(model, text)
    assert score.tokens == len(score.per_token) == length - 1
    stride = max(context // 2, 1)
    expected = naive_nats(model, ids, 1, min(context + 1, length))
    while len(expected) < length - 1:  # a window that begins half a context before what it predicts
        first = len(expected) + 1
        start = first - 1 - (context - stride)
        expected += naive_nats(model, ids, first, min(first + stride, length), seen_from=start)
    np.testing.assert_allclose(score.per_token, expected, **TOLERANCE)


@transformers
def test_no_pass_is_longer_than_the_context(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, lengths = build(name, context=16), []
    forward = model.architecture.forward

    def measured(p: Any, c: Any, tokens: Any, state: Any = None) -> Any:
        lengths.append(tokens.shape[1])
        return forward(p, c, tokens, state)

    monkeypatch.setattr(model.architecture, "forward", measured)
    octavo.score(model, text_of(200))
    assert max(lengths) == 16
    assert len(lengths) <= 200 / 8


def test_characters_and_bytes_of_a_text_beyond_ascii() -> None:
    text = "é🙂aé中a🙂"
    model = build("gru", tokenizer=char(text))
    score = octavo.score(model, text)
    assert (score.tokens, score.chars, score.bytes) == (6, 6, len(text.encode()) - 2)
    assert score.per_char == pytest.approx(np.exp(score.nats / 6))
    assert score.bits_per_byte == pytest.approx(score.nats / score.bytes / np.log(2))
    assert octavo.score(model, text, limit=2).bytes == 5


def test_tokens_of_bytes_count_characters_by_their_first_byte() -> None:
    bpe = train_bpe("ab" * 50, 257)
    layers = [{"kind": "rnn", "units": 3}, {"kind": "dense", "units": 257}]
    model = build("rnn", tokenizer=bpe, vocab_size=257, layers=layers)
    score = octavo.score(model, "ab🙂ab")
    assert (score.tokens, score.chars, score.bytes) == (5, 3, 6)  # all but the first token, "ab"
    assert score.per_char == pytest.approx(np.exp(score.nats / 3))
    half = octavo.score(model, "🙂", limit=2)
    assert (half.tokens, half.chars, half.bytes) == (2, 0, 2)
    assert np.isnan(half.per_char)
    assert half.bits_per_byte > 0


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary() -> None:
    for name in ("gru", "plain"):
        model = build(name)
        model = model.with_params({n: 0 * p for n, p in model.params.items()})
        score = octavo.score(model, text_of(300))
        assert score.perplexity == pytest.approx(V)
        np.testing.assert_allclose(score.per_token, np.log(V))
        assert score.bits_per_byte == pytest.approx(np.log2(V))


@pytest.mark.parametrize("name", ["gru", "plain"])
def test_jax_parameters_score_the_same(name: str) -> None:
    model, text = build(name, **({"context": 8} if name == "plain" else {})), text_of(17)
    on_jax = model.with_params(jax.device_put(model.params))
    expected = octavo.score(model, text).per_token
    np.testing.assert_allclose(octavo.score(on_jax, text).per_token, expected, rtol=1e-3)


# ---------------------------------------------------------------- memory, and what is refused


@pytest.mark.parametrize("name", ["gru", "plain"])
def test_a_long_text_takes_bounded_memory(name: str, peak_memory: Callable[..., int]) -> None:
    model = build(name, **({"context": 64} if name == "plain" else {}))
    ids = RNG.integers(0, V, 4_000)

    def score(length: int) -> None:
        for _ in scoring.losses(model, ids[:length]):
            pass

    score(600)
    short, long = peak_memory(lambda: score(800)), peak_memory(lambda: score(4_000))
    assert long < 1.2 * short + 20_000
    text = text_of(4_000)
    whole = peak_memory(lambda: octavo.score(model, text))
    assert whole < short + 200 * 4_000  # ids, a float64 and the text itself; logits alone would be more


@pytest.mark.parametrize(
    ("text", "limit", "named"),
    [
        ("", None, "at least two tokens; this one has 0"),
        ("a", None, "this one has 1"),
        ("abX", None, "unknown character 'X'"),
        ("abc", 0, "limit"),
        ("abc", -1, "limit"),
        ("abc", 1.5, "limit .* not 1.5"),
        (Path("my.txt"), None, "a text to score is a str, not .*my.txt"),
        ([0, 1], None, "a text to score is a str"),
    ],
)
def test_what_cannot_be_scored_is_refused(text: Any, limit: Any, named: str) -> None:
    for name in ("gru", "plain"):
        with pytest.raises(OctavoError, match=named):
            octavo.score(build(name), text, limit=limit)


def test_without_a_tokenizer_nothing_is_scored() -> None:
    model = build("gru")
    with pytest.raises(OctavoError, match="tokenizer"):
        octavo.score(Model(model.model_type, model.config, model.params), "ab")
