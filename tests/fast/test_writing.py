"""Several tokens in one call of compiled code: what steps and draws give that are called one by one."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import octavo
from octavo import OctavoError, fast, models, nn, twins
from octavo.fast import program
from octavo.fast.picks import Draw
from octavo.fast.writing import MOST, Writing
from octavo.model import Model
from octavo.prefill import Memory
from octavo.quantising import quantised
from octavo.sample import Draws, Sampling

from ..conftest import CONFIGS, V, build

NAMES = [name for name in CONFIGS if name != "mixed"]
LONG = {"plain": "context", "prenorm": "context", "gpt2": "n_positions", "folio": "context"}
OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "sampled": {"seed": 1},
    "cut": {"seed": 2, "temperature": 0.8, "top_k": 7, "top_p": 0.9, "min_p": 0.02},
    "adjusted": {"seed": 3, "repetition_penalty": 1.3, "logit_bias": {2: 1.0, 4: -np.inf}},
    "ended": {"seed": 4, "stop": [3, 10**6]},
}
PROMPT = [3, 1, 4]


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and draws are compiled from the first on."""
    monkeypatch.setattr(twins, "LOADING_PAYS", 0)
    monkeypatch.setattr(twins, "MAKING_PAYS", 0)


def roomy(name: str, **options: Any) -> Model:
    """A model whose context is longer than any text here."""
    kind = CONFIGS[name][0]
    if models.architecture(kind) is not models.recurrent:
        options = {LONG.get(kind, "max_position_embeddings"): 500} | options
    return build(name, **options)


