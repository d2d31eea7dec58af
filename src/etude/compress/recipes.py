"""Recipes of compression: a component compressed, and what its latents respond to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from etude.compress.methods.base import Method
from etude.compress.methods.pca import Pca
from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.evals.recipes import Record
from etude.evals.sites import require_site, shape_of
from etude.models.recipes import ModelRecipe

ROOM = 1 << 20
"""Bytes for what a run holds besides tensors whose size is known beforehand."""


@dataclass(frozen=True)
class Compress(Recipe, kind="compress", does="etude.compress.work:compress"):
    """Compress one component of a model and score the model with the compressor in place.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        site: the activation or weight that is compressed.
        method: how.
        fit_tokens: positions of the training split that the compressor is fitted to (activations only); 0 all of it.
        evaluate_tokens: tokens of the validation split that the harm is measured on; 0 all of it.
        seed: of whatever the method draws.
    """

    of: ModelRecipe
    site: str = "L0.attn.out"
    method: Method = field(default_factory=Pca)
    fit_tokens: int = 32768
    evaluate_tokens: int = 16384
    seed: int = 0

    def check(self) -> None:
        weight = require_site(self.of, self.site).is_weight
        if weight != (self.method.target == "weight"):
            raise UsageError(
                f"{self.method.name} compresses {'a weight' if self.method.target == 'weight' else 'an activation'} and"
                f" {self.site} is {'a weight' if weight else 'an activation'};"
                f" choose a site such as {'L0.attn.W_O' if not weight else 'L0.attn.out'}, or another method"
            )
        if weight and not Site(self.site).rpartition(".")[2].startswith("W_"):
            raise UsageError(f"{self.site} is a weight but no matrix; choose one such as L0.attn.W_O")

    @property
    def recording(self) -> Record | None:
        """The recording that the compressor is fitted to, or None where it compresses a weight."""
        return None if Site(self.site).is_weight else Record(self.of, self.site, self.fit_tokens)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return tuple(r for r in (self.of, self.of.text, self.recording) if r is not None)

    def estimate(self) -> Estimate:
        shape = shape_of(self.of)
        return Estimate(disk_bytes=ROOM + self.method.disk_bytes(max(shape.width, shape.feedforward) if shape else 0))


@dataclass(frozen=True)
class Latents(Recipe, kind="latents", does="etude.compress.work:latents"):
    """Show what each number of a compressor's code responds to: its top and bottom contexts on held-out text.

    Attributes:
        of: the compression; of an activation, with a continuous code.
        contexts: how many contexts at each end.
        reach: tokens shown on each side.
        most: greatest number of latents that are shown.
        evaluate_tokens: tokens of the validation split that are searched; 0 all of it.
    """

    of: Compress
    contexts: int = 4
    reach: int = 8
    most: int = 20
    evaluate_tokens: int = 16384

    def check(self) -> None:
        if Site(self.of.site).is_weight:
            raise UsageError(f"{self.of.site} is a weight, which has no latents; compress an activation")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.of, self.of.of.text)
