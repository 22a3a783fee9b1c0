"""What one training step is, and a run of them, with JAX.

The objective is the mean cross-entropy of the next token over windows of text. Each step draws a batch
of random windows (a pure function of the seed and the step) and takes one step of AdamW (Loshchilov and
Hutter 2019) on gradients clipped to a global norm (Pascanu et al. 2013). The learning rate warms up
linearly and decays along half a cosine, both as shares of the budget, be that a number of steps, of
epochs or of minutes. Dropout (Srivastava et al. 2014) sits on the taps of the architectures, which know
nothing of it; in recurrent layers it is joined by DropConnect on the recurrent matrix, without which they
overfit a novel within minutes.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from octavo import data, nn
from octavo.errors import OctavoError
from octavo.model import Model
from octavo.nn import Array
from octavo.recipe import Recipe, Report

EVALUATIONS = 20  # times the held-out text is read during a run
VALIDATION_TOKENS = 2**14  # of it, evenly spaced, at each of them
VALIDATION_BATCH = 32  # windows
DROPPED = {"embedding", "attention", "mlp", "rnn", "gru", "lstm"}  # the taps that dropout sits on


class DivergedError(OctavoError):
    """The loss stopped being a number."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is no longer a number at step {step}; try a lower learning rate")


def learning_rate(progress: float, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine to zero, at `progress` in [0, 1].

    Examples
    --------
    >>> recipe = Recipe(steps=100, lr=1.0, warmup=0.1)
    >>> [round(learning_rate(x, recipe), 3) for x in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < recipe.warmup:
        return recipe.lr * progress / recipe.warmup
    decay = min((progress - recipe.warmup) / (1 - recipe.warmup + 1e-12), 1)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * decay))


def dropout(rate: float, key: Array) -> nn.Tap:
    """A tap that zeroes a share of the activations it is shown and scales up the rest."""
    import jax

    calls = itertools.count()

    def observe(name: str, x: Array) -> Array:
        if rate == 0 or name.rsplit(".", 1)[-1] not in DROPPED:
            return x
        kept = jax.random.bernoulli(jax.random.fold_in(key, next(calls)), 1 - rate, x.shape)
        return jax.numpy.where(kept, x / (1 - rate), 0)

    return observe


def drop_weights(params: dict[str, Array], rate: float, key: Array) -> dict[str, Array]:
    """DropConnect on the recurrent matrices (Merity et al. 2018, section 4.1), a mask a window."""
    import jax

    def drop(name: str, weight: Array, key: Array) -> Array:
        if rate == 0 or not name.endswith("weight_hh"):
            return weight
        kept = jax.random.bernoulli(key, 1 - rate, weight.shape)
        return jax.numpy.where(kept, weight / (1 - rate), 0)

    keys = jax.random.split(key, len(params))
    return {name: drop(name, weight, k) for (name, weight), k in zip(params.items(), keys, strict=True)}


def cross_entropy(model: Model, params: nn.Params, windows: Array, tap: nn.Tap | None = None) -> Array:
    """Mean nats per token of windows [B, T + 1], from an empty memory."""
    import jax.numpy as jnp

    p = nn.View(params, observe=tap)
    logits, _ = model.architecture.forward(p, model.config, windows[:, :-1])  # [B, T, V]
    nats = -nn.log_softmax(logits)
    return jnp.mean(jnp.take_along_axis(nats, windows[:, 1:, None], axis=-1))


