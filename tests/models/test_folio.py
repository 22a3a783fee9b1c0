"""Octavo's own architecture: what no other has."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from octavo import models, nn
from octavo.models import folio

from ..conftest import V, build


def logits_in_blocks(model: Any, ids: Any) -> Any:
    """As training computes them: JAX compiles the whole text, without a state."""
    return jax.jit(lambda p, x: folio.forward(p, model.config, x)[0])(model.params, ids)


@pytest.mark.parametrize("name", ["folio", "folio-hashed", "folio-wide"])
@pytest.mark.parametrize("time", [4, 5, 11])
def test_training_computes_what_reading_does(name: str, time: int) -> None:
    model = build(name)
    ids = np.random.default_rng(2).integers(0, V, (2, time))
    np.testing.assert_allclose(logits_in_blocks(model, ids), model.forward(ids)[0], rtol=2e-4, atol=2e-5)


def test_bfloat16_stays_bfloat16() -> None:
    model = build("folio")
    half = model.with_params({n: jnp.asarray(p, jnp.bfloat16) for n, p in model.params.items()})
    ids = np.random.default_rng(2).integers(0, V, (2, 11))
    blocked = logits_in_blocks(half, ids)
    logits, state = jax.jit(lambda p, x: half.with_params(p).forward(x))(half.params, ids)
    assert blocked.dtype == logits.dtype == jnp.bfloat16
    dtypes = {a.dtype for a in jax.tree.leaves(state) if jnp.issubdtype(a.dtype, jnp.floating)}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}


def test_a_new_model_predicts_the_uniform_distribution_and_every_branch_learns() -> None:
    config = models.design("folio", V, d_model=8, d_ff=12, n_heads=2, n_layers=1)
    params = models.initial_params("folio", config, np.random.default_rng(0))
    ids = np.random.default_rng(2).integers(0, V, (1, 9))
    assert not folio.forward(params, config, ids)[0].any()
    assert {n for n, p in params.items() if p.any()} == {
        "word_embedding.weight",
        "layers.0.attention.wq.weight",
        "layers.0.attention.wk.weight",
        "layers.0.attention.wv.weight",
        "layers.0.attention.scale",
        "layers.0.feed_forward.0.weight",
    }


def test_logits_lie_within_the_cap() -> None:
    model = build("folio")
    loud = model.with_params({**model.params, "fc_out.weight": 100 * model.params["fc_out.weight"]})
    logits, _ = loud.forward([1, 2, 3])
    assert 14 < np.abs(logits).max() <= 15


@pytest.mark.parametrize(("name", "n"), [("bigrams", 2), ("trigrams", 3)])
def test_ngrams_have_rows_of_their_own_while_the_table_is_large_enough(name: str, n: int) -> None:
    every = np.unravel_index(np.arange(V**n, dtype=np.int32), (V,) * n)
    table = name.removesuffix("s") + "_embedding.weight"
    own = models.design("folio", V, **{name: V**n})
    assert folio.shapes(own)[table][0] == V**n
    assert sorted(folio.ngrams(own, V**n, *every)) == list(range(V**n))
    shared = models.design("folio", V, **{name: V**n - 1})
    assert folio.shapes(shared)[table][0] == V**n - 1
    rows = folio.ngrams(shared, V**n - 1, *every)
    assert rows.max() < V**n - 1
    assert len(set(rows.tolist())) > V**n / 2


def test_the_hash_of_a_large_vocabulary_is_the_same_everywhere() -> None:
    config = models.design("folio", 2**24)
    rng = np.random.default_rng(0)
    three = [rng.integers(0, 2**24, 50).astype(np.int32) for _ in range(3)]
    tokens, last, before = (a.astype(np.uint64) for a in three)
    expected = ((tokens * 31337 + last) * 31337 + before) % 2**32 % 1000
    np.testing.assert_array_equal(folio.ngrams(config, 1000, *three), expected)
    on_jax = jax.jit(lambda *ids: folio.ngrams(config, 1000, *ids))(*three)
    np.testing.assert_array_equal(on_jax, expected)


@pytest.mark.parametrize(("name", "row"), [("bigram", 3 * V), ("trigram", 3 * V * V)])
def test_the_first_token_follows_token_zero(name: str, row: int) -> None:
    model = build("folio")
    table = model.params[f"{name}_embedding.weight"]
    only = np.zeros_like(table)
    only[row] = table[row]  # token 3 after token 0, or after two of them
    alone = model.with_params({**model.params, f"{name}_embedding.weight": only})
    np.testing.assert_array_equal(alone.forward([3])[0], model.forward([3])[0])


def test_one_new_token_reads_its_window_only() -> None:
    model, seen = build("folio"), []

    def note(name: str, x: Any) -> Any:
        if name.endswith("pattern"):
            seen.append(x.shape)
        return x

    ids = np.random.default_rng(2).integers(0, V, (1, 12))
    _, state = model.forward(ids)
    watched = nn.View(model.params, observe=note)
    folio.forward(watched, model.config, ids[:, :1], nn.grow(state, 13))
    assert seen == [(1, 2, 1, 5)] * 2
