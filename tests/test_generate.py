"""The ladder: what each rung yields, what it costs, and when it ends."""

import codecs
import dataclasses
import importlib
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import octavo
from octavo import OctavoError, Token, fast, nn, texts, twins
from octavo.fast import code
from octavo.fast.standins import Stand
from octavo.fast.writing import Writing
from octavo.model import Model
from octavo.tokenizers import from_ranks

from .conftest import ALPHABET, CONFIGS, V, begun, build

ladder = importlib.import_module("octavo.generate")  # the name octavo.generate is the verb's
every = pytest.mark.parametrize("name", ["rnn", "gru-before", "lstm", "mixed", "plain", "prenorm-wide"])


def ids_of(*args: Any, **options: Any) -> list[int]:
    return [token.id for token in octavo.tokens(*args, **options)]


def wide(name: str) -> Model:
    """A model whose context is longer than any text here."""
    return build(name, context=5000) if name.startswith(("plain", "prenorm")) else build(name)


def test_what_a_text_begins_with_is_put_before_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    tok = from_ranks({bytes([i]): i for i in range(256)}, special_tokens={"<s>": 256})
    model = dataclasses.replace(build("prenorm-wide", vocab_size=257), tokenizer=begun(tok, 256))
    given: list[list[int]] = []

    def nothing(model: Model, ids: list[int], **options: Any) -> Iterator[Token]:
        given.append(ids)
        yield from ()

    monkeypatch.setattr(ladder, "tokens", nothing)
    octavo.generate(model, "ab<s>")
    assert given == [[256, *b"ab<s>"]]


# ---------------------------------------------------------------- ids


@every
def test_greedy_is_the_best_token_of_a_full_recomputation(name: str) -> None:
    model, text = wide(name), [3, 1, 4]
    for token in octavo.tokens(model, text, limit=25, temperature=0):
        logits, _ = model.forward(text)
        assert token.id == int(logits[-1].argmax())
        assert token.logprob == pytest.approx(float(nn.log_softmax(logits[-1])[token.id]), abs=1e-4)
        assert type(token.id) is int
        assert type(token.logprob) is float
        text = [*text, token.id]
    assert len(text) == 28


def test_log_probabilities_are_the_model_s_own_whatever_the_options() -> None:
    model = build("gru")
    options = {"temperature": 0.3, "top_k": 3, "repetition_penalty": 2.0, "logit_bias": {2: 3.0}, "seed": 1}
    text = [1]
    for token in octavo.tokens(model, text.copy(), limit=20, **options):
        logits, _ = model.forward(text)
        assert token.logprob == pytest.approx(float(nn.log_softmax(logits[-1])[token.id]), abs=1e-4)
        text.append(token.id)