def make_step(model: Model, recipe: Recipe) -> tuple[Any, Callable[..., Any]]:
    """The optimizer's first state and the jitted ``step(params, state, fixed, windows, count, lr)``.

    The optimizer's state alone is donated: an interrupt finds the parameters of the step before whole.
    """
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.chain(
        optax.clip_by_global_norm(recipe.clip),
        optax.scale_by_adam(b1=0.9, b2=0.99),
        optax.add_decayed_weights(recipe.weight_decay, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
    )

    def step(
        params: Any, state: Any, fixed: Any, windows: Array, count: Array, lr: Array
    ) -> tuple[Any, Any, Array]:
        key = jax.random.fold_in(jax.random.key(recipe.seed, impl="rbg"), count)  # rbg: cheap on a CPU
        key, weight_key = jax.random.split(key)
        tap = dropout(recipe.dropout, key)

        def loss_of(params: dict[str, Array]) -> Array:
            dropped = drop_weights(params, recipe.dropout, weight_key)
            return cross_entropy(model, dropped | fixed, windows, tap)

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradients, state, params)
        return jax.tree.map(lambda p, u: p - lr * u, params, updates), state, loss

    trained = {name: p for name, p in model.params.items() if name not in model.architecture.FIXED}
    return optimizer.init(jax.tree.map(jnp.asarray, trained)), jax.jit(step, donate_argnums=1)


def run(
    model: Model, ids: Array, evaluate: Callable[[dict[str, Array]], float] | None, recipe: Recipe
) -> Iterator[tuple[Report, dict[str, Array]]]:
    """Train on ids [N], step by step; yields how it stands and the parameters, as JAX arrays."""
    import jax.numpy as jnp

    started = time.perf_counter()
    fixed = {name: p for name, p in model.params.items() if name in model.architecture.FIXED}
    params = {name: jnp.asarray(p) for name, p in model.params.items() if name not in fixed}
    state, step = make_step(model, recipe)
    tokens_per_step = recipe.batch * recipe.context

    def spent(steps: float) -> float:
        return _progress(recipe, steps, tokens_per_step / len(ids), time.perf_counter() - started)

    loss, mean = math.nan, math.nan
    for count in itertools.count(1):
        begun = spent(count - 1)
        rate = learning_rate(min(spent(count - 0.5), 1.0), recipe)
        windows = data.random_windows(ids, recipe.batch, recipe.context, recipe.seed, count)
        before = loss
        params, state, loss = step(params, state, fixed, windows, count, rate)
        # Reading the loss of the step before lets this one run while the next batch is drawn.
        mean = _running_mean(mean, float(before))
        if count > 1 and not math.isfinite(mean):
            raise DivergedError(count - 1)
        progress = min(spent(count), 1.0)
        due = int(progress * EVALUATIONS) > int(begun * EVALUATIONS) or progress == 1
        if due:
            mean = _running_mean(mean, float(loss))
            if not math.isfinite(mean):
                raise DivergedError(count)
        val_loss = evaluate(params | fixed) if due and evaluate is not None else None
        seconds = time.perf_counter() - started
        report = Report(count, progress, count * tokens_per_step, seconds, mean, val_loss, rate)
        yield report, params | fixed
        if progress == 1:
            return


def _progress(recipe: Recipe, steps: float, epochs_per_step: float, seconds: float) -> float:
    """The share of the budget that is spent."""
    if recipe.steps is not None:
        return steps / recipe.steps
    if recipe.epochs is not None:
        return steps * epochs_per_step / recipe.epochs
    return seconds / (60 * float(recipe.minutes or 1))


def _running_mean(mean: float, value: float) -> float:
    if math.isnan(value) and math.isnan(mean):
        return mean
    return value if math.isnan(mean) else mean + (value - mean) / 20


def validator(model: Model, held_out: Array, context: int) -> Callable[[dict[str, Array]], float] | None:
    """A function from parameters to nats per token over disjoint windows of the held-out ids, if any."""
    import jax

    if len(held_out) < 2:
        return None

    windows = data.disjoint_windows(held_out, min(context, len(held_out) - 1))
    keep = max(VALIDATION_TOKENS // context, 1)
    if len(windows) > keep:
        windows = windows[np.linspace(0, len(windows) - 1, keep).astype(int)]
    loss = jax.jit(lambda params, windows: cross_entropy(model, params, windows))

    def evaluate(params: dict[str, Array]) -> float:
        parts = [windows[at : at + VALIDATION_BATCH] for at in range(0, len(windows), VALIDATION_BATCH)]
        return float(sum(len(part) * float(loss(params, part)) for part in parts) / len(windows))

    return evaluate
