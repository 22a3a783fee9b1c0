"""Attention, and the cache of keys and values that it reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from octavo.nn.operations import Array, Tap, namespace, operation, softmax


class Cache(NamedTuple):
    """What a Transformer remembers: keys and values per layer, and how far each row has come."""

    keys: tuple[Array, ...]  # one [B, S, G, K] a layer
    values: tuple[Array, ...]  # one [B, S, G, K] a layer
    position: Array  # [B], tokens seen
    recent: tuple[Array, ...] = ()  # what else a model reads of its last tokens, each [B, ...]

    @property
    def room(self) -> int:
        """How many tokens the cache can hold."""
        return int(self.keys[0].shape[1])


def empty_cache(layers: int, batch: int, length: int, groups: int, head_width: int, like: Array) -> Cache:
    """A cache for `length` tokens a row, in the library and dtype of `like`."""
    xp = namespace(like)

    def slots() -> tuple[Array, ...]:
        return tuple(xp.zeros((batch, length, groups, head_width), like.dtype) for _ in range(layers))

    return Cache(slots(), slots(), xp.zeros(batch, xp.int32))


def grow(cache: Cache, length: int) -> Cache:
    """The same memory with room for `length` tokens."""

    def grown(layers: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(with_slots(x, length) for x in layers)

    return cache._replace(keys=grown(cache.keys), values=grown(cache.values))


def with_slots(x: Array, length: int) -> Array:
    """Keys or values [B, S, G, K] with `length` slots, at least as many as they have."""
    xp, had = namespace(x), x.shape[1]
    if had == length:
        return x
    new = xp.zeros((x.shape[0], length, *x.shape[2:]), x.dtype)
    if xp is not np:
        return new.at[:, :had].set(x)
    new[:, :had] = x  # room that nothing was written to costs no memory
    return new


def stored_as(cache: Cache, dtype: str) -> Cache:
    """An empty cache with its keys and values in another dtype; what else it remembers stays as it is."""
    xp = namespace(*cache.keys)

    def slots(like: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(xp.zeros(x.shape, dtype) for x in like)

    return cache._replace(keys=slots(cache.keys), values=slots(cache.values))


@operation
def token_positions(tokens: Array, cache: Cache | None) -> Array:
    """The positions of `tokens` [B, T], which follow what the cache holds -> [B, T]."""
    xp = namespace(tokens)
    new = xp.arange(tokens.shape[1], dtype=xp.int32)
    if cache is None:
        return xp.broadcast_to(new, tokens.shape)
    return cache.position[:, None] + new


@operation
def extend(slots: Array | None, new: Array, positions: Array) -> Array:
    """`slots` [B, S, G, K] with `new` [B, T, G, K] written at `positions` [B, T]; no slots: `new` itself.

    The slots keep their dtype. NumPy writes in place and raises IndexError past the end. JAX, which would
    drop such a write in silence, leaves NaN in the last slot instead, so that the logits show it.
    """
    if slots is None:
        return new
    xp = namespace(slots, new)
    if xp is np and len(slots) == 1:  # the usual case, by a plain slice
        first, end = int(positions[0, 0]), int(positions[0, 0]) + new.shape[1]
        if end > slots.shape[1]:  # a slice would drop what is past the end
            raise IndexError(f"a cache of {slots.shape[1]} slots has no room for {end} tokens")
        slots[0, first:end] = new[0]
        return slots
    rows = xp.arange(slots.shape[0])[:, None]
    if xp is np:
        slots[rows, positions] = new
        return slots
    full = (positions >= slots.shape[1]).any(axis=1)
    slots = xp.asarray(slots).at[rows, positions].set(new.astype(slots.dtype), mode="drop")
    return slots.at[:, -1].add(xp.where(full, xp.nan, 0)[:, None, None].astype(slots.dtype))


@operation
def split_heads(x: Array, heads: int) -> Array:
    """[B, T, H*K] -> [B, T, H, K]: head h is the h-th run of K columns."""
    return x.reshape(*x.shape[:-1], heads, -1)


@operation
def attention(
    q: Array,
    k: Array,
    v: Array,
    positions: Array,
    tap: Tap,
    window: int | None = None,
    scale: float | None = None,
) -> Array:
    """Causal ``softmax(q k^T scale) v`` (Vaswani et al. 2017, eq. 1), heads joined; scale is 1 / sqrt(K).

    q [B, T, H, K] at `positions` [B, T]; k and v [B, S, G, K] with position s in slot s -> [B, T, H*K].
    Keys and values of another dtype, as a cache may hold them, are read in that of the queries.
    With fewer groups than heads, a run of H/G heads shares the keys and values of one (Ainslie et al.
    2023). With a `window` a query sees its own position and the window - 1 before it. `tap` is shown
    the attention pattern [B, H, T, S]; NumPy leaves out the slots that no query sees.
    """
    xp, first = namespace(q), 0
    if xp is np:
        first = 0 if window is None else max(int(positions[:, 0].min()) + 1 - window, 0)
        reached = int(positions[:, -1].max()) + 1
        k, v = k[:, first:reached], v[:, first:reached]
    if k.dtype != q.dtype:
        k, v = k.astype(q.dtype), v.astype(q.dtype)
    batch, time, heads, width = q.shape
    q, k, v = q.swapaxes(1, 2), k.swapaxes(1, 2), v.swapaxes(1, 2)  # [B, H, T, K] and [B, G, S, K]
    grouped = (batch, k.shape[1], heads // k.shape[1] * time)  # B, G, H/G*T: one product a group
    scale = width**-0.5 if scale is None else scale
    scores = (scale * q).reshape(*grouped, width) @ k.swapaxes(2, 3)
    scores = scores.reshape(batch, heads, time, -1)  # [B, H, T, S]
    if xp is not np or batch * time > 1:  # one row's newest token sees all that is there
        slots = xp.arange(first, first + k.shape[2])
        visible = slots <= positions[:, None, :, None]  # [B, 1, T, S]
        if window is not None:
            visible = visible & (slots > positions[:, None, :, None] - window)
        scores = xp.where(visible, scores, -xp.inf)
    pattern = tap("pattern", softmax(scores))
    mixed = (pattern.reshape(*grouped, -1) @ v).reshape(batch, heads, time, width)
    return mixed.swapaxes(1, 2).reshape(batch, time, -1)  # [B, T, H*K]


def local_attention(q: Array, k: Array, v: Array, positions: Array, tap: Tap, window: int) -> Array:
    """`attention` with a window for a text read from its beginning: q, k and v [B, T, H, K] -> [B, T, H*K].

    JAX computes texts longer than the window in blocks of it, whose queries read their own block and the
    one before, T * 2 window scores instead of T * T; `tap` is not shown their pattern.
    """
    xp = namespace(q)
    batch, time, heads, width = q.shape
    if xp is np or time <= window:
        return attention(q, k, v, positions, tap, window)
    blocks = -(-time // window)  # N in the comments below, W is the window

    def cut(x: Array) -> Array:
        x = xp.pad(x, ((0, 0), (0, blocks * window - time), (0, 0), (0, 0)))
        return x.reshape(batch, blocks, window, heads, width).transpose(0, 3, 1, 2, 4)  # [B, H, N, W, K]

    def with_previous(x: Array) -> Array:
        before = xp.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0), (0, 0)))[:, :, :-1]
        return xp.concatenate([before, x], axis=3)  # [B, H, N, 2W, K]

    q, k, v = cut(width**-0.5 * q), with_previous(cut(k)), with_previous(cut(v))
    own, slots = window + xp.arange(window)[:, None], xp.arange(2 * window)
    visible = (slots <= own) & (slots > own - window)  # [W, 2W]
    visible = visible & ((slots >= window) | (xp.arange(blocks) > 0)[:, None, None])  # none before the first
    pattern = softmax(xp.where(visible, q @ k.swapaxes(3, 4), -xp.inf))  # [B, H, N, W, 2W]
    mixed = (pattern @ v).transpose(0, 2, 3, 1, 4)  # [B, N, W, H, K]
    return mixed.reshape(batch, blocks * window, heads * width)[:, :time]
