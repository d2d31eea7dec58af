"""What a sweep found, in words that follow from its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etude.evals.statistics import Estimate
from etude.report.blocks import Finding, Text, Value, text
from etude.studies.sections.findings import plain
from etude.studies.sections.sweep_numbers import Tried, behind, edges, effects, is_apart

if TYPE_CHECKING:
    from etude.studies.sweep import Sweep

__all__ = ["findings", "mean_over", "over", "plain", "value"]

MOST = 0.5
"""The share of the variance between points above which an axis is said to move the score most, clearly."""


def value(estimate: Estimate, runs: tuple[str, ...], label: str = "") -> Value:
    """Return an estimate as a number with its origin, without an interval where it rests on one number alone."""
    ends = (estimate.low, estimate.high) if estimate.n > 1 else (None, None)
    return Value(estimate.mean, *ends, run=runs, label=label)


def over(number: float, runs: tuple[str, ...], ends: tuple[float, float] | None = None, **more: Any) -> Value:
    """Return a number that many runs went into. One link stands for all: a hundred would say no more, since each run
    has its row in the table of points."""
    label = f"over {len(runs)} runs, of which this is the first; see the table of points"
    return Value(number, *(ends or (None, None)), run=runs[0], label=label, **more)


def mean_over(estimate: Estimate, runs: tuple[str, ...]) -> Value:
    """Return an estimate that many runs went into, as `over` does."""
    return over(estimate.mean, runs, (estimate.low, estimate.high) if estimate.n > 1 else None)


def findings(study: Sweep, points: Sequence[Tried]) -> list[Finding]:
    """Return the best point and how far it stands out, the edges it lies on, and the axis that matters most."""
    return [_best(study, points), *_edges(study, points[0]), *_matters(study, points)]


def _best(study: Sweep, points: Sequence[Tried]) -> Finding:
    """The best point, and which cannot be told apart from it."""
    best, others = points[0], points[1:]
    seeds = len(best.scores)
    among = f" over {seeds} seeds" if seeds > 1 else " from one seed"
    head = (
        f"The best of {len(points)} points is {study.named(best.point)}: {study.metric} ",
        value(best.estimate, best.ids),
        among,
    )
    if not others:
        return Finding(text(*head, ", with nothing beside it to compare."), "uncertain")
    gap = behind(others[0], best)
    to_next = (f"; the next, {study.named(others[0].point)}, differs by ", mean_over(gap, (*others[0].ids, *best.ids)))
    if seeds == 1:
        words = ". One seed a point says nothing of what the seed does, so that no two points can be told apart."
        return Finding(text(*head, *to_next, words), "uncertain")
    alike = [each for each in others if not is_apart(study, behind(each, best))]
    if not alike:
        words = " (paired by seed). It stands apart from every other point."
        return Finding(text(*head, *to_next, words), "clear")
    count = over(len(alike), tuple(name for each in (*alike, best) for name in each.ids))
    words = " points cannot be told apart from it." if len(alike) > 1 else " point cannot be told apart from it."
    return Finding(text(*head, *to_next, " (paired by seed). ", count, words), "uncertain")


def _edges(study: Sweep, best: Tried) -> list[Finding]:
    """A warning for each axis on whose edge the best point lies."""
    return [
        Finding(_warning(study, best, axis.name, edge, words), "uncertain") for axis, edge, words in edges(study, best)
    ]


def _warning(study: Sweep, best: Tried, name: str, edge: str, words: str) -> Text:
    where = "below it" if edge == "lowest" else "above it"
    return text(
        f"The best point lies on the edge of the sweep: {name} = {words} is the {edge} that was tried ({study.metric} ",
        value(best.estimate, best.ids),
        f"), and the optimum may lie {where}. Widen the axis; what is done is not done again.",
    )


def _matters(study: Sweep, points: Sequence[Tried]) -> list[Finding]:
    """Which axis moves the score most."""
    found = effects(study, points)
    if len(found) < 2 or len(points) < 4:
        return []
    most = found[0]
    sign = 1 if study.better == "lower" else -1
    levels = sorted(most.levels, key=lambda level: sign * level.estimate.mean)
    best, worst = levels[0], levels[-1]
    every = tuple(name for each in points for name in each.ids)
    words = text(
        f"{most.axis.name} moves {study.metric} most: its mean is ",
        mean_over(best.estimate, best.ids),
        f" at {best.words} and ",
        mean_over(worst.estimate, worst.ids),
        f" at {worst.words}, and it alone holds ",
        over(100 * most.share, every, unit="%", digits=0),
        " of the variance between points.",
    )
    return [Finding(words, "clear" if most.share > MOST else "uncertain")]
