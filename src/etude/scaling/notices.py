"""What a reader of a fit has to be warned of, as plain sentences. No warning, no sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from etude.scaling.envelope import Approach1
from etude.scaling.intervals import Interval
from etude.scaling.isoflop import Approach2, Valley
from etude.scaling.law import Power, Spending
from etude.scaling.points import Points

FEW_SIZES = 4
"""Sizes under which a parabola goes through its points, or nearly, and nothing shows that it is the wrong curve."""

STRAY = 0.05
"""How far a + b may be from 1."""

EVEN = 1.1
"""How many times off their power law FLOPs may be."""

SEEN = 0.005
"""Share of the compared FLOPs under which none is to be seen in whole percents."""

AGREE = 0.1
"""Least share of an optimiser's starts that should end at the best fit; 0.1 of 4,500 are still 450."""

SPREAD = 0.01
"""How far alpha or beta may differ between the fits that are as good as the best."""

_FAULTS = {
    "opens downward": "its parabola opens downward, so it has no least loss",
    "flat": "its losses are the same, so it has no least loss",
    "far outside": "the bottom of its parabola lies further outside the sweep than the sweep is wide",
}


def of_valleys(valleys: Iterable[Valley]) -> list[str]:
    """Warn of budgets that are left out, of bottoms at the edge of their sweep, and of few sizes."""
    return [text for valley in valleys for text in _of_valley(valley)]


def _of_valley(valley: Valley) -> Iterator[str]:
    who = f"The budget of {valley.flops:.3g} FLOPs"
    if valley.fault == "too few sizes":
        yield f"{who} is left out: it has {_sizes(valley)} and a parabola needs 3."
    elif valley.fault:
        yield f"{who} is left out: {_FAULTS[valley.fault]}. Its sizes run from {_range(valley)} parameters."
    elif valley.sizes < FEW_SIZES:
        yield f"{who} has {_sizes(valley)}: its parabola goes through them whatever the truth is; add one."
    if valley.edge and valley.optimum is not None:
        better = "smaller" if valley.edge == "smallest" else "larger"
        yield (
            f"{who} has its least loss at the edge of its sweep, near {valley.optimum.params:.3g} parameters of"
            f" {_range(valley)}: add {better} sizes."
        )


def _sizes(valley: Valley) -> str:
    return f"{valley.sizes} size{'s' * (valley.sizes != 1)}"


def _range(valley: Valley) -> str:
    return f"{valley.smallest:.3g} to {valley.largest:.3g}"


def of_exponents(approach: str, power: Power) -> list[str]:
    """Warn where a + b strays from 1. Under C = 6 N D it cannot; under exact FLOPs it does by a little, as attention
    and the unembedding weigh differently by size."""
    if abs(power.a + power.b - 1) <= STRAY:
        return []
    return [
        f"The exponents of {approach} come to a + b = {power.a + power.b:.2f}: FLOPs are not proportional to parameters"
        " times tokens over this range, so that neither is to be extrapolated far."
    ]


def of_approach_1(found: Approach1) -> list[str]:
    """Warn of FLOPs left out at the edges, of few sizes on the frontier, and of a + b."""
    ends = (("smallest", "smaller", found.at_smallest), ("largest", "larger", found.at_largest))
    edges = [
        f"At {share:.0%} of the compared FLOPs the {end} size is best and approach 1 leaves them out: {more} sizes may"
        " be better still."
        for end, more, share in ends
        if share >= SEEN
    ]
    few = [f"The frontier of approach 1 is a staircase of {found.sizes} sizes: its exponents move with where they lie."]
    return [*edges, *(few if found.sizes < FEW_SIZES else []), *of_exponents("approach 1", found.frontier.power)]


def of_runs(points: Points) -> list[str]:
    """Warn where the bootstrap of approach 1 has little to draw from."""
    sizes = np.unique(points.params)
    lone = sum(len(np.unique(points.run[points.params == size])) == 1 for size in sizes)
    if lone * 2 <= len(sizes):
        return []
    return [
        f"{lone} of {len(sizes)} sizes have one training each: drawing trainings again cannot show how far approach 1"
        " would move, and its intervals are too narrow."
    ]


def of_approach_2(found: Approach2) -> list[str]:
    """Warn of valleys, of the fewest budgets there may be, and of a + b."""
    used = len(found.used)
    few = ["Approach 2 rests on 2 budgets: a line goes through them whatever the truth is."] if used == 2 else []
    return [*of_valleys(found.valleys), *few, *of_exponents("approach 2", found.frontier.power)]


def of_draws(intervals: Mapping[str, Interval]) -> list[str]:
    """Warn of numbers that many draws did not give, or none."""
    return [text for name, interval in intervals.items() for text in _of_interval(name, interval)]


def _of_interval(name: str, interval: Interval) -> Iterator[str]:
    if interval.draws and interval.lost == interval.draws:
        yield f"{name} has no interval: no draw of the bootstrap gave a number, as with three sizes at every budget."
    elif interval.draws and np.isnan(interval.low):
        yield f"{name} has no interval: {interval.lost} of {interval.draws} draws of the bootstrap gave no number."


def of_spending(points: Points, spending: Spending) -> list[str]:
    """Warn where FLOPs are no power of parameters times tokens, which approach 3 takes them for.

    Args:
        points: what it is fitted to.
        spending: the power law that it reckons with.
    """
    off = points.flops / (spending.k * points.params**spending.gamma * points.tokens)
    if max(off.max(), 1 / off.min()) <= EVEN:
        return []
    return [
        f"FLOPs are off from {spending.k:.3g} N^{spending.gamma:.2f} D, which approach 3 reckons with, by up to"
        f" {max(off.max(), 1 / off.min()) - 1:.0%}: its best sizes are off with them."
    ]


def of_starts(reached: float, spread: float) -> list[str]:
    """Warn where the optimiser's starts disagree.

    Args:
        reached: share of the starts that ended at the best fit of approach 3.
        spread: how far alpha or beta at most is from the fit's where a start ended nearly as well.
    """
    texts = []
    if reached < AGREE:
        texts.append(f"Only {reached:.1%} of the starts of approach 3 end at its best fit: the points hardly fix it.")
    if spread > SPREAD:
        texts.append(
            f"Fits of approach 3 that are nearly as good as the best differ by up to {spread:.2g} in alpha or beta: the"
            " points do not fix them."
        )
    return texts
