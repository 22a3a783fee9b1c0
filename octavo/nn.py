"""The vocabulary: the operations of the field, each a few lines that read as the published equation.

Every function takes NumPy or JAX arrays and computes with the library that its inputs belong to, so
that one source is the readable NumPy model, the function that JAX differentiates and compiles, and
the specification of every faster kernel. Nothing here knows a model, a file or a device.

Axis letters, used in every shape comment of the package:
B batch, T time (new tokens), S seen positions (slots of a cache), V vocabulary, D width,
H heads, G groups of heads that share keys and values, K width of one head, P learned positions,
U units of a recurrent layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from octavo.errors import OctavoError

Array: TypeAlias = Any
"""A NumPy or a JAX array; shapes are given in comments and docstrings."""

Params: TypeAlias = Mapping[str, Array]
"""A model's parameters under their published names; matrices are (out, in)."""

Tap: TypeAlias = Callable[[str, Array], Array]
"""Called with the name of an activation and its value; what it returns takes the value's place."""


def namespace(*arrays: Array) -> Any:
    """The array library of the arrays: NumPy, unless one of them is another library's."""
    for array in arrays:
        if not isinstance(array, np.ndarray | np.generic):
            return array.__array_namespace__()
    return np


# ---------------------------------------------------------------- parameters


class View:
    """A flat mapping of parameters seen below a prefix, with the tap that rides along.

    Examples
    --------
    >>> p = View({"layers.0.wq.weight": np.eye(2)})
    >>> p.at("layers.0.")["wq.weight"].shape
    (2, 2)
    """

    __slots__ = ("observe", "params", "prefix")

    def __init__(self, params: Params, prefix: str = "", observe: Tap | None = None) -> None:
        self.params, self.prefix, self.observe = params, prefix, observe

    def __getitem__(self, name: str) -> Array:
        return self.params[self.prefix + name]

    def get(self, name: str) -> Array | None:
        """The parameter, or None where the model has none of that name (a bias, say)."""
        return self.params.get(self.prefix + name)

    def at(self, prefix: str) -> View:
        """The parameters whose names go on with `prefix`."""
        return View(self.params, self.prefix + prefix, self.observe)

    def each(self, prefix: str, count: int) -> Iterator[View]:
        """The views `prefix0.`, `prefix1.`, ... of a stack of layers."""
        return (self.at(f"{prefix}{i}.") for i in range(count))

    def linear(self, name: str, x: Array) -> Array:
        """``W x + b`` with the weight and, where the model has one, the bias of `name`."""
        return linear(x, self[name + ".weight"], self.get(name + ".bias"))

    def tap(self, name: str, x: Array) -> Array:
        """`x`, or what an observer puts in its place."""
        return x if self.observe is None else self.observe(self.prefix + name, x)


def view(params: Params | View) -> View:
    """A view of all parameters (a view is returned as it is)."""
    return params if isinstance(params, View) else View(params)


# ---------------------------------------------------------------- linear maps and normalisation


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x W^T + b``: x [..., in], weight (out, in), bias (out,) -> [..., out]."""
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])  # one product, forwards and in its gradients
    y = rows @ weight.T
    y = y if bias is None else y + bias
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], y.shape[-1])


def embed(ids: Array, weight: Array) -> Array:
    """The rows of `weight` (V, D) that `ids` [...] name -> [..., D]."""
    xp = namespace(weight, ids)
    return weight[ids] if xp is np else xp.asarray(weight)[ids]


def rms_norm(x: Array, eps: float, gain: Array | None = None) -> Array:
    """``x / sqrt(mean(x^2) + eps)`` over the last axis (Zhang and Sennrich 2019, eq. 4)."""
    xp = namespace(x)
    y = x / xp.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return y if gain is None else y * gain


def layer_norm(x: Array, eps: float, gain: Array, bias: Array) -> Array:
    """``(x - mean(x)) / sqrt(var(x) + eps) gain + bias`` over the last axis (Ba et al. 2016, eq. 4)."""
    return rms_norm(x - x.mean(axis=-1, keepdims=True), eps, gain) + bias


# ---------------------------------------------------------------- probabilities


def softmax(x: Array, temperature: float = 1.0) -> Array:
    """``exp(x / temperature)`` normalised over the last axis; stable for any finite input.

    Parameters
    ----------
    x : array [..., V]
        Logits.
    temperature : float
        Divides `x`. At 0 the mass is spread evenly over the maxima.

    Returns
    -------
    array [..., V]
        Sums to 1 over the last axis.

    Raises
    ------
    OctavoError
        If the temperature is negative or not a number.

    Examples
    --------
    >>> softmax(np.array([1.0, 3.0, 3.0]), temperature=0)
    array([0. , 0.5, 0.5])
    >>> softmax(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    if not temperature >= 0:
        raise OctavoError(f"a temperature is a number of at least 0, not {temperature}")
    x = x if hasattr(x, "__array_namespace__") else np.asarray(x)
    xp = namespace(x)
    if x.dtype.kind in "iub":
        x = x.astype(xp.float64 if xp is np else xp.float32)
    top = x.max(axis=-1, keepdims=True)
    if temperature < 1e-30:  # float32 would divide by it as by 0
        e = (x == top).astype(x.dtype)
    elif temperature == 1:
        e = xp.exp(x - top)
    else:
        with np.errstate(over="ignore"):  # at a low temperature: minus infinity, whose exp is 0
            e = xp.exp((x - top) / temperature)
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x: Array) -> Array:
    """``x - log(sum(exp(x)))`` over the last axis.

    Examples
    --------
    >>> np.exp(log_softmax(np.array([0.0, 0.0])))
    array([0.5, 0.5])
    """
    xp = namespace(x)
    x = x - x.max(axis=-1, keepdims=True)
    return x - xp.log(xp.exp(x).sum(axis=-1, keepdims=True))


