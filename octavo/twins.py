"""When compiled twins (`octavo.fast`) take over from a model's equations, and which there are.

Of a large model they do from the first token on, of a small one once a process has computed so much that
loading them pays, or even making them.
"""

from __future__ import annotations

import sys

import numpy as np

from octavo import fast, nn
from octavo.model import Model
from octavo.prefill import Step
from octavo.sample import Pick, Sampling

LOADING_PAYS = 2**30  # weights multiplied: who did as much may well do what loading twins takes
MAKING_PAYS = 2**34  # and where they have to be compiled before


class Hurry:
    """When compiled twins take over from a model's equations."""

    done = 0  # weights that equations have multiplied in this process

    def __init__(self, model: Model, step: Step) -> None:
        numpy = nn.namespace(*model.params.values()) is np
        self.model, self.each = model, sum(p.size for p in model.params.values()) if numpy else 0
        self.due = 0 if isinstance(step, fast.Compiled) else LOADING_PAYS

    def begins(self) -> bool:
        """Whether they do with the token that is drawn now; once."""
        Hurry.done += self.each
        if not self.each or Hurry.done < self.due:
            return False
        if Hurry.done < MAKING_PAYS and not fast.at_once(self.model):
            self.due = MAKING_PAYS
            return False
        self.each = 0
        return True


def stepper(model: Model, many: bool = False) -> Step:
    """``step(tokens, state) -> (logits, state)`` of the architecture.

    A large model's steps are compiled from the first on (`octavo.fast`), any model's once that room is open,
    and those of `many` texts at once: a row of a batch then has the bits that it would have alone.
    """
    forward, config, p = model.architecture.forward, model.config, nn.View(model.params)
    if nn.namespace(*model.params.values()) is np:
        soon = many or fast.pays(model) or ("octavo.fast.code" in sys.modules and fast.at_once(model))
        compiled = fast.compiled(model) if soon else None
        return compiled or (lambda tokens, state: forward(p, config, tokens, state))
    import jax

    jitted = jax.jit(lambda params, tokens, state: forward(params, config, tokens, state), donate_argnums=2)
    return lambda tokens, state: jitted(model.params, tokens, state)


def twins_of(model: Model, sampling: Sampling, step: Step, pick: Pick) -> tuple[Step, Pick]:
    """The compiled twins of the step and of the draw; either as it is where it has none."""
    step = fast.compiled(model) or step
    try:
        from octavo.fast import picks

        return step, picks.Draw(sampling, model.vocab_size)
    except (ImportError, OSError):  # no LLVM, or no code may be loaded
        return step, pick
