"""Programs beside the equations: the same numbers; and no bit depends on company, threads or cuts."""

import sys
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

from octavo import models, nn
from octavo.blocks import FORMATS
from octavo.fast import Compiled, compiled, frame, pays
from octavo.fast.packed import COLUMNS, LINE, address
from octavo.fast.program import Program
from octavo.fast.recorded import Record, Unrecorded
from octavo.fast.recording import Ids, Inputs, Places, Recent, Slots, record
from octavo.fast.standins import Value, feed, write
from octavo.fast.steps import CacheStep
from octavo.model import Model
from octavo.nn.states import join_states
from octavo.quant import Quantized, quantise

from ..conftest import CONFIGS, V, build
from .test_packed import blocks_of

RECORDED = [name for name, (kind, _) in CONFIGS.items() if models.architecture(kind) is not models.recurrent]
CLOSE = {"rtol": 2e-4, "atol": 2e-5}
FENCE = 0xA5


def product(weight: Any, x: Any, threads: int = 2, bias: Any = None) -> Any:
    """``x W^T + b`` of rows x [B, in], by a program of little else."""
    made = Record()
    fed = feed(made, (x.shape[1],), lambda tokens, positions: x[tokens[:, 0]])
    made.logits = nn.linear(fed, weight, bias).buffer
    program, ids = Program(made, threads), np.arange(len(x))[:, None]
    program.make_room(len(x), 0)
    return program.run(ids, ids, len(x)).copy()


# ---------------------------------------------------------------- products


@pytest.mark.parametrize("name", [*FORMATS, "float32", "float16"])
def test_a_product_is_that_of_the_widened_matrix(name: str) -> None:
    if name in FORMATS:
        weight: Any = blocks_of(name, 71, 70 if FORMATS[name].items == 1 else 2)
    else:
        weight = np.random.default_rng(0).normal(size=(71, 70)).astype(name)
    x = np.random.default_rng(2).normal(size=(8, weight.shape[1])).astype(np.float32)
    bias = np.random.default_rng(3).normal(size=71).astype(np.float32)
    exact = x.astype(np.float64) @ np.asarray(weight, np.float64).T + bias
    found = product(weight, x, bias=bias)
    spread = np.abs(x).astype(np.float64) @ np.abs(np.asarray(weight, np.float64)).T + 1
    assert (np.abs(found - exact) / spread).max() < 5e-7
    for rows in range(1, 8):  # up to six are multiplied at once; seven are four and three
        some = [product(weight, x[i : i + rows], threads=1 + i % 3, bias=bias) for i in range(0, 8, rows)]
        np.testing.assert_array_equal(np.concatenate(some), found)


@pytest.mark.parametrize(("name", "exact"), [("tanh", np.tanh), ("sigmoid", lambda x: 1 / (1 + np.exp(-x)))])
def test_activations_are_numpy_s_to_some_units_in_the_last_place(name: str, exact: Any) -> None:
    x = np.concatenate([np.linspace(-20, 20, 20_001), np.geomspace(1e-30, 80, 2001)]).astype(np.float32)
    x = np.append(x, np.array([np.inf, -np.inf, np.nan], np.float32))
    made = Record()
    fed = feed(made, (len(x),), lambda tokens, positions: x)
    made.logits = write(name, (fed,), fed.own).buffer
    program = Program(made, 1)
    program.make_room(1, 0)
    found = program.run(ids_of(1, 1), ids_of(1, 1), 1)[0]
    np.testing.assert_allclose(found, exact(x.astype(np.float64)), rtol=5e-7, atol=2e-7)
    assert np.abs(found[:-1]).max() <= 1


# ---------------------------------------------------------------- forwards


def ids_of(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, V, shape)


@pytest.mark.parametrize("name", RECORDED)
def test_a_forward_is_that_of_the_equations(name: str) -> None:
    model, ids = build(name), ids_of(2, 9)
    step = Compiled(model)
    expected, after = model.forward(ids)
    found, state = step(ids, model.init_state(2, 9))
    np.testing.assert_allclose(found, expected, **CLOSE)
    for mine, theirs in zip((*state.keys, *state.values), (*after.keys, *after.values), strict=True):
        np.testing.assert_allclose(mine, theirs[:, : mine.shape[1]], **CLOSE)
    for mine, theirs in zip(state.recent, after.recent, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, **CLOSE)
    np.testing.assert_array_equal(state.position, [9, 9])
    last, _ = step.last(ids, model.init_state(2, 9))
    np.testing.assert_array_equal(last[:, 0], found[:, -1])