# ---------------------------------------------------------------- positions


def frequencies(width: int, base: float = 10000.0) -> Array:
    """``base^(-2i / width)`` for i = 0 .. width/2 - 1, as float64 (Vaswani et al. 2017, section 3.5)."""
    if width % 2:
        raise OctavoError(f"sinusoidal positions need an even width, not {width}")
    return base ** (-np.arange(0, width, 2) / width)


def sinusoids(positions: int | Array, width: int | Array, *, interleaved: bool = False) -> Array:
    """Sinusoidal position encodings (Vaswani et al. 2017, section 3.5).

    Parameters
    ----------
    positions : int or array [...]
        How many positions, counted from 0, or the positions themselves.
    width : int or array [D/2]
        The width D, or the frequencies themselves.
    interleaved : bool
        Sine and cosine of a frequency side by side; otherwise all sines, then all cosines.

    Returns
    -------
    array [..., D]
        In float64 where NumPy computes it: the angles of far positions need the digits.

    Raises
    ------
    OctavoError
        If the width is odd.

    Examples
    --------
    >>> sinusoids(2, 4, interleaved=True).round(4)
    array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ]])
    """
    where: Array = np.arange(positions) if np.ndim(positions) == 0 else positions
    rates = frequencies(int(width)) if np.ndim(width) == 0 else width
    xp = namespace(where, rates)
    angles = where[..., None] * rates  # [..., D/2]
    waves = xp.sin(angles), xp.cos(angles)
    if interleaved:
        return xp.stack(waves, axis=-1).reshape(*angles.shape[:-1], -1)
    return xp.concatenate(waves, axis=-1)


def require_positions(tokens: int, learned: int) -> None:
    """Refuse a text that goes on where no positions have been learned."""
    if tokens > learned:
        raise OctavoError(f"the model has learned {learned} positions; a text of {tokens} tokens is too long")


def embed_positions(positions: Array, weight: Array) -> Array:
    """The rows of `weight` (P, D) that were learned for `positions` [B, T] -> [B, T, D].

    NumPy raises OctavoError past the last. JAX, which would repeat the last row in silence, gives NaN
    instead, so that the logits show it.
    """
    xp = namespace(weight, positions)
    if xp is not np:
        return xp.asarray(weight).at[positions].get(mode="fill", fill_value=xp.nan)
    require_positions(int(positions.max()) + 1, len(weight))
    return weight[positions]


def rotary(positions: Array, width: int, base: float, like: Array) -> tuple[Array, Array]:
    """Cosines and sines of the angles ``m base^(-2i / K)`` at position m (Su et al. 2021, section 3.4.2).

    positions [B, T], K = `width` -> two arrays [B, T, 1, K/2] in the dtype of `like`. The angles are
    rounded to float32, as wherever the published models were trained and are run.
    """
    xp = namespace(positions, like)
    rates = frequencies(width, base).astype(np.float32)
    angles = positions[..., None, None].astype(np.float32) * rates
    return xp.cos(angles).astype(like.dtype), xp.sin(angles).astype(like.dtype)


def rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """Each pair of columns i and i + K/2 of x [B, T, H, K] turned by its angle, which `rotary` gives.

    Su et al. 2021 (eq. 34) pair neighbours; Hugging Face's layout pairs the halves, as here.
    """
    half = x.shape[-1] // 2
    (cos, sin), a, b = turn, x[..., :half], x[..., half:]  # [B, T, H, K/2]
    return namespace(x, cos).concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


# ---------------------------------------------------------------- attention and its cache


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
    xp = namespace(*cache.keys)  # the position may be of another library, that of the tokens

    def widen(x: Array) -> Array:
        return xp.concatenate([x, xp.zeros((x.shape[0], length - x.shape[1], *x.shape[2:]), x.dtype)], axis=1)

    return cache._replace(keys=tuple(map(widen, cache.keys)), values=tuple(map(widen, cache.values)))


def token_positions(tokens: Array, cache: Cache | None) -> Array:
    """The positions of `tokens` [B, T], which follow what the cache holds -> [B, T]."""
    xp = namespace(tokens)
    new = xp.arange(tokens.shape[1], dtype=xp.int32)
    if cache is None:
        return xp.broadcast_to(new, tokens.shape)
    return cache.position[:, None] + new


