"""Published shapes beside their papers: what the arithmetic of the architectures counts, and what was stated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from etude.core.errors import unknown
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.models.shapes import Shape, families
from etude.report.blocks import Block, Finding, Findings, Report, Section, Table, text
from etude.studies.base import Study

CLOSE = 0.03
"""A difference from a stated number that rounding in a paper explains: two figures, often."""


@dataclass(frozen=True)
class Sizes(Study):
    """Do the parameter counts of the published shapes agree with their papers, and where they do not, why?

    Nothing is trained and nothing is built: parameters are counted by arithmetic.

    Attributes:
        family: of the shapes that are shown, as in `gpt2`; nothing shows all.
    """

    family: str = ""

    def check(self) -> None:
        if self.family and self.family not in families():
            raise unknown("family of shapes", self.family, families())

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return ()

    def shown(self) -> dict[str, list[Shape]]:
        """Return the shapes by family."""
        return {name: shapes for name, shapes in families().items() if self.family in ("", name)}

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        return {name: [row(shape) for shape in shapes] for name, shapes in self.shown().items()}

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        return Report(
            title="Sizes",
            question="Do the parameter counts of the published shapes agree with their papers, and where they do not,"
            " why?",
            abstract=(Findings(tuple(_findings(self.shown()))),),
            sections=tuple(_section(name, shapes) for name, shapes in self.shown().items()),
        )


def row(shape: Shape) -> dict[str, Any]:
    """Return a shape's figures."""
    counted = shape.parameters + shape.elsewhere
    spec = shape.spec
    return {
        "name": shape.name,
        "architecture": spec.name,
        "layers": spec.layers,
        "width": spec.width,
        "heads": spec.heads,
        "vocabulary": shape.vocabulary,
        "parameters": shape.parameters,
        "elsewhere": shape.elsewhere,
        "exact": shape.exact,
        "stated": shape.stated,
        "difference": counted / shape.stated - 1,
        "source": shape.source,
        "remark": shape.remark,
    }
