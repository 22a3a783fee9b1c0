"""What was no number in one text is nowhere in the next: not in buffers, nor in scratch, nor in a cache."""

from typing import Any

import numpy as np
import pytest

from octavo.fast import Compiled
from octavo.fast.steps import CacheStep
from octavo.model import Model

from ..conftest import V
from .test_program import RECORDED, build
from .test_recurrent import RUN, made

BAD = V - 1  # an id whose row of the embedding is no numbers
EMBEDDINGS = ("word_embedding.weight", "W_E", "model.embed_tokens.weight", "wte.weight")
CASES = [(name, number) for name in RECORDED for number in (np.nan, np.inf)]
CASES += [(name, np.nan) for name in RUN]  # gates make 1 of what is infinite


def poisoned(name: str, number: float) -> Model:
    """A model with such numbers where ids pick a row of a matrix, or a column."""
    model = build(name) if name in RECORDED else made(name)
    table = next(n for n in (*EMBEDDINGS, *model.params) if n in model.params)
    weight = model.params[table].copy()
    embedded = table in EMBEDDINGS or model.config.layers[0].kind == "embedding"
    (weight if embedded else weight.T)[BAD] = number
    return model.with_params(model.params | {table: weight})


def ids_of(*shape: int) -> Any:
    return np.random.default_rng(1).integers(0, BAD, shape)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_text_after_one_without_numbers_is_as_if_it_were_the_first(name: str, number: float) -> None:
    model, ids = poisoned(name, number), ids_of(3, 8)
    used, bad = Compiled(model), ids.copy()
    bad[:, [0, 4]] = BAD
    logits, _ = used(bad, model.init_state(3, 8))
    assert np.isnan(logits[:, 0]).all()
    for rows, cut in ((slice(None), 8), (slice(2, 3), 1), (slice(1, 2), 5)):
        fresh, some = Compiled(model), ids[rows]
        states = [model.init_state(len(some), 8) for _ in range(2)]
        for part in filter(np.size, (some[:, :cut], some[:, cut:])):
            (found, states[0]), (expected, states[1]) = used(part, states[0]), fresh(part, states[1])
            np.testing.assert_array_equal(found, expected)
            assert not np.isnan(np.delete(found, BAD, axis=-1)).any()  # whose logit may be of the same row


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_row_without_numbers_leaves_its_neighbours_alone(name: str, number: float) -> None:
    model, ids = poisoned(name, number), ids_of(3, 8)
    expected, _ = Compiled(model)(ids, model.init_state(3, 8))
    expected, ids[1, 2] = expected.copy(), BAD
    found, _ = Compiled(model)(ids, model.init_state(3, 8))
    assert np.isnan(found[1, 2]).all()
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])
    np.testing.assert_array_equal(found[1, :2], expected[1, :2])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("name", "window"), [("llama", 0), ("mistral", 5), ("mistral", 150)])
def test_slots_that_a_row_does_not_see_are_not_read(name: str, window: int, threads: int, dtype: str) -> None:
    """Those behind its position, from the first token on; and those before its window."""
    model = build(name, **({"sliding_window": window} if window else {}))
    record, ids = Compiled(model).record, ids_of(2, 300)
    step = CacheStep(record, threads, dtype, {})
    expected, _ = step(ids, model.init_state(2, 300, dtype))
    expected, state = expected.copy(), model.init_state(2, 310, dtype)
    slots = (*state.keys, *state.values)
    for x in slots:
        x[...] = np.nan
    for start, end in ((0, 1), (1, 9), (9, 140), (140, 299), (299, 300)):
        for x in slots:
            x[:, : max(start - window + 1, 0) if window else 0] = np.nan
        found, state = step(ids[:, start:end], state)
        np.testing.assert_array_equal(found, expected[:, start:end])
        assert all(np.isnan(x[:, end:]).all() for x in slots)