def extend(slots: Array | None, new: Array, positions: Array) -> Array:
    """`slots` [B, S, G, K] with `new` [B, T, G, K] written at `positions` [B, T]; no slots: `new` itself.

    NumPy writes in place and raises IndexError past the end. JAX, which would drop such a write
    in silence, leaves NaN in the last slot instead, so that the logits show it.
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
    slots = xp.asarray(slots).at[rows, positions].set(new, mode="drop")
    return slots.at[:, -1].add(xp.where(full, xp.nan, 0)[:, None, None].astype(slots.dtype))


def split_heads(x: Array, heads: int) -> Array:
    """[B, T, H*K] -> [B, T, H, K]: head h is the h-th run of K columns."""
    return x.reshape(*x.shape[:-1], heads, -1)


def attention(q: Array, k: Array, v: Array, positions: Array, tap: Tap, window: int | None = None) -> Array:
    """Causal ``softmax(q k^T / sqrt(K)) v`` (Vaswani et al. 2017, eq. 1), heads joined.

    q [B, T, H, K] at `positions` [B, T]; k and v [B, S, G, K] with position s in slot s -> [B, T, H*K].
    With fewer groups than heads, a run of H/G heads shares the keys and values of one (Ainslie et al.
    2023). With a `window` a query sees its own position and the window - 1 before it. `tap` is shown
    the attention pattern [B, H, T, S]; NumPy leaves out the slots that no query sees.
    """
    xp, first = namespace(q), 0
    if xp is np:
        first = 0 if window is None else max(int(positions[:, 0].min()) + 1 - window, 0)
        reached = int(positions[:, -1].max()) + 1
        k, v = k[:, first:reached], v[:, first:reached]
    batch, time, heads, width = q.shape
    q, k, v = q.swapaxes(1, 2), k.swapaxes(1, 2), v.swapaxes(1, 2)  # [B, H, T, K] and [B, G, S, K]
    grouped = (batch, k.shape[1], heads // k.shape[1] * time)  # B, G, H/G*T: one product a group
    scores = (width**-0.5 * q).reshape(*grouped, width) @ k.swapaxes(2, 3)
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


# ---------------------------------------------------------------- short memories


def follow(past: Array | None, x: Array, steps: int) -> Array:
    """The `steps` inputs before x [B, T, ...], then x itself -> [B, steps+T, ...].

    `past` [B, steps, ...] holds them; without it they are zeros.
    """
    xp = namespace(x)
    before = xp.zeros((x.shape[0], steps, *x.shape[2:]), x.dtype) if past is None else past
    return xp.concatenate([before, x], axis=1)


def causal_conv(x: Array, weight: Array, past: Array | None = None) -> tuple[Array, Array]:
    """Depthwise causal convolution ``y_t = sum_j w_j x_(t-j)`` (So et al. 2021, Primer).

    x [B, T, D], weight (taps, D), past [B, taps-1, D] or None for zeros -> y [B, T, D], and the past of the
    next call.
    """
    taps, time = len(weight), x.shape[1]
    padded = follow(past, x, taps - 1)  # [B, taps-1+T, D]
    y = x * weight[0]
    for j in range(1, taps):
        y = y + padded[:, taps - 1 - j : taps - 1 - j + time] * weight[j]
    return y, padded[:, time:]


# ---------------------------------------------------------------- recurrence


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


# ---------------------------------------------------------------- initial values


def zeros(shape: tuple[int, ...]) -> Array:
    """Zeros in float32."""
    return np.zeros(shape, np.float32)


def ones(shape: tuple[int, ...]) -> Array:
    """Ones in float32."""
    return np.ones(shape, np.float32)


def normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    """Normally distributed float32 values of standard deviation `scale`."""
    return rng.standard_normal(shape, np.float32) * np.float32(scale)


def orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A float32 matrix (out, in), out a multiple of in, of stacked orthogonal blocks (Saxe et al. 2014)."""
    rows, width = shape
    blocks = [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(rows // width)]
    return np.concatenate(blocks).astype(np.float32)


# ---------------------------------------------------------------- activations


def relu(x: Array) -> Array:
    """``max(x, 0)``."""
    return namespace(x).maximum(x, 0)


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of GELU (Hendrycks and Gimpel 2016, section 2)."""
    return 0.5 * x * (1 + namespace(x).tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * (x * x * x))))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, written with tanh: no overflow, and one pass instead of three."""
    return 0.5 * namespace(x).tanh(0.5 * x) + 0.5


def tanh(x: Array) -> Array:
    """``tanh(x)``."""
    return namespace(x).tanh(x)


def soft_cap(x: Array, cap: float) -> Array:
    """``cap tanh(x / cap)``: between -cap and cap, close to x about 0 (Gemma 2, 2024, section 2)."""
    return cap * namespace(x).tanh(x / cap)
