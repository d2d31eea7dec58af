"""Corpora of plain text: wikitext, wiki40b, tinyshakespeare, openwebtext."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

import pytest

from etude.core.errors import DamagedError, UsageError
from etude.core.recipe import work_of
from etude.core.run import Draft
from etude.text.corpora.base import Corpus
from etude.text.corpora.openwebtext import Openwebtext
from etude.text.corpora.tinyshakespeare import Tinyshakespeare
from etude.text.corpora.wiki40b import Wiki40b, plain
from etude.text.corpora.wikitext import Wikitext, divided
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.splits import SPLITS
from etude.text.tokenizers.gpt2 import Gpt2

ONE = " \n = One = \n \n Text <unk> . \n \n = = Part = = \n \n More . \n"
TWO = " \n = Two ( 2 ) = \n \n Note : <unk> \n = <unk> ; <unk> = \n Games played . \n"


def texts(corpus: Corpus, split: str) -> list[str]:
    return [document.text() for document in corpus.documents(split)]


def every(corpus: Corpus) -> list[str]:
    return [text for split in SPLITS for text in texts(corpus, split)]


def wikitext(folder: Path, naming: str = "{}.txt", text: str = ONE + TWO) -> Path:
    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        (folder / naming.format(split)).write_text(text, encoding="utf-8", newline="")
    return folder


def test_an_article_goes_from_title_to_title(tmp_path: Path):
    corpus = Wikitext(path=str(wikitext(tmp_path)))
    for split in SPLITS:
        found = texts(corpus, split)
        assert "".join(found) == ONE + TWO
        assert [text.strip().splitlines()[0].strip() for text in found] == ["= One =", "= Two ( 2 ) ="]
    assert corpus.about()["articles"] == dict.fromkeys(SPLITS, 2)


@pytest.mark.parametrize(
    ("text", "articles"),
    [
        ("", 0),
        ("no title\n", 1),
        (" = A = \n", 1),
        (" = A = \n \n = B = \n", 2),  # the title is the last line
        (" \n \n = A = \n \nx\n \n = B = \n \n", 2),
        (" = A = \nx = 1\n", 1),  # a formula, right at the start
        ("x\n = A = \n \n", 1),  # no empty line before
        (" = A = \n\n = = b = = \n\n= C =\n\n", 2),  # spaces at the ends may be missing
    ],
)
def test_what_is_a_title(text: str, articles: int):
    found = list(divided(text.splitlines(keepends=True)))
    assert len(found) == articles and "".join(line for article in found for line in article) == text


def test_wikitext_as_published(tmp_path: Path):
    corpus = Wikitext(path=str(wikitext(tmp_path)), articles=False)
    assert every(corpus) == [ONE + TWO] * 3
    assert corpus.resolve().fingerprint() != Wikitext(path=str(tmp_path)).resolve().fingerprint()


def test_the_variants_are_not_taken_for_each_other(tmp_path: Path):
    wikitext(tmp_path, "wiki.{}.tokens")
    raw = ONE.replace("<unk>", "rare")
    wikitext(tmp_path, "wiki.{}.raw", raw)
    assert "<unk>" in every(Wikitext(path=str(tmp_path)))[0]
    assert every(Wikitext(path=str(tmp_path), variant="raw")) == [raw] * 3
    only = wikitext(tmp_path / "only", "{}.txt", raw)
    with pytest.raises(UsageError, match=r"variant raw, and unk was asked for: set its field variant to raw"):
        every(Wikitext(path=str(only)))
    with pytest.raises(UsageError, match="several train files"):
        every(Wikitext(path=str(tmp_path), variant="raw"))


def test_wikitext_as_the_hub_has_it(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads and writes Parquet")
    write = pytest.importorskip("pyarrow.parquet").write_table
    wikitext(tmp_path / "txt")
    (tmp_path / "hub").mkdir()
    lines = ["" if line == " \n" else line for line in (ONE + TWO).splitlines(keepends=True)]
    for split, name in (("train", "train"), ("valid", "validation"), ("test", "test")):
        halves = (lines[:4], lines[4:]) if split == "train" else (lines,)
        for n, part in enumerate(halves):
            write(pyarrow.table({"text": part}), tmp_path / "hub" / f"{name}-0000{n}-of-00002.parquet")
    local, hub = (every(Wikitext(path=str(tmp_path / name))) for name in ("txt", "hub"))
    assert [text.split() for text in local] == [text.split() for text in hub]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("train", r"no train file of the variant unk in the folder '.*', which holds test.txt, valid.txt: corpus wiki"),
        (
            "all",
            r"which holds nothing: corpus wikitext needs train, valid and test as \.txt.*; give the folder with",
        ),
    ],
)
def test_wikitext_that_is_not_whole(tmp_path: Path, missing: str, message: str):
    for split in SPLITS:
        if missing not in (split, "all"):
            (tmp_path / f"{split}.txt").write_text(ONE)
    with pytest.raises(UsageError, match=message) as caught:
        Wikitext(path=str(tmp_path)).identity()
    assert "\n" not in str(caught.value)


def article(n: int) -> str:
    return (
        f"\n_START_ARTICLE_\nTitle {n}\n_START_SECTION_\nPart\n_START_PARAGRAPH_\nFirst {n}._NEWLINE_Second."
        "\n_START_SECTION_\nEnd\n_START_PARAGRAPH_\nLast."
    )


def test_marks_are_kept_or_turned_into_lines(tmp_path: Path):
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps({"text": article(n)}) for n in range(200)))
    kept, without = Wiki40b(path=str(tmp_path)), Wiki40b(path=str(tmp_path), marks="plain")
    assert sorted(every(kept)) == sorted(article(n) for n in range(200))
    assert [plain(text) for text in every(kept)] == every(without)
    assert plain(article(7)) == "Title 7\n\nPart\n\nFirst 7.\nSecond.\n\nEnd\n\nLast."
    assert kept.resolve().fingerprint() != without.resolve().fingerprint()


@pytest.mark.parametrize("marks", ["kept", "plain"])
def test_bytes_that_were_replaced_are_counted(tmp_path: Path, marks: Any):
    (tmp_path / "train.jsonl").write_bytes(json.dumps({"text": article(1)}).encode().replace(b"First", b"\xff", 1))
    (document,) = Wiki40b(path=str(tmp_path), marks=marks).documents("train")
    assert "\ufffd" in document.text() and document.replaced == 1


def test_wiki40b_of_another_format(tmp_path: Path):
    (tmp_path / "train.json").write_text(json.dumps(["no marks", "at all"]))
    with pytest.raises(UsageError, match=r"train.json:1 has no _START_ARTICLE_: .* read it with the corpus files"):
        texts(Wiki40b(path=str(tmp_path)), "train")


def test_the_usual_cut_of_tiny_shakespeare(tmp_path: Path):
    text = "".join(f"line {n} é\n" for n in range(1003))
    (tmp_path / "input.txt").write_text(text, encoding="utf-8", newline="")
    corpus = Tinyshakespeare(path=str(tmp_path))
    parts = every(corpus)
    assert "".join(parts) == text and len(parts) == 3
    assert len(parts[0]) == int(len(text) * 0.9) and abs(len(parts[1]) - len(parts[2])) <= 1
    assert every(Tinyshakespeare(path=str(tmp_path / "input.txt"))) == parts


def test_tiny_shakespeare_in_three_tables(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads and writes Parquet")
    write = pytest.importorskip("pyarrow.parquet").write_table
    parts = {"train": "a" * 90, "validation": "b" * 5, "test": "c" * 5}
    for name, text in parts.items():
        (tmp_path / name).mkdir()
        write(pyarrow.table({"text": [text]}), tmp_path / name / "0000.parquet")
    assert every(Tinyshakespeare(path=str(tmp_path))) == list(parts.values())


def test_rows_without_text_are_not_the_word_none(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra hub is not installed")
    write = pytest.importorskip("pyarrow.parquet").write_table
    for name in ("train", "validation", "test"):
        write(pyarrow.table({"text": [None, "word " * 40]}), tmp_path / f"{name}.parquet")
    assert every(Wikitext(path=str(tmp_path), variant="raw", articles=False)) == ["\n" + "word " * 40 + "\n"] * 3
    assert "".join(every(Tinyshakespeare(path=str(tmp_path)))) == "word " * 120
    with pytest.raises(UsageError, match=r"needs input\.txt, or Parquet files named"):  # one table alone is no text
        every(Tinyshakespeare(path=str(tmp_path / "train.parquet")))
    for name in ("train", "validation", "test"):
        write(pyarrow.table({"text": [1, 2]}), tmp_path / f"{name}.parquet")
    with pytest.raises(UsageError, match=r"parquet' row 1: the text is '1', a int"):
        every(Wikitext(path=str(tmp_path), variant="raw"))


def tar(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return held.getvalue()


PAGES = [f"page {n} é\nand more" for n in range(300)]


def subset(pages: list[str]) -> bytes:
    return lzma.compress(tar({f"{n}.txt": page.encode() for n, page in enumerate(pages)}))


def as_texts(folder: Path) -> None:
    for n, page in enumerate(PAGES):
        (folder / f"{n}.txt").write_text(page, encoding="utf-8", newline="")


def as_rows(folder: Path) -> None:
    (folder / "pages.jsonl").write_text("\n".join(json.dumps({"text": page}) for page in PAGES))


def as_published(folder: Path) -> None:
    inside = {f"openwebtext/urlsf_subset{n:02}-1_data.xz": subset(PAGES[n::3]) for n in range(3)}
    (folder / "openwebtext.tar.xz").write_bytes(lzma.compress(tar({**inside, "openwebtext/README": b"not a page"})))


def as_subsets(folder: Path) -> None:
    for n in range(3):
        (folder / f"urlsf_subset{n:02}.tar").write_bytes(tar({"urlsf-1_data.xz": subset(PAGES[n::3])}))


@pytest.mark.parametrize("write", [as_texts, as_rows, as_published, as_subsets])
def test_layouts_of_openwebtext(tmp_path: Path, write: Any):
    write(tmp_path)
    corpus = Openwebtext(path=str(tmp_path))
    parts = [texts(corpus, split) for split in SPLITS]
    assert sorted(page for part in parts for page in part) == sorted(PAGES)
    assert len(parts[0]) > 230 and min(map(len, parts)) > 4
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []  # nothing was unpacked


def test_pages_go_to_the_same_split_in_any_archive(tmp_path: Path):
    found = []
    for write in (as_rows, as_published, as_subsets):
        (tmp_path / write.__name__).mkdir()
        write(tmp_path / write.__name__)
        corpus = Openwebtext(path=str(tmp_path / write.__name__))
        found.append([sorted(texts(corpus, split)) for split in SPLITS])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kept", [10, 200, 1500, -12])
def test_an_archive_that_was_cut(tmp_path: Path, kept: int):
    as_published(tmp_path)
    path = tmp_path / "openwebtext.tar.xz"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        DamagedError, match=r"openwebtext.tar.xz' is no whole tar archive: .*; fetch it again"
    ) as caught:
        every(Openwebtext(path=str(path)))
    assert "\n" not in str(caught.value)


def test_archives_in_archives_have_an_end(tmp_path: Path):
    held = tar({"page.txt": b"page"})
    for _ in range(4):
        held = tar({"inner.tar": held})
    (tmp_path / "a.tar").write_bytes(held)
    with pytest.raises(UsageError, match="more than 3 deep"):
        every(Openwebtext(path=str(tmp_path)))


# On the real data


def test_wikitext_2_counts_as_published(shared: Path):
    for articles in (True, False):
        corpus = Wikitext(path=str(shared / "wikitext-2"), articles=articles)
        found = {split: "".join(texts(corpus, split)) for split in SPLITS}
        words = {split: len(text.split()) + text.count("\n") for split, text in found.items()}
        assert words == {"train": 2_088_628, "valid": 217_646, "test": 245_569}
    assert Wikitext(path=str(shared / "wikitext-2")).about()["articles"] == {"train": 600, "valid": 60, "test": 60}


def test_tiny_shakespeare_has_its_characters(shared: Path):
    corpus = Tinyshakespeare(path=str(shared / "tinyshakespeare"))
    parts = [text for split in SPLITS for text in texts(corpus, split)]
    assert [len(part) for part in parts] == [1_003_854, 55_770, 55_770]
    assert "".join(parts) == (shared / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    assert corpus.about()["characters"] == 1_115_394


def test_the_20_token_sample_of_wiki40b(shared: Path, tmp_path: Path):
    corpus = Wiki40b(path=str(shared / "wiki40b"))
    recipe = Tokens(corpus, Gpt2(path=str(shared / "gpt2-bpe")), openings=20).resolve()
    draft = Draft(tmp_path / "tokens.partial", recipe)
    run = draft.finish(dict(work_of(recipe)(recipe, {}, draft)), {})
    data = TextData.open(run)
    store = data.store("train")
    first, second = (data.tokenizer.decode(store.tokens[a:b].tolist()) for a, b in ((0, 20), (20, 40)))
    assert first.startswith("A tablet recovered in Nippur") and second.startswith("The 1882 Prince Edward Island")
    assert sum(data.store(split).header.documents for split in SPLITS) == 44
    assert all("_START_" not in text for text in every(Wiki40b(path=str(shared / "wiki40b"), marks="plain")))
