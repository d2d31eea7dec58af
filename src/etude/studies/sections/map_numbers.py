"""The numbers of the compression map: every compression pooled over its seeds, on the same windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from etude.compress.methods.base import Method
from etude.compress.recipes import Compress
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.evals.statistics import Estimate, paired
from etude.studies.sections.numbers import KEPT

if TYPE_CHECKING:
    from etude.studies.compress_map import CompressMap

STEADY = 0.5
"""A share of what a component does is told only where the interval of what its mean costs reaches no further down than
this share of it."""


@dataclass(frozen=True, eq=False)
class Point:
    """One method in one size at one component, over its seeds.

    Attributes:
        component: by its output.
        method: with its size.
        runs: one for each seed.
        rise: [N] of the loss of each window, summed over its tokens, mean over seeds.
        count: [N] tokens of each window.
        by_seed: [S] mean rise a token, in nats.
        cost: of the first seed, but for bits and dimensions, which are means.
        explained: mean over seeds; None where nothing varies.
        kl: mean over seeds, nats a token.
        accuracy: mean over seeds.
        parts: by part of the text, the mean rise over seeds, nats a token.
        saved: parameters that the model would no longer need.
    """

    component: Site
    method: Method
    runs: tuple[Run, ...]
    rise: np.ndarray
    count: np.ndarray
    by_seed: np.ndarray
    cost: dict[str, Any]
    explained: float | None
    kl: float
    accuracy: float
    parts: dict[str, float]
    saved: int

    @property
    def ids(self) -> tuple[str, ...]:
        """The runs' ids."""
        return tuple(run.id for run in self.runs)

    @property
    def label(self) -> str:
        """What a report calls the method."""
        return self.method.label or self.method.name

    def estimate(self, windows: slice = slice(None)) -> Estimate:
        """Return the rise in nats a token. Its interval is over windows and over seeds: the two half widths, each from
        Student's distribution, are added as independent errors are.

        Args:
            windows: which of them.
        """
        over = paired(self.rise[windows], np.zeros_like(self.rise[windows]), self.count[windows])
        return widened(over, self.by_seed)


def widened(over: Estimate, *by_seed: np.ndarray) -> Estimate:
    """Return an estimate whose interval also covers what other seeds would change.

    Args:
        over: the estimate with its interval over windows.
        by_seed: [S] means of the seeds, of each method that it is of; one says nothing of their spread.
    """
    seeds = [float(stdtrit(len(s) - 1, 0.975) * s.std(ddof=1) / np.sqrt(len(s))) for s in by_seed if len(s) > 1]
    reach = float(np.sqrt(sum(half**2 for half in (over.mean - over.low, *seeds))))
    return Estimate(over.mean, over.mean - reach, over.mean + reach, over.n)


def points(study: CompressMap, done: Mapping[Recipe, Run]) -> dict[Site, list[Point]]:
    """Return the points of every component. They read every run: ask once."""
    return {site: pooled(site, study.of_component(site, done), done) for site in study.sites(done)}


def pooled(component: Site, recipes: Iterable[Compress], done: Mapping[Recipe, Run]) -> list[Point]:
    """Return the compressions of a component, those of the same method and size as one."""
    groups: dict[Method, list[Run]] = {}
    for recipe in recipes:
        groups.setdefault(recipe.method, []).append(done[recipe])
    return [point(component, method, runs) for method, runs in groups.items()]


