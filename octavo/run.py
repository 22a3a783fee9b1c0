"""A run of training steps: the budget, the learning rate along it, when it is measured, saved and stopped.

The learning rate warms up linearly and decays along half a cosine, both as shares of the budget, be that a
number of steps, of epochs or of the minutes that are left once the first step is compiled. A budget of
minutes is followed by the clock, begins no step that would not end in time, and leaves room for measuring
the whole held-out text and for writing the model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from octavo import mesh
from octavo.batches import HeldOut
from octavo.errors import OctavoError
from octavo.learn import Learner, State
from octavo.nn import Array
from octavo.recipe import Recipe, Report

EVALUATIONS = 20  # times the held-out text is read during a run
VALIDATION_TOKENS = 2**13  # of it, evenly spaced, at each of them
VALIDATION_SHARE = 0.03  # of a budget of minutes that may go into reading it
HORIZON = 20  # steps that a running mean looks back on


class DivergedError(OctavoError):
    """The loss stopped being a number, or became worse than a guess."""


@dataclass
class Position:
    """Where a run is; what a checkpoint keeps beside the arrays."""

    step: int = 0
    progress: float = 0.0  # share of the budget that is spent
    course: float = 0.0  # and of that along which the learning rate goes
    begun: float = 0.0  # seconds until the first step was done, which compiles
    seconds: float = 0.0  # of the whole run, compiling and earlier parts of it included
    loss: float = math.nan  # running mean
    learned: bool = False  # whether the loss has ever been better than a guess

    def add(self, loss: float, guess: float) -> None:
        """Take in the loss of a step; `guess` is the loss of a uniform prediction."""
        mean = loss if math.isnan(self.loss) else self.loss + (loss - self.loss) / HORIZON
        advice = "try a lower learning rate (--lr), or a longer warm-up (--warmup)"
        if not math.isfinite(mean):
            raise DivergedError(f"the loss is no longer a number at step {self.step}; {advice}")
        if self.learned and mean > guess + 1:
            raise DivergedError(f"the loss exploded to {mean:.2f} at step {self.step}; {advice}")
        self.loss, self.learned = mean, self.learned or mean < guess


def learning_rate(progress: float, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine to zero, at `progress` in [0, 1].

    Examples
    --------
    >>> recipe = Recipe(steps=100, lr=1.0, warmup=0.1)
    >>> [round(learning_rate(x, recipe), 3) for x in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < recipe.warmup:
        return recipe.lr * progress / recipe.warmup
    decay = min((progress - recipe.warmup) / (1 - recipe.warmup + 1e-12), 1)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * decay))


class Budget:
    """How much of a recipe's budget is spent.

    Parameters
    ----------
    recipe : Recipe
        With its `steps`, `epochs` or `minutes`.
    tokens : int
        Of the text that is learned from.
    """

    def __init__(self, recipe: Recipe, tokens: int) -> None:
        self.recipe = recipe
        self.epochs_per_step = recipe.tokens_per_step / tokens
        self.step = math.inf  # seconds that a step takes at least
        self.reading = self.writing = 0.0  # and what follows the last one

    def spent(self, steps: float, seconds: float, begun: float = 0.0) -> float:
        """The share that is gone after so many steps and seconds, at most 1; of minutes, from `begun` on."""
        if self.recipe.steps is not None:
            return min(steps / self.recipe.steps, 1.0)
        if self.recipe.epochs is not None:
            return min(steps * self.epochs_per_step / self.recipe.epochs, 1.0)
        step = self.step if math.isfinite(self.step) else 0.0
        available = 60 * float(self.recipe.minutes or 0) - step - self.reading - self.writing
        return (seconds - begun) / (available - begun) if seconds < available else 1.0


class Watch:
    """Reads a sample of the held-out text now and then, and learns what that costs."""

    def __init__(self, learner: Learner, text: HeldOut, budget: Budget) -> None:
        self.learner, self.text, self.budget = learner, text, budget
        self.starts = text.sample(VALIDATION_TOKENS)
        self.seconds = 0.0  # spent on reading
        self.clocked = learner.recipe.minutes is not None
        self.compiled = False

    def due(self, before: float, now: float, seconds: float) -> bool:
        """Whether to read at this step, which took the progress from `before` to `now`."""
        if not self.text.tokens or int(now * EVALUATIONS) == int(before * EVALUATIONS):
            return False
        return now == 1 or not self.clocked or self.seconds <= VALIDATION_SHARE * seconds

    def read(self, params: dict[str, Array]) -> float:
        """Nats per token of the sample."""
        if not self.compiled:  # which is no part of what reading costs
            self.learner.measure(params, self.text, self.starts[:1])
            self.compiled = True
        started = time.perf_counter()
        loss = self.learner.measure(params, self.text, self.starts)
        took = time.perf_counter() - started
        self.seconds += took
        if self.clocked and len(self.starts) < len(self.text.starts):  # what is read whole is not read again
            _, (self.budget.reading,) = mesh.agree(False, took * len(self.text.starts) / len(self.starts))
        return loss


class Pace:
    """How fast a run goes, the first step of this process left out: it compiles."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.first: tuple[int, float] | None = None  # step and seconds

    def at(self, position: Position) -> tuple[float, float]:
        """Tokens per second, and the seconds that are left."""
        step, seconds = self.first = self.first or (position.step, position.seconds)
        steps, took = position.step - step, position.seconds - seconds
        if not steps or took <= 0:
            return math.nan, math.nan
        share = (1 - position.progress) / position.progress
        if self.recipe.minutes is not None:
            left = position.seconds * share
        else:
            left = position.step * share * took / steps
        return steps * self.recipe.tokens_per_step / took, left