@pytest.mark.parametrize("name", RECORDED)
def test_company_cuts_and_threads_change_no_bit(name: str) -> None:
    model, ids = build(name), ids_of(3, 8)
    steps = [Compiled(model), Compiled(model)]
    steps[1].threads = 3
    steps[1].steps.clear()  # they are made anew, for three
    whole, _ = steps[0](ids, model.init_state(3, 8))
    for step in steps:
        for row in range(3):
            state, found = model.init_state(1, 8), []
            for start, end in ((0, 1), (1, 2), (2, 5), (5, 6), (6, 8)):
                logits, state = step(ids[row : row + 1, start:end], state)
                found.append(logits[0].copy())
            np.testing.assert_array_equal(np.concatenate(found), whole[row])
            one, _ = step.last(ids[row : row + 1], model.init_state(1, 8))
            np.testing.assert_array_equal(one[0, 0], whole[row, -1])


@pytest.mark.parametrize("name", RECORDED)
def test_rows_of_different_ages_go_on_together(name: str) -> None:
    model, ids = build(name), ids_of(2, 8)
    step = Compiled(model)
    _, a = step(ids[:1, :3], model.init_state(1, 8))
    _, b = step(ids[1:, :6], model.init_state(1, 8))
    both = join_states([a, b])
    found, _ = step(ids[[0, 1], [3, 6]][:, None], both)
    np.testing.assert_array_equal(found[0], step(ids[:1, 3:4], a)[0][0])
    np.testing.assert_array_equal(found[1], step(ids[1:, 6:7], b)[0][0])


def test_a_cache_in_halves_is_that_of_the_equations() -> None:
    model, ids = build(RECORDED[-1]), ids_of(1, 9)
    step, like = Compiled(model), np.zeros(0, np.float16)
    empty = [model.architecture.init_state(model.config, 1, 9, like) for _ in range(2)]
    found, state = step(ids, empty[0])
    assert state.keys[0].dtype == np.float16
    expected, after = model.forward(ids)
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=5e-3)
    np.testing.assert_allclose(state.keys[0], after.keys[0][:, :9], rtol=1e-3, atol=1e-6)


