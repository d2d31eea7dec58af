"""A report as Markdown with SVG pictures beside it, as GitHub and pandoc read it.

Folded parts are unfolded and the attention views are one still picture each; the page has them in full.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import singledispatchmethod
from pathlib import Path

from etude.core.errors import UsageError
from etude.core.files import write_text
from etude.report.blocks import (
    Attention,
    Block,
    Cell,
    Chart,
    Code,
    Contexts,
    Details,
    Drawing,
    Findings,
    Heatmap,
    Link,
    Prose,
    Report,
    RunCard,
    RunRef,
    Section,
    Strong,
    Table,
    Text,
    Value,
)
from etude.report.draw import svg
from etude.report.inline import written
from etude.report.raster import attention_svg, heatmap_svg

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$])")
_OPENING = re.compile(r"^(\s*\d*)([#+\-=.)])")


def markdown(report: Report, folder: Path) -> Path:
    """Write `report.md` and a `figure-N.svg` for each picture into a folder; return the path of the text.

    Pictures left there by an earlier, longer report are removed.
    """
    writer = _Writer(Path(folder))
    content = writer.report(report)
    for name, picture in writer.pictures.items():
        write_text(writer.folder / name, picture)
    path = write_text(writer.folder / "report.md", content)
    for old in writer.folder.glob("figure-*.svg"):
        if re.fullmatch(r"figure-\d+\.svg", old.name) and old.name not in writer.pictures:
            old.unlink()
    return path


class _Writer:
    """One report while it is written: collects the pictures that the text refers to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures: dict[str, str] = {}

    def report(self, report: Report) -> str:
        parts = [f"# {escaped(report.title)}"]
        parts += [f"*{prose(report.question)}*"] if report.question else []
        parts += [escaped(report.made)] if report.made else []
        parts += [self.block(item, 2) for item in (*report.abstract, *report.sections)]
        if report.runs:
            parts += ["## Runs", "Each number above was measured in one of these runs.", *map(_card, report.runs)]
        return "\n\n".join(part for part in parts if part) + "\n"

    @singledispatchmethod
    def block(self, block: Block, depth: int) -> str:
        """Return one block as Markdown, without a line break at its end."""
        raise UsageError(f"{type(block).__name__} has no Markdown form: add one in report/markdown.py")

    @block.register
    def _(self, block: Text, depth: int) -> str:
        return _line(prose(block))

    @block.register
    def _(self, block: Code, depth: int) -> str:
        return _fenced(block.text)

    @block.register
    def _(self, block: Section, depth: int) -> str:
        head = f"{'#' * min(depth, 6)} {escaped(block.title)}"
        inner = (self.block(item, depth + 1) for item in block.blocks)
        return "\n\n".join(part for part in (head, _line(prose(block.intro)), *inner) if part)

    @block.register
    def _(self, block: Table, depth: int) -> str:
        best = block.best()
        rule = ["---:" if block.is_numeric(c) else "---" for c in range(len(block.columns))]
        rows = [
            [f"**{_cell(cell)}**" if (r, c) in best else _cell(cell) for c, cell in enumerate(row)]
            for r, row in enumerate(block.rows)
        ]
        lines = [f"| {' | '.join(row)} |" for row in [[escaped(name) for name in block.columns], rule, *rows]]
        return "\n\n".join(part for part in (_line(prose(block.caption)), "\n".join(lines)) if part)

    @block.register
    def _(self, block: Chart, depth: int) -> str:
        return self.picture(lambda: svg(block), block.alt, block.caption, block.runs)

    @block.register
    def _(self, block: Heatmap, depth: int) -> str:
        return self.picture(lambda: heatmap_svg(block), block.label, block.caption, block.runs)

    @block.register
    def _(self, block: Attention, depth: int) -> str:
        told = f"Attention patterns over {len(block.tokens)} tokens"
        return self.picture(lambda: attention_svg(block), told, block.caption, block.runs)

    @block.register
    def _(self, block: Drawing, depth: int) -> str:
        return self.picture(lambda: block.svg, block.alt, block.caption, block.runs)

    @block.register
    def _(self, block: Contexts, depth: int) -> str:
        rows = ((row.value, "".join(row.before), row.token, "".join(row.after)) for row in block.rows)
        lines = [
            f"| {_cell(value)} | {escaped(before)}{_marked(token)}{escaped(after)} |"
            for value, before, token, after in rows
        ]
        table = [f"| {escaped(block.label)} | context |", "| ---: | --- |", *lines]
        return "\n\n".join(part for part in (_line(prose(block.caption)), "\n".join(table)) if part)

    @block.register
    def _(self, block: Findings, depth: int) -> str:
        return "\n".join(f"- **{item.strength}**: {prose(item.text)}" for item in block.items)

    @block.register
    def _(self, block: Details, depth: int) -> str:
        return "\n\n".join([f"**{escaped(block.summary)}**", *(self.block(item, depth) for item in block.blocks)])

    def picture(self, draw: Callable[[], str], alt: str, caption: Prose, runs: tuple[str, ...]) -> str:
        """Return the reference to a picture, its caption and where it comes from."""
        name = f"figure-{len(self.pictures) + 1}.svg"
        self.pictures[name] = draw()
        origin = ("From " + ", ".join(_run(run) for run in runs) + ".") if runs else ""
        below = " ".join(part for part in (prose(caption), origin) if part)
        return f"![{escaped(alt)}]({name})" + (f"\n\n{_line(below)}" if below else "")