def run(
    learner: Learner,
    state: State,
    position: Position,
    ids: Array,
    held_out: HeldOut,
    *,
    continued: bool,
    clock: Callable[[], float],
    stopped: Callable[[], bool],
    save_every: float,
    save: Callable[[State, Position], None],
    writing: Callable[[], float],
) -> Iterator[tuple[Report, State]]:
    """Go on from a position, step by step, until the budget is spent or `stopped`.

    Yields how it stands, and the state, which the next step spends. Weights that something `continued` from
    are measured before the first step: what it makes of them may be worse. `save` is called every so many
    seconds, and when the run is stopped before its end, between two steps: after what is done with the
    report of the last. `writing` tells the seconds that writing the model will take, as far as is known.
    """
    budget = Budget(learner.recipe, len(ids))
    watch = Watch(learner, held_out, budget)
    guess = math.log(learner.model.vocab_size)
    position.progress = max(budget.spent(position.step, position.seconds), position.progress)
    begun, saved, pace = position.step, position.seconds, Pace(learner.recipe)
    if continued and not position.step and held_out.tokens:
        first = watch.read(state.params)
        yield (
            Report(
                step=0,
                progress=0.0,
                tokens=0,
                seconds=clock(),
                loss=math.nan,
                val_loss=first,
                lr=0.0,
                tokens_per_second=math.nan,
                seconds_left=math.nan,
                val_bits_per_byte=held_out.bits_per_byte(first),
            ),
            state,
        )
    while position.progress < 1:
        before, since, count = position.progress, position.seconds, position.step + 1
        position.course = max(budget.spent(count - 0.5, position.seconds, position.begun), position.course)
        rate = learning_rate(position.course, learner.recipe)
        state, loss = learner.step(state, ids, count, rate)
        position.step = count
        position.add(float(loss), guess)
        stopping, (position.seconds, budget.writing) = mesh.agree(stopped(), clock(), writing())
        if count == 1:
            position.begun = position.seconds
        if count > begun + 1:  # the first one of this process compiles
            budget.step = min(budget.step, position.seconds - since)
        position.progress = max(budget.spent(count, position.seconds), before)
        ended = position.progress == 1
        reading = watch.due(before, position.progress, position.seconds)
        saving = not ended and (stopping or position.seconds - saved >= save_every)
        val_loss = watch.read(state.params) if reading else None
        bits = None if val_loss is None else held_out.bits_per_byte(val_loss)
        speed, left = pace.at(position)
        yield (
            Report(
                step=count,
                progress=position.progress,
                tokens=count * learner.recipe.tokens_per_step,
                seconds=position.seconds,
                loss=position.loss,
                val_loss=val_loss,
                lr=rate,
                tokens_per_second=speed,
                seconds_left=left,
                val_bits_per_byte=bits,
            ),
            state,
        )
        if saving:
            save(state, position)
            saved = position.seconds
        if stopping:
            return
