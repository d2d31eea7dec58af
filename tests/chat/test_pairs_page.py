"""The page of pairs in a real browser, from the disk, with the network off: what is clicked is what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etude.chat.blinded import page
from etude.chat.preferring import read_choices

pytestmark = pytest.mark.browser

EVIL = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">\n&lt;b&gt;"
PAIRS = [
    {"turns": ["Hello?", "Yes.", EVIL], "A": EVIL, "B": ""},
    {"turns": ["Two?"], "A": "a two", "B": "b two"},
    {"turns": ["Three?"], "A": "a three", "B": "b three"},
]


class Opened:
    """A page that was opened, with everything it said and asked for."""

    def __init__(self, browser: Any, file: Path) -> None:
        self.context = browser.new_context(offline=True, accept_downloads=True)
        self.page = self.context.new_page()
        self.problems, self.requests = list[str](), list[str]()
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def choices(self) -> dict[str, str]:
        return json.loads(self.page.locator("#choices").input_value())["choices"]

    def text(self, where: str) -> str:
        return self.page.locator(where).inner_text()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.html"
    path.write_text(page(PAIRS, "p"), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Opened]:
    seen = Opened(browser, file)
    yield seen
    seen.context.close()


def test_clicks_and_keys_are_kept_and_read_back(opened: Opened, tmp_path: Path) -> None:
    assert opened.text("#progress") == "Pair 1 of 3; 0 judged"
    opened.page.click("#choose-B")
    assert opened.text("#progress") == "Pair 2 of 3; 1 judged" and opened.text("#reply-A") == "a two"
    opened.page.keyboard.press("a")
    opened.page.keyboard.press("T")
    assert opened.choices() == {"1": "B", "2": "A", "3": "tie"}
    assert opened.text("#progress") == "Pair 3 of 3; 3 judged: done"
    opened.page.keyboard.press("ArrowLeft")
    assert opened.page.locator("#choose-A").get_attribute("aria-pressed") == "true"
    opened.page.keyboard.press("b")  # the mind may change
    with opened.page.expect_download() as waiting:
        opened.page.click("#download")
    assert waiting.value.suggested_filename == "choices.json"
    waiting.value.save_as(tmp_path / "choices.json")
    assert read_choices(tmp_path / "choices.json", "p", 3) == {1: "B", 2: "B", 3: "tie"}
    assert opened.problems == []


def test_what_is_said_is_shown_and_never_acts(opened: Opened, file: Path) -> None:
    assert opened.page.locator("#reply-A").text_content() == EVIL
    assert opened.page.locator("#turns li").nth(2).text_content() == EVIL
    assert opened.page.locator("#turns li").nth(1).get_attribute("class") == "model"
    assert opened.text("#reply-B") == "(says nothing)"
    assert opened.page.locator("#pair img, #pair script, #pair b").count() == 0
    assert opened.page.title() == "Which reply is better?"
    assert opened.problems == [] and opened.requests == [file.as_uri()]


def test_a_key_with_control_and_one_in_the_text_choose_nothing(opened: Opened) -> None:
    opened.page.keyboard.press("Control+a")
    opened.page.focus("#choices")
    opened.page.keyboard.press("b")
    assert opened.choices() == {}


def test_a_page_that_is_opened_again_goes_on(browser: Any, file: Path) -> None:
    seen = Opened(browser, file)
    seen.page.keyboard.press("a")
    seen.page.reload()
    assert seen.text("#progress") == "Pair 2 of 3; 1 judged" and seen.choices() == {"1": "A"}
    seen.context.close()
