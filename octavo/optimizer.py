"""The optimizers: AdamW, and Muon for the hidden matrices beside it.

    AdamW (Loshchilov and Hutter 2019):  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
                                         w = w - lr (m^ / (sqrt(v^) + eps) + wd w)
    Muon (Jordan et al. 2024):           m = mu m + (1-mu) g;  u = (1-mu) g + mu m
                                         w = w - lr (0.2 sqrt(max(rows, columns)) NS(u) + wd w)

NS brings the singular values of a matrix near 1 by an iteration in the manner of Newton and Schulz. The
factor makes an update as large as AdamW's usually are (Liu et al. 2025, section 2.2), so that one learning
rate serves both. What Muon changes are the matrices between hidden vectors; tables of the vocabulary or of
positions, gains and biases are AdamW's. Tables whose rows are seldom read, and what scales channels and
heads, learn eight times as fast beside Muon: of all that was tried, nothing made `folio` learn more. A
recurrent model's first matrix is such a table too, and learns `table_lr` times as fast beside either.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from octavo.nn import Array
from octavo.recipe import Recipe

HIDDEN = re.compile(
    r"_proj\.weight$|attention\.w.\.weight$|feed_forward\.\d\.weight$|W_[QKVO12]$|c_(attn|fc|proj)\.weight$"
    r"|weight_hh$|layers\.[1-9]\d*\.weight_ih$"
)
"""The names of the matrices between hidden vectors, in every architecture."""

QUICK = re.compile(r"_embedding\.weight$|\.(conv|scale|skip|mix)$")
"""The names of tables whose rows are read one at a time, and of what scales channels, heads and layers."""

TABLE = re.compile(r"^layers\.0\.weight(_ih)?$")
"""The name of the first matrix of a recurrent model, of which a token reads one column, or one row."""

MOMENTUM, TINY = 0.95, 1e-7
FASTER = 8.0  # how many times as fast as the rest the quick learn beside Muon


class Iteration(NamedTuple):
    """Steps ``X = a X + (b A + c A A) X`` with ``A = X X^T``, on X divided by `margin` times its norm."""

    steps: tuple[tuple[float, float, float], ...]
    margin: float


CLASSIC = Iteration(((3.4445, -4.7750, 2.0315),) * 5, 1.0)
"""Of Jordan et al. 2024."""

EXPRESS = Iteration(
    (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    ),
    1.01,
)
"""The first three steps of the Polar Express (Amsel et al. 2025): to between about 0.2 and 1.9, which is
enough. At equal numbers of training steps the loss was no higher, and a step was a tenth cheaper."""

ITERATION = EXPRESS


def orthogonalised(x: Array) -> Array:
    """Matrices [..., rows, columns] with their singular values brought near 1."""
    import jax.numpy as jnp

    if x.shape[-2] > x.shape[-1]:
        return orthogonalised(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    norm = jnp.maximum(jnp.linalg.norm(x, axis=(-2, -1), keepdims=True), TINY)
    x = x / (ITERATION.margin * norm)
    one = jnp.eye(x.shape[-2], dtype=x.dtype)
    gram, factor = x @ x.swapaxes(-1, -2), None
    for a, b, c in ITERATION.steps:  # X stays the first one times a polynomial of its A, which is square
        polynomial = a * one + b * gram + c * (gram @ gram)
        factor = polynomial if factor is None else factor @ polynomial
        gram = polynomial @ (gram @ polynomial)
    return factor @ x


def together(matrices: dict[str, Array], function: Callable[[Array], Array]) -> dict[str, Array]:
    """`function` of stacks of matrices of one shape, lying and standing ones alike: one product for all."""
    import jax.numpy as jnp

    shapes: dict[tuple[int, ...], list[str]] = {}
    for name, x in matrices.items():
        shapes.setdefault(tuple(sorted(x.shape)), []).append(name)
    done = {}
    for shape, names in shapes.items():
        stack = jnp.stack([matrices[n] if matrices[n].shape == shape else matrices[n].T for n in names])
        for name, x in zip(names, function(stack), strict=True):
            done[name] = x if matrices[name].shape == shape else x.T
    return {name: done[name] for name in matrices}


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
        matrices = {name: u for name, u in ahead.items() if not isinstance(u, optax.MaskedNode)}
        turned = together(matrices, orthogonalised)
        scaled = {name: 0.2 * max(u.shape) ** 0.5 * u for name, u in turned.items()}
        return ahead | scaled, momentum

    return optax.GradientTransformation(init, update)


def kind(name: str) -> str:
    """Which rule a parameter follows beside Muon.

    Examples
    --------
    >>> [kind(name) for name in ("layers.0.attention.wq.weight", "bigram_embedding.weight", "fc_out.weight")]
    ['muon', 'quick', 'adam']
    """
    return "muon" if HIDDEN.search(name) else "quick" if QUICK.search(name) else "adam"


def tables(updates: dict[str, Array], faster: float) -> dict[str, Array]:
    """Updates, those of a recurrent model's table so many times as large."""
    return {name: faster * u if TABLE.search(name) else u for name, u in updates.items()}


def make(recipe: Recipe) -> Any:
    """The recipe's Optax transformation: what it returns, times the learning rate, is to be subtracted."""
    import jax
    import optax

    rule = optax.scale_by_adam(b1=0.9, b2=0.99)
    if recipe.optimizer == "muon":
        adam = optax.scale_by_adam(b1=0.9, b2=0.95)
        rules = {"muon": scale_by_muon(), "quick": optax.chain(adam, optax.scale(FASTER)), "adam": adam}
        rule = optax.partition(rules, lambda params: {name: kind(name) for name in params})
    return optax.chain(
        optax.clip_by_global_norm(recipe.clip),
        rule,
        optax.stateless(lambda updates, _: tables(updates, recipe.table_lr)),
        optax.add_decayed_weights(recipe.weight_decay, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
    )
