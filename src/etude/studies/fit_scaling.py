"""Compute-optimal scaling from a table of trained models: nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, cosmetic
from etude.report.blocks import Report
from etude.scaling.recipes import FitLaws, Table
from etude.studies.base import Study


@dataclass(frozen=True)
class FitScaling(Study):
    """What do trained models, given as a table, say of the best size and number of tokens for a budget?

    Attributes:
        points: the table, one row a trained model: a `.csv` with a header line, `.jsonl` or `.parquet`. It does not
            enter the fingerprint: the content does.
        sha256: identity of the table's content. Left at auto, it is taken from what is there.
        params: column of the parameters.
        tokens: column of the tokens trained on.
        loss: column of the loss, in nats a token.
        flops: column of the training FLOPs; none counts 6 for each parameter and token.
        budget: column that says which rows share a budget of FLOPs; none reads it off the FLOPs.
        bin: greatest FLOPs of a budget over its least, where budgets are read off the FLOPs.
        delta: of the Huber loss on the logarithm of the loss, in approach 3.
        draws: bootstrap samples behind each interval.
        outlier: a point further from the law than so many robust standard deviations is called an outlier.
        advise: budgets of FLOPs of your own, for which sizes and tokens are advised.
        seed: of the samples.
    """

    points: str = cosmetic("")
    sha256: str = AUTO
    params: str = "params"
    tokens: str = "tokens"
    loss: str = "loss"
    flops: str = ""
    budget: str = ""
    bin: float = 1.2
    delta: float = 1e-3
    draws: int = 1000
    outlier: float = 5.0
    advise: tuple[float, ...] = ()
    seed: int = 0

    def check(self) -> None:
        _ = self.fit  # which checks what is handed on

    def settle(self) -> Self:
        return self if self.sha256 != AUTO else replace(self, sha256=self.table.settle().sha256)

    @property
    def table(self) -> Table:
        """The table as a recipe."""
        return Table(self.points, self.sha256, self.params, self.tokens, self.loss, self.flops, self.budget)

    @property
    def fit(self) -> FitLaws:
        """The fits."""
        return FitLaws(self.table, self.delta, self.draws, self.bin, self.outlier, self.advise, self.seed)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.table, self.fit)

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        return done[self.fit].outcome

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.scaling_page import page_of_table

        return page_of_table(self, done)
