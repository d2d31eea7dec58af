"""The page in a real browser, from the disk, with the network off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.report.blocks import Attention, Report, Section, text
from etude.report.html import html
from etude.report.publish import publish
from etude.report.raster import coarse
from etude.report.specimen import patterns, report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(report(), tmp_path_factory.mktemp("page"))


class Opened:
    """A page that was opened, with everything it said and asked for."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(offline=True, **options)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.problems.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.file = file
        self.page.goto(file.as_uri())
        # Every figure marks itself when it is drawn.
        figures = self.page.locator("figure.chart, figure.attention")
        self.page.wait_for_function(
            "n => document.querySelectorAll('figure[data-drawn=true]').length === n",
            arg=figures.count(),
            timeout=20_000,
        )

    def all_is_quiet(self) -> None:
        assert self.problems == []
        assert self.requests == [self.file.as_uri()]


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Opened]:
    seen = Opened(browser, page_file, viewport={"width": 1280, "height": 900})
    yield seen
    seen.context.close()


def status(view: Any) -> str:
    return view.locator("[data-role=attention-status]").inner_text()


def weights(view: Any) -> list[float]:
    return view.locator("[data-token]").evaluate_all("all => all.map(token => Number(token.dataset.weight))")


def colours(view: Any) -> int:
    """How many different shades the large pattern has."""
    return view.locator("canvas[data-role=pattern]").evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )


def test_the_page_opens_without_a_word_or_a_request(opened: Opened) -> None:
    assert opened.page.locator("figure.chart svg.marks").count() == 5
    paths = opened.page.locator("figure.chart svg .mark-line path, figure.chart svg .mark-symbol path")
    assert paths.count() > 20
    assert opened.page.locator("figure.chart [role=img][aria-label]").count() == 5
    opened.all_is_quiet()


def test_a_click_on_another_head_shows_it(opened: Opened) -> None:
    view = opened.page.locator("figure.attention").first
    other = opened.page.locator("figure.attention").nth(1)
    before, beside = status(view), status(other)
    assert before.startswith("L0 H0") and colours(view) > 10
    view.locator("[data-head=L1H2]").click()
    assert status(view).startswith("L1 H2") and status(view) != before
    assert view.locator("[data-head=L1H2]").get_attribute("aria-checked") == "true"
    assert view.locator("[aria-checked=true]").count() == 1
    assert status(other) == beside  # each view stands alone
    opened.all_is_quiet()


def test_hovering_a_token_shows_what_it_attends_to(opened: Opened) -> None:
    view = opened.page.locator("figure.attention").first
    view.locator("[data-token='20']").hover()
    assert " 20 attends to " in status(view)
    seen = weights(view)
    assert abs(sum(seen) - 1) < 0.02 and not any(seen[21:])
    strongest = seen.index(max(seen))
    shade = "(t) => Number(getComputedStyle(t, '::before').opacity)"
    assert view.locator(f"[data-token='{strongest}']").evaluate(shade) == pytest.approx(max(seen), abs=0.01)
    assert view.locator("[data-token='40']").evaluate(shade) == 0
    assert view.locator(f"[data-token='{strongest}'] small").inner_text().startswith(".")
    view.locator("[data-mode=by]").click()
    view.locator("[data-token='20']").hover()
    assert " 20 is attended by " in status(view) and not any(weights(view)[:20])
    opened.page.mouse.move(2, 2)
    assert " 63 is attended by " in status(view)  # what was chosen comes back
    opened.all_is_quiet()


def test_hovering_the_pattern_chooses_the_query(opened: Opened) -> None:
    view = opened.page.locator("figure.attention").first
    canvas = view.locator("canvas[data-role=pattern]")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    opened.page.mouse.move(box["x"] + 5, box["y"] + box["height"] * 10.5 / 64)
    assert " 10 attends to " in status(view)


