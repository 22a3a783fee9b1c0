"""From logits to a token: against the course's sampler, the definitions of the options, and chance."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo import OctavoError, nn
from octavo.sample import Sampling

from .conftest import V, build

RNG = np.random.default_rng(5)
LOGITS = RNG.standard_normal(40).astype(np.float32) * 3


def kept(logits: Any = LOGITS, **options: Any) -> dict[int, float]:
    """The probability of each token that survives."""
    ids, p = Sampling(**options).distribution(logits)
    assert len(ids) == len(p) == len(set(ids.tolist()))
    assert p.sum() == pytest.approx(1, rel=1e-5)
    assert (np.diff(logits[ids]) >= 0).all()  # ascending, as decision 7 of the design has it
    return dict(zip(ids.tolist(), p.tolist(), strict=True))


# ---------------------------------------------------------------- the course's sampler


def topk_sample(logits: Any, k: int, t: float, rng: np.random.Generator) -> int:
    """As the second assignment hands it out."""
    order = np.argsort(logits / t)[-k:]
    p = nn.softmax((logits / t)[order])
    return int(order[rng.choice(k, p=p)])


@pytest.mark.parametrize("name", ["gru", "plain", "prenorm"])
@pytest.mark.parametrize(("k", "t"), [(5, 2.0), (V, 1.5), (3, 2.5), (1, 1.0)])
def test_the_ids_are_exactly_those_of_the_course(name: str, k: int, t: float) -> None:
    model = build(name, context=1000) if name != "gru" else build(name)
    rng, expected, ids = np.random.default_rng(42), [], [1, 2, 3]
    logits, state = model.forward(ids)
    for _ in range(60):
        expected.append(topk_sample(logits[-1], k, t, rng))
        logits, state = model.forward([expected[-1]], state)
    drawn = octavo.tokens(model, ids, limit=60, top_k=k, temperature=t, seed=42)
    assert [token.id for token in drawn] == expected
    assert len(set(expected)) > 1 or k == 1


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([0.3, 1.0, 1.7]))
def test_one_draw_is_the_course_s_for_any_seed(seed: int, k: int, t: float) -> None:
    sampling = Sampling(top_k=k, temperature=t)
    ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    for _ in range(5):
        assert sampling.draw(LOGITS, ours) == topk_sample(LOGITS, k, t, theirs)
    assert ours.random() == theirs.random()  # one number per token


# ---------------------------------------------------------------- options


def test_without_options_the_distribution_is_the_model_s_own() -> None:
    p = kept()
    np.testing.assert_allclose([p[i] for i in range(40)], nn.softmax(LOGITS), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 1e-3, 1e6])
def test_temperature_divides_the_logits(temperature: float) -> None:
    p = kept(temperature=temperature)
    np.testing.assert_allclose(
        [p[i] for i in range(40)], nn.softmax(LOGITS, temperature), rtol=1e-3, atol=1e-30
    )


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-7, 1e-300])
def test_temperature_zero_is_greedy_and_uses_no_chance(temperature: float) -> None:
    assert kept(temperature=temperature) == {int(LOGITS.argmax()): 1.0}
    rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
    assert Sampling(temperature=temperature).draw(LOGITS, rng) == LOGITS.argmax()
    assert rng.random() == untouched.random()


@pytest.mark.parametrize("k", [1, 2, 39, 40, 1000])
def test_top_k_keeps_the_k_likeliest(k: int) -> None:
    p = kept(top_k=k)
    assert set(p) == set(np.argsort(-LOGITS)[:k].tolist())
    share = nn.softmax(LOGITS)[list(p)]
    np.testing.assert_allclose(list(p.values()), share / share.sum(), rtol=1e-4)


@given(st.floats(0.001, 1.0))
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float) -> None:
    everything = nn.softmax(LOGITS.astype(np.float64))
    order = np.argsort(-LOGITS)
    p = kept(LOGITS.astype(np.float64), top_p=top_p)
    assert set(p) == set(order[: len(p)].tolist())
    assert everything[order[: len(p)]].sum() >= top_p - 1e-9
    assert everything[order[: len(p) - 1]].sum() < top_p + 1e-9
    np.testing.assert_allclose(list(p.values()), nn.softmax(LOGITS[list(p)].astype(np.float64)), rtol=1e-6)


def test_top_p_of_one_keeps_everything_and_a_tiny_one_the_best() -> None:
    assert len(kept(top_p=1.0)) == 40
    assert set(kept(top_p=1e-9)) == {int(LOGITS.argmax())}


@given(st.floats(0, 1))
def test_min_p_keeps_what_is_likely_beside_the_likeliest(min_p: float) -> None:
    everything = nn.softmax(LOGITS.astype(np.float64))
    p = kept(LOGITS.astype(np.float64), min_p=min_p)
    expected = np.flatnonzero(everything >= min_p * everything.max())
    assert set(p) == set(expected.tolist())


def test_min_p_keeps_ties_at_the_top() -> None:
    assert set(kept(np.array([1.0, 3.0, 3.0]), min_p=1.0)) == {1, 2}


def test_the_options_cut_one_after_the_other() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.06, 0.04]))
    assert set(kept(logits, top_k=3, top_p=0.9)) == {0, 1, 2}  # 0.7 / 0.9 of what top_k left is not enough
    assert set(kept(logits, top_k=3, top_p=0.7)) == {0, 1}
    assert set(kept(logits, top_k=4, top_p=0.95, min_p=0.6)) == {0, 1}
    assert set(kept(logits, temperature=0.2, top_p=0.9)) == {0, 1}  # temperature comes before


def test_a_repetition_penalty_makes_seen_tokens_less_likely() -> None:
    logits = np.array([2.0, -2.0, 1.0, 0.0], np.float32)
    adjusted = Sampling(repetition_penalty=2.0).adjust(logits, np.array([True, True, False, True]))
    np.testing.assert_array_equal(adjusted, [1.0, -4.0, 1.0, 0.0])
    np.testing.assert_array_equal(logits, [2.0, -2.0, 1.0, 0.0])
    assert adjusted.dtype == np.float32
    np.testing.assert_array_equal(Sampling(repetition_penalty=1.0).adjust(logits, np.ones(4, bool)), logits)


def test_a_logit_bias_is_added_and_minus_infinity_bans() -> None:
    logits = np.array([2.0, -2.0, 1.0], np.float32)
    adjusted = Sampling(logit_bias={0: -np.inf, 1: 1.5}).adjust(logits, np.zeros(3, bool))
    np.testing.assert_array_equal(adjusted, [-np.inf, -0.5, 1.0])
    np.testing.assert_array_equal(logits, [2.0, -2.0, 1.0])
    assert adjusted.dtype == np.float32
    assert kept(adjusted)[0] == 0


def test_options_act_within_a_text() -> None:
    model = build("gru")

    def drawn(**options: Any) -> list[int]:
        return [t.id for t in octavo.tokens(model, [1], limit=80, seed=3, **options)]

    assert drawn() == drawn(repetition_penalty=1.0, top_k=V, top_p=1.0, min_p=0.0, logit_bias={})
    banned = drawn(logit_bias={i: -np.inf for i in range(V) if i not in (4, 7)})
    assert set(banned) == {4, 7}
    assert set(drawn(logit_bias={5: 1000.0})) == {5}
    for options in ({"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.5}, {"temperature": 0.1}):
        assert len(set(drawn(**options))) < len(set(drawn()))


def test_the_penalty_counts_the_prompt_and_what_was_written() -> None:
    model, text = build("gru"), [1, 4]
    options = {"temperature": 0, "repetition_penalty": 1.4, "logit_bias": {2: 0.3}}
    for token in octavo.tokens(model, [1, 4], limit=40, **options):
        x = model.forward(text)[0][-1].astype(np.float64)
        for seen in set(text):
            x[seen] = x[seen] / 1.4 if x[seen] > 0 else x[seen] * 1.4
        x[2] += 0.3
        assert token.id == x.argmax()
        text.append(token.id)
    assert len(set(text)) >= 4


def test_a_banned_token_never_comes_at_any_temperature() -> None:
    model = build("gru")
    best = next(octavo.tokens(model, [1], limit=1, temperature=0)).id
    for temperature in (0, 0.01, 1.0, 100.0):
        options = {"temperature": temperature, "logit_bias": {best: -np.inf}, "top_k": 2}
        assert best not in [t.id for t in octavo.tokens(model, [1], limit=1, seed=0, **options)]


class Lowest:
    """The generator's least number."""

    def random(self) -> float:
        return 0.0


def test_a_token_without_probability_does_not_come_even_at_the_edge() -> None:
    logits = np.array([0.0, -np.inf, 1.0, -np.inf])
    assert Sampling().draw(logits, Lowest()) == 0  # type: ignore[arg-type]


def test_the_seed_decides_and_no_seed_is_chance() -> None:
    model = build("gru")

    def drawn(seed: int | None) -> list[int]:
        return [t.id for t in octavo.tokens(model, [1], limit=50, seed=seed)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(None) != drawn(None)


@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"temperature": 0.7, "top_p": 0.8}])
def test_tokens_come_as_often_as_their_probability_says(options: dict[str, Any]) -> None:
    p = kept(LOGITS[:8] / 2, **options)
    sampling, rng, draws = Sampling(**options), np.random.default_rng(11), 20_000
    counts = np.bincount([sampling.draw(LOGITS[:8] / 2, rng) for _ in range(draws)], minlength=8)
    assert set(np.flatnonzero(counts)) <= set(p)
    expected = np.array([p.get(i, 0.0) for i in range(8)]) * draws
    alive = expected > 0
    chi_square = ((counts - expected)[alive] ** 2 / expected[alive]).sum()
    freedom = alive.sum() - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("temperature", v) for v in (-1, float("nan"), float("inf"))),
        *(("top_k", v) for v in (0, -3)),
        *(("top_p", v) for v in (0, -0.1, 1.1, float("nan"))),
        *(("min_p", v) for v in (-0.1, 1.1, float("nan"))),
        *(("repetition_penalty", v) for v in (0, -1, float("nan"), float("inf"))),
        *(("logit_bias", v) for v in ({0: float("nan")}, {0: float("inf")}, {0: 1e39}, {0: -1e39}, [0.5], 5)),
        ("seed", -1),
    ],
)
def test_impossible_options_are_refused_by_name_at_the_call(option: str, value: Any) -> None:
    with pytest.raises(OctavoError, match=option):
        octavo.tokens(build("gru"), [1], limit=1, **{option: value})