def one_by_one(monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> Iterator[Any]:
    """The same text, whose steps and draws are called one by one."""
    with monkeypatch.context() as patch:
        patch.setattr(fast, "writer", lambda *_: None)
        return iter(list(steps(*args, **options)))


def steps(model: Model, prompt: list[int], **options: Any) -> Iterator[Any]:
    """Each token, and what is remembered when it is given; the error that ends them, if one does."""
    memory = Memory()
    try:
        for token in octavo.tokens(model, prompt, memory=memory, **options):
            yield token, list(memory.ids), remembered(memory.state)
    except OctavoError as error:
        yield str(error)
    yield list(memory.ids), remembered(memory.state)


def remembered(state: Any) -> list[Any]:
    """What counts of a state, copied: of a cache, what stands before its position."""
    if isinstance(state, nn.Cache):
        seen = int(state.position[0])
        slots = (part[:, :seen] for part in (*state.keys, *state.values))
        return [seen, *(np.copy(part) for part in (*slots, *state.recent))]
    return [np.copy(part) for part in jax.tree.leaves(state)]


def same(found: Any, expected: Any) -> None:
    """Equal to the last bit, from the first token to the last."""
    for one, other in zip(found, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_token_is_that_of_one_by_one(name: str, options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = roomy(name), OPTIONS[options] | {"limit": 40}
    assert fast.compiled(model) is not None
    same(steps(model, PROMPT, **given), one_by_one(monkeypatch, model, PROMPT, **given))


@pytest.mark.parametrize("name", ["gru", "plain", "llama"])
def test_weights_in_blocks_and_a_cache_in_halves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, Any] = {"d_model": 64, "d_ff": 64} if name == "plain" else {"hidden_size": 64}
    if name == "gru":
        sizes = {"layers": [{"kind": "gru", "units": 64}, {"kind": "dense", "units": V}]}
    model = roomy(name, **sizes)
    model = model.with_params(quantised(model.model_type, model.config, dict(model.params), "q8"))
    options: dict[str, Any] = {"limit": 150, "seed": 1, "cache": None if name == "gru" else "float16"}
    same(steps(model, PROMPT, **options), one_by_one(monkeypatch, model, PROMPT, **options))


@pytest.mark.parametrize("kind", [None, "q8", "q4"])
def test_rows_of_a_large_table_are_widened_on_the_way(
    kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = roomy("llama", hidden_size=64, tie_word_embeddings=True)
    params = {name: p for name, p in model.params.items() if name != "lm_head.weight"}
    model = model.with_params(quantised("llama", model.config, params, kind) if kind else params)
    monkeypatch.setattr(program, "WIDE", 0)
    expected = list(one_by_one(monkeypatch, model, PROMPT, seed=1, limit=40))
    compiled = fast.compiled(model)
    assert compiled is not None
    (step,) = compiled.steps.values()
    assert bool(step.program.widened) is (kind is not None)  # floats are read where they are
    assert Writing(compiled, Draw(Sampling(), V), ()).most == MOST
    same(steps(model, PROMPT, seed=1, limit=40), expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain", {"limit": 60, "slide": True}),
        ("llama", {"limit": 60, "slide": True}),
        ("llama", {"limit": 14}),  # all that the context has room for
        ("gpt2", {"limit": 46}),
    ],
)
def test_a_text_at_the_end_of_its_context(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name)
    same(steps(model, PROMPT, seed=0, **options), one_by_one(monkeypatch, model, PROMPT, seed=0, **options))


def test_a_warning_comes_with_the_token_that_it_is_of() -> None:
    drawn = octavo.tokens(build("plain"), PROMPT, limit=40, seed=0)  # of a context of 16
    for _ in range(14):
        next(drawn)
    with pytest.warns(UserWarning, match="longer than the 16 tokens"):
        next(drawn)


@pytest.mark.parametrize(
    ("name", "table", "row"),
    [("lstm", "layers.0.weight_ih", (slice(None), 7)), ("plain", "word_embedding.weight", 7)],
)
def test_what_is_no_number_ends_a_text_where_it_is_drawn(
    name: str, table: str, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = roomy(name)
    weight = model.params[table].copy()
    weight[row] = np.nan  # what follows token 7
    model = model.with_params(model.params | {table: weight})
    options = {"limit": 100, "seed": 1, "temperature": 1e4}
    found = list(steps(model, PROMPT, **options))
    other = model.with_params(model.params)  # whose program has seen nothing of it
    same(found, one_by_one(monkeypatch, other, PROMPT, **options))
    assert "not numbers" in found[-2]
    assert found[-3][0].id == 7
    assert len(found) > 6


@pytest.mark.parametrize("name", ["gru", "llama"])
def test_a_text_that_is_left_early_goes_on_from_there(name: str) -> None:
    model = roomy(name)
    whole = [token.id for token in octavo.tokens(model, PROMPT, limit=60, temperature=0)]
    for many in (1, 2, 5, 21, 40):
        memory = Memory()
        drawn = octavo.tokens(model, PROMPT, limit=60, temperature=0, memory=memory)
        begun = [next(drawn).id for _ in range(many)]
        drawn.close()
        assert memory.ids == PROMPT + begun[:-1]
        rest = octavo.tokens(model, PROMPT + begun, limit=60 - many, temperature=0, memory=memory)
        assert begun + [token.id for token in rest] == whole


def test_who_takes_the_memory_meanwhile_is_noticed() -> None:
    model, memory = roomy("gru"), Memory()
    drawn = octavo.tokens(model, PROMPT, limit=60, seed=0, memory=memory)
    for _ in range(11):  # the next one is written by now
        next(drawn)
    list(octavo.tokens(model, PROMPT, limit=3, memory=memory))
    with pytest.raises(OctavoError, match="took this one's memory"):
        next(drawn)


@pytest.mark.parametrize("stop", [(), (0, 5)])
@pytest.mark.parametrize("temperature", [0, 1])
def test_random_numbers_that_nobody_used_are_as_if_never_drawn(
    stop: tuple[int, ...], temperature: float
) -> None:
    model, sampling = roomy("gru"), Sampling(temperature, seed=5)
    compiled = fast.Compiled(model)
    draws, others = (Draws(sampling, np.array(PROMPT), V) for _ in range(2))
    others.pick = Draw(sampling, V)
    _, state = compiled(np.array([PROMPT[:-1]]), model.init_state())
    written = Writing(compiled, Draw(sampling, V), stop)(PROMPT[-1], state, 50, draws)
    assert len(written.ids) == 50 if not stop else written.ids[-1] in stop
    last = PROMPT[-1]
    for id, logprob in zip(written.ids, written.logprobs, strict=True):
        logits, state = compiled(np.array([[last]]), state)
        last, expected = others.next(logits[0, 0])
        assert (id, logprob) == (last, expected)
    assert draws.rng.random() == others.rng.random()
    np.testing.assert_array_equal(draws.seen, others.seen)


def test_no_more_is_written_ahead_than_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, call = list[int](), Writing.__call__

    def counted(self: Writing, last: int, state: Any, count: int, draws: Draws) -> Any:
        counts.append(count)
        return call(self, last, state, count, draws)

    monkeypatch.setattr(Writing, "__call__", counted)
    list(octavo.tokens(roomy("gru"), PROMPT, limit=1000, seed=0))
    assert counts == [1, 2, 4, 8, 16, 32, 64, 128, MOST, MOST, 999 - 255 - 2 * MOST]


def test_a_large_model_writes_one_token_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from octavo.fast import program

    model = roomy("llama", hidden_size=64)
    model = model.with_params(quantised(model.model_type, model.config, dict(model.params), "q8"))
    options = {"limit": 9, "seed": 0}
    expected = list(octavo.tokens(model, PROMPT, **options))
    assert fast.writer(fast.compiled(model), Draw(Sampling(), V), ()).most == MOST
    monkeypatch.setattr(program, "WIDE", 0)  # its table of tokens is not widened
    other = model.with_params(model.params)
    assert fast.writer(fast.compiled(other), Draw(Sampling(), V), ()).most == 1
    assert list(octavo.tokens(other, PROMPT, **options)) == expected
