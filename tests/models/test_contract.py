"""Every architecture has the same properties, whatever its equations."""

import json
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import models
from octavo.errors import OctavoError
from octavo.model import Model, with_room

from ..conftest import CONFIGS, V, build

every = pytest.mark.parametrize("name", CONFIGS)
transformers = pytest.mark.parametrize(
    "name", [name for name, (kind, _) in CONFIGS.items() if models.architecture(kind) is not models.recurrent]
)
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}


def assert_close(found: Any, expected: Any, **tolerance: float) -> None:
    """Equal but for rounding in float32."""
    np.testing.assert_allclose(found, expected, **TOLERANCE | tolerance)


def draw_ids(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, V, shape)


def in_pieces(model: Model, ids: Any, cuts: list[int]) -> Any:
    """The logits of a text read in several calls."""
    found, state = [], None
    for start, stop in zip([0, *cuts], [*cuts, ids.shape[-1]], strict=True):
        logits, state = model.forward(ids[..., start:stop], state)
        found.append(np.asarray(logits))
    return np.concatenate(found, axis=-2)


# ---------------------------------------------------------------- parameters and config


@every
def test_the_table_of_shapes_is_what_a_new_model_has(name: str) -> None:
    model = build(name)
    params = models.initial_params(model.model_type, model.config, np.random.default_rng(0))
    table = model.architecture.shapes(model.config)
    assert {n: p.shape for n, p in params.items()} == table
    assert all(p.dtype == np.float32 and np.isfinite(p).all() for p in params.values())
    again = models.initial_params(model.model_type, model.config, np.random.default_rng(0))
    assert all(np.array_equal(p, again[n]) for n, p in params.items())
    assert set(model.architecture.FIXED) <= set(table) | {"position_embedding.inv_freq"}


@every
def test_every_parameter_matters(name: str) -> None:
    model, ids = build(name), draw_ids(2, 9)
    before, _ = model.forward(ids)
    for parameter, value in model.params.items():
        uneven = np.linspace(1.5, 2, value.size, dtype=value.dtype)  # norms undo what scales a whole matrix
        changed = {**model.params, parameter: uneven.reshape(value.shape) * value}
        after, _ = model.with_params(changed).forward(ids)
        assert not np.allclose(after, before), parameter


@every
def test_a_config_comes_back_from_its_description(name: str) -> None:
    model = build(name)
    description = json.loads(json.dumps(models.describe(model.model_type, model.config)))
    assert description.pop("model_type") == model.model_type
    assert models.configure(model.model_type, description) == model.config


FOLIO = {"bigrams": 100, "trigrams": 10, "d_model": 128, "n_heads": 4, "d_ff": 512}
SMOLLM2_135M = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
TINYLLAMA_1B = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
}

MISTRAL_7B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
QWEN25_05B = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
QWEN3_06B = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
GEMMA3_1B = {
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "num_hidden_layers": 26,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
}
OLMO2_1B = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
}


