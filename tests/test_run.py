"""A run: its budget, the learning rate along it, when it is measured, and when it has failed."""

import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import run
from octavo.batches import HeldOut
from octavo.journal import Journal
from octavo.learn import Learner
from octavo.recipe import Recipe, Report
from octavo.run import Budget, DivergedError, Position, Watch

from .conftest import build

TEXT = "to be or not to be, that is the question: " * 30
SMALL: dict[str, Any] = {"model_type": "rnn", "sizes": {"units": (5,)}, "context": 8, "batch": 2}


def reports_of(**options: Any) -> list[Report]:
    seen: list[Report] = []
    octavo.train(TEXT, report=seen.append, **SMALL | options)
    return seen


# ---------------------------------------------------------------- the budget


def test_steps_are_counted() -> None:
    seen = reports_of(steps=7, accumulate=3)
    assert [r.step for r in seen] == list(range(1, 8))
    assert [r.tokens for r in seen] == [48 * n for n in range(1, 8)]
    np.testing.assert_allclose([r.progress for r in seen], np.arange(1, 8) / 7)
    assert seen[-1].seconds_left == 0
    assert all(math.isfinite(r.loss) for r in seen[1:])


def test_epochs_are_tokens_seen_over_the_training_text() -> None:
    seen = reports_of(epochs=0.5)
    learned_from = len(TEXT) - int(len(TEXT) * 0.1)
    assert len(seen) == math.ceil(0.5 * learned_from / 16)
    assert seen[-1].progress == 1


