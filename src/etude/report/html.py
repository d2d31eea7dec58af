"""A report as one HTML page that loads nothing: styles, scripts, charts and data are all inside.

The page's Content-Security-Policy names each script by its hash and forbids every request, so that even text that
slipped through the escaping could neither run nor call out. Vega compiles its expressions with `Function`, which such a
policy forbids; the interpreter that comes with vega-embed (`ast: true`) is used instead.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import re
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from etude.core.errors import UsageError
from etude.report.blocks import Attention, Block, Cell, Chart, Drawing, Heatmap, Prose, Report, Section, Text, Value
from etude.report.draw import THEME, sized
from etude.report.inline import written
from etude.report.raster import heatmap_svg, pack

_FOLDER = resources.files("etude.report")


def html(report: Report) -> str:
    """Return a report as one self-contained page.

    Raises:
        UsageError: a block has no template.
    """
    return _Page().render(report)


class _Page:
    """One page while it is written: hands out anchors and remembers which scripts are needed."""

    def __init__(self) -> None:
        self.contents: list[tuple[int, str, str]] = []
        self.anchors: set[str] = set()
        self.count = 0
        self.has: set[type] = set()
        self.motions: list[str] = []
        loader = jinja2.FunctionLoader(_template)
        self.jinja = jinja2.Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        self.jinja.filters |= {"json": script_json, "prose": self.prose, "cell": self.cell, "pretty": _pretty}
        self.jinja.filters |= {"printable": printable, "spaced": _visible_breaks}
        self.jinja.globals |= {"block": self.block, "written": _minus}

    def render(self, report: Report) -> str:
        """Return the whole page. The body comes first: it decides the contents, and what the head must hold."""
        body = self.jinja.get_template("body.html.j2").render(report=report)
        scripts = self.scripts()
        data = {"theme": THEME} if Chart in self.has else {}
        return self.jinja.get_template("page.html.j2").render(
            report=report,
            body=Markup(body),
            contents=self.contents,
            style=Markup(_asset("page.css") + "".join(self.motions)),
            scripts=[Markup(script) for script in scripts],
            policy=policy(scripts),
            data=data,
        )

    def block(self, node: Block, depth: int = 2) -> Markup:
        """Return one block as HTML, from the template that has its name."""
        self.has.add(type(node))
        name = f"blocks/{type(node).__name__.lower()}.html.j2"
        try:
            template = self.jinja.get_template(name)
        except jinja2.TemplateNotFound:
            raise UsageError(f"{type(node).__name__} has no template: add report/templates/{name}") from None
        return Markup(template.render(it=node, depth=depth, **self.extras(node, depth)))

    def extras(self, node: Block, depth: int) -> dict[str, Any]:
        """Return what a template needs beside the block itself."""
        if isinstance(node, Section):
            return {"anchor": self.section(node, depth)}
        if isinstance(node, Chart):
            return {"spec": sized(node.spec, "container"), "id": self.number()}
        if isinstance(node, Heatmap):
            return {"picture": Markup(heatmap_svg(node)), "id": self.number()}
        if isinstance(node, Attention):
            return {"packed": {**pack(node.patterns), "names": node.layers, "tokens": node.tokens}, "id": self.number()}
        if isinstance(node, Drawing):
            scope = self.number()
            self.motions.append(node.motion(scope))
            return {"picture": Markup(node.svg), "id": scope}
        return {}

    def section(self, node: Section, depth: int) -> str:
        """Return a section's anchor, and note it for the table of contents."""
        anchor = self.anchor(node.title)
        self.contents.append((depth, anchor, node.title))
        return anchor

    def anchor(self, title: str) -> str:
        """Return an anchor that no other heading has, made of the title's letters."""
        base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        names = (base if n == 1 else f"{base}-{n}" for n in range(1, len(self.anchors) + 2))
        anchor = next(name for name in names if name not in self.anchors)
        self.anchors.add(anchor)
        return anchor

    def number(self) -> str:
        """Return an id for the next figure."""
        self.count += 1
        return f"figure-{self.count}"

    def prose(self, words: Prose) -> Markup:
        """Return a line of words and numbers as HTML."""
        parts = (words,) if isinstance(words, str) else words.parts
        template = self.jinja.get_template("inline.html.j2")
        return Markup("").join(
            part if isinstance(part, str) else Markup(template.render(it=part, kind=type(part).__name__))
            for part in parts
        )

    def cell(self, cell: Cell) -> Markup:
        """Return a table's cell as HTML."""
        if cell is None or isinstance(cell, bool):
            return Markup({None: "–", True: "yes", False: "no"}[cell])
        if isinstance(cell, int | float):
            return Markup(_minus(cell))
        return self.prose(cell if isinstance(cell, str | Text) else Text((cell,)))

    def scripts(self) -> list[str]:
        """Return the scripts that this page needs, each once."""
        wanted = [_runtime(), _asset("charts.js")] if Chart in self.has else []
        return wanted + ([_asset("attention.js")] if Attention in self.has else [])


def script_json(data: Any) -> Markup:
    """Return data as JSON that can stand inside a script element, whatever text is in it.

    `<`, `>` and `&` are written as escapes, so that neither `</script>` nor `<!--` can appear, and everything beyond
    ASCII too (U+2028 ends a line in old JavaScript). What is not finite becomes null.
    """
    dumped = json.dumps(_finite(data), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def printable(token: str) -> str:
    """Return a token so that its white space can be seen."""
    if not token:
        return "∅"
    return _visible_breaks(token).replace(" ", "\u00a0")


def _visible_breaks(words: str) -> str:
    return words.replace("\r", "␍").replace("\n", "⏎").replace("\t", "⇥")


def _pretty(data: Any) -> Markup:
    """Return JSON to be read by a person. In running text a quotation mark needs no escape, and recipes are full of
    them."""
    return Markup(str(escape(json.dumps(_finite(data), indent=1, ensure_ascii=False))).replace("&#34;", '"'))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _minus(number: float | Value | None, digits: int = 3) -> str:
    """Return a number as text with a true minus sign, which is as wide as the figures are."""
    shown = number.shown if isinstance(number, Value) else written(number, digits)
    return shown.replace("-", "−")


def policy(scripts: list[str]) -> str:
    """Return the Content-Security-Policy of a page that holds these scripts and asks for nothing."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{h}'" for h in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def _template(name: str) -> str | None:
    file = _FOLDER / "templates" / name
    return file.read_text(encoding="utf-8") if file.is_file() else None


@functools.cache
def _asset(name: str) -> str:
    return (_FOLDER / "assets" / name).read_text(encoding="utf-8")


@functools.cache
def _runtime() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script of 0.9 MB, made here: no copy of it is in the package."""
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")
