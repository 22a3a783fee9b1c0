"""The fast twin of a Transformer's forward on a CPU: the sentence recorded once, and run compiled.

    recorded.py      what a forward asks of `octavo.nn`, written down
    packed.py        weights laid out for vector registers
    lanes.py         products in vector instructions; scoring.py: attention
    instructions.py  every operation, compiled with Numba; attending.py: those on a cache
    program.py       a record as instructions, buffers and weights
    team.py          the threads that run it
    machine.py       what a processor does and Numba has no word for

The model files know nothing of it. Importing the modules above imports Numba; importing this one does not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from octavo import nn
from octavo.nn import Array
from octavo.quant import Quantized

if TYPE_CHECKING:
    from octavo.fast.program import Program
    from octavo.model import Model

MANY = 2**24  # weights for which importing Numba pays at the first token
MOST_THREADS = 255

_MADE: WeakKeyDictionary[Model, Compiled | None] = WeakKeyDictionary()


class Compiled:
    """A model's steps, compiled: a program for each kind of cache, made when it is first needed."""

    def __init__(self, model: Model) -> None:
        from octavo.fast.recorded import record

        self.record = record(model.architecture.forward, model.params, model.config, model.init_state(1, 1))
        self.threads = threads(model.threads)
        self.programs: dict[str, Program] = {}
        self.program(model.init_state(1, 1))

    def program(self, state: nn.Cache) -> Program:
        """The program for such a cache."""
        from octavo.fast.program import Program

        name = state.keys[0].dtype.name
        if name not in self.programs:
            packs = next((program.packs for program in self.programs.values()), None)
            self.programs[name] = Program(self.record, self.threads, state.keys[0].dtype, packs)
        return self.programs[name]

    def __call__(self, tokens: Array, state: nn.Cache) -> tuple[Array, nn.Cache]:
        """Ids [B, T] and a cache with room for them -> logits [B, T, V], and the cache."""
        return self.program(state)(tokens, state)

    def last(self, tokens: Array, state: nn.Cache) -> tuple[Array, nn.Cache]:
        """The same, with the logits [B, 1, V] after the last tokens alone."""
        return self.program(state).last(tokens, state)


def compiled(model: Model) -> Compiled | None:
    """The compiled steps of a model, or None where there are none and the equations compute them.

    There are some for a model whose parameters are NumPy arrays of float32 or in blocks, and whose forward
    has an instruction for everything it does, if Numba is installed. They are made once; what is written to
    the parameters later does not count, `Model.with_params` does.

    Examples
    --------
    >>> import octavo
    >>> model = octavo.load("bard")
    >>> step = compiled(model)
    >>> tokens = np.array([[3, 1, 4]])
    >>> logits, state = step(tokens, model.init_state(1, 3))
    >>> bool(abs(logits - model.forward(tokens)[0]).max() < 1e-3)
    True
    """
    if model not in _MADE:
        _MADE[model] = _made(model)
    return _MADE[model]


def _made(model: Model) -> Compiled | None:
    if not all(
        isinstance(p, Quantized) or (isinstance(p, np.ndarray) and p.dtype == np.float32)
        for p in model.params.values()
    ):
        return None
    if not isinstance(model.init_state(1, 1), nn.Cache):
        return None
    try:
        from octavo.fast.program import Program  # noqa: F401
        from octavo.fast.recorded import Unrecorded
    except (ImportError, RuntimeError):  # no Numba, or no folder where it may keep what it compiles
        return None
    try:
        return Compiled(model)
    except Unrecorded:
        return None


def pays(model: Model) -> bool:
    """Whether a model is so large, or so slow by its equations, that its first token pays for Numba."""
    params: list[Any] = list(model.params.values())
    return any(isinstance(p, Quantized) for p in params) or sum(p.size for p in params) >= MANY


def threads(asked: int | None) -> int:
    """How many threads run programs: as many as asked, else one for each processor there is for us."""
    if asked is not None:
        return min(asked, MOST_THREADS)
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(have, MOST_THREADS)