class Clock:
    """Every look at it costs a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_minutes_are_counted_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock())
    seen = reports_of(minutes=1)
    assert seen[-2].progress < 1 == seen[-1].progress
    assert 50 < seen[-2].seconds <= 60
    assert all(a.progress <= b.progress for a, b in itertools.pairwise(seen))


def test_minutes_count_from_when_the_process_began() -> None:
    began = time.perf_counter() - 50
    seen: list[Report] = []
    octavo.train(TEXT, minutes=1, started=began, report=seen.append, **SMALL)
    assert 50 < seen[0].seconds < 60
    assert time.perf_counter() - began < 62


def test_minutes_leave_time_to_measure_the_rest() -> None:
    budget = Budget(Recipe(minutes=2), 1000)
    assert budget.spent(5, 60) == 0.5
    budget.reading, budget.writing, budget.step = 10, 6, 4
    assert budget.spent(5, 60) == 0.6
    assert budget.spent(5, 99) == 0.99
    assert budget.spent(5, 100) == 1
    budget.reading = 500
    assert budget.spent(5, 60) == 1


def test_the_learning_rate_s_course_begins_when_the_first_step_is_compiled() -> None:
    budget = Budget(Recipe(minutes=1), 1000)
    assert budget.spent(1, 45) == 0.75
    assert budget.spent(1, 45, begun=30) == 0.5
    assert budget.spent(1, 60, begun=30) == 1
    counted = Budget(Recipe(steps=10), 1000)
    assert counted.spent(5, 45, begun=30) == 0.5


def test_minutes_that_compiling_took_are_not_part_of_the_course(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, inner = Clock(), Learner.step

    def step(self: Learner, state: Any, ids: Any, count: int, lr: float) -> Any:
        clock.now += 30 if count == 1 else 0
        return inner(self, state, ids, count, lr)

    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(Learner, "step", step)
    seen = reports_of(minutes=1, lr=1.0, warmup=0.2)
    assert seen[0].seconds > 30
    assert max(r.lr for r in seen) > 0.9
    assert [r.lr for r in seen[:3]] == sorted(r.lr for r in seen[:3])  # it warms up


def test_the_pace_leaves_out_the_step_that_compiles() -> None:
    pace = run.Pace(Recipe(steps=10, batch=2, context=8))
    assert all(map(math.isnan, pace.at(Position(step=1, progress=0.1, seconds=30))))
    assert pace.at(Position(step=6, progress=0.6, seconds=40)) == (8, pytest.approx(8))
    clocked = run.Pace(Recipe(minutes=10, batch=2, context=8))
    clocked.at(Position(step=1, progress=0.1, seconds=60))
    assert clocked.at(Position(step=2, progress=0.2, seconds=120))[1] == pytest.approx(480)


# ---------------------------------------------------------------- the learning rate


def test_the_learning_rate_rises_and_falls_over_the_budget() -> None:
    recipe = Recipe(steps=10, lr=2.0, warmup=0.25)
    rates = [run.learning_rate(x, recipe) for x in (0, 0.125, 0.25, 0.625, 1.0)]
    np.testing.assert_allclose(rates, [0, 1, 2, 1, 0], atol=1e-9)
    assert run.learning_rate(0.0, Recipe(steps=1, lr=2.0, warmup=0)) == 2.0
    assert run.learning_rate(0.5, Recipe(steps=1, lr=2.0, warmup=1)) == 1.0
    recipe = Recipe(steps=5, lr=0.01)
    seen = reports_of(steps=5, lr=0.01)
    expected = [run.learning_rate((n + 0.5) / 5, recipe) for n in range(5)]
    np.testing.assert_allclose([r.lr for r in seen], expected)


# ---------------------------------------------------------------- measuring


def watch(**budget: Any) -> Watch:
    recipe = Recipe(context=8, **budget)
    text = HeldOut(np.zeros(200, np.int32), 8, np.ones(11))
    return Watch(Learner(build("rnn"), recipe), text, Budget(recipe, 1000))


def test_the_held_out_text_is_read_twenty_times() -> None:
    watched = watch(steps=1000)
    due = [watched.due((n - 1) / 1000, n / 1000, 1.0) for n in range(1, 1001)]
    assert sum(due) == run.EVALUATIONS
    assert due[-1]


def test_reading_it_takes_no_more_than_its_share_of_the_minutes() -> None:
    watched = watch(minutes=1)
    assert watched.due(0.04, 0.06, 4.0)
    watched.seconds = 1.0
    assert not watched.due(0.09, 0.11, 6.0)
    assert watched.due(0.59, 0.61, 36.0)
    assert watched.due(0.99, 1.0, 6.0)  # the end always
    watched.clocked = False  # a number of steps is followed to the letter, whatever the clock says
    assert watched.due(0.09, 0.11, 6.0)


def test_what_reading_costs_is_kept_free_at_the_end() -> None:
    watched = watch(minutes=1)
    watched.starts = watched.starts[:5]  # a fifth of it
    watched.read(watched.learner.begin().params)
    assert watched.budget.reading == pytest.approx(5 * watched.seconds, rel=1e-3)
    assert 0 < watched.seconds < 1
    whole = watch(minutes=1)
    whole.read(whole.learner.begin().params)
    assert whole.budget.reading == 0  # it will not be read again


def test_what_is_read_whole_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    inner = Learner.measure

    def measure(self: Learner, params: Any, text: HeldOut, starts: Any = None) -> float:
        measured.append(len(text.starts if starts is None else starts))
        return inner(self, params, text, starts)

    monkeypatch.setattr(Learner, "measure", measure)
    seen = reports_of(steps=4)
    every = (len(TEXT) // 10 - 1 + 7) // 8
    assert [count for count in measured if count > 1] == [every] * sum(r.val_loss is not None for r in seen)


def test_the_last_step_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 2)  # a look at it costs two seconds, and a step takes some looks
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    seen = reports_of(minutes=1)
    took = min(b.seconds - a.seconds for a, b in itertools.pairwise(seen[1:]))
    assert seen[-1].progress == 1
    assert 60 - 3 * took < seen[-1].seconds < 60  # at 60 the minute is over


def test_writing_the_model_is_part_of_the_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took: list[float] = []
    inner = Journal.writing

    def writing(self: Journal) -> float:
        took.append(inner(self))
        return 30.0

    monkeypatch.setattr(Journal, "writing", writing)
    monkeypatch.setattr(time, "perf_counter", Clock())
    seen = reports_of(minutes=1, out=tmp_path / "model", save_every=10)
    assert 20 < seen[-1].seconds <= 30
    assert took[0] == 0 < took[-1]


# ---------------------------------------------------------------- failing


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    for bad in (math.nan, math.inf):
        position = Position(step=3, loss=2.0)
        with pytest.raises(DivergedError, match="no longer a number at step 3; try a lower learning rate"):
            position.add(bad, guess=4.0)


def test_a_loss_that_explodes_ends_the_run() -> None:
    position = Position()
    position.add(9.0, guess=4.0)  # a bad beginning is no explosion
    for _ in range(60):
        position.add(2.0, guess=4.0)
    assert position.learned

    def explode() -> None:
        for _ in range(60):
            position.add(8.0, guess=4.0)

    with pytest.raises(DivergedError, match=r"exploded to \d\.\d\d at step 0; .*--lr"):
        explode()
    assert position.loss < 5.1


def test_a_running_mean_begins_with_the_first_loss() -> None:
    position = Position()
    position.add(3.0, guess=4.0)
    assert position.loss == 3
    position.add(2.0, guess=4.0)
    assert position.loss == pytest.approx(3 - 1 / run.HORIZON)
