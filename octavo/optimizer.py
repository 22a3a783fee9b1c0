"""The optimizers: AdamW, and Muon for the hidden matrices beside it.

    AdamW (Loshchilov and Hutter 2019):  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
                                         w = w - lr (m^ / (sqrt(v^) + eps) + wd w)
    Muon (Jordan et al. 2024):           m = mu m + (1-mu) g;  u = (1-mu) g + mu m
                                         w = w - lr (0.2 sqrt(max(rows, columns)) NS(u) + wd w)

NS brings the singular values of a matrix near 1 by Newton and Schulz's iteration. The factor makes an
update as large as AdamW's usually are (Liu et al. 2025, section 2.2), so that one learning rate serves
both. What Muon changes are the matrices between hidden vectors; tables of the vocabulary or of
positions, gains and biases are AdamW's.
"""

from __future__ import annotations

import re
from typing import Any

from octavo.nn import Array
from octavo.recipe import Recipe

HIDDEN = re.compile(
    r"_proj\.weight$|attention\.w.\.weight$|feed_forward\.\d\.weight$|W_[QKVO12]$|c_(attn|fc|proj)\.weight$"
    r"|weight_hh$|layers\.[1-9]\d*\.weight_ih$"
)
"""The names of the matrices between hidden vectors, in every architecture."""

MOMENTUM, ITERATIONS = 0.95, 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # a, b, c of X = a X + (b A + c A A) X with A = X X^T
TINY = 1e-7


def orthogonalised(x: Array) -> Array:
    """Matrices [..., rows, columns] with their singular values brought to between about 0.7 and 1.2."""
    import jax.numpy as jnp

    a, b, c = QUINTIC
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x
    x = x / jnp.maximum(jnp.linalg.norm(x, axis=(-2, -1), keepdims=True), TINY)
    for _ in range(ITERATIONS):
        gram = x @ x.swapaxes(-1, -2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.swapaxes(-1, -2) if tall else x


def scale_by_muon() -> Any:
    """Muon's update before the learning rate, as an Optax transformation of a dictionary of matrices."""
    import jax
    import jax.numpy as jnp
    import optax

    def init(params: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params)

    def update(gradients: Any, momentum: Any, params: Any = None) -> tuple[Any, Any]:
        momentum = jax.tree.map(lambda m, g: MOMENTUM * m + (1 - MOMENTUM) * g, momentum, gradients)
        ahead = jax.tree.map(lambda m, g: MOMENTUM * m + (1 - MOMENTUM) * g, momentum, gradients)
        scale = {shape: 0.2 * max(shape) ** 0.5 for shape in {u.shape for u in jax.tree.leaves(ahead)}}
        return jax.tree.map(lambda u: scale[u.shape] * orthogonalised(u), ahead), momentum

    return optax.GradientTransformation(init, update)


def make(recipe: Recipe) -> Any:
    """The recipe's Optax transformation: what it returns, times the learning rate, is to be subtracted."""
    import jax
    import optax

    adam = optax.scale_by_adam(b1=0.9, b2=0.99)
    rule = adam
    if recipe.optimizer == "muon":
        rule = optax.partition(
            {"muon": scale_by_muon(), "adam": adam},
            lambda params: {name: "muon" if HIDDEN.search(name) else "adam" for name in params},
        )
    return optax.chain(
        optax.clip_by_global_norm(recipe.clip),
        rule,
        optax.add_decayed_weights(recipe.weight_decay, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
    )