LONG = {
    "one group, columns one by one": ("llama-wide", {}),
    "windows, heads of 8": ("gemma3", {"sliding_window": 300, "head_dim": 8}),
    "five heads of 32": (
        "llama",
        {"hidden_size": 40, "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 32},
    ),
    "two groups of three heads": (
        "llama",
        {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8},
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("case", LONG)
def test_chunks_of_a_long_cache_are_joined_to_the_same_bits(case: str, dtype: str) -> None:
    name, sizes = LONG[case]
    model, ids = build(name, **sizes), ids_of(2, 700)
    made = record(model.architecture.forward, model.params, model.config, model.init_state(1, 1))
    alone, team = (CacheStep(made, threads, dtype, {}) for threads in (1, 3))
    tolerance = CLOSE if dtype == "float32" else {"rtol": 2e-2, "atol": 1e-2}
    whole, state = alone(ids, model.init_state(2, 700, dtype))  # many rows: a piece is all chunks
    expected, _ = model.architecture.forward(model.params, model.config, ids, model.init_state(2, 700, dtype))
    np.testing.assert_allclose(whole, expected, **tolerance)
    for step in (alone, team):  # few rows: a piece is one chunk
        again, state = [], state._replace(position=np.array([690, 690]))
        for start, end in ((690, 691), (691, 695), (695, 700)):
            logits, state = step(ids[:, start:end], state)
            again.append(logits.copy())
        np.testing.assert_array_equal(np.concatenate(again, 1), whole[:, 690:])
    own = nn.Cache(*(tuple(x[1:].copy() for x in slots) for slots in state[:2]), np.array([510]))
    np.testing.assert_array_equal(team(ids[1:, 510:514], own)[0][0], whole[1, 510:514])
    own = own._replace(position=np.array([200]))  # too few pieces for all: each is of one group
    np.testing.assert_array_equal(team(ids[1:, 200:201], own)[0][0], whole[1, 200:201])
    many = nn.Cache(*(tuple(np.repeat(x, 4, axis=0) for x in slots) for slots in state[:2]), np.full(8, 690))
    found, _ = alone(np.repeat(ids[:, 690:691], 4, axis=0), many)  # a row each: a piece is all that it sees
    np.testing.assert_array_equal(found, np.repeat(whole[:, 690:691], 4, axis=0))


def test_the_rows_that_a_divided_id_names() -> None:
    made, table = Record(), np.arange(12, dtype=np.float32).reshape(3, 4)
    nn.embed(Ids(made).astype(np.uint32) % 3, table)
    ((_, rows),) = made.feeds
    np.testing.assert_array_equal(rows(np.array([[7, 5]]), np.array([[0, 1]])), table[None, [1, 2]])


def fenced(program: Program) -> Any:
    """Scratch with more behind it, which the program is not told of."""
    size = program.scratch.shape[1]
    program.scratch = np.full((1, size + 4096), FENCE, np.uint8)
    program.frame[frame.SCRATCH] = address(program.scratch)
    assert program.frame[frame.SCRATCH_SIZE] == size
    return program.scratch[0, : size - LINE], program.scratch[0, size - LINE :]


def test_many_rows_of_a_very_long_cache_keep_to_their_scratch() -> None:
    name, sizes = LONG["two groups of three heads"]
    model, slots = build(name, **sizes), 12_800
    made = record(model.architecture.forward, model.params, model.config, model.init_state(1, 1))
    step = CacheStep(made, 1, "float32", {})
    step.program.make_room(16, slots)
    own, behind = fenced(step.program)
    state = model.init_state(16, slots)
    step(ids_of(16, 1), state._replace(position=np.full(16, slots - 1)))
    assert (own[-4:] != FENCE).any()  # all of it is needed
    assert (behind == FENCE).all()


@pytest.mark.parametrize("rows", [1, 2, 6, 7, 13])
@pytest.mark.parametrize("name", [*FORMATS, "float32", "float16"])
def test_products_use_all_of_their_scratch_and_no_more(name: str, rows: int) -> None:
    weight = blocks_of(name, 71, 2) if name in FORMATS else np.ones((71, 70), name)
    made, x = Record(), np.random.default_rng(1).normal(size=(rows, weight.shape[1])).astype(np.float32)
    made.logits = nn.linear(feed(made, (x.shape[1],), lambda tokens, positions: x), weight).buffer
    program, ids = Program(made, 1), np.zeros((rows, 1), int)
    program.make_room(rows, 0)
    own, behind = fenced(program)
    program.run(ids, ids, rows)
    assert (own[-4:] != FENCE).any()
    assert (behind == FENCE).all()


def test_quantised_weights_and_a_wide_model() -> None:
    config = {**CONFIGS["llama"][1], "vocab_size": 70, "hidden_size": 64, "intermediate_size": 96}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = {k: v for k, v in config.items() if k != "head_dim"}
    made = models.architecture("llama").Config(**config)
    params = models.initial_params("llama", made, np.random.default_rng(0))
    params = {
        k: p + np.float32(0.02) * np.random.default_rng(1).normal(size=p.shape).astype(np.float32)
        for k, p in params.items()
    }
    some = {k: quantise(p, "Q4_1") if p.ndim == 2 and "down" not in k else p for k, p in params.items()}
    model = Model("llama", made, some)
    assert pays(model)
    widened = model.with_params({k: np.asarray(p) for k, p in some.items()})
    assert not pays(widened)
    ids = np.random.default_rng(3).integers(0, 70, (1, 12))
    step = compiled(model)
    assert step is not None
    assert step is compiled(model)
    np.testing.assert_allclose(
        step(ids, model.init_state(1, 12))[0], widened.forward(ids)[0], rtol=1e-4, atol=1e-5
    )


# ---------------------------------------------------------------- what cannot be recorded


def test_other_models_run_by_their_equations() -> None:
    assert compiled(build("mixed")) is None


def test_parameters_of_another_kind_run_by_their_equations() -> None:
    model = build("llama")
    assert compiled(model.with_params({k: p.astype(np.float64) for k, p in model.params.items()})) is None


def test_what_there_is_no_instruction_for_is_not_recorded() -> None:
    made = Record()
    x = feed(made, (4,), lambda tokens, positions: np.zeros(4))
    for strange in (
        lambda: np.exp(x),
        lambda: x / 2,
        lambda: x.swapaxes(0, 1),
        lambda: x.astype(np.float64),
        lambda: x.reshape(4, 1),
        lambda: x[0],
        lambda: x[:, :, ::2],
        lambda: nn.softmax(x),
        lambda: nn.linear(x[:, :, 1:3], np.zeros((2, 2), np.float32)),
        lambda: x + feed(made, (3,), lambda tokens, positions: np.zeros(3)),
        lambda: nn.embed(Places(made), np.zeros((2, 2))),
        lambda: nn.extend(Slots(made, 0, (1, 4)), x, Places(made)),
        lambda: Ids(made).dtype,
        lambda: nn.follow(Recent(made, 2), Ids(made), 3),
        lambda: nn.follow(Recent(made, 2), Ids(made), 2)[:, :-1],
        lambda: nn.causal_conv(x, np.zeros((3, 4), np.float32), Inputs(0, (1, 4))),
    ):
        with pytest.raises((Unrecorded, TypeError)):
            strange()
    model = build("llama")
    for recent, wrong in (
        ((np.zeros((1, 2)),), "not of ids first"),
        ((np.zeros((1, 2), int),), "not the one|nobody reads"),
    ):
        cache = model.init_state(1, 2)._replace(recent=recent)
        with pytest.raises(Unrecorded, match=wrong):
            record(model.architecture.forward, model.params, model.config, cache)
    with pytest.raises(Unrecorded, match="without logits"):
        Program(Record(), 1)


# ---------------------------------------------------------------- running


def test_a_full_cache_is_an_error_and_nothing_is_written() -> None:
    model = build("llama")
    step, state = Compiled(model), model.init_state(1, 2)
    with pytest.raises(IndexError, match="2 slots has no room for 3 tokens"):
        step(ids_of(1, 3), state)
    assert not state.keys[0].any()


def test_logits_that_somebody_keeps_stay_what_they_are() -> None:
    model = build("llama")
    step = Compiled(model)
    first, state = step(ids_of(1, 1), model.init_state(1, 3))
    kept = first.copy()
    part = first[0, -1]
    del first
    step(ids_of(1, 1, seed=5), state)
    np.testing.assert_array_equal(part, kept[0, -1])


def test_threads_of_python_may_all_ask() -> None:
    model, ids = build("llama"), ids_of(4, 8)
    step = Compiled(model)
    expected = [step(ids[i : i + 1], model.init_state(1, 8))[0].copy() for i in range(4)]
    wrong = list[int]()

    def ask(i: int) -> None:
        found = [step(ids[i : i + 1], model.init_state(1, 8))[0].copy() for _ in range(40)]
        wrong.extend(i for one in found if not np.array_equal(one, expected[i]))

    asking = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert not wrong


def costs(model: Model) -> tuple[int, int]:
    """Calls of Python and bytes allocated by a step: what the clock would show on a quiet machine."""
    step, state, calls = Compiled(model), model.init_state(1, 16), 0
    token = ids_of(1, 1)
    for _ in range(4):
        _, state = step(token, state)

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    _, state = step(token, state)
    sys.setprofile(None)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    step(token, state)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return calls, peak


def deep(name: str, layers: int) -> Model:
    """A model of so many layers, run by one thread: others are woken or not, as they sleep."""
    sizes: dict[str, Any] = {"num_hidden_layers": layers}
    if name == "gru":
        stack = CONFIGS[name][1]["layers"]
        sizes = {"layers": [*stack[:1] * layers, stack[-1]]}
    model = build(name, **sizes)
    return Model(model.model_type, model.config, model.params, threads=1)


@pytest.mark.parametrize(("name", "most", "room"), [("llama", 120, 20_000), ("gru", 60, 7_000)])
def test_a_step_costs_the_same_whatever_the_depth(name: str, most: int, room: int) -> None:
    """To a word or two for each layer, and what a recurrent one remembers before and after."""
    shallow, deeper = costs(deep(name, 1)), costs(deep(name, 8))
    remembered = 2 * 4 * COLUMNS * 7 if name == "gru" else 0
    assert deeper[0] == shallow[0] < most
    assert abs(deeper[1] - remembered - shallow[1]) < 1000
    assert deeper[1] - remembered < room


def test_a_program_reads_the_bytes_of_its_file() -> None:
    weight = blocks_of("Q4_1", 64, 4)
    params = {"w": weight}
    made = Record()
    x = feed(made, (weight.shape[1],), lambda tokens, positions: np.zeros(128))
    made.logits = nn.linear(x, params["w"]).buffer
    program = Program(made, 1)
    assert isinstance(weight, Quantized)
    assert sum(packed.panels.nbytes for packed in program.packs.values()) == weight.nbytes


def test_values_are_seen_as_they_would_be() -> None:
    made = Record()
    x: Any = feed(made, (6, 4), lambda tokens, positions: np.zeros((6, 4)))
    assert isinstance(x, Value)
    assert x.shape == (1, 1, 6, 4)
    part = x[:, :, 2:4]
    assert part.shape == (1, 1, 2, 4)
    assert part.buffer[1:] == (8, 8)
    assert x.reshape(1, 1, 3, -1).shape == (1, 1, 3, 8)
