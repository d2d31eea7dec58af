"""Patch: two prompts that differ in one thing, and where the difference travels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.sites import shape_of
from etude.interp.recipes import PatchKind, PatchMap, PathPatches
from etude.models.architectures.decoder import Decoder
from etude.models.recipes import ModelRecipe, shape_in
from etude.report.blocks import Report
from etude.studies.base import Study


@dataclass(frozen=True)
class Patch(Study):
    """Which activations carry what tells a clean prompt from a corrupted one, through which heads, and to whom?

    Attributes:
        of: the model, a decoder.
        clean: a prompt that the model answers rightly.
        corrupted: the same with what matters changed: as many tokens.
        right: the token that answers the clean prompt; nothing is the likeliest there.
        wrong: the token that answers the corrupted one; nothing is the likeliest there.
        receivers: what reads, for path patching: `q`, `k` or `v` of a head as in `L1H0.k`, or `logits`. Heads that
            share their keys and values read together.
    """

    of: ModelRecipe
    clean: str
    corrupted: str
    right: str = ""
    wrong: str = ""
    receivers: tuple[str, ...] = ("logits",)

    def check(self) -> None:
        shape = shape_of(self.of)
        if shape is not None and not isinstance(shape, Decoder):
            raise UsageError(f"patching reads decoders, and the model is an {shape.name}")
        if shape is not None and not shape.layers:
            raise UsageError("layers = 0: a model without heads has none to patch; choose one with a layer or more")
        if len(set(self.receivers)) < len(self.receivers):
            raise UsageError(f"receivers = {', '.join(self.receivers)}: name each once")
        self.map("resid").check()

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        maps = [self.map(kind) for kind in self.kinds(done)]
        return (self.of, *maps, self.needed, *(self.paths(name) for name in self.receivers))

    def kinds(self, done: Mapping[Recipe, Run]) -> list[PatchKind]:
        """Return what is exchanged: whatever the model has."""
        shape = shape_in(done, self.of)
        without = shape is not None and shape.attention_only
        kinds: list[PatchKind] = ["resid", "attn", "mlp", "head"]
        return [kind for kind in kinds if kind != "mlp" or not without]

    def map(self, kind: PatchKind) -> PatchMap:
        """Return the map of a kind, of clean activations put into the corrupted run."""
        return PatchMap(self.of, self.clean, self.corrupted, self.right, self.wrong, kind, estimated=kind == "head")

    @property
    def needed(self) -> PatchMap:
        """Corrupted heads put into the clean run: which of them the answer needs."""
        return PatchMap(self.of, self.clean, self.corrupted, self.right, self.wrong, "head", noising=True)

    def paths(self, receiver: str) -> PathPatches:
        """Return the direct paths from every head to one reader."""
        return PathPatches(self.of, self.clean, self.corrupted, receiver, self.right, self.wrong)

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.patch_page import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.patch_page import page

        return page(self, done)
