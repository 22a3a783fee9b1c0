"""The vocabulary: against the numbers the course prints, the definitions, and JAX under `jit`."""

from functools import partial
from typing import Any

import hypothesis.extra.numpy as npst
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import nn
from octavo.errors import OctavoError

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


arrays = npst.arrays(
    st.sampled_from([np.float32, np.float64]),
    npst.array_shapes(min_dims=1, max_dims=4, max_side=4),
    elements=st.floats(-50, 50, width=32),
)

# ---------------------------------------------------------------- probabilities


@given(arrays, st.sampled_from([0.0, 0.25, 1.0, 3.0]))
def test_softmax_is_its_definition_over_the_last_axis_of_any_rank(x: Any, temperature: float) -> None:
    p = nn.softmax(x, temperature)
    assert p.shape == x.shape
    assert p.dtype == x.dtype
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    for row, found in zip(x.reshape(-1, x.shape[-1]), p.reshape(-1, x.shape[-1]), strict=True):
        if temperature == 0:
            weights = (row == row.max()).astype(np.float64)
        else:
            weights = np.exp((row - row.max()).astype(np.float64) / temperature)
        np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-4, atol=1e-30)


@given(arrays, st.floats(-100, 100))
def test_softmax_does_not_depend_on_a_shift(x: Any, shift: float) -> None:
    np.testing.assert_allclose(nn.softmax(x + x.dtype.type(shift)), nn.softmax(x), rtol=2e-3, atol=1e-6)


def test_temperature_zero_spreads_the_mass_evenly_over_the_maxima() -> None:
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [-np.inf, 0.0, -1.0]])
    expected = [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3], [0, 1, 0]]
    np.testing.assert_allclose(nn.softmax(x, 0), expected)
    np.testing.assert_allclose(nn.softmax(jnp.asarray(x), 0), expected, rtol=1e-6)


def test_temperature_is_the_sharpness() -> None:
    x = normal(9)
    likeliest = [nn.softmax(x, t).max() for t in (0, 0.1, 0.5, 1, 2, 100)]
    assert likeliest == sorted(likeliest, reverse=True)
    np.testing.assert_allclose(nn.softmax(x, 1e6), 1 / 9, rtol=1e-4)


@pytest.mark.parametrize("x", [[1000.0, 999.0], [-1e30, -1e30], [3e38, 0.0], [0.0, -3.0]])
@pytest.mark.parametrize("temperature", [0, 1e-30, 0.5, 1.0, 1e30])
def test_softmax_is_stable_for_any_finite_input(x: list[float], temperature: float) -> None:
    p = nn.softmax(np.array(x, np.float32), temperature)
    assert np.isfinite(p).all()
    assert p.dtype == np.float32
    assert p.sum() == pytest.approx(1)
    assert p[0] >= p[1]


def test_softmax_of_minus_infinity_is_zero() -> None:
    for temperature in (0, 0.5, 1):
        p = nn.softmax(np.array([-np.inf, 1.0, 1.0, -np.inf]), temperature)
        np.testing.assert_allclose(p, [0, 0.5, 0.5, 0])


def test_softmax_takes_lists_and_whole_numbers() -> None:
    np.testing.assert_allclose(nn.softmax([0, 0]), [0.5, 0.5])
    np.testing.assert_allclose(nn.softmax(np.array([[1], [2]])), [[1], [1]])


@pytest.mark.parametrize("temperature", [-1, -0.001, float("nan")])
def test_softmax_refuses_impossible_temperatures(temperature: float) -> None:
    with pytest.raises(OctavoError, match="temperature"):
        nn.softmax(np.zeros(2), temperature)


@given(arrays)
def test_log_softmax_is_the_logarithm_of_softmax(x: Any) -> None:
    np.testing.assert_allclose(np.exp(nn.log_softmax(x)), nn.softmax(x), rtol=1e-4, atol=1e-30)
    assert nn.log_softmax(x).dtype == x.dtype


def test_log_softmax_keeps_what_softmax_rounds_to_zero() -> None:
    np.testing.assert_allclose(nn.log_softmax(np.array([0.0, -1000.0, 0.0]))[1], -1000 - np.log(2))


# ---------------------------------------------------------------- positions


