"""Parameters, linear maps, norms, probabilities, short memories, activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, TypeAlias, TypeVar, cast

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


F = TypeVar("F", bound=Callable[..., Any])


def operation(equation: F) -> F:
    """An operation that arrays of another kind than NumPy's may answer in their own way.

    The first argument decides: if it has a method `__operation__`, that is asked for what takes the
    equation's place (see `octavo.fast.recorded`).
    """

    @wraps(equation)
    def answered(first: Any, *args: Any, **options: Any) -> Any:
        if type(first) is not np.ndarray and (ask := getattr(first, "__operation__", None)) is not None:
            return ask(equation.__name__)(first, *args, **options)
        return equation(first, *args, **options)

    return cast(F, answered)


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


@operation
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x W^T + b``: x [..., in], weight (out, in), bias (out,) -> [..., out]."""
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])  # one product, forwards and in its gradients
    y = rows @ weight.T
    y = y if bias is None else y + bias
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], y.shape[-1])


@operation
def embed(ids: Array, weight: Array) -> Array:
    """The rows of `weight` (V, D) that `ids` [...] name -> [..., D]."""
    xp = namespace(weight, ids)
    return weight[ids] if xp is np else xp.asarray(weight)[ids]


@operation
def rms_norm(x: Array, eps: float, gain: Array | None = None) -> Array:
    """``x / sqrt(mean(x^2) + eps)`` over the last axis (Zhang and Sennrich 2019, eq. 4)."""
    xp = namespace(x)
    y = x / xp.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return y if gain is None else y * gain


@operation
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


# ---------------------------------------------------------------- short memories


@operation
def follow(past: Array | None, x: Array, steps: int) -> Array:
    """The `steps` inputs before x [B, T, ...], then x itself -> [B, steps+T, ...].

    `past` [B, steps, ...] holds them; without it they are zeros.
    """
    xp = namespace(x)
    before = xp.zeros((x.shape[0], steps, *x.shape[2:]), x.dtype) if past is None else past
    return xp.concatenate([before, x], axis=1)


@operation
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


@operation
def relu(x: Array) -> Array:
    """``max(x, 0)``."""
    return namespace(x).maximum(x, 0)


@operation
def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of GELU (Hendrycks and Gimpel 2016, section 2)."""
    return 0.5 * x * (1 + namespace(x).tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * (x * x * x))))


@operation
def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, written with tanh: no overflow, and one pass instead of three."""
    return 0.5 * namespace(x).tanh(0.5 * x) + 0.5


@operation
def tanh(x: Array) -> Array:
    """``tanh(x)``."""
    return namespace(x).tanh(x)


@operation
def soft_cap(x: Array, cap: float) -> Array:
    """``cap tanh(x / cap)``: between -cap and cap, close to x about 0 (Gemma 2, 2024, section 2)."""
    return cap * namespace(x).tanh(x / cap)
