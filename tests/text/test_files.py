from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import pytest

from etude.core.errors import DamagedError, EtudeError, UsageError
from etude.text.corpora.files import Files
from etude.text.splits import SPLITS

PROSE = "\n".join(f"Sentence {n} of a text that goes on for a while." for n in range(2000))
ROWS = [f"row {n}, “quoted”\nand more" for n in range(300)]


def texts(corpus: Files, split: str) -> list[str]:
    return [document.text() for document in corpus.documents(split)]


def every(corpus: Files) -> list[str]:
    return [text for split in SPLITS for text in texts(corpus, split)]


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize("ending", ["txt", "md"])
def test_one_long_text_is_divided_after_words(tmp_path: Path, ending: str):
    path = tmp_path / f"train.{ending}"  # one file's name says nothing of splits
    path.write_text(PROSE, encoding="utf-8")
    parts = every(Files(path=str(path)))
    assert "".join(parts) == PROSE
    assert [round(len(part) / len(PROSE), 2) for part in parts] == [0.90, 0.05, 0.05]
    assert all(part[0] in " \n" for part in parts[1:])


def test_a_long_text_without_a_space_is_divided_between_characters(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("漢" * 600_000, encoding="utf-8")
    corpus = Files(path=str(path))
    assert "".join(every(corpus)) == "漢" * 600_000 and corpus.about()["replaced"] == 0


def jsonl(path: Path) -> Path:
    path.write_text("\n".join(json.dumps({"body": row}) for row in ROWS) + "\n\n", encoding="utf-8")
    return path


def listed(path: Path) -> Path:
    path.write_text(json.dumps([{"body": row} for row in ROWS]), encoding="utf-8")
    return path


def parquet(path: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads and writes Parquet")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"body": [*ROWS, None], "n": [0] * 301}), path)
    return path


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: jsonl(folder / "a.jsonl"),
        lambda folder: listed(folder / "a.json"),
        lambda folder: write_csv(folder / "a.csv", [["n", "body"], *(["1", row] for row in ROWS)]),
        lambda folder: parquet(folder / "a.parquet"),
    ],
    ids=["jsonl", "json", "csv", "parquet"],
)
def test_rows_go_to_splits_by_what_they_say(tmp_path: Path, made):
    path = made(tmp_path)
    corpus = Files(path=str(path), text_field="body").resolve()
    parts = {split: texts(corpus, split) for split in SPLITS}
    assert sorted(row for part in parts.values() for row in part) == sorted(ROWS)
    other = jsonl(tmp_path / "other.jsonl")
    assert parts == {split: texts(Files(path=str(other), text_field="body"), split) for split in SPLITS}


