"""Logits, losses, gradients and training against PyTorch (tests/golden/make_torch.py made the numbers)."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from octavo import models, optimizer
from octavo.formats import npz
from octavo.learn import Learner, surprise
from octavo.model import Model
from octavo.recipe import Recipe

from ..conftest import GOLDEN, golden

HEADS = {"plain": {"n_heads": 2, "context": 16}, "prenorm": {"context": 16}}
SIZES = {
    "llama": {
        "vocab_size": 11,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
    },
    "gpt2": {"vocab_size": 11, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 12, "n_positions": 16},
    "folio": {
        "vocab_size": 11,
        "d_model": 8,
        "n_layers": 2,
        "n_heads": 2,
        "d_ff": 12,
        "context": 16,
        "window": 3,
        "bigrams": 40,
        "trigrams": 30,
    },
}
NAMES = ["rnn", "gru", "gru_before", "lstm", "plain", "prenorm", "llama", "gpt2", "folio"]
every = pytest.mark.parametrize("name", NAMES)


def in_octavo_s_layout(arrays: dict[str, Any]) -> dict[str, Any]:
    """The course's archives stand (in, out), with an axis of heads in the end; written out by hand."""
    laid_out = {}
    for name, array in arrays.items():
        kind = name.split(".")[-1]
        if kind in ("W_Q", "W_K", "W_V"):
            laid_out[name] = np.concatenate([array[:, :, head].T for head in range(array.shape[2])])
        else:
            laid_out[name] = array.T if kind in ("W_O", "W_1", "W_2") else array
    return laid_out


def model_of(name: str) -> Model:
    if name in HEADS:
        model_type, config, params = npz.read(GOLDEN / f"torch_{name}.npz", **HEADS[name])
        return Model(model_type, config, params)
    if name in SIZES:
        return Model(name, models.configure(name, SIZES[name]), golden(f"torch_{name}"))
    kind = name.split("_")[0]
    layers = [{"kind": kind, "units": u, "reset_after": name == "gru"} for u in (5, 4)]
    config = models.configure(kind, {"vocab_size": 11, "layers": [*layers, {"kind": "dense", "units": 11}]})
    return Model(kind, config, golden(f"torch_{name}"))


def under(expected: dict[str, Any], prefix: str) -> dict[str, Any]:
    return in_octavo_s_layout({n[len(prefix) :]: a for n, a in expected.items() if n.startswith(prefix)})


@every
def test_logits_are_those_of_torch(name: str) -> None:
    model, expected = model_of(name), golden(f"torch_{name}_expected")
    logits, _ = model.forward(expected["windows"][0, :, :-1])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-4, atol=1e-5)


def test_the_number_of_heads_matters() -> None:
    model_type, config, params = npz.read(GOLDEN / "torch_plain.npz", n_heads=4)
    expected = golden("torch_plain_expected")
    logits, _ = Model(model_type, config, params).forward(expected["windows"][0, :, :-1])
    assert not np.allclose(logits, expected["logits"], atol=1e-3)


@every
def test_the_loss_and_every_gradient_are_those_of_torch(name: str) -> None:
    model, expected = model_of(name), golden(f"torch_{name}_expected")
    windows = expected["windows"][0]
    fixed = {n: p for n, p in model.params.items() if n in model.architecture.FIXED}
    trained = {n: p for n, p in model.params.items() if n not in fixed}
    loss, gradients = jax.jit(jax.value_and_grad(lambda p: surprise(model, p | fixed, windows).mean()))(
        trained
    )
    assert float(loss) == pytest.approx(float(expected["loss"]), rel=1e-5)
    torch_s = under(expected, "gradient/")
    assert gradients.keys() == torch_s.keys()
    for parameter, gradient in gradients.items():
        np.testing.assert_allclose(gradient, torch_s[parameter], rtol=1e-4, atol=2e-6, err_msg=parameter)


@pytest.mark.parametrize(
    "name", ["rnn", "plain", "prenorm", "llama", "gpt2", "folio"]
)  # compiling takes seconds
def test_three_steps_of_training_are_those_of_torch(name: str) -> None:
    model, expected = model_of(name), golden(f"torch_{name}_expected")
    recipe = Recipe(steps=3, dropout=0, lr=0.01, weight_decay=0.1, clip=0.05)
    learner = Learner(model, recipe)
    state, losses = learner.begin(), []
    for count, windows in enumerate(expected["windows"], 1):
        state, loss = learner._step(state, learner.fixed, windows[None], np.int32(count), np.float32(0.01))
        losses.append(float(loss))
    params = state.params
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-4)
    torch_s = under(expected, "trained/")
    assert params.keys() == torch_s.keys()
    for parameter, value in params.items():
        moved = np.abs(torch_s[parameter] - model.params[parameter]).max()
        assert moved > 0.01, parameter  # the bound below means something
        value, other = np.array(value), torch_s[parameter].copy()
        if parameter.endswith(
            "c_attn.bias"
        ):  # softmax does not see that of the keys, which moves by rounding
            value[8:16] = other[8:16] = 0
        np.testing.assert_allclose(value, other, atol=3e-4, err_msg=parameter)


@every
def test_two_steps_of_muon_are_those_of_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "ITERATION", optimizer.CLASSIC)  # PyTorch's
    model, expected = model_of(name), golden(f"torch_{name}_expected")
    trained = golden(f"torch_{name}_muon")
    rule = optimizer.make(Recipe(steps=2, optimizer="muon", weight_decay=0.1, clip=0.05))
    params = {n: jax.numpy.asarray(model.params[n]) for n in trained}
    gradients = under(expected, "gradient/")
    state = rule.init(params)
    for step in range(2):
        signs = {n: np.where(np.arange(g.shape[-1]) % 2, 1, -1 if step else 1) for n, g in gradients.items()}
        given = {n: jax.numpy.asarray(g * signs[n], "float32") for n, g in gradients.items()}
        updates, state = rule.update(given, state, params)
        params = jax.tree.map(lambda p, u: p - 0.01 * u, params, updates)
    for parameter, value in params.items():
        value, other = np.array(value), trained[parameter].copy()
        if parameter.endswith("c_attn.bias"):  # softmax does not see that of the keys: AdamW moves noise
            value[8:16] = other[8:16] = 0
        assert np.abs(other - model.params[parameter]).max() > 0.001, parameter
        np.testing.assert_allclose(value, other, atol=3e-5, err_msg=parameter)


def test_the_golden_files_are_small() -> None:
    assert all(file.stat().st_size < 32_000 for file in Path(GOLDEN).glob("torch_*"))
