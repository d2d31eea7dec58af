"""Drawings that a study makes itself, as SVG, still or moving. What moves is data: no style and no script comes in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from etude.core.errors import UsageError, unknown
from etude.report.inline import Block, Node, Prose

SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = frozenset({"svg", "g", "rect", "circle", "line", "polyline", "polygon", "path", "text", "tspan"})
ATTRIBUTES = frozenset({
    "viewBox", "width", "height", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "d", "points",
    "transform", "opacity", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray",
    "stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "pathLength", "font-size", "font-family", "font-weight",
    "text-anchor", "class", "data-part",
})  # fmt: skip
"""What a drawing is made of. Nothing here loads, links or runs."""

WAYS = {"place": "transform: translate({}px, {}px)", "opacity": "opacity: {}", "dash": "stroke-dashoffset: {}"}
"""How a part can change, and what that is in a style sheet."""

_PART = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Track(Node):
    """How one part of a drawing changes.

    Attributes:
        part: the part, an element with this name as `data-part`.
        way: one of `WAYS`.
        times: when, from 0 to 1 of the whole, ascending from 0.
        values: what holds from each time on: a number, or for a place two.
        smooth: whether it goes from value to value, and does not leap.
    """

    part: str
    way: str
    times: tuple[float, ...]
    values: tuple[float | tuple[float, float], ...]
    smooth: bool = False

    def check(self) -> None:
        if self.way not in WAYS:
            raise unknown("way to change", self.way, WAYS)
        ascending = all(a < b for a, b in zip(self.times, self.times[1:], strict=False))
        if not (self.times and self.times[0] == 0 and self.times[-1] <= 1 and ascending):
            raise UsageError(f"the times of {self.part!r} do not ascend from 0, to 1 at most")
        numbers = 2 if self.way == "place" else 1
        found = {len(value) if isinstance(value, tuple) else 1 for value in self.values}
        if len(self.values) != len(self.times) or found != {numbers}:
            raise UsageError(
                f"{self.part!r} has {len(self.times)} times: give as many values, of {numbers} numbers each"
            )

    def rules(self) -> str:
        """Return its keyframes as a style sheet has them."""
        found = []
        for time, value in zip(self.times, self.values, strict=True):
            numbers = value if isinstance(value, tuple) else (value,)
            written = WAYS[self.way].format(*(f"{number:.6g}" for number in numbers))
            found.append(f"{100 * time:.6g}% {{ {written} }}")
        return " ".join(found)


@dataclass(frozen=True)
class Drawing(Block):
    """A drawing as SVG. Without its tracks it is the still that is printed, and shown to who wants no motion.

    Attributes:
        svg: one element `svg` with a `viewBox`, of `ELEMENTS` with `ATTRIBUTES`. The page colours the classes `ground`,
            `ink`, `soft`, `line`, `hollow` and `deep` so that they suit a dark one too.
        caption: what it shows.
        alt: the same for a person who cannot see it.
        tracks: what moves, over and over.
        seconds: that once takes.
        runs: ids of the runs behind it.

    Raises:
        UsageError: no `alt`, an SVG that is none or holds anything else, or a track of a part that it has not.
    """

    svg: str
    caption: Prose
    alt: str
    tracks: tuple[Track, ...] = ()
    seconds: float = 0.0
    runs: tuple[str, ...] = ()

    def check(self) -> None:
        if not self.alt.strip():
            raise UsageError("a drawing has no alt text: say in one sentence what it shows")
        parts = _parts(self.svg)
        for track in self.tracks:
            if track.part not in parts:
                raise unknown("part of the drawing", track.part, parts)
        ways = [(track.part, track.way) for track in self.tracks]
        if len(set(ways)) < len(ways):
            raise UsageError("two tracks change one part in the same way: give one")
        if self.tracks and not self.seconds > 0:
            raise UsageError(f"a drawing moves for {self.seconds:g} seconds: give more than 0")

    def motion(self, scope: str) -> str:
        """Return the style sheet that moves it.

        Args:
            scope: the id of the element around it.
        """
        frames, each = [], {}
        for number, track in enumerate(self.tracks):
            name = f"{scope}-{number}"
            frames.append(f"@keyframes {name} {{ {track.rules()} }}")
            pace = "linear" if track.smooth else "step-end"
            each.setdefault(track.part, []).append(f"{name} {self.seconds:.6g}s {pace} infinite")
        moved = [f'#{scope} [data-part="{part}"] {{ animation: {", ".join(a)} }}' for part, a in each.items()]
        inside = "\n".join([*frames, *moved])
        return f"@media screen and (prefers-reduced-motion: no-preference) {{\n{inside}\n}}\n" if moved else ""


def _parts(svg: str) -> set[str]:
    """Return the names of the parts of a drawing that holds nothing but what it may."""
    if "<!" in svg or "<?" in svg:  # comments, entities and the like are read differently in a page
        raise UsageError("a drawing holds `<!` or `<?`: give elements and text alone")
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise UsageError(f"a drawing is no SVG: {error}") from None
    if root.tag != f"{SVG}svg" or "viewBox" not in root.attrib:
        raise UsageError('a drawing is one <svg xmlns="http://www.w3.org/2000/svg" viewBox="...">')
    for element in root.iter():
        name = element.tag.removeprefix(SVG)
        if name not in ELEMENTS:
            raise UsageError(f"a drawing holds a <{name}>: it may hold {', '.join(sorted(ELEMENTS))}")
        for key, value in element.attrib.items():
            if key not in ATTRIBUTES:
                raise UsageError(f"a drawing holds {key}= in a <{name}>, which may load, run or hide something")
            if "(" in value and key != "transform":
                raise UsageError(f"a drawing holds {key}={value!r}: a function stands in transform alone")
    named = [e.attrib["data-part"] for e in root.iter() if "data-part" in e.attrib]
    bad = next((name for name in named if not _PART.fullmatch(name)), None)
    if bad is not None:
        raise UsageError(f"a part is called {bad!r}: take small letters, digits and hyphens")
    return set(named)