def test_equal_rows_stay_together(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": row}) for row in ROWS * 2), encoding="utf-8")
    parts = [set(texts(Files(path=str(path)), split)) for split in SPLITS]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_csv_without_a_header(tmp_path: Path):
    path = write_csv(tmp_path / "a.csv", [["3", row] for row in ROWS])
    assert sorted(every(Files(path=str(path), text_field="2"))) == sorted(ROWS)


def test_line_separators_inside_a_cell(tmp_path: Path):
    rows = [f"{n}\u2028a\x0bb\x85c" for n in range(200)]
    path = write_csv(tmp_path / "a.csv", [["text"], *([row] for row in rows)])
    assert sorted(every(Files(path=str(path)))) == sorted(rows)


def test_a_json_object_of_texts_and_a_list_longer_than_a_chunk(tmp_path: Path):
    rows = {f"k{n}": f"{n} " + "word é " * 3000 for n in range(150)}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    assert sorted(every(Files(path=str(path)))) == sorted(rows.values())


def test_named_files_keep_their_split(tmp_path: Path):
    for name in ("train.txt", "val.txt", "test.txt", "README.txt"):
        (tmp_path / name).write_text(f"{name} {PROSE}", encoding="utf-8")
    corpus = Files(path=str(tmp_path))
    assert {split: texts(corpus, split)[0].split()[0] for split in SPLITS} == {
        "train": "train.txt", "valid": "val.txt", "test": "test.txt",
    }  # fmt: skip
    assert corpus.about()["files"] == 3


def test_a_split_that_is_not_named_comes_from_train(tmp_path: Path):
    (tmp_path / "train").mkdir()
    jsonl(tmp_path / "train" / "part-0.jsonl")
    (tmp_path / "test-00000-of-00001.jsonl").write_text('{"body": "kept"}', encoding="utf-8")
    corpus = Files(path=str(tmp_path), text_field="body")
    assert texts(corpus, "test") == ["kept"]
    assert 0 < len(texts(corpus, "valid")) < 40
    assert sorted(texts(corpus, "train") + texts(corpus, "valid")) == sorted(ROWS)


def test_a_folder_of_many_texts_is_split_by_whole_files(tmp_path: Path):
    for n in range(40):
        (tmp_path / f"{n}.md").write_text(f"{n // 2} {PROSE[:500]}", encoding="utf-8")  # each text twice
    (tmp_path / ".hidden.md").write_text("no")
    corpus = Files(path=str(tmp_path))
    parts = [set(texts(corpus, split)) for split in SPLITS]
    assert [len(part) for part in parts] == [18, 1, 1]
    assert len(set.union(*parts)) == 20


def test_bytes_that_are_not_utf8_are_replaced_and_counted(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"word \xff\xfe caf\xc3\xa9 \xef\xbf\xbd\n" * 500)
    corpus = Files(path=str(path))
    assert corpus.about()["replaced"] == 1000
    documents = [document for split in SPLITS for document in corpus.documents(split)]
    text = "".join(document.text() for document in documents)
    assert text == "word \ufffd\ufffd café \ufffd\n" * 500
    assert sum(document.replaced for document in documents) == 1000


def test_half_a_pair_in_json_is_replaced(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(f'"{n} \\ud83d x"' for n in range(200)))
    assert sorted(every(Files(path=str(path))))[0] == "0 \ufffd x"


def test_identity_is_the_content_not_the_place(tmp_path: Path):
    first, second = tmp_path / "a.txt", tmp_path / "deep" / "b.txt"
    second.parent.mkdir()
    first.write_text(PROSE)
    second.write_text(PROSE)
    a, b = Files(path=str(first)).resolve(), Files(path=str(second)).resolve()
    assert a.fingerprint() == b.fingerprint()
    assert Files(path=str(tmp_path)).identity() != a.sha256


def test_a_changed_file_is_refused(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text(PROSE)
    corpus = Files(path=str(path)).resolve()
    path.write_text(PROSE.replace("while", "whilst"))
    os.utime(path, ns=(1, 1))
    with pytest.raises(DamagedError, match="the text has changed"):
        texts(corpus, "train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("", None, "needs a file or folder"),
        ("gone.txt", None, "no file or folder '.*gone.txt'"),
        ("a.bin", b"x", r"the ending must be one of \.csv, \.json"),
        ("a.txt", b"", "the train split of '.*a.txt' is empty: give more text"),
        ("a.txt", b" \n \n", "the train split of '.*a.txt' is empty"),
        ("a.jsonl", b"", "split of '.*a.jsonl' is empty"),
        ("a.txt", "text".encode("utf-16"), "is UTF-16: convert it with iconv"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "line 2 is not JSON"),
        ("a.jsonl", b'{"txt": "a"}', "unknown field of a.jsonl, line 1, 'text': did you mean 'txt'"),
        ("a.jsonl", b'{"text": 7}', "the text is '7', a int"),
        ("a.jsonl", b"7", "line 1 is neither a text nor an object"),
        ("a.json", b'["a", "b"', "is not a JSON list of texts"),
        ("a.json", b'"a"', "is not a JSON list of texts"),
        ("a.json", b"[1]", "item 1 is neither a text"),
        ("a.csv", b"n,body\n1,x\n", "unknown column of a.csv 'text'"),
        ("a.parquet", b"PAR1 is no table", "cannot read .* as Parquet"),
    ],
)
def test_bad_files_get_one_line(tmp_path: Path, name: str, content: bytes | None, message: str):
    path = tmp_path / name if name else Path()
    if content is not None:
        path.write_bytes(content)
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="without pyarrow the message is another")
    with pytest.raises(UsageError, match=message) as caught:
        texts(Files(path=str(path) if name else ""), "train")
    assert "\n" not in str(caught.value)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.parquet").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow: pip install 'etude\[hub\]'"):
        texts(Files(path=str(tmp_path / "a.parquet")), "train")


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.txt"
    path.write_text(PROSE)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UsageError, match=r"cannot read '.*a.txt': Permission denied; check"):
        Files(path=str(path)).identity()


def test_an_empty_folder(tmp_path: Path):
    with pytest.raises(EtudeError, match=r"no text in the folder .* end in one of"):
        Files(path=str(tmp_path)).identity()


def test_public_data_is_read(shared: Path):
    wikitext = Files(path=str(shared / "wikitext-2"))
    for split in SPLITS:
        assert texts(wikitext, split) == [(shared / "wikitext-2" / f"{split}.txt").read_text(encoding="utf-8")]
    assert len(every(Files(path=str(shared / "wiki40b" / "wiki40b_seeds.json")))) > 30
    news = Files(path=str(shared / "ag_news" / "test.csv"), text_field="3")
    assert len(every(news)) == 7600
