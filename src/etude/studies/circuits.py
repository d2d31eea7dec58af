"""Circuits: what a model's weights say that its heads do, and what is lost without each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Drawn, Heads
from etude.evals.sites import shape_of
from etude.interp.recipes import HeadAblation, HeadCircuits, Paths
from etude.models.architectures.decoder import Decoder
from etude.models.recipes import ModelRecipe, shape_in
from etude.report.blocks import Report
from etude.studies.base import Study


@dataclass(frozen=True)
class Circuits(Study):
    """Which heads copy, which read what others write, and which does the model need to go on with what it has read?

    Read off the weights (QK and OV circuits, composition), measured on repeated random tokens (attention, ablation),
    and of an attention-only model counted path by path.

    Attributes:
        of: the model, a decoder.
        pairs: token pairs that are shown of each circuit.
        sequences: random sequences on which heads are scored and taken out.
        drawn: tokens that these are made of, as for `heads`.
        how: what stands in for a head that is taken out.
        windows: held-out windows on which the paths of an attention-only model are counted; 0 leaves them out, and so
            does a model that has too many.
        seed: of sequences and random heads.
    """

    of: ModelRecipe
    pairs: int = 8
    sequences: int = 64
    drawn: Drawn = "vocabulary"
    how: Literal["zero", "mean", "resample"] = "mean"
    windows: int = 8
    seed: int = 0

    def check(self) -> None:
        if self.windows < 0 or self.sequences < 2:
            raise UsageError(
                f"windows = {self.windows}, sequences = {self.sequences}: give 0 windows for no paths, or a number, and"
                " 2 sequences or more"
            )
        shape = shape_of(self.of)
        if shape is not None and not isinstance(shape, Decoder):
            raise UsageError(f"circuits are read off decoders, and the model is an {shape.name}")
        if shape is not None and not shape.layers:
            raise UsageError("layers = 0: a model without heads has no circuits; choose one with a layer or more")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        wanted: tuple[Recipe, ...] = (self.of, self.circuits, self.heads, self.ablation)
        return (*wanted, self.paths) if self.counts_paths(done) else wanted

    @property
    def circuits(self) -> HeadCircuits:
        """What the weights say."""
        return HeadCircuits(self.of, self.pairs, seed=self.seed)

    @property
    def heads(self) -> Heads:
        """Where the heads look."""
        return Heads(self.of, self.sequences, self.drawn, self.seed)

    @property
    def ablation(self) -> HeadAblation:
        """What is lost without each."""
        return HeadAblation(self.of, self.how, sequences=self.sequences, drawn=self.drawn, seed=self.seed)

    @property
    def paths(self) -> Paths:
        """What each path adds."""
        return Paths(self.of, self.windows)

    def counts_paths(self, done: Mapping[Recipe, Run]) -> bool:
        """Return whether paths are counted: the model is a sum over them, and they are not too many."""
        return bool(self.windows and 0 < self.path_count(done) <= self.paths.most)

    def path_count(self, done: Mapping[Recipe, Run]) -> int:
        """Return how many paths the model is a sum over; 0 where it is none."""
        shape = shape_in(done, self.of)
        if shape is None or not shape.attention_only or shape.norm_at == "post":
            return 0
        return (1 + shape.heads) ** shape.layers

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.circuits_page import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.circuits_page import page

        return page(self, done)
