"""Guesses change nothing but how many steps a text takes."""

from typing import Any

import numpy as np
import pytest

import octavo
from octavo import OctavoError
from octavo.lookup import FIRST, MOST, Guesses, Lookup
from octavo.model import Model
from octavo.prefill import Memory

from .conftest import build

NAMES = ["plain", "prenorm-wide", "llama-tied", "qwen3", "gemma3", "gpt2", "mistral"]
OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.2, "seed": 1},
    {"seed": 2},
    {"temperature": 0.4, "seed": 3, "top_k": 3, "repetition_penalty": 1.1, "logit_bias": {2: 1.0}},
    {"temperature": 0.5, "seed": 4, "top_p": 0.8, "min_p": 0.05, "stop": [7]},
]
PROMPT = [3, 1, 4, 1, 5, 3, 1, 4, 1, 5, 3, 1]


def wide(name: str, **options: Any) -> Model:
    """A model of a long context, in float64: how many tokens are read at once does not show."""
    context = {"plain": "context", "prenorm-wide": "context", "gpt2": "n_positions"}
    return build(name, dtype=np.float64, **{context.get(name, "max_position_embeddings"): 300}, **options)


def steps(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each step reads from now on."""
    lengths: list[int] = []
    forward = model.architecture.forward

    def counted(p: Any, c: Any, tokens: Any, state: Any = None) -> Any:
        lengths.append(tokens.shape[1])
        return forward(p, c, tokens, state)

    monkeypatch.setattr(model.architecture, "forward", counted)
    return lengths


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", OPTIONS)
def test_the_text_is_the_same_token_for_token(name: str, options: dict[str, Any]) -> None:
    model, counted = wide(name), Lookup()
    for limit in (1, 2, 9, 120):
        plain = list(octavo.tokens(model, PROMPT, limit=limit, **options))
        found = list(octavo.tokens(model, PROMPT, limit=limit, lookup=counted, **options))
        assert [t.id for t in found] == [t.id for t in plain]
        np.testing.assert_allclose([t.logprob for t in found], [t.logprob for t in plain], atol=1e-9)
    assert 0 <= counted.accepted <= counted.guessed


def test_a_text_that_repeats_itself_takes_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, counted = wide("llama-tied"), Lookup()
    lengths = steps(model, monkeypatch)
    found = list(octavo.tokens(model, PROMPT, limit=200, temperature=0, lookup=counted))
    guessed = sum(n - 1 for n in lengths[1:])
    assert counted.guessed == guessed
    assert len(found) == len(lengths) + counted.accepted == 200
    assert len(lengths) < 100  # greedy, a small model soon goes round in circles
    assert max(lengths[1:]) <= 1 + MOST


def test_wrong_guesses_leave_no_trace_in_the_memory() -> None:
    model, memory = wide("llama-tied"), Memory()
    first = list(octavo.tokens(model, PROMPT, limit=40, seed=5, lookup=True, memory=memory))
    text = [*PROMPT, *(t.id for t in first)]
    assert memory.ids == text[: len(memory.ids)]
    assert int(memory.state.position[0]) == len(memory.ids) >= len(text) - 1
    again = list(octavo.tokens(model, [*text, 2], limit=20, seed=6, lookup=True, memory=memory))
    assert [t.id for t in again] == [t.id for t in octavo.tokens(model, [*text, 2], limit=20, seed=6)]


def test_a_stop_among_right_guesses_ends_the_text() -> None:
    model = wide("plain")
    whole = [t.id for t in octavo.tokens(model, PROMPT, limit=60, temperature=0)]
    for stop in set(whole):
        options: dict[str, Any] = {"limit": 60, "temperature": 0, "stop": [stop]}
        expected = [t.id for t in octavo.tokens(model, PROMPT, **options)]
        assert [t.id for t in octavo.tokens(model, PROMPT, lookup=True, **options)] == expected


def test_guesses_end_with_the_context_and_go_on_when_it_slides() -> None:
    for name in ("llama-tied", "gpt2", "plain"):
        context = {"plain": "context", "gpt2": "n_positions"}.get(name, "max_position_embeddings")
        model = build(name, dtype=np.float64, **{context: 20})
        for options in ({"limit": 8}, {"limit": 70, "slide": True}):
            plain = list(octavo.tokens(model, PROMPT, temperature=0, **options))
            found = list(octavo.tokens(model, PROMPT, temperature=0, lookup=True, **options))
            assert [t.id for t in found] == [t.id for t in plain]
            assert len(found) == options["limit"]


@pytest.mark.parametrize("lookup", [None, 1, "yes"])
def test_what_is_no_lookup_is_refused(lookup: Any) -> None:
    with pytest.raises(OctavoError, match=f"lookup is true, false, or .*Lookup, not {lookup!r}"):
        octavo.tokens(build("plain"), [1], limit=1, lookup=lookup)


def test_what_cannot_go_back_is_refused_at_the_call() -> None:
    for name in ("gru", "folio"):
        with pytest.raises(OctavoError, match=f"lookup needs a cache .* a {name} model has none"):
            octavo.tokens(build(name), [1, 2], limit=3, lookup=True)


def test_jax_parameters_guess_too() -> None:
    import jax

    model = wide("plain")
    model = model.with_params(jax.device_put({n: p.astype(np.float32) for n, p in model.params.items()}))
    options: dict[str, Any] = {"limit": 9, "temperature": 0}
    expected = [t.id for t in octavo.tokens(model, PROMPT, **options)]
    assert [t.id for t in octavo.tokens(model, PROMPT, lookup=True, **options)] == expected


# ---------------------------------------------------------------- guesses by themselves


def test_the_latest_place_and_the_longest_run_decide() -> None:
    assert Guesses([1, 2, 3, 7, 1, 2, 3, 8, 9, 1, 2, 3], Lookup()).next(3) == [8, 9, 1]
    assert Guesses([1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3], Lookup()).next(1) == [7]  # three alike before two
    assert Guesses([5, 2, 3, 8, 1, 2, 3], Lookup()).next(1) == [8]
    assert Guesses([1, 2, 3, 4], Lookup()).next(5) == []
    assert Guesses([1, 2], Lookup()).next(5) == []
    assert Guesses([6, 1, 2, 1, 2, 1], Lookup()).next(4) == [2, 1, 2, 1]  # goes round
    assert Guesses([1, 2, 1, 2], Lookup()).next(0) == []
    assert Guesses([1, 2, 1, 2], Lookup()).next(-3) == []


def test_more_is_guessed_where_guesses_are_right() -> None:
    counted = Lookup()
    guesses = Guesses([1, 2] * 9, counted)
    assert len(guesses.next(99)) == FIRST
    for most in (2 * FIRST, MOST, MOST):
        right = guesses.next(99)
        assert guesses.learn(right, [*right, 1 + len(guesses.ids) % 2]) == len(right)
        assert len(guesses.next(99)) == most
    before = counted.accepted
    assert guesses.learn(guesses.next(99), [guesses.next(99)[0], 5]) == 1
    assert (counted.accepted - before, guesses.most) == (1, 3)
    assert guesses.learn([], [5]) == 0
    assert guesses.most == 3