def prose(words: Prose) -> str:
    """Return a line of words and numbers as Markdown."""
    parts = (words,) if isinstance(words, str) else words.parts
    return "".join(_inline(part) for part in parts)


def escaped(words: str) -> str:
    """Return plain words so that Markdown shows them as they are; line breaks become visible."""
    return _SPECIAL.sub(r"\\\1", words.replace("\r", "␍").replace("\n", "⏎")).replace("&", "&amp;")


def _inline(part: str | Value | Strong | Code | Link | RunRef) -> str:
    if isinstance(part, str):
        return escaped(part.replace("\n", " "))
    if isinstance(part, Value):
        return _value(part)
    if isinstance(part, Strong):
        return f"**{escaped(part.text)}**"
    if isinstance(part, Code):
        return _code(part.text)
    if isinstance(part, RunRef):
        return _run(part.run, part.text)
    return f"[{escaped(part.text)}]({part.href.replace('(', '%28').replace(')', '%29')})"


def _value(value: Value) -> str:
    shown = value.shown + value.measure
    first, *more = value.runs or ("",)
    linked = f"[{shown}](#run-{first})" if first else shown
    if more:
        linked += " (" + ", ".join(f"[{n}](#run-{run})" for n, run in enumerate(more, 2)) + ")"
    return f"{linked} {value.interval}".rstrip()


def _marked(token: str) -> str:
    """Return a token in bold; Markdown wants the white space outside of the stars."""
    words = token.strip(" ")
    start = token[: len(token) - len(token.lstrip(" "))] if words else token
    return f"{escaped(start)}**{escaped(words) or '∅'}**{token[len(start) + len(words) :]}"


def _cell(cell: Cell) -> str:
    if cell is None or isinstance(cell, bool):
        return {None: "–", True: "yes", False: "no"}[cell]
    if isinstance(cell, int | float):
        return written(cell)
    if isinstance(cell, Code):
        return _inline(cell).replace("|", "\\|")
    return prose(cell) if isinstance(cell, str | Text) else _inline(cell)


def _run(run: str, words: str = "") -> str:
    return f"[{escaped(words or run)}](#run-{run})"


def _card(card: RunCard) -> str:
    facts = {
        "what": card.title,
        "time": card.duration,
        "seed": "" if card.seed is None else str(card.seed),
        "machine": card.machine,
        "code": card.code,
    }
    listed = "\n".join(f"- {name}: {escaped(fact)}" for name, fact in facts.items() if fact)
    recipe = json.dumps(card.recipe, indent=2, ensure_ascii=False)
    # The heading's own anchor, as GitHub and pandoc make it, is `run-` and the id: what the numbers link to.
    parts = [f"### Run {card.id}", listed, _fenced(card.command), _fenced(recipe, "json")]
    return "\n\n".join(part for part in parts if part)


def _line(words: str) -> str:
    """Return a paragraph so that its first letters do not make it a heading or a list."""
    return _OPENING.sub(r"\1\\\2", words)


def _code(words: str) -> str:
    fence = "`" * (max((len(run) for run in re.findall(r"`+", words)), default=0) + 1)
    gap = " " if words.startswith("`") or words.endswith("`") else ""
    return f"{fence}{gap}{words.replace(chr(10), ' ')}{gap}{fence}"


def _fenced(words: str, language: str = "") -> str:
    if not words:
        return ""
    fence = "`" * max(3, max((len(run) for run in re.findall(r"`+", words)), default=0) + 1)
    return f"{fence}{language}\n{words}\n{fence}"
