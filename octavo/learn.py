"""What one training step is, and how a model is measured on held-out text, with JAX.

The objective is the mean cross-entropy of the next token over windows of text, its gradient clipped to a
global norm (Pascanu et al. 2013). Dropout (Srivastava et al. 2014) sits on the taps of the
architectures, which know nothing of it; in recurrent layers it is joined by DropConnect on the recurrent
matrix, without which they overfit a novel within minutes. A step is one jitted function over a mesh of
devices (`octavo.mesh`), and a pure function of parameters, optimizer state and the step's number.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from octavo import batches, mesh, nn, optimizer
from octavo.batches import HeldOut
from octavo.model import Model
from octavo.nn import Array
from octavo.recipe import Recipe

VALIDATION_BATCH = 32  # windows
DROPPED = {"embedding", "attention", "mlp", "rnn", "gru", "lstm"}  # the taps that dropout sits on


class State(NamedTuple):
    """What learning changes: the parameters, and the memory of the optimizer."""

    params: dict[str, Array]
    memory: Any


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


def surprise(model: Model, params: nn.Params, windows: Array, tap: nn.Tap | None = None) -> Array:
    """Nats of each next token of windows [B, T + 1], from an empty memory -> [B, T], in float32."""
    import jax.numpy as jnp

    p = nn.View(params, observe=tap)
    logits, _ = model.architecture.forward(p, model.config, windows[:, :-1])  # [B, T, V]
    nats = -nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    return jnp.take_along_axis(nats, windows[:, 1:, None], axis=-1)[..., 0]


class Learner:
    """A model's training step and its measure, compiled for a recipe and a mesh.

    Parameters
    ----------
    model : Model
        Its architecture and config; the weights it begins with.
    recipe : Recipe
        What a step is.
    where : jax.sharding.Mesh, optional
        One device unless said.
    """

    def __init__(self, model: Model, recipe: Recipe, where: Any = None) -> None:
        import jax

        self.model, self.recipe = model, recipe
        self.mesh = mesh.make(None) if where is None else where
        self.optimizer = optimizer.make(recipe)
        self.whole = mesh.whole(self.mesh)
        fixed = {name: p for name, p in model.params.items() if name in model.architecture.FIXED}
        self.fixed = {name: mesh.put(np.asarray(p), self.whole) for name, p in fixed.items()}
        self._step = jax.jit(self._advance, donate_argnums=0, out_shardings=(self._places(), self.whole))
        self._measure = jax.jit(self._nats, out_shardings=self.whole)

    def _places(self) -> State:
        """Where each array of the state lives: an optimizer's is named like the parameter it serves."""
        import jax

        trained = {n: p for n, p in self.model.params.items() if n not in self.fixed}
        abstract = {
            name: jax.ShapeDtypeStruct(p.shape, p.dtype)  # type: ignore[no-untyped-call]
            for name, p in trained.items()
        }
        state = State(abstract, jax.eval_shape(self.optimizer.init, abstract))
        places: State = jax.tree_util.tree_map_with_path(
            lambda path, x: mesh.placement(self.mesh, _dotted(path), x.shape), state
        )
        return places

    def begin(self, arrays: Callable[[str], Array] | None = None) -> State:
        """The state before the first step, or the one whose arrays, by name, are given."""
        import jax

        places = self._places()
        if arrays is None:
            params = self.placed({n: np.asarray(self.model.params[n]) for n in places.params})
            return State(params, jax.jit(self.optimizer.init, out_shardings=places.memory)(params))
        state: State = jax.tree_util.tree_map_with_path(
            lambda path, place: mesh.put(arrays(_dotted(path)), place), places
        )
        return state

    def placed(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """Parameters of NumPy where those of the state live."""
        places = self._places().params
        return {name: mesh.put(p, places[name]) for name, p in params.items()}

    def named(self, state: State) -> dict[str, Array]:
        """The arrays of a state by name, ``params.layers.0.wq.weight`` say."""
        import jax

        return {_dotted(path): x for path, x in jax.tree_util.tree_flatten_with_path(state)[0]}

    # ------------------------------------------------------------ a step

    def step(self, state: State, ids: Array, count: int, lr: float) -> tuple[State, Array]:
        """The state after step `count`, and its loss; the state that is passed in is spent."""
        windows = self.windows(ids, count)
        advanced: tuple[State, Array] = self._step(
            state, self.fixed, windows, np.int32(count), np.float32(lr)
        )
        return advanced

    def windows(self, ids: Array, count: int) -> Array:
        """The windows [A, B, T + 1] of a step: A batches, cut over the devices by their rows."""
        import jax

        r = self.recipe
        starts = batches.window_starts(len(ids), r.accumulate * r.batch, r.context, r.seed, count)
        starts = starts.reshape(r.accumulate, r.batch)

        def read(part: Any) -> Array:
            return batches.windows(ids, starts[part[:2]], r.context)

        shape = (r.accumulate, r.batch, r.context + 1)
        return jax.make_array_from_callback(shape, mesh.rows(self.mesh, axis=1), read)

    def _advance(
        self, state: State, fixed: dict[str, Array], windows: Array, count: Array, lr: Array
    ) -> tuple[State, Array]:
        import jax
        import jax.numpy as jnp

        params, memory = state
        key = jax.random.fold_in(jax.random.key(self.recipe.seed, impl="rbg"), count)  # rbg: cheap on a CPU
        learn = jax.value_and_grad(self.loss)
        if len(windows) == 1:
            loss, gradients = learn(params, fixed, windows[0], key)
        else:

            def add(total: Any, batch: Array) -> tuple[Any, None]:
                i, sums = total
                found = learn(params, fixed, batch, jax.random.fold_in(key, i))
                return (i + 1, jax.tree.map(jnp.add, sums, found)), None

            zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
            (_, sums), _ = jax.lax.scan(add, (jnp.int32(0), zero), windows)
            loss, gradients = jax.tree.map(lambda x: x / len(windows), sums)
        updates, memory = self.optimizer.update(gradients, memory, params)
        return State(jax.tree.map(lambda p, u: p - lr * u, params, updates), memory), loss

    def loss(self, params: dict[str, Array], fixed: dict[str, Array], windows: Array, key: Array) -> Array:
        """Mean nats per token of windows [B, T + 1] under dropout, in the recipe's precision."""
        import jax
        import jax.numpy as jnp

        key, weight_key = jax.random.split(key)
        params = drop_weights(params, self.recipe.dropout, weight_key)
        if self.recipe.precision == "bfloat16":
            params = {name: p.astype(jnp.bfloat16) for name, p in params.items()}
        return jnp.mean(surprise(self.model, params | fixed, windows, dropout(self.recipe.dropout, key)))

    # ------------------------------------------------------------ a measure

    def measure(self, params: dict[str, Array], text: HeldOut, starts: Array | None = None) -> float:
        """Mean nats per token of a held-out text, or of its windows that begin at `starts`."""
        starts = text.starts if starts is None else starts
        ways = self.mesh.shape["data"]
        size = -(-min(VALIDATION_BATCH, len(text.starts)) // ways) * ways
        total, count, rows = 0.0, 0, mesh.rows(self.mesh)
        for windows, counted in text.batches(size, starts):
            nats = self._measure(params | self.fixed, mesh.put(windows, rows), mesh.put(counted, rows))
            total, count = total + float(nats), count + int(counted.sum())
        return total / max(count, 1)

    def _nats(self, params: dict[str, Array], windows: Array, counted: Array) -> Array:
        import jax.numpy as jnp

        return jnp.sum(surprise(self.model, params, windows), where=counted)  # of [B, T]


def _dotted(path: Any) -> str:
    import jax

    return str(jax.tree_util.keystr(path, simple=True, separator="."))