def test_sinusoids_are_the_course_s_digits() -> None:
    p = nn.sinusoids(5, 8, interleaved=True)
    row = [0.841470985, 0.540302306, 0.0998334166, 0.995004165, 0.00999983333, 0.99995, 0.000999999833]
    np.testing.assert_allclose(p[1], [*row, 0.9999995], rtol=5e-9)
    np.testing.assert_allclose(p[4, :2], [-0.756802495, -0.653643621], rtol=5e-9)
    np.testing.assert_array_equal(p[0], [0, 1] * 4)


def test_sinusoids_in_halves_are_all_sines_then_all_cosines() -> None:
    halves, interleaved = nn.sinusoids(128, 256), nn.sinusoids(128, 256, interleaved=True)
    np.testing.assert_array_equal(halves[:, :128], interleaved[:, ::2])
    np.testing.assert_array_equal(halves[:, 128:], interleaved[:, 1::2])
    similarity = halves @ halves.T  # the course's picture
    np.testing.assert_allclose(np.diag(similarity), 128)  # sin^2 + cos^2 of 128 frequencies
    np.testing.assert_allclose(similarity[3, 10], similarity[53, 60])  # only the distance counts
    assert similarity[0, 1] > similarity[0, 5] > similarity[0, 20]


def test_sinusoids_take_positions_and_frequencies_of_any_shape() -> None:
    positions = np.array([[7, 0], [3, 100]], np.int32)
    found = nn.sinusoids(positions, nn.frequencies(6))
    np.testing.assert_array_equal(found, nn.sinusoids(101, 6)[positions])
    assert found.dtype == np.float64
    compiled = jax.jit(lambda p: nn.sinusoids(p, 6, interleaved=True))(positions)
    np.testing.assert_allclose(compiled, nn.sinusoids(positions, 6, interleaved=True), atol=1e-5)


def test_frequencies_fall_from_one_towards_one_over_the_base() -> None:
    np.testing.assert_allclose(nn.frequencies(4), [1, 0.01])
    np.testing.assert_allclose(nn.frequencies(4, base=16), [1, 0.25])


@pytest.mark.parametrize("width", [1, 7])
def test_an_odd_width_is_refused(width: int) -> None:
    with pytest.raises(OctavoError, match=f"even width, not {width}"):
        nn.sinusoids(3, width)


@pytest.mark.parametrize("base", [10000.0, 100.0])
def test_rotate_turns_pairs_of_columns_as_complex_numbers(base: float) -> None:
    x, positions = normal(2, 3, 4, 6), np.array([[0, 1, 2], [7, 300, 301]], np.int32)
    found = nn.rotate(x, nn.rotary(positions, nn.frequencies(6, base), like=x))
    assert found.dtype == np.float32
    angles = positions[..., None, None] * base ** (-np.arange(3) / 3)
    z = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * angles)
    np.testing.assert_allclose(found, np.concatenate([z.real, z.imag], -1), atol=1e-4)
    np.testing.assert_array_equal(found[0, 0], x[0, 0])  # position 0 turns nothing
    compiled = jax.jit(lambda x, at: nn.rotate(x, nn.rotary(at, nn.frequencies(6, base), like=x)))(
        x, positions
    )
    assert compiled.dtype == np.float32
    np.testing.assert_allclose(compiled, found, atol=1e-5)


