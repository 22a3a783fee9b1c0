"""Steps of recurrent models by program: the same numbers, the same bits in any company; and states."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import octavo
from octavo import models, nn
from octavo.fast import Compiled, compiled, pays
from octavo.fast.steps import MemoryStep
from octavo.model import Model
from octavo.quant import Quantized, widened
from octavo.quantising import quantised

from ..conftest import CONFIGS, V, build

CLOSE = {"rtol": 1e-5, "atol": 1e-5}

WIDE: dict[str, Any] = {
    "embedded": [
        {"kind": "embedding", "units": 9},
        {"kind": "lstm", "units": 21},
        {"kind": "dense", "units": 10},
        {"kind": "gru", "units": 33, "reset_after": False, "use_bias": False},
        {"kind": "rnn", "units": 40},
    ],
    "dense-first": [{"kind": "dense", "units": 12}, {"kind": "gru", "units": 18}],
    "long": [{"kind": "gru", "units": 130}],
    "whole": [
        {"kind": "embedding", "units": 32},
        {"kind": "gru", "units": 64},
        {"kind": "lstm", "units": 32},
    ],
    "relu": [{"kind": "rnn", "units": 7, "activation": "relu"}],
}
RECURRENT = [n for n, (kind, _) in CONFIGS.items() if models.architecture(kind) is models.recurrent]
RUN = [n for n in RECURRENT if n != "mixed"] + list(WIDE)


def made(name: str, dtype: Any = np.float32) -> Model:
    """A model by its name in CONFIGS or here; with large weights rounding would grow from step to step."""
    if name in WIDE:
        config = models.configure(
            "gru", {"vocab_size": V, "layers": [*WIDE[name], {"kind": "dense", "units": V}]}
        )
        rng = np.random.default_rng(2)
        shapes = models.recurrent.shapes(config)
        params = {n: (0.15 * rng.standard_normal(s)).astype(dtype) for n, s in shapes.items()}
        return Model("gru", config, params)
    return build(name, dtype=dtype)


def ids_of(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, V, shape)


def same(found: Any, expected: Any) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", RUN)
def test_a_step_is_that_of_the_equations(name: str, batch: int) -> None:
    model, ids = made(name), ids_of(batch, 40)
    expected, last = model.forward(ids)
    step = compiled(model)
    assert step is not None
    _, state = model.forward(ids[:, :7])  # the equations read a chunk, the program goes on from there
    for t in range(7, 25):
        logits, state = step(ids[:, t : t + 1], state)
        assert logits.shape == (batch, 1, V)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits[:, 0], expected[:, t], **CLOSE)
    logits, state = step(ids[:, 25:], state)
    np.testing.assert_allclose(logits, expected[:, 25:], **CLOSE)
    for found, layer in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, layer, **CLOSE)
    logits, _ = model.forward(ids[:, :1], state)  # and the equations from there
    np.testing.assert_allclose(logits, model.forward(ids[:, :1], last)[0], **CLOSE)


def test_weights_that_are_all_halves() -> None:
    for name in ("gru", "embedded"):
        model = made(name)
        model = model.with_params(
            {n: p.astype(np.float16).astype(np.float32) for n, p in model.params.items()}
        )
        step, ids = compiled(model), ids_of(2, 20)
        assert step is not None
        np.testing.assert_allclose(step(ids, model.init_state(2, 1))[0], model.forward(ids)[0], **CLOSE)


def test_strided_and_read_only_weights() -> None:
    model, changes = made("gru-before"), list[Callable[[Any], Any]]()
    changes += [np.asfortranarray, lambda p: np.repeat(p, 2, axis=0)[::2]]
    expected = Compiled(model)(ids_of(1, 5), model.init_state())[0]
    for change in changes:
        params = {n: change(p) for n, p in model.params.items()}
        for p in params.values():
            p.flags.writeable = False
        found = Compiled(model.with_params(params))(ids_of(1, 5), model.init_state())[0]
        np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- bits


@pytest.mark.parametrize("name", RUN)
def test_company_cuts_and_threads_change_no_bit(name: str) -> None:
    model, ids = made(name), ids_of(4, 9)
    record = Compiled(model).record
    whole, after = MemoryStep(record, 1, {})(ids, model.init_state(4, 1))
    for threads in (1, 2, 3):
        step = MemoryStep(record, threads, {})
        for rows in ([0], [3, 1], [1, 0, 3, 2], [2]):
            state, found = model.init_state(len(rows), 1), []
            for start, end in ((0, 1), (1, 4), (4, 9)):
                logits, state = step(ids[rows, start:end], state)
                found.append(logits.copy())
            np.testing.assert_array_equal(np.concatenate(found, 1), whole[rows])
            same(state, nn.copy_state(after, rows))


def test_rows_that_join_and_leave_keep_their_bits() -> None:
    model, ids = made("lstm"), ids_of(3, 6)
    step = Compiled(model)
    whole, _ = step(ids, model.init_state(3, 1))
    states = [step(ids[i : i + 1, :2], model.init_state(1, 1))[1] for i in range(2)]
    logits, state = step(ids[:2, 2:3], nn.join_states(states))
    np.testing.assert_array_equal(logits[:, 0], whole[:2, 2])
    third = step(ids[2:, :3], model.init_state(1, 1))[1]
    state = nn.write_row(state, 0, third)  # into what the program gave, where it will read it
    logits, state = step(ids[[2, 1], 3:4], state)
    np.testing.assert_array_equal(logits[:, 0], whole[[2, 1], 3])
    logits, _ = step(ids[2:, 4:5], nn.first_rows(state, 1))
    np.testing.assert_array_equal(logits[:, 0], whole[2:, 4])


# ---------------------------------------------------------------- states


@pytest.mark.parametrize("name", ["lstm", "embedded"])
def test_a_state_that_was_passed_in_can_be_used_again(name: str) -> None:
    model = made(name)
    step = Compiled(model)
    for state in (model.init_state(), step(ids_of(1, 3), model.init_state())[1]):
        (first, one), (second, two) = (step(ids_of(1, 2), state) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        same(one, two)


KEEP: dict[str, Callable[[Any], Any]] = {
    "a state": lambda state: state,
    "a layer": lambda state: state[0],
    "an array": lambda state: state[0][0],
    "a part of an array": lambda state: state[0][0][:, 1:3],
    "a row": lambda state: state[1][0][0],
    "rows": lambda state: nn.first_rows(state, 1),
    "a copy": nn.copy_state,
}


@pytest.mark.parametrize("what", KEEP)
def test_what_somebody_keeps_is_never_written_to(what: str) -> None:
    model, kept = made("lstm"), list[tuple[Any, Any]]()
    step, ids = Compiled(model), ids_of(2, 40)
    state = model.init_state(2, 1)
    for t in range(40):
        _, state = step(ids[:, t : t + 1], state)
        if t % 3 == 0:
            mine = KEEP[what](state)
            kept.append((mine, jax.tree.map(np.copy, mine)))
    for mine, copied in kept:
        same(mine, copied)


def test_branches_go_on_from_where_they_began() -> None:
    model = made("gru")
    step, ids = Compiled(model), ids_of(1, 12)
    whole, _ = step(ids, model.init_state())
    states = [model.init_state()]
    for t in range(12):
        states.append(step(ids[:, t : t + 1], states[-1])[1])
    for t in (11, 0, 6, 3, 6):
        found, _ = step(ids[:, t:], states[t])
        np.testing.assert_array_equal(found, whole[:, t:])


def test_logits_that_somebody_keeps_stay_what_they_are() -> None:
    model = made("rnn")
    step = Compiled(model)
    first, state = step(ids_of(2, 1), model.init_state(2, 1))
    kept, part = first.copy(), first[1, -1]
    del first
    for t in range(4):
        _, state = step(ids_of(2, 1, seed=t), state)
    np.testing.assert_array_equal(part, kept[1, -1])


def test_what_was_no_number_is_gone_with_its_state() -> None:
    for name in ("gru-before", "lstm", "embedded"):
        model, ids = made(name), ids_of(2, 5)
        step = Compiled(model)
        expected = step(ids, model.init_state(2, 1))[0].copy()
        bad = jax.tree.map(lambda x: np.full_like(x, np.nan), model.init_state(2, 1))
        assert np.isnan(step(ids[:, :2], bad)[0]).all()
        np.testing.assert_array_equal(step(ids, model.init_state(2, 1))[0], expected)


def test_thousands_of_steps_take_no_memory(peak_memory: Callable[[Callable[[], Any]], int]) -> None:
    model = made("lstm")
    step, token = Compiled(model), ids_of(1, 1)

    def write(count: int) -> None:
        state = model.init_state()
        for _ in range(count):
            _, state = step(token, state)

    write(10)
    assert peak_memory(lambda: write(3000)) < 20_000


def test_threads_of_python_may_all_ask() -> None:
    model, ids = made("lstm"), ids_of(3, 30)
    step = Compiled(model)
    expected, wrong = step(ids, model.init_state(3, 1))[0].copy(), list[int]()

    def ask(i: int) -> None:
        for _ in range(10):
            state = model.init_state()
            for t in range(30):
                logits, state = step(ids[i : i + 1, t : t + 1], state)
                wrong.extend([i] * (not np.array_equal(logits[0, 0], expected[i, t])))

    asking = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize("kind", ["q8", "q4"])
def test_blocks_give_the_numbers_of_the_widened_model(kind: str) -> None:
    model, ids = made("whole"), ids_of(2, 20)
    small = model.with_params(quantised("gru", model.config, dict(model.params), kind))
    assert isinstance(small.params["layers.1.weight_hh"], Quantized)
    assert pays(small)
    wide = model.with_params(widened(small.params))
    assert not pays(wide)
    step = compiled(small)
    assert step is not None
    expected, last = wide.forward(ids)
    found, state = step(ids, small.init_state(2, 1))
    np.testing.assert_allclose(found, expected, **CLOSE)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)
    assert np.abs(expected - model.forward(ids)[0]).max() > 1e-4  # it is not the model as it was


def test_a_model_that_ships_writes_from_blocks() -> None:
    small = octavo.load("christie-gru", quantize="q8")
    wide = small.with_params(widened(small.params))
    assert any(isinstance(p, Quantized) for p in small.params.values())
    ids = small.text_tokenizer().encode("poirot ")
    found = list(octavo.tokens(small, ids, limit=40, seed=1))
    expected = list(octavo.tokens(wide, ids, limit=40, seed=1))
    assert [t.id for t in found] == [t.id for t in expected]
    np.testing.assert_allclose([t.logprob for t in found], [t.logprob for t in expected], atol=1e-3)


# ---------------------------------------------------------------- what is left to the equations


def test_other_layers_have_no_compiled_step() -> None:
    assert compiled(build("mixed")) is None
    layer = {"kind": "gru", "units": 4}
    for other in ({"activation": "leaky_relu"}, {"recurrent_activation": "hard_sigmoid"}):
        config = models.configure("gru", {"vocab_size": 4, "layers": [{**layer, **other}]})
        params = {n: np.zeros(s, np.float32) for n, s in models.recurrent.shapes(config).items()}
        assert compiled(Model("gru", config, params)) is None


def test_other_arrays_have_no_compiled_step() -> None:
    for dtype in (np.float64, np.float16):
        assert compiled(made("gru", dtype)) is None
    model = made("gru")
    assert compiled(model.with_params(jax.device_put(model.params))) is None
    some = {**model.params, "layers.0.weight_hh": jax.device_put(model.params["layers.0.weight_hh"])}
    assert compiled(model.with_params(some)) is None
