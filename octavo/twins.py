"""Twins, made of compiled operations, of what writing with a recurrent model computes for each token.

`forward` is the twin of `octavo.models.recurrent.forward`, `pick` that of `Sampling.pick`. Each is made
for one model or one set of options, or is None where there is no twin, and then the equations stay.
Importing this room imports Numba, which takes as long as writing thousands of characters:
`octavo.decoding` says when that pays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octavo import kernels, nn
from octavo.models.recurrent import GATES, Config, Layer, State
from octavo.nn import Array
from octavo.sample import GREEDY, Sampling

FEW = 256  # tokens of a vocabulary that sorting by insertion is the quickest for

Memory = tuple[Array, ...]
Step = Callable[[Array, Memory], tuple[Array, Memory]]
"""One layer: its input, ids [B] or [B, D], and its memory -> its output [B, U] and its memory."""


def forward(c: Config, params: nn.Params) -> Callable[[Array, State], tuple[Array, State]] | None:
    """The twin of `recurrent.forward` for these parameters, or None where there is none.

    Parameters
    ----------
    c : Config
        The stack. Its recurrent layers have tanh and sigmoid gates, its dense layers no activation;
        for others there is no twin.
    params : mapping of arrays
        NumPy arrays in float32; for others there is no twin. They are read now: what is written to them
        later need not reach the twin.

    Returns
    -------
    function or None
        It takes one token a row, ids [B, 1], and the state; it returns logits [B, 1, V] and the next
        state, and the one it was given stays as it is.

    Examples
    --------
    >>> import octavo
    >>> model = octavo.load("christie-rnn")
    >>> step = forward(model.config, model.params)
    >>> logits, state = step(np.array([[3]]), model.init_state())
    >>> bool(abs(logits - model.forward([[3]])[0]).max() < 1e-5)
    True
    """
    if not all(isinstance(p, np.ndarray) and p.dtype == np.float32 for p in params.values()):
        return None
    if not all(map(has_twin, c.layers)):
        return None
    views = nn.view(params).each("layers.", len(c.layers))
    steps = [step_of(layer, p, i == 0) for i, (layer, p) in enumerate(zip(c.layers, views, strict=True))]

    def run(tokens: Array, state: State) -> tuple[Array, State]:
        x, memory = tokens[:, 0], []
        for step, past in zip(steps, state, strict=True):
            x, past = step(x, past)
            memory.append(past)
        return x[:, None], tuple(memory)

    return run


def has_twin(layer: Layer) -> bool:
    """Whether the layer has the customary activations."""
    if layer.kind in GATES:
        return layer.activation == "tanh" and layer.recurrent_activation == "sigmoid"
    return layer.kind == "embedding" or (layer.kind == "dense" and layer.activation == "linear")


def step_of(layer: Layer, p: nn.View, first: bool) -> Step:
    """The step of one layer; `first` is the one that reads ids."""
    if layer.kind == "embedding":
        table = p["weight"]
        return lambda x, past: (table.take(x, 0), past)
    if layer.kind == "dense":
        project = projection(p["weight"], p.get("bias"), first)
        return lambda x, past: (project(x), past)
    project = projection(p["weight_ih"], p.get("bias_ih"), first)
    cell = cell_of(layer, p["weight_hh"], p.get("bias_hh"))

    def step(x: Array, past: Memory) -> tuple[Array, Memory]:
        past = cell(project(x), *past)
        return past[0], past

    return step


def cell_of(layer: Layer, weight: Array, bias: Array | None) -> Callable[..., Memory]:
    """The step of a recurrent layer: ``W x + b`` and the memory -> the next memory."""
    kept = stored(weight)
    if layer.kind == "rnn":
        return lambda x, h: (kernels.rnn(x, kept, h),)
    if layer.kind == "lstm":
        return lambda x, h, m: kernels.lstm(x, kept, h, m)
    if not layer.reset_after:
        return lambda x, h: (kernels.gru_before(x, kept, h),)
    offset = bias_of(weight, bias)
    return lambda x, h: (kernels.gru_after(x, kept, offset, h),)


def projection(weight: Array, bias: Array | None, first: bool) -> Callable[[Array], Array]:
    """``W x + b``; for ids [B] a row of a table that is made once."""
    offset = bias_of(weight, bias)
    if first:
        table = np.ascontiguousarray(weight.T) + offset
        return lambda ids: table[ids[0], None] if len(ids) == 1 else table.take(ids, 0)
    kept = stored(weight)
    return lambda x: kernels.linear(x, kept, offset)


def bias_of(weight: Array, bias: Array | None) -> Array:
    """The bias (out,) of a matrix (out, in), zero where the model has none."""
    return np.zeros(len(weight), np.float32) if bias is None else plain(bias)


def stored(weight: Array) -> Array:
    """The matrix as halves if all its weights are halves, and as it is otherwise."""
    weight = plain(weight)
    if kernels.HALVES:
        halves = np.empty(weight.shape, np.uint16)
        return halves if kernels.halve(weight, halves) else weight
    return weight


def plain(array: Array) -> Array:
    """The array as the kernels are compiled for: a strided or read-only one would be of another type."""
    return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])


def pick(sampling: Sampling, vocab_size: int) -> Callable[..., tuple[int, float]] | None:
    """The twin of `Sampling.pick` for these options, or None where NumPy sorts the tokens quicker.

    Examples
    --------
    >>> logits, rng = np.log(np.array([0.25, 0.75], np.float32)), np.random.default_rng(0)
    >>> token, logprob = pick(Sampling(top_k=1), 2)(logits, np.zeros(2, bool), rng)
    >>> token, round(np.exp(logprob), 3)
    (1, np.float64(0.75))
    """
    if vocab_size > FEW:
        return None
    greedy, temperature = sampling.temperature < GREEDY, float(sampling.temperature)
    top_k = min(sampling.top_k or vocab_size, vocab_size)
    top_p = 1.0 if sampling.top_p is None else float(sampling.top_p)
    min_p = 0.0 if sampling.min_p is None else float(sampling.min_p)

    def run(logits: Array, seen: Array, rng: np.random.Generator) -> tuple[int, float]:
        number = 0.0 if greedy else rng.random()
        return kernels.draw(sampling.adjust(logits, seen), logits, temperature, top_k, top_p, min_p, number)

    return run
