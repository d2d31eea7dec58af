from __future__ import annotations

import os
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.report import publish as module
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
    RunRef,
    Section,
    Strong,
    Table,
    Value,
    text,
)
from etude.report.markdown import escaped, markdown
from etude.report.publish import publish
from etude.report.specimen import report

A, B = "train-3fa2c1", "compress-9b7e44"

SMALL = Report(
    "How far?",
    "What do *five* numbers mean?",
    (text("Loss fell to ", Value(1.234, 1.2, 1.3, A, "nats"), ", by ", Value(12, run=(A, B), unit="%"), "."),),
    (
        Section(
            "Results",
            (
                Table(
                    ("model", "loss"),
                    (("a|b", Value(1.0, run=A)), ("uniform", None), (RunRef(A), 2.5)),
                    text("Best is ", Strong("low"), "."),
                    lowest=("loss",),
                ),
                Section("Deeper", (Details("More", (Code("make demo"),)),), "1. Not a list."),
                Heatmap(np.eye(2), ("a", "b"), ("c", "d"), "Scores.", "share", runs=(A,)),
                Attention(("x", "y"), np.full((1, 1, 2, 2), 0.5), "Who looks where."),
                Contexts(
                    (Context(("The", " old"), " fox", (" ran",), Value(4.2, run=B, digits=1)),), "Top.", "activation"
                ),
                Findings((Finding(text("It works, see ", Link("paper", "https://x.org/a_(b)"), "."), "clear"),)),
            ),
        ),
    ),
    (RunCard(A, {"kind": "train"}, 3.25, "etude run train", "a laptop", 0, "0.1.0"), RunCard(B, {})),
    "12 May 2026",
)

EXPECTED = """\
# How far?

*What do \\*five\\* numbers mean?*

12 May 2026

Loss fell to [1.234 nats](#run-train-3fa2c1) [1.200, 1.300], by [12%](#run-train-3fa2c1) ([2](#run-compress-9b7e44)).

## Results

Best is **low**.

| model | loss |
| --- | ---: |
| a\\|b | **[1.000](#run-train-3fa2c1)** |
| uniform | – |
| [train-3fa2c1](#run-train-3fa2c1) | 2.500 |

### Deeper

1\\. Not a list.

**More**

```
make demo
```

![share](figure-1.svg)

Scores. From [train-3fa2c1](#run-train-3fa2c1).

![Attention patterns over 2 tokens](figure-2.svg)

Who looks where.

Top.

| activation | context |
| ---: | --- |
| [4.2](#run-compress-9b7e44) | The old **fox** ran |

- **clear**: It works, see [paper](https://x.org/a_%28b%29).

## Runs

Each number above was measured in one of these runs.

### Run train-3fa2c1

- what: train
- time: 3.2 s
- seed: 0
- machine: a laptop
- code: 0.1.0

```
etude run train
```

```json
{
  "kind": "train"
}
```

### Run compress-9b7e44

```json
{}
```
"""


def test_a_small_report_reads_exactly_so(tmp_path):
    path = markdown(SMALL, tmp_path)
    assert path.read_text(encoding="utf-8") == EXPECTED
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figure-1.svg", "figure-2.svg", "report.md"]
    for picture in tmp_path.glob("*.svg"):
        ElementTree.fromstring(picture.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("a_b*c", r"a\_b\*c"),
        ("<img onerror=x>", r"\<img onerror=x\>"),
        ("[x](y)", r"\[x\](y)"),
        ("a|b", r"a\|b"),
        ("&lt;", "&amp;lt;"),
        ("$x$ `y` \\", r"\$x\$ \`y\` \\"),
        ("a\nb", "a⏎b"),
    ],
)
def test_words_stay_words(words, shown):
    assert escaped(words) == shown


def test_code_with_backticks_is_fenced_by_more_of_them(tmp_path):
    made = markdown(Report("R", abstract=(Code("```\nx\n```"), text(Code("a`b")))), tmp_path).read_text()
    assert "````\n```\nx\n```\n````" in made and "``a`b``" in made


def test_publish_writes_all_at_once_and_removes_old_pictures(tmp_path):
    folder = tmp_path / "new" / "report"
    assert publish(report(), folder) == folder / "report.html"
    pictures = {p.name for p in folder.glob("*.svg")}
    text_of = (folder / "report.md").read_text(encoding="utf-8")
    assert len(pictures) == 10 and set(re.findall(r"\((figure-\d+\.svg)\)", text_of)) == pictures
    (folder / "figure-mine.svg").write_text("mine")
    publish(SMALL, folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "figure-1.svg", "figure-2.svg", "figure-mine.svg", "report.html", "report.md",
    ]  # fmt: skip


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    page = publish(SMALL, tmp_path)
    before = page.read_text(encoding="utf-8")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        module.publish(Report("Other"), tmp_path)
    assert page.read_text(encoding="utf-8") == before
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_a_block_without_a_markdown_form_says_so(tmp_path):
    class Novel(Block):
        pass

    with pytest.raises(UsageError, match="Novel has no Markdown form"):
        markdown(Report("R", abstract=(Novel(),)), tmp_path)
