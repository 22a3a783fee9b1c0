"""The optimizers, against their equations; against PyTorch in models/test_golden.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from octavo import models, optimizer
from octavo.recipe import Recipe

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("iteration", [optimizer.CLASSIC, optimizer.EXPRESS])
@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8), (3, 8, 24)])
def test_orthogonalised_matrices_have_singular_values_near_one(
    shape: tuple[int, ...], iteration: optimizer.Iteration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "ITERATION", iteration)
    x = RNG.standard_normal(shape).astype(np.float32)
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    found = np.asarray(optimizer.orthogonalised(jnp.asarray(x)))
    sharp = u.swapaxes(-1, -2) @ found @ vt.swapaxes(-1, -2)  # in the basis of x: diagonal
    diagonal = np.diagonal(sharp, axis1=-2, axis2=-1)
    np.testing.assert_allclose(sharp - diagonal[..., None] * np.eye(diagonal.shape[-1]), 0, atol=2e-3)
    assert diagonal.max() < (1.3 if iteration is optimizer.CLASSIC else 1.9)
    assert np.median(diagonal) > 0.7
    assert diagonal.min() > 0.05


def test_a_matrix_alone_or_in_a_stack_is_the_same() -> None:
    stack = jnp.asarray(RNG.standard_normal((3, 8, 12)), jnp.float32)
    together = optimizer.orthogonalised(stack)
    for matrix, expected in zip(stack, together, strict=True):
        np.testing.assert_allclose(optimizer.orthogonalised(matrix), expected, atol=1e-5)
    mixed = {"a": stack[0], "b": stack[1].T, "c": stack[2, :, :8]}
    found = optimizer.together(mixed, optimizer.orthogonalised)
    assert list(found) == list(mixed)
    for name, matrix in mixed.items():
        np.testing.assert_allclose(found[name], optimizer.orthogonalised(matrix), atol=1e-5)


def test_muon_is_momentum_made_orthogonal_and_as_large_as_adam() -> None:
    name = "layers.0.feed_forward.0.weight"
    params = {name: jnp.zeros((8, 4)), "bias": jnp.zeros(4)}
    rule = optimizer.make(Recipe(steps=1, optimizer="muon", weight_decay=0.0, clip=1e9))
    state = rule.init(params)
    momentum = np.zeros((8, 4), np.float32)
    for _ in range(3):
        g = RNG.standard_normal((8, 4)).astype(np.float32)
        updates, state = rule.update({name: jnp.asarray(g), "bias": jnp.ones(4)}, state, params)
        momentum = 0.95 * momentum + 0.05 * g
        ahead = 0.95 * momentum + 0.05 * g
        expected = 0.2 * 8**0.5 * np.asarray(optimizer.orthogonalised(jnp.asarray(ahead)))
        np.testing.assert_allclose(updates[name], expected, atol=1e-5)
    np.testing.assert_allclose(updates["bias"], 1, atol=1e-4)  # Adam's, on a steady gradient


def test_decay_is_of_matrices_and_apart_from_the_gradient() -> None:
    params = {"W_Q": jnp.full((2, 2), 3.0), "b_1": jnp.full(2, 3.0)}
    for name in ("adamw", "muon"):
        rule = optimizer.make(Recipe(steps=1, optimizer=name, weight_decay=0.5))
        updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
        np.testing.assert_allclose(updates["W_Q"], 1.5)
        np.testing.assert_allclose(updates["b_1"], 0)


def test_what_muon_changes_are_the_matrices_between_hidden_vectors() -> None:
    for model_type, module in models.ARCHITECTURES.items():
        table = module.shapes(models.design(model_type, 31))
        hidden = {name for name in table if optimizer.HIDDEN.search(name)}
        others = ("wpe", "gram_", "conv")  # tables, and the taps of convolutions
        square = {
            name
            for name, shape in table.items()
            if len(shape) == 2 and 31 not in shape and not any(other in name for other in others)
        }
        assert hidden == square, model_type


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_table_of_a_recurrent_model_learns_as_fast_as_the_recipe_says(name: str) -> None:
    shapes = {"layers.0.weight_ih": (6, 5), "layers.0.bias_ih": (6,), "layers.1.weight": (5, 2)}
    params = {n: jnp.ones(shape) for n, shape in shapes.items()}
    gradients = {n: jnp.asarray(RNG.standard_normal(shape), jnp.float32) for n, shape in shapes.items()}

    def updates_of(table_lr: float) -> dict[str, jax.Array]:
        rule = optimizer.make(Recipe(steps=1, optimizer=name, table_lr=table_lr, weight_decay=0.0))
        return dict(rule.update(gradients, rule.init(params), params)[0])

    plain, quick = updates_of(1.0), updates_of(8.0)
    assert plain.keys() == quick.keys() == params.keys()
    for n, update in plain.items():
        assert np.abs(update).min() > 0
        np.testing.assert_allclose(quick[n], update * (8 if n == "layers.0.weight_ih" else 1), rtol=1e-6)


def test_the_tables_are_the_first_matrices_of_recurrent_models_and_no_others() -> None:
    found = {}
    for model_type, module in models.ARCHITECTURES.items():
        table = module.shapes(models.design(model_type, 31))
        found[model_type] = [name for name in table if optimizer.TABLE.search(name)]
    recurrent = {kind: found.pop(kind) for kind in ("rnn", "gru", "lstm")}
    assert all(names == ["layers.0.weight_ih"] for names in recurrent.values())
    assert not any(found.values())
    embedded = models.recurrent.shapes(models.design("gru", 31, embedding=7))
    assert [name for name in embedded if optimizer.TABLE.search(name)] == ["layers.0.weight"]