@pytest.mark.parametrize(
    ("model_type", "vocab_size", "sizes", "count"),
    [
        ("rnn", 44, {}, 37_356),  # 22,144 + 12,352 + 2,860
        ("gru", 44, {}, 857_088 + 22_572),
        ("lstm", 10, {"units": (4,)}, 4 * (10 * 4 + 4 * 4 + 4) + 50),
        ("gru", 10, {"units": (4,), "embedding": 3}, 30 + 3 * (3 * 4 + 4 * 4 + 4 + 4) + 50),
        ("plain", 1024, {}, 1024 * 512 + 4 * (4 * 512 * 512 + 2 * 512 * 2048) + 1024 * 512 + 1024),
        ("prenorm", 50, {"d_model": 8, "n_heads": 2, "d_ff": 6, "n_layers": 1}, 400 + 256 + 48 + 6 + 48 + 8),
        ("gpt2", 50257, {"n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}, 124_439_808),
        ("folio", 65, {}, (65 * 65 + 16384 + 2 * 65 + 2 * (12 * 96 + 2 * 4 + 1) + 1) * 96 + 2 * 3),
        ("folio", 512, {**FOLIO, "n_layers": 1}, (100 + 10 + 1024 + 12 * 128 + 2 * 4 + 1) * 128 + 4),
        ("llama", 49152, SMOLLM2_135M, 134_515_008),
        ("llama", 32000, TINYLLAMA_1B, 1_100_048_384),
        ("mistral", 32000, MISTRAL_7B, 7_241_732_096),
        ("qwen2", 151_936, QWEN25_05B, 494_032_768),
        ("qwen3", 151_936, QWEN3_06B, 596_049_920),
        ("gemma3_text", 262_144, GEMMA3_1B, 999_885_952),
        ("olmo2", 100_352, OLMO2_1B, 1_484_916_736),
    ],
)
def test_parameter_counts(model_type: str, vocab_size: int, sizes: dict[str, Any], count: int) -> None:
    config = models.design(model_type, vocab_size, **sizes)
    module = models.architecture(model_type)
    sums = [int(np.prod(s)) for n, s in module.shapes(config).items() if n not in module.FIXED]
    assert sum(sums) == count


def test_the_course_s_sizes_layer_by_layer() -> None:
    def per_layer(model_type: str) -> list[int]:
        shapes = models.recurrent.shapes(models.design(model_type, 44))
        counts = {n.split(".")[1]: 0 for n in shapes}
        for n, shape in shapes.items():
            counts[n.split(".")[1]] += int(np.prod(shape))
        return list(counts.values())

    assert per_layer("rnn") == [22_144, 12_352, 2_860]
    assert per_layer("gru") == [857_088, 22_572]
    config = models.design("plain", 1024)
    assert (config.d_model, config.n_layers, config.n_heads, config.d_ff, config.context) == (
        512,
        4,
        8,
        2048,
        128,
    )


def test_a_model_counts_what_is_trained() -> None:
    model = build("plain")
    assert model.count() == sum(p.size for p in model.params.values()) - 4
    assert repr(model) == f"Model(plain, {model.count():,} parameters, vocabulary 11)"


# ---------------------------------------------------------------- forward


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_have_the_dtype_of_the_parameters(name: str, dtype: Any) -> None:
    model = build(name, dtype=dtype)
    logits, state = model.forward(draw_ids(2, 5))
    again, state = model.forward(draw_ids(2, 1), state)
    assert logits.dtype == again.dtype == dtype
    assert logits.shape == (2, 5, V)
    assert {a.dtype for a in jax.tree.leaves(state) if a.dtype.kind == "f"} == {np.dtype(dtype)}


@every
def test_nothing_is_computed_in_float64_on_the_way(name: str) -> None:
    seen = {}
    model = build(name)
    observed = models.recurrent.nn.View(model.params, observe=lambda n, x: seen.setdefault(n, x))
    model.architecture.forward(observed, model.config, draw_ids(1, 4))
    assert seen
    assert {n: x.dtype for n, x in seen.items() if x.dtype != np.float32} == {}


@every
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_text_may_be_cut_anywhere(name: str, data: st.DataObject) -> None:
    model = build(name, dtype=np.float64)  # in which rounding hides nothing
    batch = data.draw(st.sampled_from([None, 1, 3]))
    time = data.draw(st.integers(1, 24))  # the context is 16
    cuts = sorted(data.draw(st.sets(st.integers(1, max(time - 1, 1)), max_size=6)) - {time})
    ids = draw_ids(*((time,) if batch is None else (batch, time)), seed=time)
    whole, _ = model.forward(ids)
    assert whole.shape == (*ids.shape, V)
    assert_close(in_pieces(model, ids, cuts), whole, rtol=1e-9, atol=1e-9)
    assert_close(in_pieces(model, ids, list(range(1, time))), whole, rtol=1e-9, atol=1e-9)


@every
def test_a_row_of_a_batch_is_the_row_alone(name: str) -> None:
    model, ids = build(name), draw_ids(4, 12)
    together, _ = model.forward(ids)
    for row, logits in zip(ids, together, strict=True):
        assert_close(model.forward(row)[0], logits)


@transformers
def test_rows_of_different_ages_share_a_batch(name: str) -> None:
    model, ids = build(name), draw_ids(2, 10)
    _, old = model.forward(ids[:1, :7], model.init_state(1, 12))
    young = model.init_state(1, 12)
    state = jax.tree.map(lambda a, b: np.concatenate([a, b]), old, young)
    both, _ = model.forward(np.stack([ids[0, 7:], ids[1, :3]]), state)
    assert_close(both[0], model.forward(ids[0])[0][7:])
    assert_close(both[1], model.forward(ids[1, :3])[0])


@every
def test_jax_under_jit_computes_what_numpy_does(name: str) -> None:
    model, ids = build(name), draw_ids(2, 12)
    expected, _ = model.forward(ids)
    whole = jax.jit(lambda p, x: model.with_params(p).forward(x)[0])(model.params, ids)
    assert whole.dtype == np.float32
    assert_close(whole, expected)

    run = jax.jit(lambda p, x, s: model.with_params(p).forward(x, s))
    on_jax = model.with_params(jax.device_put(model.params))
    first, state = run(on_jax.params, ids[:, :6], on_jax.init_state(2, 12))
    second, _ = run(on_jax.params, ids[:, 6:], state)
    assert_close(np.concatenate([first, second], 1), expected)


@every
def test_a_jitted_forward_without_a_state_makes_room_for_the_context(name: str) -> None:
    model, ids = build(name), draw_ids(1, 8)
    run = jax.jit(lambda x, s: model.forward(x, s))
    first, state = run(ids[:, :4], None)
    second, _ = run(ids[:, 4:], state)
    assert_close(np.concatenate([first, second], 1), model.forward(ids)[0])


@pytest.mark.parametrize("name", ["gru", "plain"])
@pytest.mark.parametrize("library", [np, jax.numpy])
def test_jax_parameters_outside_jit_take_ids_of_either_library(name: str, library: Any) -> None:
    model, ids = build(name), draw_ids(4)
    on_jax = model.with_params(jax.device_put(model.params))
    expected, _ = model.forward(ids)
    assert_close(in_pieces(on_jax, library.asarray(ids), [2]), expected)


@transformers
def test_past_a_full_cache_jax_gives_nan_rather_than_nonsense(name: str) -> None:
    model, ids = build(name), draw_ids(1, 5)
    run = jax.jit(lambda x, s: model.forward(x, s))
    logits, state = run(ids[:, :4], jax.device_put(model.init_state(1, 4)))
    assert np.isfinite(logits).all()
    logits, _ = run(ids[:, 4:], state)
    assert np.isnan(logits).all()


@every
def test_a_later_token_changes_nothing_before_it(name: str) -> None:
    model, ids = build(name), draw_ids(2, 10)
    before, _ = model.forward(ids)
    for at in (1, 5, 9):
        changed = ids.copy()
        changed[:, at] = (changed[:, at] + 1) % V
        after, _ = model.forward(changed)
        np.testing.assert_allclose(after[:, :at], before[:, :at], rtol=1e-6, atol=1e-6)
        assert (np.abs(after[:, at] - before[:, at]).max(-1) > 1e-4).all()


@every
def test_an_early_token_is_remembered(name: str) -> None:
    model, ids = build(name), draw_ids(6)
    other = ids.copy()
    other[0] = (ids[0] + 1) % V
    assert np.abs(model.forward(ids)[0][3] - model.forward(other)[0][3]).max() > 1e-7


@transformers
def test_a_state_grows_past_the_context(name: str) -> None:
    model, ids = build(name), draw_ids(40)  # the context is 16, or of learned positions 48
    assert model.init_state(1).room == model.context
    logits, state = model.forward(ids[:10], model.init_state(1, 16))
    assert state.room == 16
    rest, state = model.forward(ids[10:], state)
    assert state.room == 40
    assert int(state.position[0]) == 40
    assert_close(np.concatenate([logits, rest]), model.forward(ids)[0])


def test_a_cache_grows_by_doubling_and_only_when_it_must() -> None:
    state = build("plain").init_state(1, 8)
    assert with_room(state, 8) is state
    assert with_room(state, 9).room == 16
    assert with_room(state, 100).room == 100
    memory = build("gru").init_state(1, 8)
    assert with_room(memory, 10**9) is memory


@every
def test_the_state_has_a_row_per_sequence(name: str) -> None:
    state = build(name).init_state(3, 5)
    assert {a.shape[0] for a in jax.tree.leaves(state)} == {3}


@every
def test_an_observer_sees_and_replaces_activations(name: str) -> None:
    model, ids = build(name), draw_ids(1, 4)
    names: list[str] = []

    def observe(n: str, x: Any) -> Any:
        names.append(n)
        return x

    view = models.recurrent.nn.View(model.params, observe=observe)
    observed, _ = model.architecture.forward(view, model.config, ids)
    np.testing.assert_array_equal(observed, model.architecture.forward(model.params, model.config, ids)[0])
    assert len(set(names)) == len(names)
    for target in names:
        silenced = models.recurrent.nn.View(
            model.params, observe=lambda n, x, t=target: 0 * x if n == t else x
        )
        assert not np.allclose(model.architecture.forward(silenced, model.config, ids)[0], observed), target


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["gru", "plain"])
@pytest.mark.parametrize(
    "ids",
    [
        [],
        [[]],
        [-1],
        [V],
        [0, 3, V + 5],
        [[0], [-7]],
        [10**30],
        [0.0],
        [True],
        3,
        [[[1]]],
        [[1, 2], [3]],
        ["a"],
    ],
)
def test_what_is_no_batch_of_ids_is_refused(name: str, ids: Any) -> None:
    with pytest.raises(OctavoError):
        build(name).forward(ids)
    on_jax = build(name).with_params(jax.device_put(build(name).params))
    with pytest.raises(OctavoError):
        on_jax.forward(ids)


def test_an_id_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(OctavoError, match="token 11 is outside the vocabulary of 11"):
        build("gru").forward([0, 11])
    with pytest.raises(OctavoError, match="token -2 "):
        build("gru").forward(jax.numpy.array([0, -2]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64])
def test_ids_of_any_integer_type_are_taken(dtype: Any) -> None:
    for name in ("gru", "plain"):
        expected, _ = build(name).forward([1, 2, 3])
        np.testing.assert_array_equal(build(name).forward(np.array([1, 2, 3], dtype))[0], expected)


BAD_SIZES: list[Any] = [0, -1, 2**24 + 1, 10**4000, 8.0, "8", None, True, [8], {}, float("nan")]


@pytest.mark.parametrize("value", BAD_SIZES, ids=[str(v)[:12] for v in BAD_SIZES])
@pytest.mark.parametrize(
    "field", ["vocab_size", "d_model", "n_layers", "n_heads", "d_ff", "context", "d_head"]
)
@pytest.mark.parametrize("model_type", ["plain", "prenorm"])
def test_impossible_sizes_are_refused(model_type: str, field: str, value: Any) -> None:
    if field == "d_head" and value is None:
        assert models.configure("prenorm", {}).d_head == 32
        return
    with pytest.raises(OctavoError, match=field) as caught:
        models.configure(model_type, {field: value})
    assert one_short_line(caught)


@pytest.mark.parametrize(
    ("model_type", "options", "named"),
    [
        ("plain", {"d_model": 10, "n_heads": 3}, "multiple of n_heads"),
        ("plain", {"d_model": 9, "n_heads": 3}, "even"),
        ("prenorm", {"d_model": 9, "n_heads": 3, "d_head": 3}, "even"),
        ("prenorm", {"d_model": 10, "n_heads": 4}, "d_head"),
        ("folio", {"d_model": 12, "n_heads": 4}, "multiple of twice n_heads"),
        ("folio", {"n_heads": 5}, "multiple of twice n_heads"),
        ("folio", {"window": 0}, "window"),
        ("folio", {"bigrams": 2**24 + 1}, "bigrams"),
        ("folio", {"taps": 1001}, "taps"),
        ("folio", {"d_ff": True}, "d_ff"),
        ("plain", {"n_layers": 1001}, "1000"),
        ("plain", {"color": 1}, "no option color"),
        ("plain", {"a\nb" * 1000: 1}, "no option"),
        ("gru", {"vocab_size": 5}, "layers"),
        ("gru", {"vocab_size": 5, "layers": 5}, "layers"),
        ("gru", {"vocab_size": 5, "layers": None}, "layers"),
        ("gru", {"vocab_size": 5, "layers": "gru"}, None),
        ("gru", {"vocab_size": 5, "layers": [5]}, None),
        ("gru", {"vocab_size": 5, "layers": [[]]}, None),
        ("gru", {"vocab_size": 5, "layers": [{}]}, None),
        ("gru", {"vocab_size": 5, "layers": []}, "needs a layer"),
        ("gru", {"vocab_size": 5, "layers": [{"kind": "dense", "units": 5}]}, "needs a layer"),
        ("gru", {"vocab_size": 5, "layers": [{"kind": "gru", "units": 4}]}, "4 logits for a vocabulary of 5"),
        ("gru", {"vocab_size": 5, "layers": [{"kind": "lambda", "units": 4}]}, "lambda"),
        ("gru", {"vocab_size": 5, "layers": [{"kind": ["gru"], "units": 5}]}, None),
        ("gru", {"vocab_size": 5, "layers": [{"kind": "gru", "units": 5, "color": 1}]}, "color"),
        ("gru", {"vocab_size": 5, "layers": [{"kind": "gru", "units": 5, "activation": "magic"}]}, "magic"),
        ("gru", {"vocab_size": 5, "layers": [{"kind": "gru", "units": 5, "activation": []}]}, None),
        ("gru", {"vocab_size": 5, "layers": [{"kind": "gru", "units": 5, "recurrent_activation": 5}]}, "5"),
        ("gru", {"vocab_size": 5, "layers": [{"kind": "gru", "units": 5, "use_bias": "no"}]}, "use_bias"),
        ("gru", {"vocab_size": 5, "layers": [{"kind": "gru", "units": 5, "reset_after": 1}]}, "reset_after"),
        (
            "gru",
            {"vocab_size": 5, "layers": [{"kind": "gru", "units": 5}, {"kind": "embedding", "units": 5}]},
            "only be the first",
        ),
        (
            "gru",
            {"vocab_size": 5, "layers": [{"kind": "activation"}, {"kind": "gru", "units": 5}]},
            "first layer",
        ),
        (
            "rnn",
            {"vocab_size": 5, "layers": [{"kind": "rnn", "units": 5}, {"kind": "activation", "units": 5}]},
            "units",
        ),
    ],
)
def test_impossible_configs_are_refused(model_type: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(OctavoError, match=named) as caught:
        models.configure(model_type, options)
    assert one_short_line(caught)


@pytest.mark.parametrize("value", BAD_SIZES, ids=[str(v)[:12] for v in BAD_SIZES])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm", "embedding", "dense"])
def test_a_layer_needs_units(kind: str, value: Any) -> None:
    with pytest.raises(OctavoError, match="units"):
        models.configure("gru", {"vocab_size": 5, "layers": [{"kind": kind, "units": value}]})


def test_unknown_model_types_and_sizes_are_refused_by_name() -> None:
    with pytest.raises(OctavoError, match="'bert'; there are rnn, gru"):
        models.architecture("bert")
    with pytest.raises(OctavoError, match="no size d_model; it has units, embedding"):
        models.design("gru", 5, d_model=3)
    with pytest.raises(OctavoError, match="no option units"):
        models.design("plain", 5, units=(3,))


def one_short_line(caught: pytest.ExceptionInfo[OctavoError]) -> bool:
    return "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["gru", "plain"])
def test_a_state_of_other_rows_is_refused(name: str) -> None:
    model = build(name)
    _, state = model.forward([1, 2])
    with pytest.raises(OctavoError, match="a state of 1 rows cannot go on with 2"):
        model.forward([[3], [4]], state)


@pytest.mark.parametrize("model_type", ["rnn", "gru", "lstm"])
def test_what_a_recurrent_model_reads_first_is_as_large_as_an_embedding(model_type: str) -> None:
    config = models.design(model_type, 50, units=(40, 40))
    params = models.initial_params(model_type, config, np.random.default_rng(0))
    assert params["layers.0.weight_ih"].std() == pytest.approx(0.5, rel=0.05)  # one column a token
    assert params["layers.1.weight_ih"].std() == pytest.approx((2 / 80) ** 0.5, rel=0.05)  # Glorot's
