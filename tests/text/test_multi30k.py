"""The corpus of pairs: its layouts, its sides, and files that do not belong together."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from etude.core.errors import DamagedError, UsageError
from etude.core.recipe import work_of
from etude.core.run import Draft, Run
from etude.text.corpora.multi30k import Multi30k
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.splits import SPLITS
from etude.text.tokenizers.byte import Byte

FILES = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
COUNTS = {"train": 30, "valid": 4, "test": 5}


def sentences(split: str, side: str) -> list[str]:
    word = {"en": "dog", "de": "Hünd"}[side]
    return [f"{split} {word} {n}" for n in range(COUNTS[split])]


def small(folder: Path, ending: str = "") -> Multi30k:
    folder.mkdir(exist_ok=True)
    for split, name in FILES.items():
        for side in ("en", "de"):
            data = "".join(f"{line} \n" for line in sentences(split, side)).encode()
            (folder / f"{name}.{side}{ending}").write_bytes(gzip.compress(data) if ending else data)
    return Multi30k(path=str(folder))


def made(folder: Path, corpus: Multi30k) -> Run:
    recipe = Tokens(corpus, Byte()).resolve()
    draft = Draft(folder / "tokens.partial", recipe)
    return draft.finish(dict(work_of(recipe)(recipe, {}, draft)), {})


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("source", ["en", "de"])
def test_pairs_come_source_first(tmp_path: Path, ending: str, source: str):
    small(tmp_path, ending)
    corpus = Multi30k(path=str(tmp_path), source=source)  # type: ignore[arg-type]
    assert corpus.sides == (("en", "de") if source == "en" else ("de", "en"))
    for split in SPLITS:
        found = [document.text() for document in corpus.documents(split)]
        assert found[0::2] == sentences(split, corpus.sides[0]) and found[1::2] == sentences(split, corpus.sides[1])
    assert corpus.about()["pairs"] == COUNTS


def test_the_direction_is_part_of_the_fingerprint_and_not_of_the_identity(tmp_path: Path):
    small(tmp_path)
    one, other = (Multi30k(path=str(tmp_path), source=source).resolve() for source in ("en", "de"))
    assert one.sha256 == other.sha256 and one.fingerprint() != other.fingerprint()


def test_pairs_in_a_run(tmp_path: Path):
    data = TextData.open(made(tmp_path, small(tmp_path / "pairs")))
    store = data.store("valid")
    assert store.sides == ("en", "de") and store.header.documents == 8
    parts = [store.tokens[a : b - 1].tolist() for a, b in zip(store.documents, store.documents[1:], strict=False)]
    assert [data.tokenizer.decode(part) for part in parts[:2]] == ["valid dog 0", "valid Hünd 0"]


def test_pairs_in_jsonl(tmp_path: Path):
    small(tmp_path / "lines")
    (tmp_path / "hub").mkdir()
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        rows = zip(sentences(split, "en"), sentences(split, "de"), strict=True)
        text = "\n".join(json.dumps({"en": en, "de": de}) for en, de in rows)
        (tmp_path / "hub" / f"{name}.jsonl").write_text(text)
    lines, hub = (Multi30k(path=str(tmp_path / name)) for name in ("lines", "hub"))
    for split in SPLITS:
        assert [d.text() for d in hub.documents(split)] == [d.text() for d in lines.documents(split)]
    (tmp_path / "hub" / "val.jsonl").write_text('{"en": "a", "de": "b"}\n{"en": "a"}\n')
    with pytest.raises(UsageError, match=r"val.jsonl' line 2 has no text 'de': each line is a pair, as in"):
        list(hub.documents("valid"))


def test_empty_lines_of_jsonl_are_no_pairs(tmp_path: Path):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"en": "a", "de": "b"}\n\n\n{"en": "c", "de": "d"}\n')
    corpus = Multi30k(path=str(tmp_path))
    assert corpus.about()["pairs"] == dict.fromkeys(SPLITS, 2)
    assert [document.text() for document in corpus.documents("train")] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_unbalanced_files(tmp_path: Path, ending: str):
    corpus = small(tmp_path, ending)
    data = b"one line\n" * 29
    (tmp_path / f"train.de{ending}").write_bytes(gzip.compress(data) if ending else data)
    with pytest.raises(UsageError, match=rf"train.en{ending} has 30 lines and train.de{ending} has 29: ") as caught:
        next(corpus.documents("train"))
    assert "\n" not in str(caught.value)
    assert list(corpus.documents("valid"))


def test_an_empty_line_names_its_pair(tmp_path: Path):
    corpus = small(tmp_path / "pairs")
    path = tmp_path / "pairs" / "val.de"
    path.write_text(path.read_text(encoding="utf-8").replace("valid Hünd 2", ""), encoding="utf-8")
    with pytest.raises(UsageError, match=r"valid split: valid pair 3 \(de\) holds no text to keep, on its side de"):
        made(tmp_path, corpus)


def test_gzip_that_was_cut(tmp_path: Path):
    corpus = small(tmp_path, ".gz")
    path = tmp_path / "train.de.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DamagedError, match=r"train.de.gz' is damaged gzip: .*; fetch it again"):
        next(corpus.documents("train"))
    path.write_bytes(b"no gzip")
    with pytest.raises(DamagedError, match="is damaged gzip"):
        next(corpus.documents("train"))


def test_a_missing_side(tmp_path: Path):
    corpus = small(tmp_path)
    (tmp_path / "val.de").unlink()
    with pytest.raises(UsageError, match=r"no val.de in the folder '.*', which holds .* and \d more|no val.de"):
        corpus.identity()


def test_the_real_pairs(shared: Path):
    corpus = Multi30k(path=str(shared / "multi30k"))
    assert corpus.about()["pairs"] == {"train": 29_000, "valid": 1_014, "test": 1_000}
    for split, count in corpus.about()["pairs"].items():
        found = [document.text() for document in corpus.documents(split)]
        assert len(found) == 2 * count and all(found)
    assert [d.text() for d, _ in zip(corpus.documents("train"), range(2), strict=False)] == [
        "Two young, White males are outside near many bushes.",
        "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    ]
