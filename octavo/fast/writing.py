"""Several tokens in one call of compiled code: a step of the model, a draw, the next step, the next draw.

The tokens, their probabilities and the state are those of steps and draws that are called one by one, to the
last bit: it is the same code that computes them. All that Python does otherwise between two tokens is known
ahead (what positions alone say, random numbers, room for what is remembered) or a row of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from octavo.fast import frame
from octavo.fast.packed import address
from octavo.fast.picks import Draw
from octavo.fast.team import TEAM
from octavo.sample import Draws

if TYPE_CHECKING:
    from octavo.fast import Compiled

WORK = 2**29  # weights that a call multiplies, which takes some tens of milliseconds
MOST = 256  # tokens of a call


class Written(NamedTuple):
    """What a call has written."""

    ids: list[int]
    logprobs: list[float]  # the last may be NaN
    after: Callable[[int], Any]
    """The state after so many of the tokens that were read, the first of which was there before."""


class Writing:
    """A text that is written on by compiled code.

    Parameters
    ----------
    compiled : Compiled
        The model's steps.
    draw : Draw
        The draw that follows each.
    stop : collection of int
        Tokens after which nothing is read.

    Examples
    --------
    >>> import octavo
    >>> from octavo import fast
    >>> from octavo.sample import Draws, Sampling
    >>> model, sampling = octavo.load("christie-rnn"), Sampling(temperature=0)
    >>> ids, vocab_size = model.tokenizer.encode("poir"), model.vocab_size
    >>> compiled, draw = fast.compiled(model), Draw(sampling, vocab_size)
    >>> _, state = compiled(np.array([ids[:-1]]), model.init_state())
    >>> written = Writing(compiled, draw, ())(ids[-1], state, 2, Draws(sampling, ids, vocab_size))
    >>> model.tokenizer.decode(written.ids)
    'ot'
    """

    def __init__(self, compiled: Compiled, draw: Draw, stop: Collection[int]) -> None:
        self.compiled, self.draw = compiled, draw
        weights = sum(op.constants["weight"].size for op in compiled.record.operations if op.name == "linear")
        self.most = min(max(WORK // max(weights, 1), 1), MOST)
        if not all(step.program.ahead() for step in compiled.steps.values()):
            self.most = 1
        self.ends = np.zeros(draw.own.size, bool)
        self.ends[[token for token in stop if 0 <= token < self.ends.size]] = True
        self.told = np.zeros(frame.MOVING + 1, np.int64)

    def __call__(self, last: int, state: Any, count: int, draws: Draws) -> Written:
        """Read a token after a state with room for `count`, draw one, and read that, up to `count` times."""
        step, told = self.compiled.step(state), self.told
        program, greedy = step.program, self.draw.greedy
        ids, logprobs = np.zeros(count, np.int64), np.zeros(count)
        numbers = None if greedy else draws.rng.random(count)
        with program.lock:
            moves, after = step.ready(last, state, ids)
            table = np.array(moves.rows)
            self.draw.tell(program.alone(), draws.seen)
            told[:] = [
                *(count, last, *moves.before, self.draw.at, 0 if numbers is None else address(numbers)),
                *(address(ids), address(logprobs), address(self.ends), address(table), len(table)),
            ]
            try:
                done = TEAM.run(program.told, program.threads, "write", address(told))
            finally:
                program.point()
        if numbers is not None and done < count:
            draws.rng.bit_generator.advance(done - count)  # type: ignore[attr-defined]  # as if never drawn
        return Written(ids[:done].tolist(), logprobs[:done].tolist(), after)