class Counter:
    """Counts the calls of an architecture's forward, and of compiled steps, and the tokens they read."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lengths: list[int] = []
        self.by_twins = 0
        forward = model.architecture.forward

        def counted(p: Any, c: Any, tokens: Any, state: Any = None) -> Any:
            if not isinstance(tokens, Stand):  # that would be a recording
                self.lengths.append(tokens.shape[1])
            return forward(p, c, tokens, state)

        def counted_twin(step: Any) -> Any:
            def run(compiled: Any, tokens: Any, state: Any) -> Any:
                self.lengths.append(tokens.shape[1])
                self.by_twins += 1
                return step(compiled, tokens, state)

            return run

        monkeypatch.setattr(model.architecture, "forward", counted)
        for name in ("__call__", "last"):
            monkeypatch.setattr(fast.Compiled, name, counted_twin(getattr(fast.Compiled, name)))
        write = Writing.__call__

        def counted_writing(writing: Any, *args: Any) -> Any:
            written = write(writing, *args)
            self.lengths += [1] * len(written.ids)
            self.by_twins += len(written.ids)
            return written

        monkeypatch.setattr(Writing, "__call__", counted_writing)


@every
def test_the_prompt_is_read_once_and_each_token_costs_one_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = wide(name)
    calls = Counter(model, monkeypatch)
    assert len(ids_of(model, [1, 2, 3, 4, 5], limit=7, seed=0)) == 7
    assert calls.lengths == [5, *[1] * 6]


def test_a_long_prompt_is_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompt = wide("plain"), np.random.default_rng(0).integers(0, V, 1200)
    expected, _ = model.forward(prompt)
    calls = Counter(model, monkeypatch)
    (token,) = octavo.tokens(model, prompt, limit=1, temperature=0)
    assert calls.lengths == [512, 512, 176]
    assert token.id == int(expected[-1].argmax())


def test_nothing_is_computed_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("gru")
    calls = Counter(model, monkeypatch)
    drawn = octavo.tokens(model, [1], limit=10**9, seed=0)
    assert calls.lengths == []
    next(drawn)
    next(drawn)
    assert len(calls.lengths) == 2
    drawn.close()
    assert list(drawn) == []
    assert len(calls.lengths) == 2


@pytest.mark.parametrize("rung", ["pieces", "stream"])
def test_closing_any_rung_ends_the_work(rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    def endless(*_: Any, **__: Any) -> Iterator[Token]:
        try:
            while True:
                yield Token(1, 0.0)
        finally:
            closed.append(True)

    monkeypatch.setattr(ladder, "tokens", endless)
    texts = getattr(ladder, rung)(build("gru"), "a", limit=10**9)
    next(texts)
    assert not closed
    texts.close()
    assert closed


def test_no_limit_too_large_and_none_too_small() -> None:
    model = build("gru")
    assert ids_of(model, [1], limit=0) == []
    assert octavo.generate(model, "a", limit=0) == ""
    (piece,) = ladder.pieces(model, "a", limit=0)
    assert piece == ("", (), "length")
    with pytest.raises(OctavoError, match="limit"):
        octavo.tokens(model, [1], limit=-1)


def test_a_text_outgrows_its_first_cache() -> None:
    model = build("plain", context=16)
    with pytest.warns(UserWarning, match="longer than the 16 tokens"):
        drawn = list(octavo.tokens(model, [1], limit=1100, seed=0))
    logits, _ = model.forward([1, *(t.id for t in drawn[:-1])])
    expected = nn.log_softmax(logits)[np.arange(1100), [t.id for t in drawn]]
    np.testing.assert_allclose([t.logprob for t in drawn], expected, atol=2e-3)


@pytest.mark.parametrize("name", ["gru", "plain"])
def test_jax_parameters_write_the_same_text(name: str) -> None:
    model = wide(name)
    on_jax = model.with_params(jax.device_put(model.params))
    assert ids_of(on_jax, [1, 2], limit=12, temperature=0) == ids_of(model, [1, 2], limit=12, temperature=0)
    sampled = {"limit": 12, "seed": 1, "top_k": 4, "repetition_penalty": 1.3, "logit_bias": {3: 1.0}}
    assert ids_of(on_jax, [1, 2], **sampled) == ids_of(model, [1, 2], **sampled)


# ---------------------------------------------------------------- equations and twins


def weights(model: Model) -> int:
    return sum(p.size for p in model.params.values())


def cold(monkeypatch: pytest.MonkeyPatch, done: int = 0, pay: int = twins.LOADING_PAYS) -> None:
    """As in a process that has loaded nothing compiled and multiplied so many weights by the equations."""
    monkeypatch.setattr(twins, "sys", SimpleNamespace(modules={}))  # all that it asks of `sys`
    monkeypatch.setattr(twins.Hurry, "done", done)
    monkeypatch.setattr(twins, "LOADING_PAYS", pay)


def kept(model: Model) -> Model:
    """The model, whose compiled code is kept by now."""
    assert fast.compiled(model) is not None
    code.function("draw")
    code.function("write")
    return model


@pytest.mark.parametrize("name", ["rnn", "gru", "gru-before", "lstm", "llama"])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0}, {"top_k": 3, "repetition_penalty": 1.3, "logit_bias": {2: 1.0}}]
)
def test_twins_write_what_the_equations_write(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"max_position_embeddings": 100} if name == "llama" else {}
    model, drawn = kept(build(name, **sizes)), []
    for pay in (1, 30, 10**9):  # tokens
        with monkeypatch.context() as patch:
            cold(patch, pay=pay * weights(model))
            calls = Counter(model, patch)
            drawn.append(list(octavo.tokens(model, [1, 2], limit=60, seed=2, **options)))
            assert calls.by_twins == max(60 - pay, 0)  # with this draw they begin, and read its token
            assert sum(calls.lengths) == 2 + 59
    for other in drawn[1:]:
        assert [t.id for t in other] == [t.id for t in drawn[0]]
        np.testing.assert_allclose([t.logprob for t in other], [t.logprob for t in drawn[0]], atol=1e-5)


def test_a_process_that_writes_little_never_loads_the_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = kept(build("gru")), list[Model]()
    at_once = fast.at_once
    monkeypatch.setattr(fast, "at_once", lambda model: (asked.append(model), at_once(model))[1])
    cold(monkeypatch, done=twins.LOADING_PAYS - 100 * weights(model))
    calls = Counter(model, monkeypatch)
    ids_of(model, [1], limit=60, seed=0)
    assert (calls.by_twins, asked) == (0, [])
    other = build("gru", seed=1)
    ids_of(other, [1], limit=60, seed=0)
    assert (calls.by_twins, asked) == (20, [other])  # of all models together
    ids_of(model, [1], limit=60, seed=0)
    assert calls.by_twins == 20 + 59  # from the first draw on
    monkeypatch.undo()
    for name in ("christie-rnn", "christie-gru"):  # what the command line writes when not told
        assert texts.RECURRENT_LIMIT * weights(octavo.load(name)) < twins.LOADING_PAYS


def test_twins_that_are_not_kept_are_waited_for_only_by_who_writes_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, asked = kept(build("gru")), list[Model]()
    monkeypatch.setattr(fast, "at_once", lambda model: asked.append(model))
    cold(monkeypatch, pay=10 * weights(model))
    monkeypatch.setattr(twins, "MAKING_PAYS", 30 * weights(model))
    calls = Counter(model, monkeypatch)
    ids_of(model, [1], limit=29, seed=0)
    assert (calls.by_twins, asked) == (0, [model])  # with the tenth draw, once
    twins.Hurry.done = 0
    ids_of(model, [1], limit=60, seed=0)
    assert (calls.by_twins, asked) == (30, [model, model])


def test_who_has_loaded_twins_writes_by_them_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = kept(build("gru"))
    calls = Counter(model, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(twins.Hurry, "done", 0)
        ids_of(model, [1, 2], limit=9, seed=0)
        assert (calls.by_twins, calls.lengths) == (9, [2, *[1] * 8])
        patch.setattr(fast, "at_once", lambda model: False)  # but waits for none
        ids_of(model, [1, 2], limit=9, seed=0)
        assert calls.by_twins == 9


def test_models_without_a_twin_are_left_to_the_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (build("mixed"), build("gru", dtype=np.float64)):
        with monkeypatch.context() as patch:
            cold(patch, pay=0)
            calls = Counter(model, patch)
            assert len(ids_of(model, [1], limit=9, seed=0)) == 9
            assert calls.lengths == [1] * 9
            assert calls.by_twins == 0


def test_weights_that_change_between_two_texts_count(monkeypatch: pytest.MonkeyPatch) -> None:
    model = kept(build("gru"))
    turned = model.with_params({n: -p if "_hh" in n else p for n, p in model.params.items()})
    before = ids_of(model, [1], limit=40, seed=0)
    after = ids_of(turned, [1], limit=40, seed=0)
    assert after != before
    cold(monkeypatch)
    assert ids_of(model, [1], limit=40, seed=0) == before
    assert ids_of(turned, [1], limit=40, seed=0) == after


def test_threads_write_at_once() -> None:
    model = build("lstm")
    alone = [ids_of(model, [1], limit=300, seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda seed: ids_of(model, [1], limit=300, seed=seed), range(4))
        assert list(together) == alone


def python(program: str) -> str:
    """What a new Python prints."""
    found = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


WRITE = """
import sys, octavo
from octavo import twins
model = octavo.load("christie-rnn")
{}
print(octavo.generate(model, "poirot ", limit=60, seed=3))
print("octavo.fast.code" in sys.modules, "llvmlite" in sys.modules)
"""
AT_ONCE = "twins.LOADING_PAYS = twins.MAKING_PAYS = 0; "


def written(first: str = "") -> tuple[str, list[str]]:
    """What a new process writes that begins so, and whether it has loaded compiled code, and LLVM."""
    text, _, loaded = python(WRITE.format(first)).strip().rpartition("\n")
    return text, loaded.split()


def test_without_llvm_the_equations_write() -> None:
    kept(octavo.load("christie-rnn"))
    text, (loaded, _) = written(AT_ONCE)
    assert loaded == "True"
    assert written(AT_ONCE + "sys.modules['llvmlite'] = None")[0] == text


def test_short_texts_do_not_wait_for_twins() -> None:
    bard = "model = octavo.load('bard'); "
    nothing = ["False", "False"]
    assert written()[1] == nothing
    by_equations, loaded = written(bard)
    assert loaded == nothing
    by_program, (loaded_then, _) = written(bard + AT_ONCE)
    assert (by_program, loaded_then) == (by_equations, "True")


# ---------------------------------------------------------------- the context


@pytest.mark.parametrize(
    ("prompt", "limit", "warned"),
    [
        (3, 12, 0),
        (3, 13, 0),
        (3, 14, 1),
        (3, 60, 1),
        (16, 0, 0),
        (16, 1, 1),
        (17, 0, 1),
        (17, 5, 1),
        (40, 9, 1),
    ],
)
def test_one_warning_when_the_text_outgrows_the_context(prompt: int, limit: int, warned: int) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drawn = ids_of(build("plain", context=16), [1] * prompt, limit=limit, seed=0)
    assert len(drawn) == limit
    assert [w.category for w in caught] == [UserWarning] * warned


def test_a_recurrent_model_has_no_context_to_outgrow() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(ids_of(build("gru"), [1] * 300, limit=300, seed=0)) == 300


def test_the_default_limit_fills_the_context() -> None:
    tokens = [t for p in ladder.pieces(build("plain", context=60), "abc", seed=0) for t in p.tokens]
    assert len(tokens) == 57
    with pytest.warns(UserWarning, match="context"):
        tokens = [t for p in ladder.pieces(build("plain", context=16), "abc", seed=0) for t in p.tokens]
    assert len(tokens) == 32
    tokens = [t for p in ladder.pieces(build("gru"), "abc", seed=0) for t in p.tokens]
    assert len(tokens) == 500


# ---------------------------------------------------------------- stops and finish reasons


def test_stop_ids_end_the_text_and_are_not_yielded() -> None:
    model = build("gru")
    whole = ids_of(model, [1], limit=60, seed=4)
    for stop in set(whole):
        expected = whole[: whole.index(stop)]
        assert ids_of(model, [1], limit=60, seed=4, stop=[stop, 999]) == expected
        for kind in (int, np.int64):
            *_, last = ladder.pieces(model, ALPHABET[1], limit=60, seed=4, stop=[kind(stop)])
            assert last.finish_reason == "stop"
        text = octavo.generate(model, ALPHABET[1], limit=60, seed=4, stop=[stop])
        assert text == model.text_tokenizer().decode(expected)


def test_finish_reasons() -> None:
    model = build("gru")
    text = octavo.generate(model, "b", limit=30, seed=4)

    def reasons(**options: Any) -> list[str | None]:
        return [p.finish_reason for p in ladder.pieces(model, "b", seed=4, **options)]

    assert len(text) == 30
    assert reasons(limit=30) == [*[None] * 30, "length"]
    assert reasons(limit=30, stop=[text[10:14]])[-1] == "stop"
    assert reasons(limit=14, stop=[text[10:14]])[-1] == "stop"  # complete with the last token
    assert reasons(limit=13, stop=[text[10:14]])[-1] == "length"
    for options in ({"limit": 30}, {"limit": 30, "stop": [text[10:14]]}):
        found = list(ladder.pieces(model, "b", seed=4, **options))
        assert all(p.finish_reason is None for p in found[:-1])
        drawn = [t.id for p in found for t in p.tokens]
        assert drawn == ids_of(model, [1], limit=30, seed=4)[: len(drawn)]


def test_a_stop_string_may_be_given_alone() -> None:
    model = build("gru")
    text = octavo.generate(model, "b", limit=30, seed=4)
    stop = text[10:13]
    assert octavo.generate(model, "b", limit=30, seed=4, stop=stop) == text[: text.index(stop)]


# A tokenizer whose tokens cut characters, and stop strings, in all kinds of places.
WORDS = [
    b"ab",
    b"ba",
    b"aba",
    b"b\xc3",
    b"\xa9a",
    "é".encode(),
    b"\x9f\x99",
    "🙂".encode()[:3],
    "b🙂a".encode(),
]
BYTES = from_ranks({bytes([i]): i for i in range(256)} | {w: 256 + i for i, w in enumerate(WORDS)})
PARTS = [ord("a"), ord("b"), 0xC3, 0xA9, 0xF0, 0x9F, 0x99, 0x82, 0xFF, *range(256, 256 + len(WORDS))]


def script(ids: list[int], monkeypatch: pytest.MonkeyPatch) -> tuple[Model, list[int]]:
    """A model that writes these ids, and those that were taken from it."""
    taken: list[int] = []

    def scripted(model: Model, prompt: Any, *, limit: int, stop: Any, **_: Any) -> Iterator[Token]:
        for id in ids[:limit]:
            taken.append(id)
            yield Token(id, 0.0)

    monkeypatch.setattr(ladder, "tokens", scripted)
    return build("gru", tokenizer=BYTES), taken


def first_stop(text: str, stops: list[str]) -> int | None:
    """Where the stop string begins that is complete first as the text grows by characters."""
    for end in range(len(text) + 1):
        if begins := [end - len(s) for s in stops if text[:end].endswith(s)]:
            return min(begins)
    return None


def decoded(ids: list[int]) -> str:
    """Whole characters only: a decoder that waits for the rest of one."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(BYTES.decode_bytes(ids))


