"""Drawings: what may be in one, how it moves, and that it is a still wherever it cannot."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from etude.core.errors import UsageError
from etude.report.blocks import Drawing, Report, RunCard, Section, Track
from etude.report.html import html
from etude.report.publish import publish

XMLNS = "http://www.w3.org/2000/svg"
MOVES = Track("ball", "place", (0, 0.5), ((0, 0), (5.25, -3)), True)


def svg(inner: str = '<circle data-part="ball" r="2"/>', more: str = 'viewBox="0 0 9 9"') -> str:
    return f'<svg xmlns="{XMLNS}" {more}>{inner}</svg>'


def page(*drawings: Drawing) -> str:
    return html(Report("R", sections=(Section("S", drawings),), runs=(RunCard("train-3fa2c1", {}),)))


def test_it_stands_in_the_page_and_beside_the_markdown(tmp_path: Path) -> None:
    drawing = Drawing(svg(), "A ball.", 'A "ball" <b>', (MOVES,), 2.0, ("train-3fa2c1",))
    publish(Report("R", sections=(Section("S", (drawing,)),), runs=(RunCard("train-3fa2c1", {}),)), tmp_path)
    assert (tmp_path / "figure-1.svg").read_text() == drawing.svg
    assert r'![A "ball" \<b\>](figure-1.svg)' in (tmp_path / "report.md").read_text()
    shown = (tmp_path / "report.html").read_text()
    assert drawing.svg in shown and 'role="img" aria-label="A &#34;ball&#34; &lt;b&gt;"' in shown
    assert "<script>" not in shown and "script-src &#39;none&#39;" in shown


def test_each_moves_under_its_own_name_and_only_for_who_wants_motion() -> None:
    leaps = Track("ball", "opacity", (0, 0.25), (1, 0))
    one, two = Drawing(svg(), "", "a", (MOVES, leaps), 2.0), Drawing(svg(), "", "b")
    shown = page(one, two, Drawing(svg(), "", "c", (MOVES,), 3))
    style = shown.partition("<style>")[2].partition("</style>")[0]
    assert style.count("@media screen and (prefers-reduced-motion: no-preference)") == 2
    frames = "0% { transform: translate(0px, 0px) } 50% { transform: translate(5.25px, -3px) }"
    assert f"@keyframes figure-1-0 {{ {frames} }}" in style
    both = "figure-1-0 2s linear infinite, figure-1-1 2s step-end infinite"
    assert f'#figure-1 [data-part="ball"] {{ animation: {both} }}' in style
    assert '#figure-3 [data-part="ball"] { animation: figure-3-0 3s linear infinite }' in style
    assert "#figure-2 " not in style and shown.count('data-role="pause"') == 2 + style.count('data-role="pause"')


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ("<script>alert(1)</script>", "holds a <script>"),
        ("<style>*{color:red}</style>", "holds a <style>"),
        ("<foreignObject><b/></foreignObject>", "holds a <foreignObject>"),
        ("<image href='x'/>", "holds a <image>"),
        ("<animate attributeName='x'/>", "holds a <animate>"),
        ("<title>x</title>", "holds a <title>"),
        ("<g xmlns='http://www.w3.org/1999/xhtml'/>", "holds a <{http://www.w3.org/1999/xhtml}g>"),
        ("<g onclick='x'/>", "holds onclick= in a <g>"),
        ("<g id='text'/>", "holds id= in a <g>"),
        ("<g style='position:fixed'/>", "holds style= in a <g>"),
        ("<g xmlns:x='http://www.w3.org/1999/xlink' x:href='y'/>", "href= in a <g>"),
        ("<g fill='url(http://x)'/>", r"holds fill='url\(http://x\)': a function stands in transform alone"),
        ("<!-- --><g/>", "holds `<!` or"),
        ("<g><![CDATA[</svg><script>]]></g>", "holds `<!` or"),
        ("<?x?>", "holds `<!` or"),
        ("<g>", "a drawing is no SVG: mismatched tag"),
        ("<g data-part='A b'/>", "a part is called 'A b'"),
    ],
)
def test_what_could_load_run_or_hide_something_is_refused(inner: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"^.*{words}"):
        Drawing(svg(inner), "c", "alt")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Drawing(svg(), "c", " "), "a drawing has no alt text"),
        (lambda: Drawing("<b/>", "c", "a"), "a drawing is one <svg"),
        (lambda: Drawing(svg(more=""), "c", "a"), "a drawing is one <svg"),
        (lambda: Drawing(svg(""), "c", "a", (MOVES,), 1), "unknown part of the drawing 'ball'"),
        (lambda: Drawing(svg(), "c", "a", (MOVES,)), "a drawing moves for 0 seconds"),
        (lambda: Drawing(svg(), "c", "a", (MOVES, MOVES), 1), "two tracks change one part in the same way"),
        (lambda: Track("a", "colour", (0,), (1,)), "unknown way to change 'colour'"),
        (lambda: Track("a", "opacity", (0.5,), (1,)), "the times of 'a' do not ascend from 0"),
        (lambda: Track("a", "opacity", (0, 0.5, 0.5), (1, 1, 1)), "the times of 'a' do not ascend"),
        (lambda: Track("a", "opacity", (0, 1.5), (1, 1)), "the times of 'a' do not ascend"),
        (lambda: Track("a", "place", (0,), (1,)), "give as many values, of 2 numbers"),
        (lambda: Track("a", "dash", (0, 1), (1,)), "'a' has 2 times: give as many values, of 1 numbers"),
    ],
)
def test_what_cannot_be_is_refused_with_a_line(build, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        build()
    assert "\n" not in str(error.value)


def test_words_in_a_drawing_stay_words() -> None:
    drawing = Drawing(svg('<text class="ink" x="1">&lt;img src=x onerror=alert(1)&gt; &amp;</text>'), "c", "a")
    found = ElementTree.fromstring(drawing.svg)[0].text
    assert found == "<img src=x onerror=alert(1)> &" and drawing.svg in page(drawing)