def point(component: Site, method: Method, runs: list[Run]) -> Point:
    """Return what the seeds of one compression come to."""
    stored = [run.tensors("windows.safetensors") for run in runs]
    results = [run.result for run in runs]
    rises, count = np.stack([one["loss"] - one["clean"] for one in stored]), stored[0]["count"]
    harms = [result["harm"] for result in results]
    shares = [harm["explained"] for harm in harms if harm["explained"] is not None]
    cost = dict(results[0]["cost"])
    for name in ("bits", "dimensions"):
        known = [result["cost"][name] for result in results if result["cost"][name] is not None]
        cost[name] = float(np.mean(known)) if known else None
    names = set.intersection(*(set(harm["parts"]) for harm in harms))
    return Point(
        component,
        method,
        tuple(runs),
        rises.mean(0),
        count,
        rises.sum(1) / count.sum(),
        cost,
        float(np.mean(shares)) if shares else None,
        float(np.mean([harm["kl"]["mean"] for harm in harms])),
        float(np.mean([harm["accuracy"]["mean"] for harm in harms])),
        {name: float(np.mean([harm["parts"][name]["rise"]["mean"] for harm in harms])) for name in sorted(names)},
        int(results[0]["saved"]["parameters"]),
    )


def floor(mine: list[Point], name: str = "mean") -> Point | None:
    """Return the point of a floor among those of a component."""
    return next((p for p in mine if p.method.name == name), None)


def steady(mean: Point) -> bool:
    """Return whether what a component does beyond its mean is known well enough to be divided by."""
    rise = mean.estimate()
    return rise.above(0) and rise.low >= STEADY * rise.mean


def share_kept(one: Point, mean: Point) -> float | None:
    """Return the share of what a component does beyond its mean that is kept, or None where that is not steady."""
    return 1 - one.estimate().mean / mean.estimate().mean if steady(mean) else None


def keeps(one: Point, mean: Point) -> Estimate:
    """Return how far the rise goes beyond what may be lost by one that keeps `KEPT`: at or below 0 it keeps it."""
    over = paired(one.rise, (1 - KEPT) * mean.rise, one.count)
    return widened(over, one.by_seed)


def smallest_that_keeps(mine: list[Point], mean: Point) -> tuple[Point | None, bool]:
    """Return the point of the fewest bits a token that keeps `KEPT`, and whether its whole interval says so."""
    if not steady(mean):
        return None, False
    enough = [(p, keeps(p, mean)) for p in mine if p.cost["bits"] is not None and p.method.group != "floor"]
    enough = [(p, e) for p, e in enough if e.mean <= 0]
    best = min(enough, key=lambda pair: pair[0].cost["bits"], default=None)
    return (None, False) if best is None else (best[0], best[1].n > 1 and best[1].high <= 0)


def row(p: Point, mean: Point | None) -> dict[str, Any]:
    """Return a point as data."""
    return {
        "component": str(p.component),
        "site": p.runs[0].result["site"],
        "method": p.method.name,
        "group": p.method.group,
        "size": p.method.size,
        "seeds": len(p.runs),
        **p.cost,
        "saved": p.saved,
        "rise": p.estimate().to_json(),
        "by_seed": p.by_seed.tolist(),
        "kept": None if mean is None else share_kept(p, mean),
        "kl": p.kl,
        "accuracy": p.accuracy,
        "explained": p.explained,
        "parts": p.parts,
        "runs": list(p.ids),
    }


def versus(one: Point, other: Point) -> Estimate:
    """Return the difference in rise between two points on the same windows: below 0, the first harms less."""
    return widened(paired(one.rise, other.rise, one.count), one.by_seed, other.by_seed)


def survives(mine: list[Point], mean: Point, method: str) -> dict[str, int | None]:
    """Return, for each part of the text, the smallest size of a method at which less than half of what the mean costs
    there is lost, and at every larger size too; None where no size that was tried does. Parts that the mean does not
    harm are left out. What needs the largest size breaks first as the code narrows.
    """
    sizes = sorted((p for p in mine if p.method.name == method), key=lambda p: p.method.size, reverse=True)
    stands: dict[str, Any] = mean.runs[0].result["harm"]["parts"]
    found: dict[str, int | None] = {}
    for name, limit in mean.parts.items():
        rise = Estimate.from_json(stands[name]["rise"])
        if not rise.above(0) or rise.low < STEADY * rise.mean:
            continue
        found[name] = None
        for p in sizes:
            if p.parts.get(name, np.inf) > limit / 2:
                break
            found[name] = p.method.size
    return found
