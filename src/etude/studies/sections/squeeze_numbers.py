"""The numbers of a squeezed component, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from etude.compress.recipes import Compress
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate, paired
from etude.studies.sections.map_numbers import STEADY, widened

if TYPE_CHECKING:
    from etude.studies.squeeze import Squeeze

SMALL = 0.01
"""Nats per token. A floor that raises the loss by less is no measure of what is kept: a share of it explodes."""

Row = dict[str, Any]
"""What is told of one method, or floor."""


def numbers(study: Squeeze, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return floors, methods and findings as JSON data."""
    from etude.studies.sections.findings import plain
    from etude.studies.sections.squeeze_findings import findings

    rows, floors = method_rows(study, done), floor_rows(study, done)
    said = findings(study, done, rows)
    return {
        "site": study.site,
        "floors": floors,
        "methods": rows,
        "differences": differences(study, done, rows),
        "findings": [{"text": plain(finding.text), "strength": finding.strength} for finding in said],
    }


def floor_rows(study: Squeeze, done: Mapping[Recipe, Run]) -> list[Row]:
    """Return what is told of each floor."""
    return [{"name": name, **_harmed(recipe, done)} for name, recipe in study.floors().items()]


def method_rows(study: Squeeze, done: Mapping[Recipe, Run]) -> list[Row]:
    """Return what is told of each method, in the order in which they were named."""
    rows = []
    for named in study.methods:
        first, *_ = fits = study.fits(named)
        row = {"name": named, "title": title(first), **_harmed(first, done)}
        row["rises"] = [{"run": done[fit].id, "rise": done[fit].result["harm"]["increase"]["mean"]} for fit in fits]
        row["parts"] = able(row["parts"], done[study.of.text].result["vocabulary"])
        row["kept"] = {name: kept(done[first], done[floor]) for name, floor in _measures(study).items()}
        if study.has_units(named):
            row["meaning"] = [_meaning(done[recipe]) for recipe in study.meanings(named)]
            row["latents"] = done[study.latents(named)].id
            row["match"] = next((_matched(done[recipe]) for recipe in study.match(named)), None)
        rows.append(row)
    _judge(rows)
    return rows


def title(recipe: Compress) -> str:
    """Return what a method is called: `InfoVAE, 5 dimensions`, or `heads, 50% kept`."""
    method = recipe.method
    one = "dimension" if method.counts == "dimensions" else method.counts.removesuffix("s")
    told = "% kept" if method.counts == "kept" else f" {one if method.size == 1 else method.counts}"
    return (method.label or method.name) + (f", {method.size}{told}" if method.sized else "")


def _harmed(recipe: Compress, done: Mapping[Recipe, Run]) -> Row:
    run = done[recipe]
    harm = run.result["harm"]
    kinds = ("loss", "increase", "kl", "accuracy", "explained", "parts")
    return {
        "run": run.id,
        "site": recipe.site,
        "counts": recipe.method.counts,
        "size": recipe.method.size,
        "cost": run.result["cost"],
        **{kind: harm[kind] for kind in kinds},
    }


def _measures(study: Squeeze) -> dict[str, Compress]:
    """Return the floors that a share is taken of: those through which nothing passes."""
    return {name: recipe for name, recipe in study.floors().items() if name != "random"}


def kept(one: Run, floor: Run) -> dict[str, Any]:
    """Return the share of a floor's rise in loss that a method takes back, with the rise itself; the share is None
    where the interval of the rise reaches below `STEADY` of it, or it is under `SMALL`."""
    a, b = one.tensors("windows.safetensors"), floor.tensors("windows.safetensors")
    rise = paired(b["loss"], b["clean"], b["count"])
    told = {"floor": floor.id, "rise": rise.to_json(), "share": None}
    if rise.above(0) and rise.low >= STEADY * rise.mean and rise.mean >= SMALL:
        told["share"] = share(b["loss"] - a["loss"], b["loss"] - b["clean"]).to_json()
    return told


def share(part: np.ndarray, whole: np.ndarray) -> Estimate:
    """Return the sum of a part over the sum of a whole, each given window by window, with a 95% interval over windows:
    the delta method's for a ratio of means (Cochran 1977, section 2.11), with Student's t. The whole may be below 0 in
    single windows.

    Args:
        part: [N].
        whole: [N], whose sum is above 0.
    """
    from scipy.special import stdtrit

    n, mean = len(whole), float(part.sum() / whole.sum())
    if n < 2:
        return Estimate(mean, mean, mean, n)
    error = float(np.sqrt(np.mean((part - mean * whole) ** 2) / (n - 1)) / whole.mean())
    reach = float(stdtrit(n - 1, 0.975)) * error
    return Estimate(mean, mean - reach, mean + reach, n)


