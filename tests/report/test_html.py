from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.report.blocks import (
    Attention,
    Block,
    Code,
    Context,
    Contexts,
    Details,
    Finding,
    Findings,
    Heatmap,
    Link,
    Report,
    RunCard,
    Section,
    Strong,
    Table,
    Value,
    text,
)
from etude.report.charts import Axis, Rule, lines
from etude.report.html import html, script_json
from etude.report.inline import written
from etude.report.specimen import report

EVIL = "</script><!--\u2028<img src=x onerror=alert(1)>'\"{{ 7 * 7 }}"
RUN = "train-3fa2c1"


class Page(HTMLParser):
    """The page as a browser takes it apart: tags with attributes, scripts, and what is shown."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.shown = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        last = self.tags[-1] if self.tags else ("", {})
        if self.cdata_elem == "script":
            self.scripts.append((last[1].get("type") or "", data))
        elif self.cdata_elem != "style":
            self.shown += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def whole() -> str:
    return html(report())


def evil_report() -> Report:
    value = Value(1.0, 0.5, 1.5, RUN, EVIL, label=EVIL)
    rows = [{"x": 1, "y": 2.0, EVIL: EVIL}, {"x": 2, "y": 3.0, EVIL: EVIL + "2"}]
    chart = lines(rows, Axis("x", EVIL), Axis("y", EVIL), colour=EVIL, rules=[Rule(EVIL, 2.5)], caption=EVIL, alt=EVIL)
    blocks = (
        text(EVIL, value, Strong(EVIL), Code(EVIL), Link(EVIL, "https://e.org/" + "<img>'\"")),
        Code(EVIL),
        Table((EVIL, "n"), ((EVIL, value), (Code(EVIL), 1)), EVIL, lowest=("n",)),
        chart,
        Heatmap(np.eye(2), (EVIL, "b"), (EVIL, "d"), EVIL, EVIL, EVIL, EVIL),
        Attention((EVIL, "b"), np.full((1, 1, 2, 2), 0.5), EVIL, layers=(EVIL,)),
        Contexts((Context((EVIL,), EVIL, (EVIL,), value),), EVIL, EVIL),
        Findings((Finding(text(EVIL), "clear"),)),
        Details(EVIL, (text(EVIL),)),
        Section(EVIL, (), EVIL),
    )
    card = RunCard(RUN, {"kind": EVIL, EVIL: EVIL}, 1.0, EVIL, EVIL, 1, EVIL, EVIL)
    return Report(EVIL, EVIL, blocks[:1], (Section(EVIL, blocks),), (card,), EVIL)


def test_text_is_never_taken_for_markup_in_any_place():
    page = html(evil_report())
    parsed = Page(page)
    assert not parsed.all("img")
    assert not [a for _, attributes in parsed.tags for a in attributes if a.startswith("on")]
    assert "49" not in parsed.shown  # {{ 7 * 7 }} is words, not a template
    executable = [source for kind, source in parsed.scripts if kind != "application/json"]
    assert not [source for source in executable if "alert(1)" in source]
    assert parsed.shown.count(EVIL) > 20 or parsed.shown.count("onerror=alert(1)") > 20


def test_data_in_scripts_reads_back_as_it_was():
    data = [json.loads(source) for kind, source in Page(html(evil_report())).scripts if kind == "application/json"]
    attention = next(d for d in data if "bytes" in d)
    assert attention["tokens"] == [EVIL, "b"] and attention["names"] == [EVIL]
    assert any(EVIL in json.dumps(d, ensure_ascii=False).replace('\\"', '"') for d in data if "layer" in d)


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(nested)
def test_json_for_scripts_round_trips_and_cannot_end_its_script(data):
    written = str(script_json(data))
    assert json.loads(written) == data
    assert written.isascii() and not re.search("[<>&]", written)


def test_what_is_not_finite_becomes_null():
    assert script_json({"a": (float("nan"), float("inf"), 1.0)}) == '{"a":[null,null,1.0]}'


def test_the_page_loads_nothing_and_allows_only_its_own_scripts(whole):
    parsed = Page(whole)
    assert not [a for _, a in parsed.tags if "src" in a]
    assert all(a["href"] == "data:," for a in parsed.all("link"))
    assert not re.search(r"@import|url\(", re.findall(r"<style>(.*?)</style>", whole, re.S)[0])
    policy = next(a["content"] for a in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    scripts = [source for kind, source in parsed.scripts if kind != "application/json"]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert policy and policy.startswith("default-src 'none'; script-src " + " ".join(f"'sha256-{h}'" for h in hashes))
    assert "unsafe-eval" not in policy and "http" not in policy


def test_one_copy_of_the_runtime_and_only_where_there_are_charts(whole):
    assert whole.count("window.vegaEmbed") == 1
    plain = html(Report("R", sections=(Section("S", (text("words"),)),)))
    assert "<script" not in plain and len(plain) < 40_000
    assert "script-src &#39;none&#39;" in plain


def test_the_page_of_a_study_stays_small(whole):
    assert len(whole.encode()) < 1_300_000


def test_every_link_inside_the_page_has_its_place(whole):
    parsed = Page(whole)
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids))
    inner = {str(a["href"])[1:] for a in parsed.all("a") if str(a.get("href")).startswith("#")}
    assert inner <= set(ids)


def test_a_number_links_to_its_run_and_tells_its_interval():
    card = RunCard(RUN, {"kind": "train"})
    page = html(Report("R", abstract=(text(Value(-1.25, -1.5, -1, RUN, "nats", 2, "loss")),), runs=(card,)))
    assert f'<a href="#run-{RUN}">−1.25</a> nats' in page
    assert f'title="loss: -1.25 nats, interval -1.5 to -1, from {RUN}"' in page
    assert f'id="run-{RUN}"' in page


def test_sections_with_the_same_title_get_anchors_of_their_own():
    page = html(Report("R", sections=(Section("Loss", (Section("Loss"),)), Section("Ä"), Section("–"))))
    assert re.findall(r'<h\d id="([^"]+)"', page) == ["loss", "loss-2", "section", "section-2"]


def test_a_block_without_a_template_says_what_is_missing():
    class Novel(Block):
        pass

    with pytest.raises(UsageError, match=r"Novel has no template: .*novel\.html\.j2"):
        html(Report("R", abstract=(Novel(),)))


def test_the_same_report_gives_the_same_page(whole):
    assert whole == html(report())


def test_long_numbers_are_shown_with_a_true_minus():
    assert written(-1234.5, 1) == "-1,234.5"
    assert "−1,234.5" in html(Report("R", abstract=(Table(("a",), ((Value(-1234.5, digits=1),),)),)))
