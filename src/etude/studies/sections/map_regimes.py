"""Three regimes of a bottleneck: after the fact, tuned in its place, and trained in the model from the start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from etude.compress.methods.base import Method
from etude.compress.methods.infovae import Infovae
from etude.compress.methods.pca import Pca
from etude.compress.recipes import TrainSqueezed, Tune
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.evals.statistics import Estimate, paired
from etude.models.recipes import shape_in
from etude.report.blocks import Finding, Section, Table, Value, text
from etude.train.recipes import Train

if TYPE_CHECKING:
    from etude.studies.compress_map import CompressMap

AFTER, CODEC, BOTH, ANEW = "after the fact", "codec tuned", "codec and model tuned", "from the start"


@dataclass(frozen=True, eq=False)
class Regime:
    """One bottleneck in each regime.

    Attributes:
        component: by its output.
        method: with its size.
        recipes: by regime.
    """

    component: Site
    method: Method
    recipes: dict[str, Recipe]


def regimes(study: CompressMap, done: Mapping[Recipe, Run]) -> list[Regime]:
    """Return the bottlenecks that are tuned: of two methods, at the components whose mean costs the most."""
    found = []
    for site in _chosen(study, done):
        for method in _methods(study, done):
            after = replace(study.compress(study.of, site, method), precision=32)
            tune = Tune(after, "codec", "kl", study.tuned_steps, rate=study.tuned_rate)
            recipes: dict[str, Recipe] = {
                AFTER: after,
                CODEC: tune,
                BOTH: replace(tune, trains="both", objective="loss"),
            }
            if study.anew and isinstance(study.of, Train):
                recipes[ANEW] = TrainSqueezed(after)
            found.append(Regime(site, method, recipes))
    return found


def _chosen(study: CompressMap, done: Mapping[Recipe, Run]) -> list[Site]:
    costs = {site: done[study.average(study.of, site)].result["harm"]["increase"]["mean"] for site in study.sites(done)}
    return sorted(costs, key=lambda site: -costs[site])[: study.tuned]


def _methods(study: CompressMap, done: Mapping[Recipe, Run]) -> Iterator[Method]:
    shape = shape_in(done, study.of)
    names = study.methods or ("pca", "infovae")
    for size in (size for size in study.tuned_sizes if shape and size < shape.width):
        if "pca" in names:
            yield Pca(size)
        if "infovae" in names:
            yield replace(Infovae(size), **({"steps": study.steps} if study.steps else {}))


def regime_section(study: CompressMap, done: Mapping[Recipe, Run]) -> list[Section]:
    """Return a table of all regimes, or nothing where none was asked for."""
    found = regimes(study, done)
    if not found:
        return []
    kinds = list(found[0].recipes)
    control = _control(study, done, found[0])
    cells = tuple(
        (
            str(r.component),
            r.method.label,
            r.method.size,
            *(_rise(done[r.recipes[kind]]) for kind in kinds),
        )
        for r in found
    )
    table = Table(
        ("component", "method", "size", *kinds),
        cells,
        "Rise of the loss (nats per token) above that of the model as it was trained, on the same windows. Below 0 it"
        " is lower. 95% intervals over windows; one seed. Codes are held in 32 bits a number here.",
    )
    words = (
        f"{CODEC.capitalize()}: {study.tuned_steps} steps that bring down the divergence from the unharmed model's"
        f" predictions, the model as it was. {BOTH.capitalize()}: as many steps on the next token, everything moving."
        f" {ANEW.capitalize()}: the whole training again, same weights at the start and same batches, with the"
        " bottleneck in it."
    )
    alone = text(
        "The same steps without any bottleneck change the loss by ",
        Value(control[0].mean, control[0].low, control[0].high, run=control[1], unit="nats per token"),
        f": what \"{BOTH}\" has to be compared with.",
    ) if control else text("")  # fmt: skip
    return [Section("Tuned in its place, or there from the start", (table, alone), intro=words)]


def _rise(run: Run) -> Value:
    rise = run.result["harm"]["increase"]
    return Value(rise["mean"], rise["low"], rise["high"], run=run.id, digits=4)


def _control(study: CompressMap, done: Mapping[Recipe, Run], regime: Regime) -> tuple[Estimate, str] | None:
    """Return what the steps alone do to the loss."""
    told = done[regime.recipes[BOTH]]
    control = told.result.get("control")
    return (Estimate.from_json(control["increase"]), told.id) if control else None


def regime_findings(study: CompressMap, done: Mapping[Recipe, Run]) -> Iterator[Finding]:
    """Say whether tuning a codec end to end lowers the harm, and what training with it from the start comes to."""
    found = regimes(study, done)
    for kind, what in ((CODEC, "Tuning the codec alone, end to end,"), (ANEW, "Training with it from the start")):
        pairs = [(r.recipes[AFTER], r.recipes[kind]) for r in found if kind in r.recipes]
        if not pairs:
            continue
        gains = [_difference(done[after], done[other]) for after, other in pairs]
        better = sum(gain.below(0) for gain in gains)
        best = min(range(len(gains)), key=lambda n: gains[n].mean)
        gain, runs = gains[best], tuple(done[recipe].id for recipe in pairs[best])
        words = text(
            f"{what} harms less than the same bottleneck after the fact in ",
            Value(better, run=runs),
            f" of {len(pairs)} cases; at most, at {found[best].component} with {found[best].method.label} of"
            f" {found[best].method.size}, the loss changes by ",
            Value(gain.mean, gain.low, gain.high, run=runs, unit="nats per token"),
            ".",
        )
        yield Finding(words, "clear" if better == len(pairs) else "uncertain" if better else "none")


def _difference(one: Run, other: Run) -> Estimate:
    """Return how much lower (below 0) the loss of the second is, on the same windows."""
    a, b = (run.tensors("windows.safetensors") for run in (one, other))
    return paired(b["loss"], a["loss"], a["count"])


def regime_rows(study: CompressMap, done: Mapping[Recipe, Run]) -> list[dict[str, Any]]:
    """Return every regime as data."""
    return [
        {
            "component": str(r.component),
            "method": r.method.name,
            "size": r.method.size,
            "regime": kind,
            "rise": done[recipe].result["harm"]["increase"],
            "run": done[recipe].id,
        }
        for r in regimes(study, done)
        for kind, recipe in r.recipes.items()
    ]
