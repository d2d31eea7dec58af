"""A sweep: one recipe at many points of its fields, each from several seeds, and which point serves best.

The points are a grid, are drawn, or are proposed from what came of those before; see `search/`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self, cast

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.spec import label
from etude.core.within import Path, changed, dotted, place
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.studies.progress_report import ProgressReport
from etude.studies.search.base import Search
from etude.studies.search.grid import Grid
from etude.studies.sections.axes import Axis, Point, joined, read_axes
from etude.studies.sections.scores import score_of
from etude.train.recipes import Train

MOST_CHECKED = 1024
"""Combinations of the ends of axes that are built beforehand, where a search does not say its points."""


@dataclass(frozen=True)
class Sweep(Study):
    """Which values of a recipe's fields serve it best, and by more than the seed?

    Attributes:
        axes: what is varied, one text an axis: `batch=16,32`, `schedule.peak=1e-4..1e-2:log:5` (five values at equal
            ratios), `model.layers=1..4` (whole numbers), `optimiser=adamw,muon`, or fields that go together,
            `model.width/model.heads=64/2,128/4`. A range without a number of values is for searches that draw.
        of: the recipe that is varied, with what all its points share.
        search: which points are tried.
        seeds: runs of each point, from as many seeds: the recipe's own and those after it.
        seed_field: the field that takes the seed.
        metric: the score, by its path in the run's result.
        better: whether a lower score is better, or a higher one.
    """

    axes: tuple[str, ...]
    of: Recipe = field(default_factory=Train)
    search: Search = field(default_factory=Grid)
    seeds: int = 3
    seed_field: str = "seed"
    metric: str = "validation.loss"
    better: Literal["lower", "higher"] = "lower"

    def __post_init__(self) -> None:
        if isinstance(self.axes, tuple | list) and all(isinstance(text, str) for text in self.axes):
            object.__setattr__(self, "axes", joined(self.axes))
        super().__post_init__()

    @classmethod
    def presets(cls) -> dict[str, Self]:
        base = cast(Train, ProgressReport.preset("quick").train)
        short = replace(
            base, steps=400, evaluate_every=100, evaluate_tokens=16384, schedule=replace(base.schedule, warmup=40)
        )
        return {
            "quick": cls(("schedule.peak=1e-3,4e-3,1.6e-2", "model.feedforward=0,512"), short),
            "seed": cls(
                (
                    "schedule.peak=5e-4..4e-3:log:4",
                    "model.layers/model.width/model.heads=1/128/4,2/128/4,2/64/2",
                    "model.feedforward=0,512",
                ),
                base,
            ),
        }

    def check(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"seeds = {self.seeds} are too few: each point is run from 1 or more")
        if not self.metric:
            raise UsageError("metric is empty: name a number of the run's result, such as validation.loss")
        taken = [path for axis in self.read for path in axis.paths]
        if self.seeds > 1 and self.seed_path in taken:
            raise UsageError(f"{self.seed_field} is an axis and takes the seeds too; set --seeds 1, or drop the axis")
        for point in self._points_to_check():
            try:
                self.trials(point)
            except UsageError as error:
                raise UsageError(f"the point {self.named(point)} cannot be: {error}") from None

    def _points_to_check(self) -> Iterable[Point]:
        """Return all points where they are known, so that nothing runs before each was built; else the corners."""
        if self.search.looks_ahead:
            return self.search.points(self.read, lambda point: None)
        return itertools.islice(itertools.product(*(axis.ends for axis in self.read)), MOST_CHECKED)

    # What is wanted

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        asked = dict.fromkeys(trial for point in self.points(done) for trial in self.trials(point))
        # So that no core waits for the longest at the end.
        return sorted(asked, key=lambda trial: -trial.estimate().flops)

    @cached_property
    def read(self) -> tuple[Axis, ...]:
        """The axes, read."""
        return read_axes(self.axes, self.of)

    @cached_property
    def seed_path(self) -> Path:
        """The path of the field that takes the seed.

        Raises:
            UsageError: it is no field of whole numbers.
        """
        found = place(self.of, self.seed_field)
        if not found.is_whole:
            raise UsageError(f"{found.name} of {label(type(self.of))} takes no seed; name a field of whole numbers")
        return found.path

    def points(self, done: Mapping[Recipe, Run]) -> list[Point]:
        """Return the points that are wanted, given the runs that are done."""

        def score(point: Point) -> float | None:
            trials = self.trials(point)
            if not all(trial in done for trial in trials):
                return None
            scores = [score_of(done[trial], self.metric) for trial in trials]
            return (1 if self.better == "lower" else -1) * sum(scores) / len(scores)

        return self.search.points(self.read, score)

    def trials(self, point: Point) -> list[Recipe]:
        """Return the recipes of a point, one a seed."""
        held: dict[Path, Any] = {}
        for axis, setting in zip(self.read, point, strict=True):
            held |= dict(zip(axis.paths, setting, strict=True))
        if self.seeds == 1:
            return [cast(Recipe, changed(self.of, held))]
        first = place(self.of, self.seed_field).held
        return [cast(Recipe, changed(self.of, {**held, self.seed_path: first + n})) for n in range(self.seeds)]

    def named(self, point: Point) -> str:
        """Return a point in words: `batch = 16, schedule.peak = 0.001`."""
        pairs = zip(self.read, point, strict=True)
        return ", ".join(
            f"{dotted(path)} = {word}"
            for axis, setting in pairs
            for path, word in zip(axis.paths, axis.words(setting), strict=True)
        )

    # What came of it

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.sweep_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.sweep_page import page

        return page(self, done)
