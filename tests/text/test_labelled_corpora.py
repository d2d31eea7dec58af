"""Corpora with labels, `ag-news` and `rt-polarity`: their layouts, duplicates, and that no text is in two splits."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from etude.core.errors import UsageError
from etude.core.recipe import work_of
from etude.core.run import Draft
from etude.text.corpora._labelled import sameness
from etude.text.corpora.ag_news import AgNews
from etude.text.corpora.base import Corpus
from etude.text.corpora.rt_polarity import RtPolarity
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.splits import SPLITS
from etude.text.tokenizers.byte import Byte

TRAIN = [[str(n % 4 + 1), f"Title {n}", f"Story number {n}."] for n in range(200)]
TEST = [[str(n % 4 + 1), f"Test {n}", f"Another story {n}."] for n in range(20)]


def write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)


def news(folder: Path, *train: list[list[str]], test: list[list[str]] = TEST) -> AgNews:
    folder.mkdir(exist_ok=True)
    write(folder / "test.csv", test)
    for n, rows in enumerate(train):
        write(folder / f"train_{n}.csv", rows)
    return AgNews(path=str(folder))


def pairs(corpus: Corpus, split: str) -> list[tuple[str, int | None]]:
    return [(document.text(), document.label) for document in corpus.documents(split)]


def no_text_crosses(corpus: Corpus) -> None:
    keys = [{sameness(text) for text, _ in pairs(corpus, split)} for split in SPLITS]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]


def test_news_has_its_labels(tmp_path: Path):
    corpus = news(tmp_path, TRAIN)
    assert pairs(corpus, "test") == [(f"Test {n} Another story {n}.", n % 4) for n in range(20)]
    train, valid = pairs(corpus, "train"), pairs(corpus, "valid")
    assert sorted(train + valid) == sorted((f"{title} {text}", int(label) - 1) for label, title, text in TRAIN)
    assert 0 < len(valid) < 30
    assert corpus.classes == ("World", "Sports", "Business", "Sci/Tech")
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    assert corpus.classes == ("a", "b", "c", "d") and AgNews(path="gone").classes[0] == "World"


def test_rows_of_text_and_label_are_the_same_rows(tmp_path: Path):
    rows = [[f"{title} {text}", f"{int(label) - 1}.0"] for label, title, text in TRAIN]
    one, other = news(tmp_path / "a", TRAIN), news(tmp_path / "b", [["text", "label"], *rows])
    for split in SPLITS:
        assert pairs(one, split) == pairs(other, split)


def test_news_in_parquet(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads and writes Parquet")
    table = pytest.importorskip("pyarrow.parquet").write_table
    csvs = news(tmp_path / "csv", TRAIN)
    (tmp_path / "hub").mkdir()
    for name, rows in (("train", TRAIN), ("test", TEST)):
        columns = {"text": [f"{t} {d}" for _, t, d in rows], "label": [int(label) - 1 for label, _, _ in rows]}
        table(pyarrow.table(columns), tmp_path / "hub" / f"{name}-00000-of-00001.parquet")
    for split in SPLITS:
        assert pairs(AgNews(path=str(tmp_path / "hub")), split) == pairs(csvs, split)


def test_what_stands_twice_is_taken_out_and_counted(tmp_path: Path):
    again = [[label, title.upper(), text.replace(".", "  !")] for label, title, text in TRAIN[:30]]  # the same words
    wrong = [["4", "Title 0", "Story number 0."]]
    leaked = [[label, title, f"{text}\\"] for label, title, text in TEST[:5]]
    corpus = news(tmp_path, TRAIN, [*again, *wrong, *leaked])
    alone = news(tmp_path / "alone", TRAIN)
    for split in SPLITS:
        assert pairs(corpus, split) == pairs(alone, split)
    about = corpus.about()
    assert (about["duplicates_removed"], about["in_test_removed"]) == (31, 5)
    assert about["duplicates_with_another_label"] == 1 and sum(about["rows"].values()) == 220
    no_text_crosses(corpus)


def test_line_ends_of_the_published_files(tmp_path: Path):
    corpus = news(tmp_path, TRAIN, test=[["2", "A title", "one\\two  three\\"]])
    assert pairs(corpus, "test") == [("A title one two three", 1)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["5", "a", "b"]], r"train_0.csv line 1: the label '5' is none of 1 to 4 \(World, .*\); correct it"),
        ([["0", "a", "b"]], "the label '0' is none of 1 to 4"),
        ([["1", "a", "b"], ["x", "a", "b"]], "line 2: the label 'x' is none of 1 to 4"),
        ([["some text", "4"]], "the label '4' is none of 0 to 3"),
        ([["some text", "1.5"]], "the label '1.5' is none of 0 to 3"),
        ([["some text", "nan"]], "the label 'nan' is none of 0 to 3"),
        ([["1", "a", "b", "c"]], "line 1: a row has class,title,description or text,label, and this one 4 cells"),
    ],
)
def test_bad_rows_of_news(tmp_path: Path, rows: list[list[str]], message: str):
    corpus = news(tmp_path, rows)
    with pytest.raises(UsageError, match=message) as caught:
        pairs(corpus, "train")
    assert "\n" not in str(caught.value)


def test_news_without_a_part(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no train\*.csv in the folder .* which holds test.csv: corpus ag-news needs"):
        news(tmp_path).identity()
    with pytest.raises(UsageError, match=r"the train split of .* is empty"):
        pairs(news(tmp_path, TEST), "train")
    with pytest.raises(UsageError, match=r"--corpus.path FOLDER \(--data.corpus.path for a training\)"):
        AgNews().identity()


REVIEWS = {"neg": [f"review {n} is dull" for n in range(300)], "pos": [f"review {n} is fine" for n in range(300)]}


def films(folder: Path, encoding: str = "utf-8", reviews: dict[str, list[str]] = REVIEWS) -> RtPolarity:
    folder.mkdir(exist_ok=True)
    for ending, lines in reviews.items():
        (folder / f"rt-polarity.{ending}").write_bytes("".join(f"{line} \n" for line in lines).encode(encoding))
    return RtPolarity(path=str(folder))


def test_reviews_have_their_labels_and_shares(tmp_path: Path):
    corpus = films(tmp_path)
    found = {split: pairs(corpus, split) for split in SPLITS}
    everything = sorted(pair for part in found.values() for pair in part)
    assert everything == sorted((line, label) for label, lines in enumerate(REVIEWS.values()) for line in lines)
    assert corpus.classes == ("negative", "positive")
    assert all(35 < len(found[split]) < 90 for split in ("valid", "test"))
    fewer = RtPolarity(path=str(tmp_path), held_out=0.05)
    assert len(pairs(fewer, "test")) < len(found["test"]) and fewer.resolve() != corpus.resolve()
    with pytest.raises(UsageError, match=r"held_out = 0.5: give a share above 0 and below 0.5"):
        RtPolarity(held_out=0.5)


def test_the_same_words_are_in_one_split(tmp_path: Path):
    again = {"neg": REVIEWS["neg"], "pos": [line.upper() + " !" for line in REVIEWS["neg"]]}
    corpus = films(tmp_path, reviews=again)
    assert sum(len(pairs(corpus, split)) for split in SPLITS) == 600
    no_text_crosses(corpus)


def test_old_encodings_are_read(tmp_path: Path):
    reviews = {"neg": [f"{n} sôit — “no”\x85" for n in range(100)], "pos": [f"{n} é\x85 fine" for n in range(100)]}
    text = {ending: [line.replace("\x85", "…") for line in lines] for ending, lines in reviews.items()}
    old, new = films(tmp_path / "old", "cp1252", text), films(tmp_path / "new", "utf-8", text)
    assert old.about()["encodings"] == ["cp1252"] and new.about()["encodings"] == ["utf-8"]
    for split in SPLITS:
        assert pairs(old, split) == pairs(new, split)
    both = films(tmp_path / "both", "cp1252", text)
    films(tmp_path / "both" / "utf8", "utf-8", text)
    assert both.identity() == new.identity()  # the UTF-8 copies are taken
    latin = films(tmp_path / "latin", "latin-1", {ending: ["sôit élan"] for ending in ("neg", "pos")})
    assert {text for split in ("train",) for text, _ in pairs(latin, split)} == {"sôit élan"}


def test_reviews_in_parquet(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads and writes Parquet")
    table = pytest.importorskip("pyarrow.parquet").write_table
    local = films(tmp_path / "local")
    rows = [(line, label) for label, lines in enumerate(REVIEWS.values()) for line in lines]
    (tmp_path / "hub").mkdir()
    for n, name in enumerate(("train", "validation", "test")):
        part = rows[n::3]
        table(
            pyarrow.table({"text": [t for t, _ in part], "label": [i for _, i in part]}),
            tmp_path / "hub" / f"{name}.parquet",
        )
    hub = RtPolarity(path=str(tmp_path / "hub"))
    for split in SPLITS:
        assert sorted(pairs(hub, split)) == sorted(pairs(local, split))


def test_rows_without_text_are_not_the_word_none(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra hub is not installed")
    write = pytest.importorskip("pyarrow.parquet").write_table
    held = [None if n == 3 else f"row {n}" for n in range(200)]
    for name in ("train", "test"):
        write(pyarrow.table({"text": held, "label": [0] * 200}), tmp_path / f"{name}.parquet")
    reviews = [text for split in SPLITS for text, _ in pairs(RtPolarity(path=str(tmp_path)), split)]
    assert set(reviews) == set(filter(None, held))
    assert [text for text, _ in pairs(AgNews(path=str(tmp_path)), "test")][3] == ""


@pytest.mark.parametrize("said", ["", "\n \n", "World\n", "World\nSports\nWorld\nSci\n"])
def test_topics_that_cannot_be(tmp_path: Path, said: str):
    corpus = news(tmp_path, TRAIN)
    (tmp_path / "classes.txt").write_text(said)
    with pytest.raises(UsageError, match=r"classes.txt in .* names the topics .*: give two or more, each once"):
        pairs(corpus, "train")


def test_the_topics_of_news_on_the_hub_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub").mkdir()  # a folder of one's own, of which the path `hub` does not speak
    monkeypatch.setattr("etude.text.places.files_of", lambda *asked: pytest.fail(f"fetched {asked}"))
    assert AgNews(path="hub").classes == AgNews().classes


def test_half_of_the_reviews(tmp_path: Path):
    (tmp_path / "rt-polarity.neg").write_text("dull\n")
    with pytest.raises(UsageError, match=r"no rt-polarity.pos in the folder .*, which holds rt-polarity.neg: corpus"):
        RtPolarity(path=str(tmp_path)).identity()


# On the real data


def test_ag_news_rows(shared: Path):
    corpus = AgNews(path=str(shared / "ag_news"))
    about = corpus.about()
    assert about["rows"]["test"] == 7600
    removed = about["duplicates_removed"] + about["in_test_removed"]
    assert about["rows"]["train"] + about["rows"]["valid"] + removed == 10_000
    assert (about["duplicates_removed"], about["in_test_removed"]) == (227, 1)
    assert about["duplicates_with_another_label"] == 2
    labels = [label for _, label in pairs(corpus, "test")]
    assert [labels.count(label) for label in range(4)] == [1900] * 4
    assert corpus.classes == ("World", "Sports", "Business", "Sci/Tech")
    no_text_crosses(corpus)


def test_rt_polarity_rows(shared: Path, tmp_path: Path):
    corpus = RtPolarity(path=str(shared / "rt-polarity"))
    found = {split: pairs(corpus, split) for split in SPLITS}
    assert sum(map(len, found.values())) == 10_662
    assert sum(label == 1 for part in found.values() for _, label in part) == 5331
    assert {split: round(len(part) / 10_662, 1) for split, part in found.items()} == {
        "train": 0.8,
        "valid": 0.1,
        "test": 0.1,
    }
    no_text_crosses(corpus)
    for ending in ("neg", "pos"):
        (tmp_path / f"rt-polarity.{ending}").write_bytes(
            (shared / "rt-polarity" / f"rt-polarity.{ending}").read_bytes()
        )
    old = {text for split in SPLITS for text, _ in pairs(RtPolarity(path=str(tmp_path)), split)}
    new = {text for part in found.values() for text, _ in part}
    assert len(old - new) == 30 and not any("\x80" <= letter <= "\x9f" for text in old for letter in text)


def test_labels_reach_the_store(shared: Path, tmp_path: Path):
    corpus = RtPolarity(path=str(shared / "rt-polarity")).resolve()
    recipe = Tokens(corpus, Byte()).resolve()
    draft = Draft(tmp_path / "tokens.partial", recipe)
    run = draft.finish(dict(work_of(recipe)(recipe, {}, draft)), {})
    store = TextData.open(run).store("test")
    assert store.classes == ("negative", "positive") and store.labels is not None
    assert store.labels.tolist() == [label for _, label in pairs(corpus, "test")]
    assert sum(sum(split["labels"]) for split in run.result["splits"].values()) == 10_662
