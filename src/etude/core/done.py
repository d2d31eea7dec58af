"""What is done: the runs at hand, looked up by their recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from etude.core.recipe import Recipe
from etude.core.run import Run


class Done(Mapping[Recipe, Run]):
    """Runs by recipe. A recipe that still says AUTO somewhere finds the run of what AUTO stands for here."""

    def __init__(self) -> None:
        self._recipes: dict[str, Recipe] = {}
        self._runs: dict[str, Run] = {}

    def add(self, recipe: Recipe, run: Run) -> None:
        """Take in the run of a resolved recipe."""
        self._recipes[recipe.id] = recipe
        self._runs[recipe.id] = run

    def __getitem__(self, recipe: Recipe) -> Run:
        return self._runs[recipe.resolve().id]

    def __contains__(self, recipe: object) -> bool:
        return isinstance(recipe, Recipe) and recipe.resolve().id in self._runs

    def __iter__(self) -> Iterator[Recipe]:
        return iter(self._recipes.values())

    def __len__(self) -> int:
        return len(self._runs)

    def runs(self) -> list[Run]:
        """Return the runs in the order in which they came."""
        return list(self._runs.values())