def test_only_the_distance_of_rotated_queries_and_keys_counts() -> None:
    q, k = normal(1, 1, 1, 8), normal(1, 1, 1, 8)

    def score(at: int, seen: int) -> float:
        turns = (nn.rotary(np.array([[m]]), nn.frequencies(8), like=q) for m in (at, seen))
        a, b = (nn.rotate(x, turn) for x, turn in zip((q, k), turns, strict=True))
        return float((a * b).sum())

    assert score(5, 3) == pytest.approx(score(105, 103), abs=1e-4)
    assert score(5, 3) != pytest.approx(score(5, 2), abs=1e-2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rotary_has_the_dtype_of_what_it_turns(dtype: Any) -> None:
    x = normal(1, 2, 1, 4).astype(dtype)
    turn = nn.rotary(np.arange(2)[None], nn.frequencies(4), like=x)
    assert {w.shape for w in turn} == {(1, 2, 1, 2)}
    assert {w.dtype for w in turn} == {np.dtype(dtype)}
    assert nn.rotate(x, turn).dtype == dtype


def test_learned_positions_are_rows_and_end_with_the_table() -> None:
    weight, positions = normal(5, 3), np.array([[0, 4], [2, 3]])
    np.testing.assert_array_equal(nn.embed_positions(positions, weight), weight[positions])
    np.testing.assert_array_equal(jax.jit(nn.embed_positions)(positions, weight), weight[positions])
    with pytest.raises(OctavoError, match="learned 5 positions; a text of 8 tokens"):
        nn.embed_positions(np.array([[1, 2], [6, 7]]), weight)
    beyond = np.asarray(jax.jit(nn.embed_positions)(np.array([[4, 5]]), weight))
    np.testing.assert_array_equal(beyond[0, 0], weight[4])
    assert np.isnan(beyond[0, 1]).all()


# ---------------------------------------------------------------- linear maps, norms, activations


def test_linear_and_embed_are_their_equations() -> None:
    x, w, b = normal(2, 3, 4), normal(5, 4), normal(5)
    expected = np.array(
        [[[sum(w[o, i] * v[i] for i in range(4)) + b[o] for o in range(5)] for v in r] for r in x]
    )
    np.testing.assert_allclose(nn.linear(x, w, b), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(nn.linear(x, w), expected - b, rtol=1e-4, atol=1e-5)
    ids = np.array([[4, 0], [2, 2]])
    np.testing.assert_array_equal(nn.embed(ids, w), w[ids])
    np.testing.assert_array_equal(jax.jit(nn.embed)(ids, w), w[ids])


def test_rms_norm_is_its_equation() -> None:
    x, gain = normal(3, 8), normal(8)
    expected = np.stack([row / np.sqrt(np.mean(row.astype(np.float64) ** 2) + 1e-3) for row in x])
    np.testing.assert_allclose(nn.rms_norm(x, 1e-3), expected, rtol=1e-5)
    np.testing.assert_allclose(nn.rms_norm(x, 1e-3, gain), expected * gain, rtol=1e-5)
    assert nn.rms_norm(x, 1e-9).dtype == np.float32
    np.testing.assert_array_equal(nn.rms_norm(np.zeros((1, 4), np.float32), 1e-9), np.zeros((1, 4)))


def test_layer_norm_is_its_equation() -> None:
    x, gain, bias = 3 + 2 * normal(3, 8), normal(8), normal(8)
    rows = x.astype(np.float64)
    centred = rows - rows.mean(-1, keepdims=True)
    expected = centred / np.sqrt(rows.var(-1, keepdims=True) + 1e-3) * gain + bias
    found = nn.layer_norm(x, 1e-3, gain, bias)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(jax.jit(nn.layer_norm)(x, 1e-3, gain, bias), found, rtol=1e-5, atol=1e-6)


def test_activations_are_their_equations() -> None:
    x = np.concatenate([np.linspace(-6, 6, 25), [-1000.0, 1000.0]])
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(nn.sigmoid(x), 1 / (1 + np.exp(-x)), rtol=1e-9, atol=1e-15)
    cubic = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    np.testing.assert_allclose(nn.gelu_tanh(x), 0.5 * x * (1 + np.tanh(cubic)), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(nn.relu(x), np.where(x > 0, x, 0))
    np.testing.assert_array_equal(nn.tanh(x), np.tanh(x))
    np.testing.assert_allclose(nn.soft_cap(x, 15.0), 15 * np.tanh(x / 15), rtol=1e-12)


@pytest.mark.parametrize("function", [nn.sigmoid, nn.gelu_tanh, nn.relu, nn.tanh, nn.softmax, nn.log_softmax])
def test_activations_keep_float32_and_agree_with_jax(function: Any) -> None:
    x = normal(4, 7)
    assert function(x).dtype == np.float32
    np.testing.assert_allclose(jax.jit(function)(x), function(x), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- attention and its cache


def naive_attention(q: Any, k: Any, v: Any, positions: Any, window: int = 10**9) -> Any:
    """One query, one head, one seen position at a time, in float64."""
    batch, time, heads, width = q.shape
    out = np.zeros((batch, time, heads * width))
    for b, t, h in np.ndindex(batch, time, heads):
        seen = range(max(positions[b, t] + 1 - window, 0), positions[b, t] + 1)
        scores = [float(q[b, t, h] @ k[b, s, h]) / width**0.5 for s in seen]
        weights = np.exp(np.array(scores) - max(scores))
        weights /= weights.sum()
        out[b, t, h * width : (h + 1) * width] = sum(
            w * v[b, s, h] for s, w in zip(seen, weights, strict=True)
        )
    return out


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("time", [1, 3])
def test_a_run_of_heads_shares_the_keys_and_values_of_its_group(groups: int, time: int) -> None:
    q, k, v = normal(2, time, 6, 4), normal(2, 9, groups, 4), normal(2, 9, groups, 4)
    positions = np.array([[4], [0]], np.int32) + np.arange(time, dtype=np.int32)
    repeated = (np.repeat(a, 6 // groups, axis=2) for a in (k, v))
    expected = naive_attention(q, *repeated, positions)
    found = nn.attention(q, k, v, positions, show_nothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    alone = nn.attention(q[:1], k[:1], v[:1], positions[:1], show_nothing)
    np.testing.assert_allclose(alone, expected[:1], rtol=1e-5, atol=1e-6)
    compiled = jax.jit(lambda *x: nn.attention(*x, show_nothing))(q, k, v, positions)
    np.testing.assert_allclose(compiled, expected, rtol=1e-5, atol=1e-6)
    shapes = []
    nn.attention(q, k, v, positions, lambda name, x: shapes.append(x.shape) or x)
    assert shapes == [(2, 6, time, positions.max() + 1)]


def show_nothing(name: str, x: Any) -> Any:
    return x


def test_attention_is_the_naive_loop_with_rows_of_different_ages() -> None:
    q, k, v = normal(2, 3, 2, 4), normal(2, 9, 2, 4), normal(2, 9, 2, 4)
    positions = np.array([[4, 5, 6], [0, 1, 2]], np.int32)
    found = nn.attention(q, k, v, positions, show_nothing)
    np.testing.assert_allclose(found, naive_attention(q, k, v, positions), rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    compiled = jax.jit(lambda *x: nn.attention(*x, show_nothing))(q, k, v, positions)
    np.testing.assert_allclose(compiled, found, rtol=1e-5, atol=1e-6)


def test_attention_shows_its_pattern_and_uses_what_is_put_in_its_place() -> None:
    q, k, v = normal(1, 3, 2, 4), normal(1, 3, 2, 4), normal(1, 3, 2, 4)
    positions = np.arange(3)[None]
    seen = {}

    def only_first(name: str, pattern: Any) -> Any:
        seen[name] = pattern
        return np.where(np.arange(3) == 0, np.ones_like(pattern), 0)

    found = nn.attention(q, k, v, positions, only_first)
    np.testing.assert_allclose(seen["pattern"].sum(-1), 1, rtol=1e-6)
    assert seen["pattern"].shape == (1, 2, 3, 3)
    np.testing.assert_array_equal(np.triu(seen["pattern"], 1), 0)
    np.testing.assert_allclose(found, np.broadcast_to(v[:, :1].reshape(1, 1, -1), found.shape))


@pytest.mark.parametrize("window", [1, 2, 4, 64])
@pytest.mark.parametrize("time", [1, 3])
def test_a_window_hides_all_but_the_last_positions(window: int, time: int) -> None:
    q, k, v = normal(2, time, 2, 4), normal(2, 9, 2, 4), normal(2, 9, 2, 4)
    for ages in ([4, 0], [6, 5]):
        positions = np.array(ages, np.int32)[:, None] + np.arange(time, dtype=np.int32)
        expected = naive_attention(q, k, v, positions, window)
        shapes: list[Any] = []
        found = nn.attention(q, k, v, positions, lambda _, x, to=shapes: to.append(x.shape) or x, window)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        seen = positions.max() + 1 - max(positions.min() + 1 - window, 0)
        assert shapes == [(2, 2, time, seen)]
        for row in (0, 1):
            one = slice(row, row + 1)
            alone = nn.attention(q[one], k[one], v[one], positions[one], show_nothing, window)
            np.testing.assert_allclose(alone, expected[one], rtol=1e-5, atol=1e-6)
        compiled = jax.jit(lambda *x: nn.attention(*x, show_nothing, window))(q, k, v, positions)
        np.testing.assert_allclose(compiled, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("time", "window"), [(1, 1), (5, 1), (4, 2), (7, 3), (8, 8), (9, 8), (20, 8), (5, 9)]
)
def test_local_attention_in_blocks_is_that_of_the_mask(time: int, window: int) -> None:
    q, k, v = normal(2, time, 3, 4), normal(2, time, 3, 4), normal(2, time, 3, 4)
    positions = np.broadcast_to(np.arange(time, dtype=np.int32), (2, time))
    expected = naive_attention(q, k, v, positions, window)
    shapes: list[Any] = []

    def note(name: str, x: Any) -> Any:
        shapes.append(x.shape)
        return x

    found = nn.local_attention(q, k, v, positions, note, window)
    assert shapes == [(2, 3, time, time)], "NumPy shows the pattern"
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    compiled = jax.jit(lambda *x: nn.local_attention(*x, positions, note, window))(q, k, v)
    assert len(shapes) == (2 if time <= window else 1), "JAX shows it unless it computes in blocks"
    np.testing.assert_allclose(compiled, expected, rtol=1e-5, atol=1e-6)

    def learn(attend: Any) -> Any:
        def loss(x: Any) -> Any:
            return jnp.sum(attend(*x, jnp.asarray(positions), show_nothing, window) ** 2)

        return jax.jit(jax.grad(loss))((q, k, v))

    for blocked, masked in zip(learn(nn.local_attention), learn(nn.attention), strict=True):
        np.testing.assert_allclose(blocked, masked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_local_attention_keeps_its_dtype(dtype: Any) -> None:
    q, k, v = (jnp.asarray(normal(1, 6, 2, 4), dtype) for _ in range(3))
    assert nn.local_attention(q, k, v, jnp.arange(6)[None], show_nothing, 2).dtype == dtype


def test_split_heads_gives_each_head_a_run_of_columns() -> None:
    x = np.arange(12).reshape(1, 2, 6)
    np.testing.assert_array_equal(nn.split_heads(x, 3)[0, 1], [[6, 7], [8, 9], [10, 11]])


@pytest.mark.parametrize("library", [np, jnp])
def test_extend_writes_each_row_at_its_own_positions(library: Any) -> None:
    slots, new = library.zeros((2, 5, 1, 2)), library.asarray(normal(2, 2, 1, 2))
    positions = library.asarray([[0, 1], [3, 4]])
    found = np.array(nn.extend(slots, new, positions))
    np.testing.assert_array_equal(found[0, :2], new[0])
    np.testing.assert_array_equal(found[1, 3:], new[1])
    assert not found[0, 2:].any()
    assert not found[1, :3].any()
    assert nn.extend(None, new, positions) is new


def test_numpy_refuses_to_write_past_the_end_of_a_cache() -> None:
    with pytest.raises(IndexError):
        nn.extend(np.zeros((1, 2, 1, 1)), np.ones((1, 1, 1, 1)), np.array([[2]]))


@pytest.mark.parametrize("first", [2, 3, 7])
def test_a_full_cache_is_poisoned_under_jit_and_other_rows_are_not(first: int) -> None:
    slots, new = jnp.ones((2, 3, 1, 1)), jnp.full((2, 2, 1, 1), 5.0)
    found = np.array(jax.jit(nn.extend)(slots, new, jnp.array([[first, first + 1], [0, 1]])))[..., 0, 0]
    assert np.isnan(found[0, 2])
    np.testing.assert_array_equal(found[1], [5, 5, 1])


@pytest.mark.parametrize("library", [np, jnp])
@pytest.mark.parametrize("ids_from", [np, jnp])
def test_grow_keeps_what_is_there_and_its_library(library: Any, ids_from: Any) -> None:
    keys = tuple(library.asarray(normal(2, 3, 2, 4)) for _ in range(2))
    values = tuple(library.asarray(normal(2, 3, 2, 4)) for _ in range(2))
    recent = (library.asarray(normal(2, 1)),)
    grown = nn.grow(nn.Cache(keys, values, ids_from.asarray([3, 1]), recent), 7)
    assert grown.room == 7
    assert grown.recent is recent
    for before, after in zip((*keys, *values), (*grown.keys, *grown.values), strict=True):
        assert isinstance(after, type(before))
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after[:, :3], before)
        assert not np.any(after[:, 3:])
    np.testing.assert_array_equal(grown.position, [3, 1])


def test_token_positions_follow_what_each_row_has_seen() -> None:
    tokens = np.zeros((2, 3), np.int64)
    np.testing.assert_array_equal(nn.token_positions(tokens, None), [[0, 1, 2], [0, 1, 2]])
    cache = nn.empty_cache(1, 2, 9, 1, 1, np.zeros(1, np.float32))
    cache = cache._replace(position=np.array([4, 0], np.int32))
    found = nn.token_positions(tokens, cache)
    np.testing.assert_array_equal(found, [[4, 5, 6], [0, 1, 2]])
    assert found.dtype == np.int32


# ---------------------------------------------------------------- short memories


def test_follow_puts_what_was_before_in_front() -> None:
    x, past = normal(2, 3, 4), normal(2, 2, 4)
    np.testing.assert_array_equal(nn.follow(past, x, 2), np.concatenate([past, x], 1))
    np.testing.assert_array_equal(nn.follow(None, x, 2), np.concatenate([0 * past, x], 1))
    ids = np.array([[3, 4]], np.int32)
    assert nn.follow(None, ids, 1).tolist() == [[0, 3, 4]]
    assert nn.follow(None, ids, 1).dtype == np.int32


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_causal_conv_is_its_sum_and_may_be_cut_anywhere(taps: int, dtype: Any) -> None:
    x, weight = normal(2, 6, 3).astype(dtype), normal(taps, 3).astype(dtype)
    expected = np.zeros_like(x)
    for t in range(6):
        for j in range(min(taps, t + 1)):
            expected[:, t] += weight[j] * x[:, t - j]
    found, past = nn.causal_conv(x, weight)
    assert found.dtype == past.dtype == dtype
    assert past.shape == (2, taps - 1, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for cut in range(1, 6):
        first, middle = nn.causal_conv(x[:, :cut], weight)
        second, last = nn.causal_conv(x[:, cut:], weight, middle)
        np.testing.assert_allclose(np.concatenate([first, second], 1), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(last, past)
    compiled, kept = jax.jit(nn.causal_conv)(x.astype(np.float32), weight.astype(np.float32))
    np.testing.assert_allclose(compiled, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kept, past, rtol=1e-6)


# ---------------------------------------------------------------- recurrence, views, first values


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(0, 6))
def test_scan_is_a_loop_and_can_be_cut_anywhere(time: int, cut: int) -> None:
    xs, start = normal(2, time, 3), (normal(2, 3), normal(2, 3))

    def step(state: Any, x: Any) -> Any:
        h, m = state
        return 0.5 * h + x, m + h

    outputs, state = nn.scan(step, start, xs)
    h, m = start
    for t in range(time):
        h, m = 0.5 * h + xs[:, t], m + h
        np.testing.assert_allclose(outputs[:, t], h, rtol=1e-6)
    np.testing.assert_allclose(state[1], m, rtol=1e-6)
    compiled, last = jax.jit(lambda s, x: nn.scan(step, s, x))(start, xs)
    np.testing.assert_allclose(compiled, outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last[1], state[1], rtol=1e-5, atol=1e-6)
    if 0 < cut < time:
        _, middle = nn.scan(step, start, xs[:, :cut])
        np.testing.assert_array_equal(nn.scan(step, middle, xs[:, cut:])[0], outputs[:, cut:])


def coupled(state: Any, x: Any, u: Any) -> Any:
    """A step in which the product counts beyond its sum with the input."""
    h, m = state
    return h * 0.5 + x * u, m + u


@pytest.mark.parametrize("biased", [True, False])
def test_recur_is_a_scan_whose_step_has_the_product_of_the_weight(biased: bool) -> None:
    xs, start, weight = normal(2, 5, 3), (normal(2, 3), normal(2, 3)), normal(3, 3)
    bias = normal(3) if biased else None

    def whole(state: Any, x: Any) -> Any:
        return coupled(state, x, nn.linear(state[0], weight, bias))

    expected, last = nn.scan(whole, start, xs)
    found, end = nn.recur(coupled, weight, bias, start, xs)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(end[1], last[1])
    compiled, kept = jax.jit(partial(nn.recur, coupled))(weight, bias, start, xs)
    np.testing.assert_allclose(compiled, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept[1], last[1], rtol=1e-4, atol=1e-5)
    first, middle = nn.recur(coupled, weight, bias, start, xs[:, :1])
    rest, _ = nn.recur(coupled, weight, bias, middle, xs[:, 1:])
    np.testing.assert_array_equal(np.concatenate([first, rest], 1), expected)


@pytest.mark.parametrize("biased", [True, False])
def test_recur_has_the_gradients_of_the_scan(biased: bool) -> None:
    xs, start, weight = normal(2, 5, 3), (normal(2, 3), normal(2, 3)), normal(3, 3)
    given = (weight, normal(3) if biased else None, start, xs)

    def by_scan(weight: Any, bias: Any, state: Any, xs: Any) -> Any:
        def whole(state: Any, x: Any) -> Any:
            return coupled(state, x, nn.linear(state[0], weight, bias))

        return nn.scan(whole, state, xs)

    def total(run: Any, *given: Any) -> Any:
        outputs, (h, m) = run(*given)
        return (outputs**2).sum() + (h * m).sum()

    places = (0, 1, 2, 3) if biased else (0, 2, 3)
    expected = jax.grad(partial(total, by_scan), places)(*given)
    found = jax.jit(jax.grad(partial(total, partial(nn.recur, coupled)), places))(*given)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(y).max() > 0.01
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def test_a_view_reads_below_its_prefix_and_taps_by_the_whole_name() -> None:
    shown = []
    p = nn.View({"a.0.w": 1, "a.1.w": 2}, observe=lambda name, x: shown.append(name) or 10 * x)
    assert [layer["w"] for layer in p.each("a.", 2)] == [1, 2]
    assert p.at("a.0.").get("bias") is None
    assert p.at("a.").at("1.").tap("out", 3) == 30
    assert shown == ["a.1.out"]
    assert nn.view({"w": 1}).tap("out", 3) == 3
    x, weight, bias = normal(2, 3), normal(4, 3), normal(4)
    with_bias = nn.view({"a.q.weight": weight, "a.q.bias": bias}).at("a.")
    np.testing.assert_array_equal(with_bias.linear("q", x), x @ weight.T + bias)
    np.testing.assert_array_equal(nn.view({"q.weight": weight}).linear("q", x), x @ weight.T)
    assert nn.view(p) is p


def test_first_values_are_float32_and_follow_the_generator() -> None:
    draw = nn.normal(np.random.default_rng(3), (400, 50), 0.1)
    assert draw.dtype == nn.zeros((2,)).dtype == nn.ones((2,)).dtype == np.float32
    np.testing.assert_array_equal(nn.ones((2, 3)), np.ones((2, 3)))
    assert draw.std() == pytest.approx(0.1, rel=0.05)
    np.testing.assert_array_equal(draw, nn.normal(np.random.default_rng(3), (400, 50), 0.1))
    blocks = nn.orthogonal(np.random.default_rng(0), (12, 4))
    assert blocks.dtype == np.float32
    for block in blocks.reshape(3, 4, 4):
        np.testing.assert_allclose(block @ block.T, np.eye(4), atol=1e-6)


def test_sizes_of_numpy_are_sizes() -> None:
    np.testing.assert_array_equal(nn.sinusoids(np.int64(3), np.int64(8)), nn.sinusoids(3, 8))


@pytest.mark.parametrize("temperature", [1e-31, 1e-300])
def test_a_temperature_that_float32_cannot_divide_by_is_zero(temperature: float) -> None:
    np.testing.assert_array_equal(nn.softmax(np.array([1.0, 2.0], np.float32), temperature), [0.0, 1.0])
