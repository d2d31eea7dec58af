"""What a report is made of, as frozen plain data. Nothing here knows of HTML or Markdown.

A study imports every block from here, builds a tree of them, and `etude.report.publish` draws it. Limits: no pictures
but charts, heatmaps, attention and drawings; nothing is loaded from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from etude.core.errors import UsageError, unknown
from etude.report.drawings import Drawing, Track
from etude.report.figures import Attention, Cell, Chart, Context, Contexts, Heatmap, Table
from etude.report.inline import Block, Code, Link, Node, Prose, RunRef, Strong, Text, Value, check_run_id, text

__all__ = [
    "STRENGTHS", "Attention", "Block", "Cell", "Chart", "Code", "Context", "Contexts", "Details", "Drawing", "Finding",
    "Findings", "Heatmap", "Link", "Node", "Prose", "Report", "RunCard", "RunRef", "Section", "Strong", "Table", "Text",
    "Track", "Value", "lasted", "text", "walk",
]  # fmt: skip

STRENGTHS = ("clear", "uncertain", "none")
"""How firmly a finding stands: the intervals are apart, they overlap, or nothing was seen."""


@dataclass(frozen=True)
class Section(Block):
    """A heading and what stands under it. Sections nest, three deep.

    Attributes:
        title: the heading.
        blocks: in order.
        intro: a first paragraph.
    """

    title: str
    blocks: tuple[Block, ...] = ()
    intro: Prose = ""

    def check(self) -> None:
        _check_blocks(self.blocks, f"section {self.title!r}")


@dataclass(frozen=True)
class Finding(Node):
    """One sentence of result, with one of `STRENGTHS`.

    Raises:
        UsageError: another word for the strength.
    """

    text: Text
    strength: str

    def check(self) -> None:
        if self.strength not in STRENGTHS:
            raise unknown("strength of a finding", self.strength, STRENGTHS)


@dataclass(frozen=True)
class Findings(Block):
    """What was found, each with how firmly it stands."""

    items: tuple[Finding, ...]


@dataclass(frozen=True)
class Details(Block):
    """Blocks folded away under a line that opens them."""

    summary: str
    blocks: tuple[Block, ...]

    def check(self) -> None:
        _check_blocks(self.blocks, f"details {self.summary!r}")


@dataclass(frozen=True)
class RunCard(Node):
    """What the appendix says of a run.

    Attributes:
        id: the run's name, as in `train-3fa2c1`.
        recipe: its recipe as JSON data.
        seconds: how long it took.
        command: what to type to make it again.
        machine: where it was made.
        seed: of its random numbers, where it has one.
        code: version of the code that made it.
        what: a few words on what it is; the recipe's kind where empty.
    """

    id: str
    recipe: dict[str, Any]
    seconds: float | None = None
    command: str = ""
    machine: str = ""
    seed: int | None = None
    code: str = ""
    what: str = ""

    def check(self) -> None:
        check_run_id(self.id)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return self.what or str(self.recipe.get("kind", ""))

    @property
    def duration(self) -> str:
        """The time it took, as a person says it."""
        return lasted(self.seconds)


@dataclass(frozen=True)
class Report(Node):
    """A report. A number whose run has no card here is a defect, and the report is refused.

    Attributes:
        title: of the whole.
        question: what was asked, in one sentence.
        abstract: the answer, before the sections.
        sections: in order.
        runs: a card for each run that any number comes from.
        made: when, as text; cosmetic.

    Raises:
        UsageError: something is linked to a run without a card, or a run has two.
    """

    title: str
    question: Prose = ""
    abstract: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()
    runs: tuple[RunCard, ...] = ()
    made: str = ""

    def check(self) -> None:
        _check_blocks(self.abstract, "the abstract")
        _check_blocks(self.sections, "the report")
        known = [card.id for card in self.runs]
        twice = next((run for run in known if known.count(run) > 1), None)
        if twice:
            raise UsageError(f"the run {twice!r} has two cards in the report: give each run once")
        for node in walk(self):
            for run in getattr(node, "runs", ()) if node is not self else ():
                if run not in known:
                    raise UsageError(_orphan(node, run, known))


def lasted(seconds: float | None) -> str:
    """Return a length of time as a person says it: `8.2 s`, `3 min 20 s`, `2 h 5 min`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def walk(node: Any) -> Iterator[Node]:
    """Yield every node of a tree, outermost first."""
    if isinstance(node, tuple):
        for item in node:
            yield from walk(item)
    elif isinstance(node, Node):
        yield node
        for field in fields(node):
            yield from walk(getattr(node, field.name))


def _check_blocks(blocks: Any, where: str) -> None:
    """Raise UsageError where something that is not a block stands among blocks."""
    for block in blocks:
        if not isinstance(block, Block):
            raise UsageError(f"{where} holds {block!r}, which is not a block: wrap words in text(...)")


def _orphan(node: Node, run: str, known: list[str]) -> str:
    what = type(node).__name__.lower()
    if isinstance(node, Value):
        what = f"value {node.shown}" + (f" ({node.label})" if node.label else "")
    cards = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "") if known else "none"
    return f"the {what} comes from the run {run!r}, which has no card in the report: add a RunCard. Cards: {cards}"
