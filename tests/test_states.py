"""States as values: a copy goes on by itself, rows are put together and taken apart."""

from typing import Any

import jax
import numpy as np
import pytest

from octavo import nn

from .conftest import CONFIGS, V, build

every = pytest.mark.parametrize("name", CONFIGS)


def ids_of(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, V, shape)


def read(name: str, *rows: Any) -> tuple[Any, list[Any]]:
    """A model, and the state of each row after it was read alone."""
    model = build(name, dtype=np.float64)
    return model, [model.forward(row[None], model.init_state(1, 9))[1] for row in rows]


def leaves(state: Any) -> list[Any]:
    return [np.array(x) for x in jax.tree.leaves(state)]


@every
def test_branches_of_one_text_do_not_meet(name: str) -> None:
    model, (state,) = read(name, ids_of(5))
    kept, more = nn.copy_state(state), ids_of(3, 4, seed=2)
    before = leaves(kept)
    together, spent = model.forward(more, nn.copy_state(state, rows=[0, 0, 0]))
    for row, expected in zip(more, together, strict=True):
        logits, _ = model.forward(row[None], nn.copy_state(kept))
        np.testing.assert_allclose(logits[0], expected, rtol=2e-4, atol=2e-5)
    model.forward(more[:1], state)
    for a, b in zip(leaves(kept), before, strict=True):
        np.testing.assert_array_equal(a, b)
    picked = nn.copy_state(spent, rows=[2, 0])
    for a, b in zip(leaves(picked), leaves(spent), strict=True):
        np.testing.assert_array_equal(a, b[[2, 0]])


@every
def test_rows_of_several_texts_are_one_state(name: str) -> None:
    texts = [ids_of(n, seed=n) for n in (3, 6, 1)]
    model, states = read(name, *texts)
    joined = nn.join_states(states[:2])
    joined = nn.write_row(joined, 0, states[2])
    joined = nn.write_row(nn.join_states([joined, states[0]]), 1, joined, 0)  # a row may be one of its own
    logits, _ = model.forward(np.array([[4], [4], [4]]), nn.first_rows(joined, 3))
    for found, text in zip(logits, [texts[2], texts[2], texts[0]], strict=True):
        expected, _ = model.forward(np.array([*text, 4]))
        np.testing.assert_allclose(found[0], expected[-1], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("library", ["numpy", "jax"])
@every
def test_nothing_is_left_of_a_row_that_gave_way(name: str, library: str) -> None:
    """Not even where it was no numbers, which weights of 0 do not silence."""
    texts = [ids_of(n, seed=n) for n in (7, 6, 2)]
    model, states = read(name, *texts)
    expected, _ = model.forward(np.array([[*texts[1], 4]]))
    with jax.enable_x64(True):
        if library == "jax":
            model, states = model.with_params(jax.device_put(model.params)), jax.device_put(states)
        bad = jax.tree.map(lambda x: np.nan * x if x.dtype.kind == "f" else x, states[0])
        joined = nn.write_row(nn.join_states([bad, states[2]]), 0, states[2])
        joined = nn.write_row(joined, 1, states[1])  # a longer one beside it, up to which slots are read
        logits, _ = model.forward(np.array([[4], [4]]), joined)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[1], expected[0, -1:], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["lstm", "folio"])
def test_states_of_jax_are_made_of_the_same_numbers(name: str) -> None:
    _, states = read(name, ids_of(3), ids_of(6), ids_of(1))
    before = list(map(leaves, states))

    def made(states: list[Any]) -> Any:
        joined = nn.write_row(nn.join_states([states[0], states[1]], 8), 0, states[2])
        return nn.first_rows(nn.copy_state(joined, rows=[1, 0, 1]), 2)

    with jax.enable_x64(True):
        on_jax = jax.device_put(states)
        for a, b in zip(leaves(made(on_jax)), leaves(made(states)), strict=True):
            np.testing.assert_array_equal(a, b)
        for state, kept in zip(on_jax, before, strict=True):  # nothing was spent
            for a, b in zip(leaves(state), kept, strict=True):
                np.testing.assert_array_equal(a, b)


def test_jax_reads_a_cache_in_half_precision() -> None:
    model, ids = build("plain"), ids_of(2, 5)
    on_jax = model.with_params(jax.device_put(model.params))
    expected, _ = model.forward(ids, model.init_state(2, 5, "float16"))
    run = jax.jit(lambda p, x, s: model.with_params(p).forward(x, s))
    found, state = run(on_jax.params, ids, on_jax.init_state(2, 5, "float16"))
    assert {str(x.dtype) for x in (*state.keys, *state.values)} == {"float16"}
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_states_of_different_room_are_put_together() -> None:
    model = build("llama")
    states = [model.forward(ids_of(1, n), model.init_state(1, n))[1] for n in (2, 7)]
    joined = nn.join_states(states)
    assert (joined.room, joined.position.tolist()) == (7, [2, 7])
    assert (states[0].room, states[1].room) == (2, 7)
    more = nn.join_states(states, 9)
    assert more.room == 9
    for a, b in zip((*more.keys, *more.values), (*joined.keys, *joined.values), strict=True):
        np.testing.assert_array_equal(a[:, :7], b)
        assert not a[:, 7:].any()


def test_a_copy_has_the_room_of_the_original() -> None:
    model = build("plain")
    state = model.forward(ids_of(1, 3), model.init_state(1, 1000))[1]
    copy = nn.copy_state(state, rows=[0, 0])
    assert copy.room == 1000
    np.testing.assert_array_equal(copy.keys[1][1], state.keys[1][0])


# ---------------------------------------------------------------- caches in half precision


@every
def test_a_cache_in_half_precision_is_close_and_stays_so(name: str) -> None:
    model = build(name)
    if not isinstance(model.init_state(1, 1), nn.Cache):
        with pytest.raises(Exception, match="has no cache to keep in float16"):
            model.init_state(1, 8, "float16")
        return
    ids, state = ids_of(2, 12), model.init_state(2, 8, "float16")
    expected, _ = model.forward(ids)
    first, state = model.forward(ids[:, :7], state)
    found, state = model.forward(ids[:, 7:], state)  # it has grown
    assert {str(x.dtype) for x in (*state.keys, *state.values)} == {"float16"}
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.concatenate([first, found], 1), expected, rtol=0.02, atol=0.02)
    assert np.abs(found - expected[:, 7:]).max() > 0  # which is a loss
    assert all(np.asarray(x).dtype != np.float16 for x in state.recent)


def test_a_cache_is_half_as_large() -> None:
    halves, whole = (build("llama").init_state(1, 50, dtype) for dtype in ("float16", "float32"))
    assert (
        2 * halves.keys[0].nbytes == whole.keys[0].nbytes == build("llama").init_state(1, 50).keys[0].nbytes
    )
    with pytest.raises(Exception, match="a cache is kept in float32 or float16, not 'int8'"):
        build("llama").init_state(1, 1, "int8")
