"""Recipes of scaling: points to fit a law to, the fit, and a short look at how fast a training goes here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from etude.core.errors import UsageError
from etude.core.files import sha256_of
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, cosmetic
from etude.train.recipes import Train

Counted = Literal["all", "without-embeddings"]
"""Which parameters make a model's size: all, or those that are not of embeddings and unembedding."""

Convention = Literal["exact", "appendix-f", "table-a4", "6nd", "6nd-without-embeddings"]
"""How training FLOPs are counted: the matrix products one by one (`etude.models.sizes`), or six for each parameter and
token, embeddings counted or not."""


@dataclass(frozen=True)
class PointsRecipe(Recipe):
    """Base of what gives points to fit a law to. Its run holds them as `points.csv`, which `fit-scaling` reads too."""


@dataclass(frozen=True)
class Table(PointsRecipe, kind="points", does="etude.scaling.work:table"):
    """Read trained models from a table of one's own.

    Attributes:
        path: a `.csv` with a header line, `.jsonl` or `.parquet`. It does not enter the fingerprint: the content does.
        sha256: identity of the content. Left at auto, it is taken from what is there.
        params: column of the parameters.
        tokens: column of the tokens trained on.
        loss: column of the loss, in nats a token.
        flops: column of the training FLOPs; none counts 6 for each parameter and token.
        budget: column of the budgets of FLOPs; none reads them off the FLOPs.
    """

    path: str = cosmetic("")
    sha256: str = AUTO
    params: str = "params"
    tokens: str = "tokens"
    loss: str = "loss"
    flops: str = ""
    budget: str = ""

    def check(self) -> None:
        for name in ("params", "tokens", "loss"):
            if not getattr(self, name):
                raise UsageError(f"--{name} is empty: name the column that holds it")

    def settle(self) -> Self:
        return self if self.sha256 != AUTO else replace(self, sha256=sha256_of(self.file()))

    def file(self) -> Path:
        """Return the table's place.

        Raises:
            UsageError: no path was given, or no file is there.
        """
        path = Path(self.path).expanduser()
        if not self.path or not path.is_file():
            found = f"no file {self.path!r}" if self.path else "no table was given"
            raise UsageError(
                f"{found}: give a .csv, .jsonl or .parquet with a row for each trained model: --points FILE"
            )
        return path


@dataclass(frozen=True)
class Swept(PointsRecipe, kind="swept", does="etude.scaling.work:swept"):
    """Gather trainings as points, with their learning curves.

    Attributes:
        of: the trainings.
        budgets: FLOPs that each was meant to spend; none where they share no budgets.
        counted: which parameters make the size.
        convention: how FLOPs are counted.
    """

    of: tuple[Train, ...]
    budgets: tuple[float, ...] = ()
    counted: Counted = "all"
    convention: Convention = "exact"

    def check(self) -> None:
        if not self.of:
            raise UsageError("there is nothing to gather: name one training or more with --of")
        if self.budgets and len(self.budgets) != len(self.of):
            raise UsageError(f"{len(self.budgets)} budgets for {len(self.of)} trainings: give each its own, or none")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return dict.fromkeys(need for train in self.of for need in (train, train.data))


@dataclass(frozen=True)
class FitLaws(Recipe, kind="fit-laws", does="etude.scaling.work:fit_laws"):
    """Fit the three laws of Hoffmann et al. 2022, section 3, to points, with bootstrap intervals.

    Attributes:
        of: the points.
        delta: of the Huber loss on the logarithm of the loss, in approach 3.
        draws: bootstrap samples, drawn by training; each is fitted anew.
        bin: greatest FLOPs of a budget over its least, where budgets are read off the FLOPs.
        outlier: a point further from the law than so many robust standard deviations is called an outlier.
        budgets: FLOPs for which advice is given, beside those of the points.
        seed: of the samples.
    """

    version: ClassVar[int] = 2  # 2: no interval where more than a twentieth of the draws gave no number

    of: PointsRecipe
    delta: float = 1e-3
    draws: int = 1000
    bin: float = 1.2
    outlier: float = 5.0
    budgets: tuple[float, ...] = ()
    seed: int = 0

    def check(self) -> None:
        if self.delta <= 0 or self.outlier <= 0 or self.bin <= 1:
            raise UsageError(
                f"delta = {self.delta:g}, outlier = {self.outlier:g}, bin = {self.bin:g}: the first two are above 0,"
                " and bin above 1"
            )
        if self.draws < 20:
            raise UsageError(f"draws = {self.draws} are too few for an interval: give 20 or more; 1000 is usual")
        if any(budget <= 0 for budget in self.budgets):
            raise UsageError(f"budgets = {self.budgets}: FLOPs are above 0")


@dataclass(frozen=True)
class Calibrate(Recipe, kind="calibrate", does="etude.scaling.work:calibrate"):
    """Take a few steps of a training, to learn how long all of it will take on this machine.

    Attributes:
        of: the training.
        steps: how many, after two that do not count.
    """

    of: Train
    steps: int = 8

    def check(self) -> None:
        if self.steps < 1:
            raise UsageError(f"steps = {self.steps} measure nothing: give 1 or more")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of.data,)