@settings(max_examples=300, deadline=None)
@given(
    ids=st.lists(st.sampled_from(PARTS), max_size=16),
    stops=st.lists(st.text("abé🙂\ufffd", min_size=1, max_size=4), max_size=3),
)
@example(ids=list(b"aaab"), stops=["aab"])
@example(ids=list(b"aababab"), stops=["abab", "b" * 4])
@example(ids=list(b"abcd"), stops=["abcd", "c"])
@example(ids=[256, 256], stops=["b", "ab"])
def test_a_stream_is_the_text_cut_at_the_first_stop(ids: list[int], stops: list[str]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        model, taken = script(ids, monkeypatch)
        found = list(octavo.stream(model, "a", limit=16, stop=stops))
        read = list(taken)
        pieces = list(ladder.pieces(model, "a", limit=16, stop=stops))
    text = decoded(ids)
    cut = first_stop(text, stops)
    assert "".join(found) == text[:cut]
    assert all(found)
    for piece in found:
        piece.encode()  # no half of a surrogate pair, no half of anything
    needed = next(
        (n for n in range(len(ids) + 1) if first_stop(decoded(ids[:n]), stops) is not None), len(ids)
    )
    assert len(read) == needed  # not a token more than it takes to see the stop
    assert "".join(p.text for p in pieces) == text[:cut]
    assert [t.id for p in pieces for t in p.tokens] == ids[:needed]
    assert pieces[-1].finish_reason == ("stop" if cut is not None or len(ids) < 16 else "length")


@settings(max_examples=200, deadline=None)
@given(
    ids=st.lists(st.sampled_from(PARTS), max_size=12),
    stops=st.lists(st.text("abé🙂", min_size=1, max_size=4), max_size=3),
)
def test_text_is_held_back_only_while_it_may_become_a_stop(ids: list[int], stops: list[str]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        model, taken = script(ids, monkeypatch)
        out = ""
        for piece in ladder.pieces(model, "a", limit=10**6, stop=stops):
            out += piece.text
            if piece.finish_reason is None:
                held = decoded(taken)[len(out) :]
                assert decoded(taken).startswith(out)
                assert not held or any(s.startswith(held) for s in stops)


def test_a_character_comes_when_its_last_byte_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model, taken = script(list("é🙂".encode()), monkeypatch)
    stream = octavo.stream(model, "a", limit=99)
    assert (next(stream), len(taken)) == ("é", 2)
    assert (next(stream), len(taken)) == ("🙂", 6)
    assert list(stream) == []


def test_a_character_that_the_limit_cuts_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = script(list("a🙂".encode()), monkeypatch)
    assert octavo.generate(model, "a", limit=4) == "a"
    assert octavo.generate(model, "a", limit=5) == "a🙂"


# ---------------------------------------------------------------- text


@every
def test_the_rungs_agree(name: str) -> None:
    model = wide(name)
    options = {"limit": 20, "seed": 9, "temperature": 0.9}
    ids = ids_of(model, [0, 1], **options)
    text = model.text_tokenizer().decode(ids)
    assert octavo.generate(model, "ab", **options) == text
    assert list(octavo.stream(model, "ab", **options)) == list(text)


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("", "prompt is empty"),
        ("aXb", "unknown character 'X'"),
        ("é", "unknown character"),
        (None, "a prompt is a text"),
        (3, "a prompt is a text"),
        (b"ab", "a prompt is a text"),
    ],
)
def test_prompts_that_cannot_be_continued_are_refused_at_the_call(prompt: Any, named: str) -> None:
    for rung in (octavo.generate, octavo.stream, ladder.pieces):
        with pytest.raises(OctavoError, match=named):
            rung(build("gru"), prompt)


