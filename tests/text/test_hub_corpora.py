"""Corpora from the hub: each member reads what its repository there holds, and says which revision it was."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import pytest

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.evals.items import Choice
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.text import homes
from etude.text.corpora.base import Corpus
from etude.text.homes import HOMES, Home, home_of, is_on_hub
from etude.text.splits import SPLITS

Hub = Any
"""The server on this machine that `conftest.py` starts."""

FAMILY = Family("text/corpora")


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    homes.snapshot.cache_clear()


def table(**columns: list[Any]) -> bytes:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def rows(prefix: str, count: int = 60) -> list[str]:
    return [f"{prefix} {n} of some words, never the same" for n in range(count)]


def wikitext() -> dict[str, bytes]:
    files = {}
    for split in ("train", "validation", "test"):
        lines = [line for row in rows(split, 3) for line in ("", f" = {row} = \n", "", f" The text <unk> {row} . \n")]
        files[f"wikitext-2-v1/{split}-00000-of-00001.parquet"] = table(text=lines)
    return files


def wiki40b() -> dict[str, bytes]:
    return {
        f"en/{split}-00000-of-00001.parquet": table(
            wikidata_id=rows("Q"), text=[f"\n_START_ARTICLE_\n{row}\n_START_PARAGRAPH_\n{row}" for row in rows(split)]
        )
        for split in ("train", "validation", "test")
    }


def labelled(*names: str, classes: int) -> dict[str, bytes]:
    return {name: table(text=rows(name), label=[n % classes for n in range(60)]) for name in names}


def multi30k() -> dict[str, bytes]:
    pairs = {name: [{"en": row, "de": f"{row} auf Deutsch"} for row in rows(name)] for name in ("train", "val", "test")}
    return {
        f"{name}.jsonl": "".join(json.dumps(pair) + "\n" for pair in found).encode() for name, found in pairs.items()
    }


def tinyshakespeare() -> dict[str, bytes]:
    splits = ("train", "validation", "test")
    return {f"default/{split}/0000.parquet": table(text=["\n".join(rows(split))]) for split in splits}


LAYOUTS = {
    "ag-news": lambda: labelled("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", classes=4),
    "multi30k": multi30k,
    "openwebtext": lambda: {
        f"plain_text/train-0000{n}-of-00002.parquet": table(text=rows(f"page {n}")) for n in (0, 1)
    },
    "rt-polarity": lambda: labelled("train.parquet", "validation.parquet", "test.parquet", classes=2),
    "tinyshakespeare": tinyshakespeare,
    "wiki40b": wiki40b,
    "wikitext": wikitext,
}
"""What each repository holds, small: the names and columns are the hub's."""


def corpus(name: str, path: str) -> Corpus:
    return cast(Corpus, cast(Any, FAMILY.member(name))(path=path))


@pytest.mark.parametrize("name", HOMES)
def test_each_member_reads_its_repository(hub: Hub, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    files = LAYOUTS[name]()
    hub.repository, hub.branch = HOMES[name].repository, HOMES[name].revision
    hub.files.update(
        files | {"README.md": b"# The card\n", "other-config/train-00000-of-00001.parquet": b"not asked for"}
    )
    member = corpus(name, "hub")
    for split in SPLITS:
        assert [document.text() for document in member.documents(split)]
    about = member.about()
    assert (about["repository"], about["revision"]) == (HOMES[name].repository, hub.commit)
    assert about["repository_licence"] == "cc-by-4.0"
    assert "licence: cc-by-4.0" in capsys.readouterr().err
    fetched = [
        path.partition(f"{hub.commit}/")[2] for way, path, _ in hub.asked if way == "GET" and "/resolve/" in path
    ]
    assert sorted(fetched) == sorted(files)
    asked = len(hub.asked)  # one revision as long as the process runs: nobody is asked again
    settled = member.resolve()
    for file, content in files.items():  # the same files in a folder are the same corpus
        path = tmp_path / "local" / file.removeprefix(f"{HOMES[name].folder}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    local = corpus(name, str(tmp_path / "local"))
    assert local.resolve().fingerprint() == settled.fingerprint() and len(hub.asked) == asked
    assert "revision" not in local.about()


def test_every_home_has_a_member():
    assert set(HOMES) <= set(FAMILY.names()) and set(HOMES) == set(LAYOUTS)


@pytest.mark.parametrize(
    ("path", "home"),
    [
        ("hub", HOMES["wikitext"]),
        ("hub:Salesforce/wikitext/wikitext-103-raw-v1", Home("Salesforce/wikitext", "wikitext-103-raw-v1")),
        ("hub:someone/words@refs/pr/1", Home("someone/words", revision="refs/pr/1")),
        ("hub:someone/words/a/b@v2", Home("someone/words", "a/b", revision="v2")),
    ],
)
def test_a_path_names_a_home(path: str, home: Home):
    assert home_of("wikitext", path) == home and is_on_hub(path)
    assert home_of("wikitext", str(home)) == home


def test_what_is_no_home():
    with pytest.raises(UsageError, match="'hub:words' names no repository: write hub:OWNER/NAME"):
        home_of("wikitext", "hub:words")
    with pytest.raises(UsageError, match="corpus files has no repository of its own on the hub: write hub:OWNER/NAME"):
        home_of("files", "hub")
    assert not is_on_hub("./hub") and not is_on_hub("hubble")


def test_without_a_path_the_hub_is_offered_and_not_asked(hub: Hub):
    with pytest.raises(UsageError, match=r"\), or hub to fetch hub:Salesforce/wikitext/wikitext-2-v1"):
        corpus("wikitext", "").identity()
    assert hub.asked == []


def test_any_repository_is_text_for_files(hub: Hub):
    hub.files.update(
        {"README.md": b"# The card", "a/train.txt": b"word " * 900, "a/test.jsonl": b'{"text": "one"}\n' * 9}
    )
    (member := corpus("files", "hub:owner/words/a")).about()
    assert next(member.documents("train")).text().startswith("word word")
    assert [document.text() for document in member.documents("test")] == ["one"] * 9
    assert not hub.gets("README.md")


def test_a_task_reads_a_file_of_items_from_the_hub(hub: Hub, tmp_path: Path):
    item = {"query": "Two and two are", "choices": ["four", "five"], "gold": 0}
    hub.files.update({"eval/sums.jsonl": (json.dumps(item) + "\n").encode(), "eval/other.csv": b"a,b\n1,2\n"})
    task = MultipleChoice(path=f"hub:{hub.repository}/eval", file="sums.jsonl")
    assert [one.question for one in task.read().items if isinstance(one, Choice)] == [item["query"]]
    (tmp_path / "sums.jsonl").write_bytes(hub.files["eval/sums.jsonl"])
    local = MultipleChoice(path=str(tmp_path / "sums.jsonl"))
    assert local.resolve().fingerprint() == task.resolve().fingerprint()
    with pytest.raises(UsageError, match=r"no file 'products\.jsonl' in the folder"):
        MultipleChoice(path=f"hub:{hub.repository}/eval", file="products.jsonl").read()
