"""A budget of bits over a model's components: chosen on every other window, judged on those between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.compress.allocation import Choice, Option, even, greedy, priced
from etude.compress.recipes import Composed, Compress
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.evals.statistics import Estimate, paired

if TYPE_CHECKING:
    from etude.studies.compress_map import CompressMap

WAYS: dict[str, Callable[..., Choice]] = {"even": even, "greedy": greedy, "by price": priced}
"""How a budget is spent: the same share everywhere, step by step, or by one price on bits."""

CHOSEN, JUDGED = slice(0, None, 2), slice(1, None, 2)
"""The windows that a choice is made on, and those that it is judged on."""

UNTOUCHED = 32
"""Bits of each number of a component that is left as it is."""


@dataclass(frozen=True, eq=False)
class Allocation:
    """A budget spent.

    Attributes:
        way: how, by name.
        budget: bits a token over all components.
        choice: the option of each component.
        parts: the compression of each component that is compressed.
        recipe: the composed model; None where nothing is compressed.
        bits: that are spent.
        predicted: the sum of what each does alone, on the windows that it is judged on.
    """

    way: str
    budget: float
    choice: Choice
    parts: dict[str, Compress]
    recipe: Composed | None
    bits: float
    predicted: float

    def measured(self, done: Mapping[Recipe, Run]) -> Estimate:
        """Return what the composed model loses on the windows that it is judged on, in nats a token."""
        if self.recipe is None:
            return Estimate(0.0, 0.0, 0.0, 1)
        held = done[self.recipe].tensors("windows.safetensors")
        return paired(held["loss"][JUDGED], held["clean"][JUDGED], held["count"][JUDGED])


def allocations(study: CompressMap, done: Mapping[Recipe, Run]) -> list[Allocation]:
    """Return every budget spent in every way; a budget under the smallest codes is left out."""
    recipes = {str(site): _candidates(study, site, done) for site in study.sites(done)}
    options = {name: [_option(done[r], key) for key, r in enumerate(those)] for name, those in recipes.items()}
    width = _width(study, done)
    for those in options.values():
        those.append(Option(float(UNTOUCHED * width), 0.0, -1))
    found = []
    for each in study.budgets:
        budget = float(each * len(options))
        for way, spend in WAYS.items():
            try:
                choice = spend(options, budget)
            except UsageError:
                continue
            found.append(_allocation(study, way, budget, choice, recipes, done))
    return found


def _allocation(
    study: CompressMap,
    way: str,
    budget: float,
    choice: Choice,
    recipes: Mapping[str, list[Compress]],
    done: Mapping[Recipe, Run],
) -> Allocation:
    parts = {name: recipes[name][option.key] for name, option in choice.items() if option.key >= 0}
    composed = Composed(tuple(parts.values()), study.evaluate_tokens, study.sequences) if parts else None
    predicted = sum(_rise(done[part], JUDGED) for part in parts.values())
    bits = sum(option.bits for option in choice.values())
    return Allocation(way, budget, choice, parts, composed, bits, predicted)


def _candidates(study: CompressMap, site: Site, done: Mapping[Recipe, Run]) -> list[Compress]:
    """Return the compressions of a component whose code has a number of bits, one seed of each."""
    mine = [recipe for recipe in study.of_component(site, done) if recipe.seed == 0]
    return [recipe for recipe in mine if done[recipe].result["cost"]["bits"] is not None and recipe.site == site]


def _option(run: Run, key: int) -> Option:
    return Option(run.result["cost"]["bits"], _rise(run, CHOSEN), key)


def _rise(run: Run, windows: slice) -> float:
    held = run.tensors("windows.safetensors")
    return float((held["loss"] - held["clean"])[windows].sum() / held["count"][windows].sum())


def _width(study: CompressMap, done: Mapping[Recipe, Run]) -> int:
    from etude.models.recipes import shape_in

    shape = shape_in(done, study.of)
    return shape.width if shape else 0
