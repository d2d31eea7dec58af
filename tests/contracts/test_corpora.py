"""What every corpus owes, asked of each file in the family's folder."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from etude.core.errors import DamagedError, UsageError
from etude.core.family import Family
from etude.core.spec import AUTO
from etude.text.corpora.base import Corpus
from etude.text.corpora.copying import Copying
from etude.text.corpora.fable import Fable
from etude.text.corpora.mix import Part
from etude.text.splits import SPLITS

FAMILY = Family("text/corpora")


def small_files(folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    rows = (json.dumps({"text": f"row {n}: one, two\nthree"}) for n in range(200))
    (folder / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return {"path": str(folder)}


def rows_of(prefix: str) -> list[str]:
    return [f"{prefix} {n}: one, two and three" for n in range(200)]


def small_wikitext(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    for split in SPLITS:
        articles = (f" \n = {row} <unk> = \n \n Text . \n" for row in rows_of(split))
        (folder / f"{split}.txt").write_text("".join(articles), encoding="utf-8")
    return {"path": str(folder)}


def small_wiki40b(folder: Path) -> dict[str, Any]:
    texts = [f"_START_ARTICLE_\n{row}\n_START_PARAGRAPH_\n{row}" for row in rows_of("article")]
    folder.mkdir()
    (folder / "en.json").write_text(json.dumps(texts), encoding="utf-8")
    return {"path": str(folder)}


def small_ag_news(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    for split in ("train", "test"):
        lines = (f'"{n % 4 + 1}","Title {n}","{row}"\n' for n, row in enumerate(rows_of(split)))
        (folder / f"{split}.csv").write_text("".join(lines), encoding="utf-8")
    return {"path": str(folder)}


def small_rt_polarity(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    for ending in ("neg", "pos"):
        (folder / f"rt-polarity.{ending}").write_text("\n".join(rows_of(ending)), encoding="utf-8")
    return {"path": str(folder)}


def small_labelled(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    lines = (json.dumps({"tweet": row, "class": n % 3}) + "\n" for n, row in enumerate(rows_of("remark")))
    (folder / "remarks.jsonl").write_text("".join(lines), encoding="utf-8")
    fields = {"text_field": "tweet", "label_field": "class", "classes": ("hate", "offensive", "neither")}
    return {"path": str(folder), **fields}


def small_multi30k(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    for split in ("train", "val", "test_2016_flickr"):
        for side in ("en", "de"):
            (folder / f"{split}.{side}").write_text("\n".join(rows_of(f"{split} {side}")), encoding="utf-8")
    return {"path": str(folder)}


def small_dialogues(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    rows = (
        [{"role": "user", "content": row}, {"role": "assistant", "content": "So it is."}] for row in rows_of("said")
    )
    (folder / "talks.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return {"path": str(folder)}


def small_tinyshakespeare(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    (folder / "input.txt").write_text("\n".join(rows_of("line")), encoding="utf-8")
    return {"path": str(folder)}


ARGUMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ag-news": lambda folder: small_ag_news(folder / "news"),
    "brackets": lambda folder: {"problems": 400},
    "canaries": lambda folder: {"of": Fable(stories=200), "repeats": (1, 3), "each": 2},
    "copying": lambda folder: {"problems": 400},
    "dialogues": lambda folder: small_dialogues(folder / "talks"),
    "fable": lambda folder: {"stories": 200},
    "facts": lambda folder: {"subjects": 200},
    "files": lambda folder: small_files(folder / "files"),
    "labelled": lambda folder: small_labelled(folder / "remarks"),
    "mix": lambda folder: {"parts": (Part(Fable(stories=200)), Part(Copying(problems=300), 0.5))},
    "modular-addition": lambda folder: {"modulus": 17},
    "multi30k": lambda folder: small_multi30k(folder / "pairs"),
    "openwebtext": lambda folder: small_files(folder / "pages"),
    "repetition": lambda folder: {"problems": 400},
    "reversal": lambda folder: {"problems": 400},
    "rt-polarity": lambda folder: small_rt_polarity(folder / "films"),
    "sorting": lambda folder: {"problems": 400},
    "tinyshakespeare": lambda folder: small_tinyshakespeare(folder / "plays"),
    "wiki40b": lambda folder: small_wiki40b(folder / "articles"),
    "wikitext": lambda folder: small_wikitext(folder / "wikitext"),
}
"""How a test makes a small one of a member; those left out need nothing."""


@pytest.fixture(params=FAMILY.names())
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Corpus:
    arguments = ARGUMENTS.get(request.param, lambda folder: {})(tmp_path)
    return cast(Corpus, FAMILY.member(request.param)(**arguments))


def texts(corpus: Corpus, split: str) -> list[str]:
    return [document.text() for document in corpus.documents(split)]


def test_the_family_has_its_members():
    assert {"pylib", "fable", "files", *ARGUMENTS} <= set(FAMILY.names())
    assert FAMILY.base() is Corpus


def test_every_split_has_text(corpus: Corpus):
    for split in SPLITS:
        found = texts(corpus, split)
        assert found and all(isinstance(text, str) for text in found)
        assert sum(map(len, found)) > 0


def test_documents_come_again_the_same(corpus: Corpus):
    first, again = ([(d.name, d.text()) for d in corpus.documents("valid")] for _ in range(2))
    assert first == again


def test_no_document_is_in_two_splits(corpus: Corpus):
    seen: set[tuple[str, str]] = set()
    for split in SPLITS:
        found = {(document.name, document.text()) for document in corpus.documents(split)}
        assert not seen & found
        seen |= found


def test_unknown_split(corpus: Corpus):
    with pytest.raises(UsageError, match=r"unknown split 'validation': did you mean 'valid'\?"):
        list(corpus.documents("validation"))


def test_identity_is_resolved_and_survives_json(corpus: Corpus):
    assert corpus.sha256 == AUTO
    with pytest.raises(UsageError, match="auto"):
        corpus.fingerprint()
    settled = corpus.resolve()
    assert settled.sha256 == corpus.identity() and len(settled.sha256) == 64
    assert type(settled).from_json(json.loads(json.dumps(settled.to_json()))) == settled
    assert settled.resolve() is settled


def test_other_content_is_refused(corpus: Corpus):
    with pytest.raises(DamagedError, match="has changed"):
        next(dataclasses.replace(corpus, sha256="0" * 64).documents("train"))


def test_about_is_plain_and_has_a_licence(corpus: Corpus):
    about = corpus.about()
    assert json.loads(json.dumps(about)) == about
    assert about["licence"]


def test_labels_and_sides_are_as_said(corpus: Corpus):
    assert all(isinstance(name, str) and name for name in (*corpus.classes, *corpus.sides))
    for split in SPLITS:
        labels = [document.label for document in corpus.documents(split)]
        if corpus.classes:
            assert set(labels) <= set(range(len(corpus.classes))) and len(set(labels)) > 1
        else:
            assert set(labels) == {None}
        assert not corpus.sides or len(labels) % len(corpus.sides) == 0


def test_size_is_near(corpus: Corpus):
    for split in SPLITS:
        said, found = corpus.size(split), sum(len(text.encode()) for text in texts(corpus, split))
        assert said == 0 or 0.25 < said / found < 4  # what surrounds a row's text counts too


@pytest.mark.parametrize("name", FAMILY.names())
def test_fields_are_documented(name: str):
    member = FAMILY.member(name)
    own = [f.name for f in dataclasses.fields(member) if f.name not in {g.name for g in dataclasses.fields(Corpus)}]
    assert all(f"        {field}: " in f"    {member.__doc__}" for field in own)


@pytest.mark.parametrize("family", ["corpora", "tokenizers"])
def test_members_load_without_what_is_slow(family: str):
    code = (
        f"import sys; from etude.core.family import Family; list(Family('text/{family}'));"
        "print([m for m in ('torch', 'tokenizers', 'pyarrow', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == []
