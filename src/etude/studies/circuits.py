"""Circuits: what a model's weights say that its heads do, and what is lost without each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Drawn, Heads
from etude.interp.recipes import HeadAblation, HeadCircuits, Paths
from etude.models.architectures.decoder import Decoder
from etude.models.recipes import ModelRecipe
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
        windows: held-out windows on which the paths of an attention-only model are counted; 0 leaves them out.
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
        if self.windows < 0:
            raise UsageError(f"windows = {self.windows}: give 0 for no paths, or a number")
        shape = self.of.shape
        if shape is not None and not isinstance(shape, Decoder):
            raise UsageError(f"circuits are read off decoders, and the model is an {shape.name}")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return tuple(r for r in (self.of, self.circuits, self.heads, self.ablation, self.paths) if r is not None)

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
    def paths(self) -> Paths | None:
        """What each path adds, where the model is attention-only."""
        shape = self.of.shape
        attention_only = shape is not None and shape.attention_only and shape.norm_at == "pre"
        return Paths(self.of, self.windows) if attention_only and self.windows else None

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.circuits_page import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.circuits_page import page

        return page(self, done)