@pytest.mark.parametrize(
    "ids", [[], np.zeros(0, int), [[1, 2]], [[1], [2]], [[1, 2], [1]], [V], [-1], [0.5], 3, ["a"]]
)
def test_ids_that_cannot_be_continued_are_refused_at_the_call(ids: Any) -> None:
    for name in ("gru", "plain"):
        with pytest.raises(OctavoError):
            octavo.tokens(build(name), ids, limit=1)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(OctavoError, match="stop string"):
        octavo.stream(build("gru"), "a", stop=["x", ""])


def test_a_prompt_larger_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    model = wide("plain")  # 2 layers, 8 wide, keys and values, 4 bytes: 128 bytes a token
    octavo.tokens(model, [1] * 32, limit=1)
    with pytest.raises(OctavoError, match="33 tokens needs"):
        octavo.tokens(model, [1] * 33, limit=1)
    octavo.tokens(build("gru"), [1] * 10_000, limit=1)  # its memory does not grow


def test_every_architecture_is_on_the_ladder() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in CONFIGS:
            assert len(octavo.generate(build(name), "abc", limit=14, seed=0)) == 14
            assert len(octavo.generate(build(name), "abc", limit=60, seed=0, slide=True)) == 60


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 0}, {"seed": 0, "top_k": 3}])
def test_weights_that_overflow_are_an_octavo_error(options: dict[str, Any]) -> None:
    model = build("prenorm")
    model = model.with_params({n: 3e37 * p for n, p in model.params.items()})  # finite, as a file may hold
    with pytest.raises(OctavoError, match="not numbers"):
        octavo.generate(model, "abc", limit=3, **options)
    with pytest.raises(OctavoError, match="not numbers"):
        octavo.score(model, "abc")


def test_a_text_ends_at_the_tokens_that_end_texts_for_the_model() -> None:
    model = build("gru")
    whole = octavo.generate(model, "a", limit=30, seed=1)
    assert len(whole) == 30
    end = ALPHABET.index(whole[-1])
    ends = replace(model, generation_config={"eos_token_id": [end]})
    *_, last = ladder.pieces(ends, "a", limit=30, seed=1)
    assert octavo.generate(ends, "a", limit=30, seed=1) == whole[: whole.index(whole[-1])]
    assert last.finish_reason == "stop"
    assert end in ids_of(ends, [0], limit=30, seed=1)  # the lowest rung stops where it is told to
