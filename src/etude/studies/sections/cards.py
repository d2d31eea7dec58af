"""A card for every run behind a report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from etude.compress.recipes import Compress
from etude.core.recipe import Recipe, recipes_in
from etude.core.run import Run
from etude.report.blocks import RunCard, Value


def cards(runs: Iterable[Run]) -> tuple[RunCard, ...]:
    """Return the cards of runs, in order."""
    return tuple(card(run) for run in runs)


def card(run: Run) -> RunCard:
    """Return what a report says of a run."""
    came = run.provenance
    return RunCard(
        run.id,
        referring(run.recipe),
        seconds=run.result["timing"]["seconds"],
        command=f"etude run {run.path.name}/recipe.json",
        machine=f"{came['machine']['processor']}, {came['threads']} thread" + ("s" if came["threads"] > 1 else ""),
        seed=came["seed"],
        code=f"{came['code']['version']} ({came['code'].get('commit', came['code']['source'])})",
        what=_what(run.recipe),
    )


def _what(recipe: Recipe) -> str:
    """Return a few words on what a run is."""
    if isinstance(recipe, Compress):
        size = f" of {recipe.method.size}" if recipe.method.size else ""
        return f"{recipe.method.name}{size} at {recipe.site}"
    return recipe.kind


def referring(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as JSON data with the recipes inside it told by their runs' ids, since these have own cards."""
    return _refer(recipe.to_json(), {_key(inner.to_json()): inner.id for inner in recipes_in(recipe)})


def _refer(data: Any, known: dict[str, str]) -> Any:
    if isinstance(data, dict):
        return {key: {"run": known[_key(v)]} if _key(v) in known else _refer(v, known) for key, v in data.items()}
    return [_refer(item, known) for item in data] if isinstance(data, list) else data


def _key(data: Any) -> str:
    return repr(data)


def measured(estimate: dict[str, Any], run: Run | str, **more: Any) -> Value:
    """Return an estimate of a run's result as a value linked to that run."""
    name = run if isinstance(run, str) else run.id
    return Value(estimate["mean"], estimate["low"], estimate["high"], run=name, **more)
