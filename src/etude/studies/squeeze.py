"""Squeeze: one component through several small codes, and what each costs, harms and means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from etude.compress.methods.base import Method
from etude.compress.recipes import Compress, Latents, Meaning, SeedMatch
from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.evals.sites import is_glob
from etude.models.recipes import Imported, ModelRecipe
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.studies.sections.trained_on import host_of

FLOORS = ("zero", "mean", "resample", "random")
"""What stands for the component where nothing of it, or nothing in particular, passes."""

LEAST_WINDOWS = 32
"""As `etude.compress.predictors` asks for."""


@dataclass(frozen=True)
class Squeeze(Study):
    """What does a component come to when it passes through a small code: what does the code cost, what does it harm,
    and is it easier to understand?

    Each method is told of in the same way at the same place: its cost beside the rise in loss, floors, the parts of the
    text that it harms, whether its units are easier to foretell than the component's own (by the rule in
    `etude.compress.verdict`), whether other seeds find them again, and where in the text each is highest.

    Attributes:
        of: the model, a decoder.
        site: the component's output, or another activation.
        methods: by name, each with a size of its own after a colon, as in `kmeans:64`. Without one it is `size` where
            it counts dimensions or latents, and the method's default elsewhere.
        size: numbers that pass.
        seeds: fits of each method that draws something.
        fit_tokens: positions of the training split that each is fitted to; 0 all of it.
        evaluate_tokens: tokens of the validation split that each is judged on; 0 all of it.
        shown: units of each code that are shown in contexts.
    """

    of: ModelRecipe
    site: str = "L0.mlp.out"
    methods: tuple[str, ...] = ("pca", "infovae")
    size: int = 5
    seeds: int = 3
    fit_tokens: int = 32768
    evaluate_tokens: int = 16384
    shown: int = 5

    def check(self) -> None:
        if not self.methods or self.seeds < 1 or self.shown < 0:
            raise UsageError(
                f"methods = {self.methods}, seeds = {self.seeds}, shown = {self.shown}: give 1 or more methods and"
                " seeds, and 0 or more units"
            )
        if is_glob(self.site) or "," in self.site:
            raise UsageError(f"{self.site} names several sites, and the study is of one; see compress-map")
        if len(set(self.methods)) < len(self.methods):
            raise UsageError(f"methods = {', '.join(self.methods)}: name each once")
        for named in self.methods:
            self.fits(named)
        host = host_of(self.of)
        context = host.positions if isinstance(host, Imported) else host.context
        if self.evaluate_tokens and self.evaluate_tokens < LEAST_WINDOWS * context:
            raise UsageError(
                f"evaluate_tokens = {self.evaluate_tokens} is less than {LEAST_WINDOWS} windows of {context}, which the"
                f" verdict needs; read {LEAST_WINDOWS * context} or more, or 0 for all"
            )

    # What is wanted

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        wanted: list[Recipe] = [self.of, self.of.text, *self.floors().values()]
        for named in self.methods:
            wanted += self.fits(named)
            if self.has_units(named):
                wanted += [*self.meanings(named), self.latents(named), *self.match(named)]
        return dict.fromkeys(wanted)

    def method(self, named: str) -> Method:
        """Return a method with its size.

        Raises:
            UsageError: there is none of that name, it is a floor, or its size makes no sense.
        """
        name, colon, own = named.partition(":")
        kind = cast(type[Method], Family("compress/methods").member(name))
        if kind.group == "floor":
            raise UsageError(f"{name} is a floor, which stands beside the methods by itself: leave it out")
        if not colon:
            return (
                kind(**{kind.sized: self.size}) if kind.sized and kind.counts in ("dimensions", "latents") else kind()
            )
        if not own.isdecimal() or not kind.sized:
            raise UsageError(
                f"methods names {named!r}: give a whole number after the colon, to a method that has a size"
            )
        return kind(**{kind.sized: int(own)})

    def fits(self, named: str) -> tuple[Compress, ...]:
        """Return a method's compression of the component with each seed; one where it draws nothing."""
        method, component = self.method(named), Site(self.site)
        site = component
        if method.target != "activation" and component.part not in ("attn.out", "mlp.out"):
            raise UsageError(f"{method.name} stands for a component, and {self.site} is not the output of one")
        if component.part in ("attn.out", "mlp.out"):
            site = method.at(component)
        if site is None:
            raise UsageError(f"{method.name} cannot compress {self.site}: leave it out, or choose another site")
        return tuple(self._compress(site, method, seed) for seed in range(self.seeds if method.drawn else 1))

    def _compress(self, site: str, method: Method, seed: int = 0) -> Compress:
        given = {"fit_tokens": self.fit_tokens, "evaluate_tokens": self.evaluate_tokens, "seed": seed}
        return Compress(self.of, site, method, **given)

    def floors(self) -> dict[str, Compress]:
        """Return the floors by name: those that the house has. The random subspace is of as many numbers as `size`."""
        family = Family("compress/methods")
        kinds = {name: cast(type[Method], family.member(name)) for name in FLOORS if name in family.names()}
        made = {name: kind(**{kind.sized: self.size}) if name == "random" else kind() for name, kind in kinds.items()}
        return {name: self._compress(self.site, method) for name, method in made.items()}

    def has_units(self, named: str) -> bool:
        """Whether a method has a code of each token whose units can be looked at: a smaller weight has none, and one
        entry of a codebook, or one expert, says nothing."""
        method = self.method(named)
        return method.target != "weight" and not (method.size == 1 and method.counts in ("codes", "experts"))

    def meanings(self, named: str) -> tuple[Meaning, ...]:
        """Return the verdict on the code of each seed."""
        return tuple(Meaning(fit, evaluate_tokens=self.evaluate_tokens) for fit in self.fits(named))

    def latents(self, named: str) -> Latents:
        """Return the contexts of the units of the first seed."""
        return Latents(self.fits(named)[0], most=self.shown, evaluate_tokens=self.evaluate_tokens)

    def match(self, named: str) -> tuple[SeedMatch, ...]:
        """Return the match of the seeds, where there are several."""
        first, *others = self.fits(named)
        return (SeedMatch(first, self.seeds, evaluate_tokens=self.evaluate_tokens),) if others else ()

    # What came of it

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.squeeze_numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.squeeze_page import page

        return page(self, done)
