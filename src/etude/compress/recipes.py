"""Recipes of compression: activations recorded once, a component compressed, and what its latents respond to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from etude.compress.methods.base import Method
from etude.compress.methods.pca import Pca
from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.models.recipes import ModelRecipe


@dataclass(frozen=True)
class Record(Recipe, kind="record", does="etude.compress.work:record"):
    """Record a site's activations on the training split, once for every method and size that is fitted to them.

    Attributes:
        of: the model.
        site: the activation.
        tokens: how many positions, spread over the split; 0 all of it.
    """

    of: ModelRecipe
    site: str
    tokens: int = 32768

    def check(self) -> None:
        if Site(self.site).is_weight:
            raise UsageError(f"{self.site} is a weight, which needs no recording; record an activation")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)


@dataclass(frozen=True)
class Compress(Recipe, kind="compress", does="etude.compress.work:compress"):
    """Compress one component of a model and score the model with the compressor in place.

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
        weight = Site(self.site).is_weight
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
        return Estimate(disk_bytes=1 << 20)


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
