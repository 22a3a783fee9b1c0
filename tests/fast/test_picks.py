"""Compiled draws beside `Sampling.pick`: the same tokens for the same random numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import nn
from octavo.fast.picks import Draw
from octavo.sample import Sampling


class Numbers:
    """A generator that gives one number again and again, and counts."""

    def __init__(self, number: float) -> None:
        self.number, self.given = number, 0

    def random(self) -> float:
        self.given += 1
        return self.number


OPTIONS = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0, 1e-3, 0.3, 1.0, 1.7, 1e5])},
    optional={
        "top_k": st.integers(1, 60),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0.5, 2),
        "logit_bias": st.dictionaries(st.integers(0, 39), st.sampled_from([-np.inf, -1.0, 3.0])),
    },
)


@settings(max_examples=400, deadline=None)
@given(
    OPTIONS, st.sampled_from([40, 41, 700, 5000]), st.integers(0, 2**32), st.floats(0, 1, exclude_max=True)
)
def test_a_draw_is_the_specification_s(options: dict[str, Any], size: int, seed: int, number: float) -> None:
    rng, sampling = np.random.default_rng(seed), Sampling(**options)
    logits, seen = (3 * rng.standard_normal(size)).astype(np.float32), rng.random(size) < 0.5
    given, ours, theirs = logits.copy(), Numbers(number), Numbers(number)
    token, logprob = Draw(sampling, size)(logits, seen, ours)  # type: ignore[arg-type]
    np.testing.assert_array_equal(logits, given)
    expected, probability = sampling.pick(logits, seen, theirs)  # type: ignore[arg-type]
    assert (type(token), type(logprob)) == (int, float)
    assert ours.given == theirs.given
    if token != expected:  # the number fell within rounding of the border between two
        ids, p = sampling.distribution(sampling.adjust(logits, seen))
        borders = dict(zip(ids.tolist(), p.astype(np.float64).cumsum(), strict=True))
        border = min(
            borders.get(i, 0.0) for i in (token, expected)
        )  # one that rounding left out is the least
        assert border == pytest.approx(number, abs=1e-6)
    else:
        assert logprob == pytest.approx(probability, rel=1e-5, abs=1e-5)


def test_the_border_between_two_tokens_is_where_it_was() -> None:
    logits = np.log(np.array([0.25, 0.5, 0.25], np.float32))
    twin = Draw(Sampling(), 3)
    for number, token in ((0.0, 0), (0.2499, 0), (0.2501, 2), (0.4999, 2), (0.5001, 1), (0.9999999, 1)):
        assert twin(logits, np.zeros(3, bool), Numbers(number))[0] == token  # type: ignore[arg-type]


def test_tokens_that_are_equally_likely_stand_in_order() -> None:
    twin, logits, seen = Draw(Sampling(), 50), np.zeros(50, np.float32), np.zeros(50, bool)
    drawn = [twin(logits, seen, Numbers((i + 0.5) / 50))[0] for i in range(50)]  # type: ignore[arg-type]
    assert drawn == list(range(50))


def test_the_log_probability_is_that_of_the_softmax() -> None:
    x = (30 * np.random.default_rng(3).standard_normal(40)).astype(np.float32)
    expected = nn.log_softmax(x.astype(np.float64))  # float32 leaves the likeliest token's two digits
    for token in range(40):
        twin = Draw(Sampling(temperature=0, logit_bias={token: 1e6}), 40)
        found, logprob = twin(x, np.zeros(40, bool), np.random.default_rng(0))
        assert (found, logprob) == (token, pytest.approx(expected[token], rel=1e-5))


@pytest.mark.parametrize("temperature", [0, 0.5, 1])
def test_logits_that_are_no_numbers_are_noticed(temperature: float) -> None:
    twin = Draw(Sampling(temperature=temperature, top_p=0.9, min_p=0.1), 3)
    for bad in ([np.nan] * 3, [0, np.nan, 1], [np.nan, 0, 1], [np.inf, 0, 1]):
        try:
            _, logprob = twin(np.array(bad, np.float32), np.zeros(3, bool), np.random.default_rng(0))
        except IndexError:
            continue
        assert np.isnan(logprob)
    token, logprob = twin(np.array([0, 40, 0], np.float32), np.zeros(3, bool), np.random.default_rng(0))
    assert (token, logprob) == (1, 0)  # nothing of it is left


def test_one_token_is_all_there_is() -> None:
    for options in ({}, {"temperature": 0}, {"top_k": 9}, {"top_p": 0.1, "min_p": 1}):
        found = Draw(Sampling(**options), 1)(
            np.ones(1, np.float32), np.ones(1, bool), np.random.default_rng(0)
        )
        assert found == (0, 0)


def test_two_texts_draw_in_turn() -> None:
    logits = np.log(np.array([0.25, 0.75], np.float32))
    first, second = Draw(Sampling(temperature=0), 2), Draw(Sampling(temperature=0), 2)
    none, rng = np.zeros(2, bool), np.random.default_rng(0)
    for _ in range(3):
        assert first(logits, none, rng) == (1, pytest.approx(np.log(0.75)))
        assert second(-logits, none, rng) == (0, pytest.approx(np.log(0.75)))


def test_a_draw_writes_to_no_memory_but_its_own() -> None:
    twin, logits, none = Draw(Sampling(), 40), np.zeros(40, np.float32), np.zeros(40, bool)
    others = [np.full(40, -1) for _ in range(20)]  # they get what was just given back
    twin(logits, none, np.random.default_rng(0))
    assert all((other == -1).all() for other in others)