def test_a_bias_for_tokens_that_are_not_there_or_against_all_is_refused() -> None:
    for token in (-1, V):
        with pytest.raises(OctavoError, match=f"token {token}"):
            octavo.tokens(build("gru"), [1], limit=1, logit_bias={token: 1.0})
    with pytest.raises(OctavoError, match="bans every token"):
        octavo.tokens(build("gru"), [1], limit=1, logit_bias=dict.fromkeys(range(V), -np.inf))


# ---------------------------------------------------------------- large vocabularies


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 3.0},
        {"top_k": 1},
        {"top_k": 40, "temperature": 0.8},
        {"top_k": 512},
        {"top_k": 3000},
        {"top_p": 0.5},
        {"top_p": 0.95, "temperature": 1.3},
        {"top_p": 0.9999},
        {"min_p": 0.05},
        {"min_p": 1e-6, "temperature": 2.0},
        {"top_k": 100, "top_p": 0.9, "min_p": 0.02},
        {"top_p": 0.8, "min_p": 0.3},
    ],
)
def test_most_tokens_need_not_be_sorted(options: dict[str, Any]) -> None:
    logits = np.random.default_rng(1).standard_normal(6000).astype(np.float32) * 4
    sampling = Sampling(**options)
    ids, weights = sampling.survivors(logits)
    cumulative = weights.astype(np.float64).cumsum()
    found = 0
    for number in np.random.default_rng(2).random(200):
        token = sampling.drawn_above(logits, number)
        expected = ids[cumulative.searchsorted(number * cumulative[-1], side="right")]
        assert token is None or token == expected
        found += token is not None
    assert (found > 100) == (
        options not in ({"top_k": 3000}, {"top_p": 0.9999}, {"min_p": 1e-6, "temperature": 2.0})
    )


def test_a_large_vocabulary_is_drawn_from_as_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(1).standard_normal(5000).astype(np.float32) * 3
    for temperature in (0.5, 1.0, 4.0):
        sampling = Sampling(temperature=temperature)
        drawn = [sampling.draw(logits, np.random.default_rng(seed)) for seed in range(50)]
        with monkeypatch.context() as patched:
            patched.setattr("octavo.sample.MANY", 10**9)
            assert drawn == [sampling.draw(logits, np.random.default_rng(seed)) for seed in range(50)]


def test_what_are_no_numbers_is_not_drawn_from_however_many() -> None:
    logits = np.full(5000, np.nan, np.float32)
    assert Sampling().drawn_above(logits, 0.5) is None
