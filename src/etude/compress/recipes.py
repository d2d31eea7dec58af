"""Recipes of compression: a component compressed, and what its latents respond to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import ClassVar

from etude.compress.component import input_of
from etude.compress.methods.base import Method
from etude.compress.methods.pca import Pca
from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.evals.recipes import Record
from etude.evals.sites import is_glob, require_site, shape_of
from etude.models.recipes import ModelRecipe, shape_in

ROOM = 1 << 20
"""Bytes for what a run holds besides tensors whose size is known beforehand."""


@dataclass(frozen=True)
class Compress(Recipe, kind="compress", does="etude.compress.work:compress"):
    """Compress components of a model and score the model with the compressors in place.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model, a decoder.
        site: the activation or weight that is compressed; or several, with commas between them or a glob of layers, as
            in `L*.mlp.out`. Each then has a codec of its own, fitted to the unharmed model, and all stand together.
        method: how.
        precision: bits that each number of a continuous code is held in: 32, 16, 8, 4 or 2.
        fit_tokens: positions of the training split that the compressor is fitted to; 0 all of it.
        evaluate_tokens: tokens of the validation split that the harm is measured on; 0 all of it.
        sequences: random sequences that repeat themselves on which the harm to induction is measured; 0 is none.
        seed: of whatever the method draws.
    """

    version: ClassVar[int] = 2  # 2: harm in parts of the text, costs in full

    of: ModelRecipe
    site: str = "L0.attn.out"
    method: Method = field(default_factory=Pca)
    precision: int = 32
    fit_tokens: int = 32768
    evaluate_tokens: int = 16384
    sequences: int = 32
    seed: int = 0

    def check(self) -> None:
        check_precision(self.precision)
        for name in ("fit_tokens", "evaluate_tokens", "sequences"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is 0 or more")
        for site in self.site.split(","):
            if not is_glob(site):
                check_method(self.of, Site(site), self.method)

    def sites(self, done: Mapping[Recipe, Run]) -> tuple[Site, ...]:
        """Return the sites that are named, in the order of the layers.

        Raises:
            UsageError: a glob is of more than layers, or names none.
        """
        return tuple(dict.fromkeys(site for named in self.site.split(",") for site in self._named(named, done)))

    def _named(self, named: str, done: Mapping[Recipe, Run]) -> list[Site]:
        if not is_glob(named):
            return [require_site(self.of, named)]
        layer, _, part = named.partition(".")
        shape = shape_in(done, self.of)
        layers = [f"L{n}" for n in range(shape.layers if shape else 0)]
        found = [f"{one}.{part}" for one in layers if fnmatch(one, layer)]
        if is_glob(part) or (shape and not found):
            raise UsageError(
                f"site = {named!r} names no layers of {len(layers)}: a glob stands for layers, as in L*.mlp.out"
            )
        return [check_method(self.of, Site(site), self.method) for site in found]

    def recording(self, site: Site) -> Record:
        """Return the recording of an activation that compressors are fitted to."""
        return Record(self.of, site, self.fit_tokens)

    def reads(self, site: Site, done: Mapping[Recipe, Run]) -> Site | None:
        """Return the activation that a method reads beside or in place of what is at a site, or None."""
        if self.method.target == "component" or self.method.reads_input:
            shape = shape_in(done, self.of)
            return None if shape is None else input_of(site, shape)
        return None

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        sites = self.sites(done)
        if len(sites) > 1:
            return (self.of, self.of.text, *self.alone(done))
        read = [at for site in sites for at in (site, self.reads(site, done)) if at and not at.is_weight]
        return (self.of, self.of.text, *(self.recording(at) for at in read))

    def alone(self, done: Mapping[Recipe, Run]) -> tuple[Compress, ...]:
        """Return the compression of each site by itself, whose codecs stand together where there are several."""
        return tuple(replace(self, site=site) for site in self.sites(done))

    def estimate(self) -> Estimate:
        shape = shape_of(self.of)
        return Estimate(disk_bytes=ROOM + self.method.disk_bytes(max(shape.width, shape.feedforward) if shape else 0))


@dataclass(frozen=True)
class Composed(Recipe, kind="composed", does="etude.compress.work:composed"):
    """Put several compressions of one model into it together, each as it was fitted to the unharmed model.

    Attributes:
        parts: the compressions; of one model, no two of one site.
        evaluate_tokens: tokens of the validation split that the harm is measured on; 0 all of it.
        sequences: random sequences that repeat themselves on which the harm to induction is measured; 0 is none.
    """

    parts: tuple[Compress, ...]
    evaluate_tokens: int = 16384
    sequences: int = 32

    def check(self) -> None:
        if not self.parts or len({part.of for part in self.parts}) > 1:
            raise UsageError(f"{len(self.parts)} compressions of different models: give one or more, of one model")
        named = [site for part in self.parts for site in part.site.split(",")]
        twice = [site for site in named if named.count(site) > 1]
        if twice or any(map(is_glob, named)):
            raise UsageError(f"{(twice or named)[0]} stands for several compressors of one site: name each site once")

    @property
    def of(self) -> ModelRecipe:
        """The model."""
        return self.parts[0].of

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text, *self.parts)


def check_precision(bits: int) -> None:
    """Raise UsageError where a number of a code cannot be held in so many bits."""
    if bits not in (2, 4, 8, 16, 32):
        raise UsageError(f"precision = {bits} bits: choose one of 2, 4, 8, 16, 32")


def check_method(of: ModelRecipe, site: Site, method: Method) -> Site:
    """Return a site, refused where the method compresses another kind of thing, or the model cannot have it.

    Raises:
        UsageError: it is refused.
    """
    require_site(of, site)
    wanted, last = method.target, site.rpartition(".")[2]
    told = {"activation": "an activation", "weight": "a weight", "component": "a component"}[wanted]
    if site.is_weight != (wanted == "weight"):
        raise UsageError(
            f"{method.name} compresses {told} and {site} is {'a weight' if site.is_weight else 'an activation'};"
            f" choose a site such as {'L0.attn.W_O' if wanted == 'weight' else 'L0.attn.out'}, or another method"
        )
    if site.is_weight and not last.startswith("W_"):
        raise UsageError(f"{site} is a weight but no matrix; choose one such as L0.attn.W_O")
    if last in ("pattern", "scores", "scale", "positions", "head_out"):
        raise UsageError(f"{site} has no vector for each token; choose a site such as L0.attn.out")
    if wanted == "component" and site.part not in ("attn.out", "mlp.out"):
        raise UsageError(
            f"{method.name} stands in place of a component and {site} is not the output of one; choose L0.attn.out or"
            " L0.mlp.out"
        )
    return site


@dataclass(frozen=True)
class Latents(Recipe, kind="latents", does="etude.compress.latents_work:latents"):
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
        if is_glob(self.of.site) or "," in self.of.site:
            raise UsageError(f"{self.of.site} names several sites; show the latents of one")
        if Site(self.of.site).is_weight:
            raise UsageError(f"{self.of.site} is a weight, which has no latents; compress an activation")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.of, self.of.of.text)
