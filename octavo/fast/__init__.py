"""The fast twin of a model's forward on a CPU: the sentence recorded once, and run compiled.

    recorded.py      what a forward asks of `octavo.nn`, written down; recording.py: how it is (standins.py)
    packed.py        weights laid out for vector registers; mapped.py: of files that are read once
    program.py       a record as instructions, buffers and weights; frame.py: how they find each other
    assigning.py     which buffer an activation gets, and who waits for whom
    steps.py         a program as a model's step; picks.py: the draw that follows
    writing.py       both in turn, several tokens in one call
    team.py          the threads that run it
    code.py          machine code, kept on disk and loaded

    compiling.py     how it is made, which is not done twice
    translating.py   Python as LLVM's code: statements; expressions.py: values; calls.py: names
    arithmetic.py    of numbers; types.py: whose types
    instructions.py  operations on a row; attending.py: those on a cache; convolving.py: on rows before it
    drawing.py       a draw; laying.py: weights
    lanes.py         products in vector instructions; scoring.py: attention; emitting.py: loops in them
    working.py       what threads do
    machine.py       what a processor does and Python has no word for

The model files know nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from octavo import nn
from octavo.checks import cores
from octavo.nn import Array
from octavo.quant import Quantized

if TYPE_CHECKING:
    from octavo.fast.packed import Packed
    from octavo.fast.steps import CacheStep, MemoryStep
    from octavo.fast.writing import Writing
    from octavo.model import Model

MANY = 2**24  # weights of a model for which loading compiled code pays at the first token
SHARED = 2**18  # weights of products that are worth a second thread
MOST_THREADS = 255

_MADE: WeakKeyDictionary[Model, Compiled | None] = WeakKeyDictionary()


class Compiled:
    """A model's steps, compiled: one for each kind of cache, made when it is first needed."""

    def __init__(self, model: Model) -> None:
        from octavo.fast.recording import record

        state = model.init_state(1, 1)
        self.record = record(model.architecture.forward, model.params, model.config, state)
        products = (op for op in self.record.operations if op.name == "linear")
        large = sum(op.constants["weight"].size for op in products) >= SHARED
        self.threads = threads(model.threads) if large else 1
        self.packs: dict[int, Packed] = {}
        self.steps: dict[str, CacheStep | MemoryStep] = {}
        self.step(state)

    def step(self, state: Any) -> CacheStep | MemoryStep:
        """The step for such a state."""
        from octavo.fast.steps import CacheStep, MemoryStep

        name = state.keys[0].dtype.name if isinstance(state, nn.Cache) else ""
        if name not in self.steps:
            self.steps[name] = (
                CacheStep(self.record, self.threads, name, self.packs)
                if name
                else MemoryStep(self.record, self.threads, self.packs)
            )
        return self.steps[name]

    def __call__(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """Ids [B, T], and a cache with room for them or a memory -> logits [B, T, V], and the state."""
        return self.step(state)(tokens, state)

    def last(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """The same, with the logits [B, 1, V] after the last tokens alone, where that is less work."""
        step = self.step(state)
        return getattr(step, "last", step)(tokens, state)


def compiled(model: Model) -> Compiled | None:
    """The compiled steps of a model, or None where there are none and the equations compute them.

    There are some for a model whose parameters are NumPy arrays of float32 or in blocks, and whose forward
    has an instruction for everything it does, if llvmlite is installed. They are made once; what is
    written to the parameters later does not count, `Model.with_params` does.

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


def at_once(model: Model) -> bool:
    """Whether `compiled` need not compile for this model: its machine code is kept, or there is none."""
    try:
        from octavo.fast.code import Unmade, function, only_kept
    except ImportError:  # no LLVM
        return True
    with only_kept():
        try:
            compiled(model)
            function("draw")
            function("write")
        except Unmade:
            return False
        except OSError:  # no code may be loaded here
            return True
    return True


def writer(step: Any, pick: Any, stop: Collection[int]) -> Writing | None:
    """What writes several tokens at once by a step and a draw; None where either is not compiled."""
    if not isinstance(step, Compiled):
        return None
    from octavo.fast.picks import Draw
    from octavo.fast.writing import Writing

    return Writing(step, pick, stop) if isinstance(pick, Draw) else None


def _made(model: Model) -> Compiled | None:
    if not all(
        isinstance(p, Quantized) or (isinstance(p, np.ndarray) and p.dtype == np.float32)
        for p in model.params.values()
    ):
        return None
    try:
        from octavo.fast import code  # noqa: F401
        from octavo.fast.recorded import Unrecorded
    except ImportError:  # no LLVM
        return None
    try:
        return Compiled(model)
    except (Unrecorded, OSError):  # the latter where no code may be loaded
        return None


def pays(model: Model) -> bool:
    """Whether a model is so large, or so slow by its equations, that its first token pays for them."""
    params: list[Any] = list(model.params.values())
    return any(isinstance(p, Quantized) for p in params) or sum(p.size for p in params) >= MANY


def threads(asked: int | None) -> int:
    """How many threads run programs: as many as asked, else one for each processor there is for us."""
    return min(cores() if asked is None else asked, MOST_THREADS)
