"""The map: how far does every component of a model compress, by every method, and where should a budget of bits go?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self, cast

from etude.compress.checks import check_precision
from etude.compress.methods.base import Method
from etude.compress.methods.mean import Mean
from etude.compress.methods.pca import Pca
from etude.compress.recipes import Composed, Compress, TrainSqueezed
from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.models.recipes import Imported, ModelRecipe, shape_in
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.studies.sections.trained_on import host_of
from etude.train.recipes import At, Train

FOLLOWED = (4, 16)
"""Sizes of the principal components that are followed over checkpoints."""


@dataclass(frozen=True)
class CompressMap(Study):
    """How far does each component of a model compress, by each method, and where should a budget of bits go?

    Every method of the family stands in place of every component, one at a time, in every size of its ladder. A method
    that draws is fitted with several seeds. Where to spend a budget of bits is chosen on one half of the windows and
    judged on the other. The model's other components are as they were.

    Attributes:
        of: the model, a decoder.
        components: outputs of components, as `L0.mlp.out`; none is every attention and feed-forward of the model.
        methods: names of methods; none is all there are. `mean` is always among them.
        sizes: in place of a method's own ladder where the size counts dimensions or latents; those under the width are
            tried.
        seeds: fits of each method that draws.
        steps: of the methods that are trained by steps; 0 is as many as each has by default.
        precision: bits that each number of a continuous code is held in.
        fit_tokens: positions of the training split that each compressor is fitted to.
        evaluate_tokens: tokens of the validation split that each is judged on.
        sequences: random sequences that repeat themselves, for the harm to induction.
        budgets: bits a token, for each component on average, that are allocated over the model.
        checkpoints: how many checkpoints of the training are compressed too, evenly spread, where it kept any.
        tuned: at how many components, those that do the most, principal components and the InfoVAE are also tuned in
            their place, and trained in the model from the start; 0 leaves that out.
        tuned_sizes: of these.
        tuned_steps: of tuning.
        tuned_rate: its peak learning rate.
        anew: whether the model is also trained from the start with each of these in it, as it was trained.
    """

    of: ModelRecipe = field(default_factory=Train)
    components: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    seeds: int = 3
    steps: int = 0
    precision: int = 8
    fit_tokens: int = 32768
    evaluate_tokens: int = 16384
    sequences: int = 32
    budgets: tuple[int, ...] = (8, 32, 128, 512)
    checkpoints: int = 5
    tuned: int = 2
    tuned_sizes: tuple[int, ...] = (2, 8, 32)
    tuned_steps: int = 300
    tuned_rate: float = 1e-3
    anew: bool = True

    @classmethod
    def presets(cls) -> dict[str, Self]:
        return {"quick": cls(sizes=(1, 4, 16, 64), seeds=3, steps=300, fit_tokens=16384, evaluate_tokens=8192)}

    def check(self) -> None:
        check_precision(self.precision)
        for name in self.methods:
            Family("compress/methods").member(name)
        for name, least in (("seeds", 1), ("steps", 0), ("evaluate_tokens", 1), ("checkpoints", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {least} or more")
        for name in self.components:
            if Site(name).part not in ("attn.out", "mlp.out"):
                raise UsageError(f"{name} is no output of a component; name some such as L0.attn.out, L0.mlp.out")
        if self.tuned < 0 or self.tuned_steps < 0 or self.tuned_rate <= 0 or any(size < 1 for size in self.tuned_sizes):
            raise UsageError(
                f"tuned = {self.tuned}, tuned_sizes = {self.tuned_sizes}, tuned_steps = {self.tuned_steps}, tuned_rate"
                f" = {self.tuned_rate}: none is below 0, sizes are 1 or more, and the rate is over 0"
            )
        if any(size < 1 for size in self.sizes) or any(budget < 1 for budget in self.budgets):
            raise UsageError(f"sizes = {self.sizes}, budgets = {self.budgets}: each is 1 or more")
        host = host_of(self.of)
        context = host.positions if isinstance(host, Imported) else host.context
        if self.evaluate_tokens < 2 * context:
            raise UsageError(
                f"evaluate_tokens = {self.evaluate_tokens} is less than 2 windows of {context}: where bits go is chosen"
                " on every other window and judged on those between"
            )
        if isinstance(self.of, Train):
            self._check_training(self.of)

    def _check_training(self, train: Train) -> None:
        """Refuse what of a training could not be done, before anything is."""
        if self.checkpoints and train.keep_every and train.model.width < max(FOLLOWED):
            raise UsageError(
                f"checkpoints are followed with {max(FOLLOWED)} principal components, and the model's width is"
                f" {train.model.width}: set checkpoints to 0"
            )
        if self.tuned and self.tuned_sizes and self.anew:
            try:
                TrainSqueezed(Compress(train))
            except UsageError as error:
                raise UsageError(f"{error}; or set anew off") from None

    # What is wanted

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        if shape_in(done, self.of) is None:
            return (self.of,)
        wanted: list[Recipe] = [self.of, self.of.text, *self.compressions(done), *self.followed(done)]
        if all(recipe in done for recipe in wanted):
            wanted += [*self.compositions(done), *self.regimes(done)]
        return dict.fromkeys(wanted)

    def sites(self, done: Mapping[Recipe, Run]) -> tuple[Site, ...]:
        """Return the components, by their outputs."""
        shape = shape_in(done, self.of)
        if self.components or shape is None:
            return tuple(map(Site, self.components))
        parts = ("attn.out",) if shape.attention_only else ("attn.out", "mlp.out")
        return tuple(Site(f"L{n}.{part}") for n in range(shape.layers) for part in parts)

    def compressions(self, done: Mapping[Recipe, Run]) -> list[Compress]:
        """Return every compression of one component."""
        return [recipe for site in self.sites(done) for recipe in self.of_component(site, done)]

    def of_component(self, component: Site, done: Mapping[Recipe, Run]) -> list[Compress]:
        """Return the compressions of a component: every method, size and seed."""
        shape = shape_in(done, self.of)
        width = shape.width if shape else 0
        found = []
        for method in self.ladders(width):
            site = method.at(component)
            if site is not None:
                seeds = range(self.seeds if method.drawn else 1)
                found += [self.compress(self.of, site, method, seed) for seed in seeds]
        return found

    def ladders(self, width: int) -> list[Method]:
        """Return the methods, each in every size that is tried."""
        names = dict.fromkeys((*self.methods, "mean")) if self.methods else Family("compress/methods").names()
        found: list[Method] = []
        for kind in (cast(type[Method], Family("compress/methods").member(name)) for name in names):
            given = {"steps": self.steps} if self.steps and "steps" in {f.name for f in fields(kind)} else {}
            sizes = kind().ladder(width)
            if self.sizes and kind.sized and kind.counts in ("dimensions", "latents"):
                sizes = tuple(size for size in sorted(set(self.sizes)) if size < width)
            found += [kind(**given, **({kind.sized: size} if kind.sized else {})) for size in sizes]
        return found

    def compress(self, model: ModelRecipe, site: Site, method: Method, seed: int = 0) -> Compress:
        """Return one compression. A code of numbers is held in the study's precision; any other is as it is."""
        precision = self.precision if method.rounds else 32
        return Compress(
            model, site, method, precision, self.fit_tokens, self.evaluate_tokens, self.sequences, seed=seed
        )

    def compositions(self, done: Mapping[Recipe, Run]) -> list[Composed]:
        """Return the models in which a budget is spent over the components, in each of the ways."""
        from etude.studies.sections.map_allocation import allocations

        return [a.recipe for a in allocations(self, done) if a.recipe is not None]

    def regimes(self, done: Mapping[Recipe, Run]) -> list[Recipe]:
        """Return what is tuned in its place, and trained from the start."""
        from etude.studies.sections.map_regimes import regimes

        return [recipe for regime in regimes(self, done) for recipe in regime.recipes.values()]

    def followed(self, done: Mapping[Recipe, Run]) -> list[Compress]:
        """Return the compressions of checkpoints: the mean, and principal components of two sizes."""
        found: list[Compress] = []
        for model in self.models():
            for site in self.sites(done):
                found += [self.average(model, site), *(self.principal(model, site, size) for size in FOLLOWED)]
        return found

    def average(self, model: ModelRecipe, site: Site) -> Compress:
        """Return what the mean in a component's place does, at a checkpoint."""
        return self.compress(model, site, Mean())

    def principal(self, model: ModelRecipe, site: Site, size: int) -> Compress:
        """Return what so many principal components do, at a checkpoint."""
        return self.compress(model, site, Pca(size))

    def models(self) -> list[ModelRecipe]:
        """Return the checkpoints that are followed and the model itself; none where the training kept none."""
        train = self.of
        if not isinstance(train, Train) or not train.keep_every or self.checkpoints < 1:
            return []
        kept = range(0, train.steps, train.keep_every)
        many = min(self.checkpoints, len(kept))
        chosen = sorted({kept[round(n * (len(kept) - 1) / max(1, many - 1))] for n in range(many)})
        return [*(At(train, step) for step in chosen), train]

    # What came of it

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.map_page import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.map_page import page

        return page(self, done)


def named(method: Method) -> str:
    """Return what a report calls a method."""
    return method.label or method.name