def _meaning(run: Run) -> Row:
    keys = ("sets", "comparisons", "units", "windows")
    return {"run": run.id, "seed": run.recipe.to_json()["of"].get("seed", 0), **{key: run.result[key] for key in keys}}


def _matched(run: Run) -> Row:
    return {"run": run.id, **{name: run.result[name] for name in ("matched", "overlap", "shuffled", "rotated")}}


def _judge(rows: list[Row]) -> None:
    """Write the verdict on each code, corrected for all comparisons of the page: of each seed, those of all methods. A
    method that draws nothing counts among those of every seed."""
    from etude.compress.verdict import AGAINST, holm, verdict

    told = [row for row in rows if "meaning" in row]
    for number in range(max((len(row["meaning"]) for row in told), default=0)):
        each = [row["meaning"][min(number, len(row["meaning"]) - 1)] for row in told]
        pairs = [[meaning["comparisons"][name] for name in AGAINST] for meaning in each]
        chances = holm(np.array([pair["p"] for both in pairs for pair in both])).reshape(len(each), -1).tolist()
        for row, both, firm in zip(told, pairs, chances, strict=True):
            if number < len(row["meaning"]):
                said = verdict([pair["mean"] for pair in both], firm)
                row["meaning"][number] |= {"p": dict(zip(AGAINST, firm, strict=True)), "verdict": said}


def differences(study: Squeeze, done: Mapping[Recipe, Run], rows: list[Row]) -> list[Row]:
    """Return how much more each method raises the loss than the one that harms least, mean over the seeds of each, on
    the same windows. Intervals are over windows and seeds, that of the least rise (`least`) too."""
    each = {row["name"]: [done[fit] for fit in study.fits(row["name"])] for row in rows}
    rises = {name: _over_seeds(runs) for name, runs in each.items()}
    best, *others = sorted(rises, key=lambda name: rises[name].by_seed.mean())
    least = rises[best].against(None).to_json()
    found = []
    for name in others:
        runs = [run.id for run in (*each[name], *each[best])]
        gap = rises[name].against(rises[best]).to_json()
        found.append({"of": name, "against": best, "runs": runs, "least": least, **gap})
    return found


class _Rise(NamedTuple):
    """What a method raises the loss by: [N] sums over windows, mean over seeds; tokens [N] of each; [S] by seed."""

    windows: np.ndarray
    tokens: np.ndarray
    by_seed: np.ndarray

    def against(self, other: _Rise | None) -> Estimate:
        """Return the rise above another's, or above no rise."""
        base = np.zeros_like(self.windows) if other is None else other.windows
        seeds = [self.by_seed] if other is None else [self.by_seed, other.by_seed]
        return widened(paired(self.windows, base, self.tokens), *seeds)


def _over_seeds(runs: list[Run]) -> _Rise:
    held = [run.tensors("windows.safetensors") for run in runs]
    rises, count = np.stack([one["loss"] - one["clean"] for one in held]), held[0]["count"]
    return _Rise(rises.mean(0), count, rises.sum(1) / count.sum())


def able(parts: Mapping[str, Row], vocabulary: int) -> dict[str, Row]:
    """Return the parts of the text, each with whether the unharmed model does better there than not at all (`able`):
    where it repeats random tokens no better than a guess among all of the vocabulary, or learns nothing within a
    window, a code has nothing to harm."""
    floors = {"induction": math.log(vocabulary), "in-context": 0.0}
    return {
        name: {**part, "able": Estimate.from_json(part["clean"]).below(floors.get(name, math.inf))}
        for name, part in parts.items()
    }


def most_harmed(row: Row) -> tuple[str | None, bool]:
    """Return the part of the text in which the loss rises most, or None where it rises in none beyond doubt, and
    whether its interval is above that of every other part. Parts that the unharmed model is not able to do are left
    out."""
    parts = {name: Estimate.from_json(part["rise"]) for name, part in row["parts"].items() if part["able"]}
    rising = {name: rise for name, rise in parts.items() if rise.above(0)}
    if not rising:
        return None, False
    most = max(rising, key=lambda name: rising[name].mean)
    return most, all(rising[most].low > rise.high for name, rise in parts.items() if name != most)
