"""Points that a model of the scores so far proposes, with Optuna."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from etude.core.errors import UsageError
from etude.studies.search.base import Score, Search
from etude.studies.sections.axes import Axis, Point, Setting


@dataclass(frozen=True)
class Optuna(Search):
    """Points proposed by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), from the scores so far.

    Every question is answered by asking Optuna from the beginning and telling it the scores that are known, so nothing
    but the runs is kept and a sweep that was killed goes on at the same point. Another version of Optuna may propose
    other points; those that are done are then not found again.

    Attributes:
        n: how many times it is asked. It may propose a point again, which costs nothing.
        seed: of its drawing.
        startup: how many of the first are drawn at random.
        together: how many are asked for at once, before any of them is scored: as many as run at the same time, and
            part of the outcome.
    """

    looks_ahead: ClassVar[bool] = False

    n: int = 20
    seed: int = 0
    startup: int = 8
    together: int = 1

    def check(self) -> None:
        for name in ("n", "startup", "together"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is 1 or more")

    def points(self, axes: Sequence[Axis], score: Score) -> list[Point]:
        if importlib.util.find_spec("optuna") is None:
            raise UsageError("the search optuna needs what is not installed: pip install 'etude[sweep]'")
        optuna = importlib.import_module("optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=self.seed, n_startup_trials=self.startup)
        study = optuna.create_study(sampler=sampler)
        found: dict[Point, None] = {}
        for first in range(0, self.n, self.together):
            trials = [study.ask() for _ in range(min(self.together, self.n - first))]
            asked = [tuple(_suggested(trial, axis) for axis in axes) for trial in trials]
            found |= dict.fromkeys(asked)
            scores = [score(point) for point in asked]
            if any(known is None for known in scores):
                break
            for trial, known in zip(trials, scores, strict=True):
                study.tell(trial, known)
        return list(found)


def _suggested(trial: Any, axis: Axis) -> Setting:
    """Return what a trial proposes for an axis: a number of a range, or one of a list, whose order counts where it is
    one of numbers."""
    if not axis.settings:
        if axis.whole:
            return axis.near(trial.suggest_int(axis.name, int(axis.low), int(axis.high), log=axis.log))
        return axis.near(trial.suggest_float(axis.name, axis.low, axis.high, log=axis.log))
    if axis.ordered and len(axis.settings) > 2:
        rising = sorted(axis.settings)
        return rising[trial.suggest_int(axis.name, 0, len(rising) - 1)]
    return axis.settings[trial.suggest_categorical(axis.name, range(len(axis.settings)))]
