"""Recurrence: a step after the other along the time axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from octavo.nn.operations import Array, linear, namespace


def scan(step: Callable[[Any, Array], Any], state: Any, xs: Array) -> tuple[Array, Any]:
    """Run ``state = step(state, x_t)`` over the time axis of `xs` [B, T, ...].

    `state` is a tuple of arrays whose first is the layer's output; returns the outputs [B, T, U] and
    the last state.
    """
    if xs.shape[1] == 1:
        state = step(state, xs[:, 0])
        return state[0][:, None], state
    if namespace(xs) is np:
        outputs = []
        for t in range(xs.shape[1]):
            state = step(state, xs[:, t])
            outputs.append(state[0])
        return np.stack(outputs, axis=1), state

    import jax

    def advance(state: Any, x: Array) -> tuple[Any, Array]:
        state = step(state, x)
        return state, state[0]

    state, stacked = jax.lax.scan(advance, state, xs.swapaxes(0, 1))
    return stacked.swapaxes(0, 1), state


def recur(
    step: Callable[[Any, Array, Array], Any],
    weight: Array,
    bias: Array | None,
    state: Any,
    xs: Array,
) -> tuple[Array, Any]:
    """Run ``state = step(state, x_t, U h + b)`` over the time axis of `xs` [B, T, ...], as `scan` does.

    h is the first array of the state, U the `weight` (out, in), b the `bias` (out,) or None.

    With JAX the gradient of U is one product over all times: that of the scan itself would be a sum of
    as many small ones, each of them read from memory and written to it again.
    """

    def whole(state: Any, x: Array) -> Any:
        return step(state, x, linear(state[0], weight, bias))

    if xs.shape[1] == 1 or namespace(xs) is np:
        return scan(whole, state, xs)

    import jax
    import jax.numpy as jnp

    def plain(weight: Array, bias: Array | None, state: Any, xs: Array) -> tuple[Array, Any]:
        return scan(lambda state, x: step(state, x, linear(state[0], weight, bias)), state, xs)

    def forward(weight: Array, bias: Array | None, state: Any, xs: Array) -> Any:
        def shifted(state: Any, xs: Array, shifts: Array) -> tuple[Array, Any]:
            """The same, with `shifts` [B, T, out] beside ``U h + b``, whose gradients are what is wanted."""

            def advance(state: Any, now: tuple[Array, Array]) -> tuple[Any, Array]:
                x, shift = now
                state = step(state, x, linear(state[0], weight, bias) + shift)
                return state, state[0]

            inputs = (xs.swapaxes(0, 1), shifts.swapaxes(0, 1))
            state, stacked = jax.lax.scan(advance, state, inputs)
            return stacked.swapaxes(0, 1), state

        shifts = jnp.zeros((*xs.shape[:2], len(weight)), xs.dtype)
        done, back = jax.vjp(shifted, state, xs, shifts)
        before = jnp.concatenate([state[0][:, None], done[0][:, :-1]], axis=1)  # [B, T, U]
        return done, (back, before)

    def backward(kept: Any, gradient: Any) -> Any:
        back, before = kept
        of_state, of_xs, of_products = back(gradient)
        rows = of_products.reshape(-1, of_products.shape[-1])
        of_weight = rows.T @ before.reshape(-1, before.shape[-1])
        return of_weight, None if bias is None else rows.sum(0), of_state, of_xs

    run = jax.custom_vjp(plain)
    run.defvjp(forward, backward)
    done: tuple[Array, Any] = run(weight, bias, state, xs)
    return done