def test_the_view_can_be_used_from_the_keyboard(opened: Opened) -> None:
    view = opened.page.locator("figure.attention").first
    view.locator("[data-head=L0H0]").focus()
    for key, shown in (("ArrowRight", "L0 H1"), ("ArrowDown", "L1 H1"), ("End", "L1 H3"), ("ArrowRight", "L1 H3"),
                       ("ArrowUp", "L0 H3"), ("Home", "L0 H0")):  # fmt: skip
        opened.page.keyboard.press(key)
        assert status(view).startswith(shown), key
    focused = "document.activeElement.dataset.head"
    assert opened.page.evaluate(focused) == "L0H0"
    opened.page.keyboard.press("Tab")  # to the direction
    opened.page.keyboard.press("Tab")
    opened.page.keyboard.press("Enter")
    assert "is attended by" in status(view)
    opened.page.keyboard.press("Tab")  # to the chosen token
    opened.page.keyboard.press("ArrowLeft")
    assert " 62 is attended by " in status(view)
    opened.page.keyboard.press("Home")
    opened.page.keyboard.press("ArrowDown")
    assert opened.page.evaluate("Number(document.activeElement.dataset.token)") > 5
    opened.all_is_quiet()


def test_charts_are_saved_as_files(opened: Opened) -> None:
    chart = opened.page.locator("figure.chart").first
    for kind, start in (("svg", b"<svg"), ("png", b"\x89PNG"), ("csv", b"series,x,y,low,high,run\n")):
        with opened.page.expect_download() as download:
            chart.locator(f"[data-save={kind}]").click()
        assert download.value.suggested_filename == f"figure-1.{kind}"
        assert Path(download.value.path()).read_bytes().startswith(start)
    assert opened.problems == []


def test_a_number_leads_to_its_run(opened: Opened) -> None:
    opened.page.locator(".abstract .value a").first.click()
    assert opened.page.locator("article.run:target").count() == 1
    opened.all_is_quiet()


