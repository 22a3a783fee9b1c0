"""Activations by the names that configs use.

Where two frameworks give one name to two functions, the name here is that of the newer one, and the
older function carries its framework's name: Keras 2's `hard_sigmoid` is `hard_sigmoid_keras2`.
A function that needs more than its input (a slope, a threshold) has the value that Keras gives it
when it is asked for by name alone.
"""

from __future__ import annotations

from collections.abc import Callable

from octavo import nn
from octavo.nn import Array

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, section 2

# log(erfc(z) exp(z^2) / t) as a polynomial of t = 1 / (1 + z/2) for z >= 0, highest power first; the
# Chebyshev fit of Press et al. 1992, section 6.2, whose relative error is below 1.2e-7 everywhere
ERFC = (
    *(0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807),
    *(-0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223),
)

# ---------------------------------------------------------------- smooth


def linear(x: Array) -> Array:
    """``x`` itself."""
    return x


def exponential(x: Array) -> Array:
    """``exp(x)``."""
    return nn.namespace(x).exp(x)


def erfc(x: Array) -> Array:
    """``1 - erf(x)``, to the accuracy of float32 relative to its value, however small that is."""
    xp = nn.namespace(x)
    z = xp.abs(x)
    t = 1 / (1 + 0.5 * z)
    fit = ERFC[0] * t
    for coefficient in ERFC[1:-1]:
        fit = (fit + coefficient) * t
    tail = t * xp.exp(fit + ERFC[-1] - z * z)
    return xp.where(x >= 0, tail, 2 - tail)


def gelu(x: Array) -> Array:
    """``x Phi(x)`` with the exact normal distribution function (Hendrycks and Gimpel 2016, section 2)."""
    return 0.5 * x * erfc(-(0.5**0.5) * x)


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))``."""
    return nn.namespace(x).logaddexp(x, 0)


def log_sigmoid(x: Array) -> Array:
    """``log(sigmoid(x))``."""
    return -softplus(-x)


def silu(x: Array) -> Array:
    """``x sigmoid(x)``, also known as swish."""
    return x * nn.sigmoid(x)


def mish(x: Array) -> Array:
    """``x tanh(softplus(x))`` (Misra 2019)."""
    return x * nn.tanh(softplus(x))


def elu(x: Array) -> Array:
    """``x`` above zero, ``exp(x) - 1`` below (Clevert et al. 2016)."""
    xp = nn.namespace(x)
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, 0)))


def selu(x: Array) -> Array:
    """ELU with the slopes that keep mean and variance (Klambauer et al. 2017)."""
    xp = nn.namespace(x)
    return SELU_SCALE * xp.where(x > 0, x, SELU_ALPHA * xp.expm1(xp.minimum(x, 0)))


def softsign(x: Array) -> Array:
    """``x / (1 + |x|)``."""
    return x / (1 + nn.namespace(x).abs(x))


def squareplus(x: Array) -> Array:
    """``(x + sqrt(x^2 + 4)) / 2`` (Barron 2021)."""
    return 0.5 * (x + nn.namespace(x).sqrt(x * x + 4))


def tanh_shrink(x: Array) -> Array:
    """``x - tanh(x)``."""
    return x - nn.tanh(x)


# ---------------------------------------------------------------- piecewise


def relu6(x: Array) -> Array:
    """``min(max(x, 0), 6)``."""
    return nn.namespace(x).clip(x, 0, 6)


def leaky_relu(x: Array) -> Array:
    """``x`` above zero, ``0.2 x`` below."""
    return nn.namespace(x).maximum(x, 0.2 * x)


def hard_sigmoid(x: Array) -> Array:
    """``relu6(x + 3) / 6``, as Keras 3 and PyTorch have it."""
    return relu6(x + 3) / 6


def hard_sigmoid_keras2(x: Array) -> Array:
    """``0.2 x + 0.5`` between 0 and 1, as Keras 2 has it."""
    return nn.namespace(x).clip(0.2 * x + 0.5, 0, 1)


def hard_silu(x: Array) -> Array:
    """``x hard_sigmoid(x)`` (Howard et al. 2019)."""
    return x * hard_sigmoid(x)


def hard_tanh(x: Array) -> Array:
    """``x`` between -1 and 1."""
    return nn.namespace(x).clip(x, -1, 1)


def hard_shrink(x: Array) -> Array:
    """``x``, but 0 between -0.5 and 0.5."""
    xp = nn.namespace(x)
    return xp.where(xp.abs(x) > 0.5, x, 0 * x)


def soft_shrink(x: Array) -> Array:
    """``x`` brought nearer to 0 by 0.5, and 0 where that would pass it."""
    return x - nn.namespace(x).clip(x, -0.5, 0.5)


def sparse_plus(x: Array) -> Array:
    """``x`` above 1, 0 below -1 and the parabola ``(x + 1)^2 / 4`` between."""
    xp = nn.namespace(x)
    bounded = xp.clip(x, -1, 1) + 1
    return xp.where(x < 1, 0.25 * bounded * bounded, x)


def sparse_sigmoid(x: Array) -> Array:
    """``(x + 1) / 2`` between 0 and 1."""
    return nn.namespace(x).clip(0.5 * (x + 1), 0, 1)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": linear,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "relu": nn.relu,
    "gelu_tanh": nn.gelu_tanh,
    "gelu": gelu,
    "silu": silu,
    "mish": mish,
    "elu": elu,
    "celu": elu,  # the two differ only for an alpha other than 1
    "selu": selu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "exponential": exponential,
    "softplus": softplus,
    "softsign": softsign,
    "squareplus": squareplus,
    "log_sigmoid": log_sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid_keras2": hard_sigmoid_keras2,
    "hard_silu": hard_silu,
    "hard_tanh": hard_tanh,
    "hard_shrink": hard_shrink,
    "soft_shrink": soft_shrink,
    "tanh_shrink": tanh_shrink,
    "sparse_plus": sparse_plus,
    "sparse_sigmoid": sparse_sigmoid,
    "softmax": nn.softmax,
    "log_softmax": nn.log_softmax,
}
"""Every activation a layer of a recurrent model can name."""
