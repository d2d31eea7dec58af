"""A person's own labelled file: its formats, its labels, and that no text is in two splits."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from etude.core.errors import UsageError
from etude.text.corpora._labelled import sameness
from etude.text.corpora.labelled import Labelled
from etude.text.splits import SPLITS

ROWS = [(f"Remark {n}, and so on.", n % 3) for n in range(120)]
NAMES = ("hate", "offensive", "neither")


def table(path: Path, rows: list[tuple[object, ...]], header: tuple[str, ...] = ("text", "label")) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def everything(corpus: Labelled) -> list[tuple[str, int | None]]:
    return sorted((d.text(), d.label) for split in SPLITS for d in corpus.documents(split))


def test_all_formats_hold_the_same_texts(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    of_csv = table(
        tmp_path / "a.csv", [(n, text, NAMES[label]) for n, (text, label) in enumerate(ROWS)], ("", "t", "c")
    )
    lines = "".join(json.dumps({"t": text, "c": label, "more": []}) + "\n" for text, label in ROWS)
    (tmp_path / "a.jsonl").write_text(lines)
    named = {"t": [text for text, _ in ROWS], "c": [float(label) for _, label in ROWS]}
    parquet.write_table(arrow.table(named), tmp_path / "a.parquet")
    for path in (of_csv, str(tmp_path / "a.jsonl"), str(tmp_path / "a.parquet")):
        corpus = Labelled(path=path, text_field="t", label_field="c", classes=NAMES)
        assert everything(corpus) == sorted(ROWS)


def test_numbers_can_begin_anywhere(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [(text, label + 1) for text, label in ROWS])
    assert everything(Labelled(path=path, classes=NAMES, first=1)) == sorted(ROWS)
    with pytest.raises(
        UsageError, match=r"a\.csv line \d+: the label '3' is none of 0 to 2 \(hate, offensive, neither"
    ):
        everything(Labelled(path=path, classes=NAMES))


def test_texts_of_the_same_words_stay_together(tmp_path: Path) -> None:
    again = [(text.upper().replace(",", " --"), label) for text, label in ROWS]
    corpus = Labelled(path=table(tmp_path / "a.csv", [*ROWS, *again]), classes=NAMES)
    keys = [{sameness(d.text()) for d in corpus.documents(split)} for split in SPLITS]
    assert all(keys) and sum(map(len, keys)) == 120 == len(set.union(*keys))
    longer = Labelled(path=table(tmp_path / "b.csv", [*ROWS, ("One more.", 0)]), classes=NAMES)
    assert {d.text() for d in corpus.documents("test")} >= {d.text() for d in longer.documents("test")} - {"One more."}


def test_blank_texts_are_no_documents(tmp_path: Path) -> None:
    assert len(everything(Labelled(path=table(tmp_path / "a.csv", [*ROWS, ("  ", 0), ("", 1)]), classes=NAMES))) == 120


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [*ROWS])
    with pytest.raises(UsageError, match=r"unknown column of a\.csv 'tweet'"):
        everything(Labelled(path=path, text_field="tweet"))
    with pytest.raises(UsageError, match="give a share above 0"):
        Labelled(path=path, held_out=0.5)
    for classes in ((), ("one",), ("a", "a"), ("a", "")):
        with pytest.raises(UsageError, match="name two or more"):
            Labelled(path=path, classes=classes)
    (tmp_path / "b.jsonl").write_text('{"text": 7, "label": 0}\n')
    with pytest.raises(UsageError, match="text is '7', a int, no text"):
        everything(Labelled(path=str(tmp_path / "b.jsonl")))
    (tmp_path / "b.jsonl").write_text("[1]\n")
    with pytest.raises(UsageError, match="no object with fields"):
        everything(Labelled(path=str(tmp_path / "b.jsonl")))
    with pytest.raises(UsageError, match=r"holds 2 tables \(a\.csv, b\.jsonl\): give one"):
        everything(Labelled(path=str(tmp_path)))
    (tmp_path / "c.csv").write_text("text,label\nalone\n")
    with pytest.raises(UsageError, match="line 2 has 1 columns"):
        everything(Labelled(path=str(tmp_path / "c.csv")))


def test_sets_as_words_of_the_command_line() -> None:
    assert Labelled.from_words(["a.csv,b.jsonl"]) == (Labelled(path="a.csv"), Labelled(path="b.jsonl"))
    sets = (Labelled(path="a.csv", text_field="tweet", classes=("x", "y")), Labelled(path="b.csv"))
    for some in (sets, sets[1:], ()):
        assert Labelled.from_words([Labelled.as_words(some)]) == some
    for words, said in (('[{"pth": "a"}]', "unknown field of labelled 'pth'"), ("[1]", "no object"), ("[", "not JSON")):
        with pytest.raises(UsageError, match=said):
            Labelled.from_words([words])


def test_davidson(shared: Path) -> None:
    path = str(shared / "toxicity" / "davidson_labeled_data.csv")
    corpus = Labelled(path=path, text_field="tweet", label_field="class", classes=NAMES)
    assert corpus.about()["rows"] == {"hate": 1430, "offensive": 19190, "neither": 4163}
    counts = Counter(label for _, label in everything(corpus))
    assert counts == {0: 1430, 1: 19190, 2: 4163}