def test_dark_and_narrow(browser: Any, page_file: Path) -> None:
    for options in ({"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}):
        seen = Opened(browser, page_file, **options)
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(20, 22, 26)") == ("color_scheme" in options)
        # Nothing sticks out to the side: wide tables and pictures scroll within themselves.
        assert seen.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        if "color_scheme" in options:
            label = "getComputedStyle(document.querySelector('.canvas .role-axis-label text')).fill"
            assert seen.page.evaluate(label) == "rgb(154, 162, 171)"
        seen.all_is_quiet()
        seen.context.close()


@pytest.fixture(scope="module")
def many_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 12 layers of 12 heads over 150 tokens, of which a cell of the thumbnails is three."""
    view = Attention(tuple(f"word{n}" for n in range(150)), patterns(12, 12, 150), "c")
    file = tmp_path_factory.mktemp("many") / "many.html"
    file.write_text(html(Report("q", "t", sections=(Section("s", (view,)),))), encoding="utf-8")
    return file


def test_a_hundred_and_forty_four_heads_stand_a_row_a_layer(browser: Any, many_heads: Path) -> None:
    for width in (1280, 360):
        seen = Opened(browser, many_heads, viewport={"width": width, "height": 800})
        tops = seen.page.locator("[data-head]").evaluate_all("all => all.map(b => b.getBoundingClientRect().top)")
        rows = [set(tops[12 * layer : 12 * layer + 12]) for layer in range(12)]
        assert all(len(row) == 1 for row in rows) and sorted(tops) == tops and len(set(tops)) == 12
        seen.page.locator("[data-head=L11H11]").click()
        assert status(seen.page).startswith("L11 H11")
        # On a narrow screen the heads scroll in their own box, and the layers' names stay.
        assert seen.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        heads, name = seen.page.locator(".heads"), seen.page.locator(".layer").nth(12)
        assert (heads.evaluate("h => h.scrollLeft") > 0) == (width == 360)
        assert 0 <= name.bounding_box()["x"] - heads.bounding_box()["x"] <= 3
        seen.all_is_quiet()
        seen.context.close()


def test_the_page_draws_the_patterns_that_it_was_given(browser: Any, many_heads: Path) -> None:
    seen, given = Opened(browser, many_heads), patterns(12, 12, 150)
    opacity = (
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).filter((_, i) => i % 4 === 3)"
    )
    for layer, head in ((0, 0), (7, 2), (11, 11)):
        button = seen.page.locator(f"[data-head=L{layer}H{head}]")
        button.click()
        large = seen.page.locator("canvas[data-role=pattern]").evaluate(opacity)
        np.testing.assert_allclose(large, 255 * np.sqrt(given[layer, head].ravel()), atol=0.51)
        small = button.locator("canvas").evaluate(opacity)
        np.testing.assert_allclose(small, 255 * np.sqrt(coarse(given[layer, head], 3).ravel()), atol=1.1)
    assert seen.requests == [seen.file.as_uri()]  # and Chromium has a word to say about so much reading of canvases
    seen.context.close()


def test_a_chosen_token_is_in_sight_in_its_list(browser: Any, many_heads: Path) -> None:
    seen = Opened(browser, many_heads, viewport={"width": 1280, "height": 1400})
    where = "t => { const a = t.getBoundingClientRect(), b = t.parentElement.getBoundingClientRect();"
    where += " return b.top <= a.top && a.bottom <= b.bottom; }"
    first, last = (seen.page.locator(f"[data-token='{n}']") for n in (0, 149))
    assert last.evaluate(where) and not first.evaluate(where)
    canvas = seen.page.locator("canvas[data-role=pattern]")
    canvas.scroll_into_view_if_needed()
    before = seen.page.evaluate("scrollY")
    canvas.click(position={"x": 5, "y": 1})
    assert first.evaluate(where) and not last.evaluate(where)
    assert seen.page.evaluate("scrollY") == before
    seen.context.close()


BALL = "new DOMMatrix(getComputedStyle(document.querySelector('[data-part=ball]')).transform).e"


def test_a_drawing_moves_until_it_is_paused(opened: Opened) -> None:
    figure = opened.page.locator("figure.drawing")
    figure.scroll_into_view_if_needed()
    opened.page.wait_for_function(f"() => {BALL} > 20 && {BALL} < 180")
    figure.get_by_label("Pause").check()
    before = opened.page.evaluate(BALL)
    opened.page.wait_for_timeout(300)
    assert opened.page.evaluate(BALL) == before
    figure.get_by_label("Pause").uncheck()
    opened.page.wait_for_function(f"() => Math.abs({BALL} - {before}) > 10")
    opened.all_is_quiet()


@pytest.mark.parametrize("wish", [{"reduced_motion": "reduce"}, {"media": "print"}])
def test_a_drawing_is_its_still_in_print_and_for_who_wants_no_motion(browser: Any, page_file: Path, wish: Any) -> None:
    seen = Opened(browser, page_file)
    seen.page.emulate_media(**wish)
    for _ in range(3):
        assert seen.page.evaluate(BALL) == 190
        seen.page.wait_for_timeout(100)
    assert not seen.page.get_by_label("Pause").is_visible()
    seen.context.close()


def test_a_change_of_scheme_redraws_the_patterns(opened: Opened) -> None:
    pixel = (
        "Array.from(document.querySelector('canvas[data-role=pattern]').getContext('2d').getImageData(0, 0, 1, 1).data)"
    )
    light = opened.page.evaluate(pixel)
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_function(f"() => JSON.stringify({pixel}) !== '{str(light).replace(' ', '')}'")


def test_markup_in_any_text_does_nothing(browser: Any, tmp_path: Path) -> None:
    from etude.report.charts import Axis, Rule, lines

    evil = "</script><img src=x onerror=alert(1)><script>alert(2)</script>"
    rows = [{"x": i, "y": i + 1, "s": f"{evil}{i % 2}"} for i in range(6)]
    chart = lines(rows, Axis("x", evil), Axis("y", evil), colour="s", rules=[Rule(evil, 2)], caption=evil, alt=evil)
    view = Attention((evil, evil), [[[[1, 0], [0.5, 0.5]]]], evil, layers=(evil,))  # type: ignore[arg-type]
    file = tmp_path / "evil.html"
    file.write_text(html(Report(evil, evil, (text(evil),), (Section(evil, (chart, view)),))), encoding="utf-8")
    seen = Opened(browser, file)
    seen.page.locator("[data-token='0']").hover()
    seen.page.locator(".canvas .mark-symbol path").first.hover()
    seen.page.wait_for_selector("#vg-tooltip-element.visible")
    assert seen.page.locator("img").count() == 0
    seen.all_is_quiet()
    seen.context.close()
