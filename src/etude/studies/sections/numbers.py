"""The numbers of the progress report, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Heads
from etude.evals.statistics import Estimate, paired
from etude.train.recipes import Train

if TYPE_CHECKING:
    from etude.compress.recipes import Compress
    from etude.studies.progress_report import ProgressReport

KEPT = 0.9
"""The share of what a component does, beyond its mean, that counts as keeping it."""

Row = dict[str, Any]
"""One compression, as data."""


def numbers(study: ProgressReport, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return models, baselines, comparisons, compressions, heads and findings as JSON data."""
    from etude.studies.sections.findings import findings, plain

    models, rows = study.models(done), compressions(study, done)
    found = {
        "corpus": study.train.data.corpus.name,
        "baselines": done[study.baselines].result["baselines"],
        "models": {name: model_numbers(done[recipe]) for name, recipe in models.items()},
        "comparisons": comparisons(study, done),
        "compression": [row for of_model in rows.values() for row in of_model],
        "heads": {name: done[Heads(recipe)].outcome for name, recipe in models.items()},
    }
    said = findings(study, done, rows)
    return {**found, "findings": [{"text": plain(f.text), "strength": f.strength} for f in said]}


def model_numbers(run: Run) -> dict[str, Any]:
    """Return a training's figures."""
    result = run.result
    return {
        "run": run.id,
        "parameters": result["parameters"],
        "tokens": result["tokens"],
        "flops": result["flops"],
        **result["validation"],
        "untrained": result["untrained"],
    }


def comparisons(study: ProgressReport, done: Mapping[Recipe, Run]) -> list[dict[str, Any]]:
    """Return differences in validation loss on the same windows, in nats per token: below 0, `better` is."""
    models, base = study.models(done), done[study.baselines]
    pairs: list[tuple[str, str]] = []
    for name in study.compressed(done):
        pairs += [(name, "unigram"), (name, "bigram"), (name, "one layer")]
    pairs.append(("with feed-forward", "attention-only"))

    def windows(name: str) -> dict[str, Any]:
        return (
            done[models[name]].tensors("validation.safetensors")
            if name in models
            else base.tensors(f"{name}.safetensors")
        )

    rows = []
    for one, other in pairs:
        a, b = windows(one), windows(other)
        rows.append({"of": one, "against": other, **paired(a["loss"], b["loss"], a["count"]).to_json()})
    return rows


def compressions(study: ProgressReport, done: Mapping[Recipe, Run]) -> dict[str, list[Row]]:
    """Return the rows of each model whose components are compressed. They read every run: ask once."""
    return {name: compression(study, name, model, done) for name, model in study.compressed(done).items()}


def compression(study: ProgressReport, name: str, model: Train, done: Mapping[Recipe, Run]) -> list[Row]:
    """Return one row for each compression of a model."""
    recipes = study.compressions(model)
    means = {recipe.site: recipe for recipe in recipes if recipe.method.name == "mean"}
    writes = {weight: site for site, weight in study.sites(model).items()}
    rows = []
    for recipe in recipes:
        run, component = done[recipe], writes.get(recipe.site, recipe.site)
        harm = run.result["harm"]
        rows.append(
            {
                "model": name,
                "component": component,
                "site": recipe.site,
                "method": recipe.method.name,
                "size": recipe.method.size,
                **run.result["cost"],
                "increase": harm["increase"],
                "beyond": beyond(done, recipe, means[component]).to_json(),
                "kl": harm["kl"],
                "accuracy": harm["accuracy"],
                "explained": harm["explained"],
                "run": run.id,
            }
        )
    return rows


def beyond(done: Mapping[Recipe, Run], one: Compress, mean: Compress) -> Estimate:
    """Return how far the rise in loss goes beyond what a compression may harm that keeps `KEPT`: at or below 0 it does.

    It may harm 1 - `KEPT` of what the mean does in the component's place. That rise is an estimate too, so both are
    taken together, window by window.
    """
    a, b = done[one].tensors("windows.safetensors"), done[mean].tensors("windows.safetensors")
    return paired(a["loss"] - a["clean"], (1 - KEPT) * (b["loss"] - b["clean"]), a["count"])


def versus(done: Mapping[Recipe, Run], one: Recipe, other: Recipe) -> Estimate:
    """Return the difference in loss between two compressions on the same windows: below 0, the first harms less."""
    a, b = done[one].tensors("windows.safetensors"), done[other].tensors("windows.safetensors")
    return paired(a["loss"], b["loss"], a["count"])
