"""The work of a tokens recipe, and its run opened again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.core.errors import DamagedError, UsageError
from etude.core.recipe import Recipe, kind_named, work_of
from etude.core.run import Draft, Run
from etude.text.batches import IGNORE
from etude.text.corpora.base import Corpus, Document
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.openings import after_mark, opening
from etude.text.recipes import Tokens
from etude.text.splits import SPLITS
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.gpt2 import Gpt2

STORIES = Fable(stories=200)


def made(folder: Path, recipe: Tokens) -> tuple[Run, dict[str, Any]]:
    draft = Draft(folder / "tokens.partial", recipe.resolve())
    result = work_of(recipe)(recipe.resolve(), {}, draft)
    return draft.finish(dict(result), {}), result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("run"), Tokens(STORIES, BytePair(vocabulary=400)))[0]


def test_the_recipe_reads_back():
    recipe = Tokens(STORIES, BytePair(vocabulary=400)).resolve()
    assert kind_named("tokens") is Tokens
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert recipe.id.startswith("tokens-") and recipe.estimate().disk_bytes > 0


def test_the_stores_hold_the_text(run: Run):
    data = TextData.open(run)
    for split in SPLITS:
        store, wanted = data.store(split), [document.text() for document in STORIES.documents(split)]
        store.verify()
        found = [store.tokens[a:b].tolist() for a, b in zip(store.documents, store.documents[1:], strict=False)]
        assert all(ids[-1] == data.tokenizer.end for ids in found)
        assert [data.tokenizer.decode(ids[:-1]) for ids in found] == wanted
        assert [data.tokenizer.encode(text) for text in wanted] == [ids[:-1] for ids in found]
        assert store.bytes == sum(len(text.encode()) for text in wanted)


def test_the_result_says_what_is_there(run: Run):
    data, result = TextData.open(run), run.result
    assert (result["vocabulary"], result["openings"], result["replaced"]) == (data.vocabulary, 0, 0)
    for split in SPLITS:
        store, said = data.store(split), result["splits"][split]
        assert (said["tokens"], said["bytes"], said["sha256"]) == (store.count, store.bytes, store.sha256)
        assert said["documents"] == store.header.documents == (180 if split == "train" else 10)
        assert said["tokens_per_byte"] == data.tokens_per_byte(split)
    assert result["licence"] == "Apache-2.0" and result["timing"]["encode_seconds"] > 0


def test_two_runs_are_equal_but_for_timing(run: Run, tmp_path: Path):
    again, _ = made(tmp_path, Tokens(STORIES, BytePair(vocabulary=400)))
    assert {**again.result, "timing": 0} == {**run.result, "timing": 0}
    assert {**again.files, "result.json": 0} == {**run.files, "result.json": 0}


def test_windows_of_the_run(run: Run):
    data = TextData.open(str(run.path))
    found = data.examples("train", 16).batch(np.array([0, 5]))
    inputs, targets = found.inputs, found.targets
    store = data.store("train")
    assert inputs[1].tolist() == store.tokens[80:96].tolist() and targets[1].tolist() == store.tokens[81:97].tolist()
    with pytest.raises(UsageError, match=r"a context of 1000000 needs 1000001 tokens and the text has \d+"):
        data.examples("train", 1_000_000)
    with pytest.raises(UsageError, match="unknown split 'validation'"):
        data.examples("validation", 16)


def test_a_run_with_a_changed_store_is_refused(tmp_path: Path):
    run, _ = made(tmp_path, Tokens(STORIES, Byte()))
    path = run.path / "valid.tokens"
    raw = bytearray(path.read_bytes())
    raw[5000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match="changed"):
        TextData.open(run).store("valid")
    with pytest.raises(UsageError, match="no folder"):
        TextData.open(tmp_path / "gone")


class Spy(Fable):
    """A corpus that tells which splits were read, and when."""

    read: list[str]

    def documents(self, split: str):
        self.read.append(split)
        return super().documents(split)


def test_only_the_training_split_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Spy, "read", [], raising=False)
    spy = Spy(stories=200)
    seen: list[str] = []

    def build(self: BytePair, texts: Any) -> Any:
        list(texts())
        seen.extend(spy.read)
        return Byte().build(texts)

    monkeypatch.setattr(BytePair, "build", build)
    made(tmp_path, Tokens(spy, BytePair()))
    assert seen == ["train"] and spy.read == ["train", *SPLITS]


def test_replaced_bytes_are_said(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"some \xff words\n" * 400)
    _, result = made(tmp_path, Tokens(Files(path=str(tmp_path / "a.txt")), Byte()))
    assert result["replaced"] == result["about"]["replaced"] == 400
    assert sum(split["replaced"] for split in result["splits"].values()) == 400


def test_replaced_bytes_are_said_to_the_person(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"some \xff words\n" * 2 + b"good words\n" * 400)
    recipe, said = Tokens(Files(path=str(tmp_path / "a.txt")), Byte()).resolve(), []
    work_of(recipe)(recipe, {}, Draft(tmp_path / "said.partial", recipe, say=said.append))
    assert said == ["corpus files: 2 invalid bytes were replaced by U+FFFD"]
    (tmp_path / "a.txt").write_text("good words\n" * 400)
    recipe = Tokens(Files(path=str(tmp_path / "a.txt")), Byte()).resolve()
    work_of(recipe)(recipe, {}, Draft(tmp_path / "unsaid.partial", recipe, say=said.append))
    assert len(said) == 1


def test_documents_without_text_are_left_out(tmp_path: Path):
    for name in SPLITS:
        rows = ["text", "", "more"] if name == "train" else ["text"]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    _, result = made(tmp_path, Tokens(Files(path=str(tmp_path)), Byte()))
    assert result["splits"]["train"]["documents"] == 2


ARTICLES = [
    f"_START_ARTICLE_\nTitle {n}\n_START_SECTION_\nPart\n"
    f"_START_PARAGRAPH_\nArticle {n} begins here{' and goes on' * n}._NEWLINE_More.\n_START_PARAGRAPH_\nAgain."
    for n in range(300)
]


def articles(folder: Path, texts: list[str]) -> Files:
    (folder / "articles.json").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    return Files(path=str(folder / "articles.json"))


def test_openings_of_articles(tmp_path: Path):
    corpus = articles(tmp_path, [*ARTICLES, *(f"no mark {n}" for n in range(40))])
    run, result = made(tmp_path, Tokens(corpus, Byte(), openings=40))
    data = TextData.open(run)
    examples = data.examples("train", 64)
    found = examples.batch(np.arange(len(examples)))
    inputs, targets = found.inputs, found.targets
    assert examples.context == 40 and inputs.shape == targets.shape == (result["splits"]["train"]["documents"], 40)
    assert result["splits"]["train"]["left_out"] > 20
    starts = {data.tokenizer.decode(row[row != IGNORE]) for row in targets}
    parts = (document.text().partition("_START_PARAGRAPH_\n") for document in corpus.documents("train"))
    assert starts == {rest[:40] for _, mark, rest in parts if mark} and len(starts) > 200
    assert (inputs[:, 0] == data.tokenizer.end).all()
    assert data.store("train").bytes == (targets != IGNORE).sum()
    with pytest.raises(UsageError, match="samples are 40 tokens long and the context is 20"):
        data.examples("train", 20)


def test_openings_of_text_in_another_format(tmp_path: Path):
    recipe = Tokens(STORIES, Byte(), openings=20)
    with pytest.raises(UsageError, match=r"none of the 180 documents in the train split of fable has the mark"):
        made(tmp_path, recipe)
    assert not list((tmp_path / "tokens.partial").glob("*.tokens"))
    with pytest.raises(UsageError, match="openings = -1"):
        Tokens(openings=-1)


@pytest.mark.parametrize("spec", [Byte(), BytePair(vocabulary=300)], ids=["byte", "bpe"])
def test_an_opening_is_the_start_of_the_whole(spec: TokenizerSpec):
    text = "One two, three.\n  four" * 300
    tokenizer = spec.build(lambda: iter([text]))
    for n in (1, 5, 200):
        stretches = iter(["_START_", "PARAGRAPH", "_\n" + text[:9], text[9:]])
        assert opening(Document("d", stretches), tokenizer, n) == tokenizer.encode(text)[:n]


def test_what_follows_the_mark():
    assert "".join(after_mark(["a_START_PARAGRAPH_", "\nb", "c_START_PARAGRAPH_\nd"])) == "bc_START_PARAGRAPH_\nd"
    assert list(after_mark(["no ", "mark"])) == []


def test_wiki40b_with_gpt2(shared: Path, tmp_path: Path):
    corpus = Files(path=str(shared / "wiki40b" / "wiki40b_seeds.json"))
    run, _ = made(tmp_path, Tokens(corpus, Gpt2(path=str(shared / "gpt2-bpe")), openings=20))
    data = TextData.open(run)
    targets = data.examples("train", 20).batch(np.array([0])).targets
    assert data.vocabulary == 50257 and data.tokenizer.decode(targets[0]).startswith("The 1882 Prince Edward Island")


MEMORY = """
import resource, sys
from pathlib import Path
from etude.core.run import Draft
from etude.text.corpora.files import Files
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.text.work import tokens

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

folder, kind = Path(sys.argv[1]), sys.argv[2]
spec = Byte() if kind == "byte" else BytePair(vocabulary=1000, train_bytes=2**20)
for name in ("small", "large"):
    recipe = Tokens(Files(path=str(folder / f"{name}.txt")), spec).resolve()
    found = tokens(recipe, {}, Draft(folder / f"{kind}-{name}.partial", recipe))
    print(peak(), sum(split["bytes"] for split in found["splits"].values()))
"""


def grown(folder: Path, kind: str, megabytes: int) -> float:
    """Return by how many MiB the peak memory grows from a text of 2 MB to one of many; the bytes are all accounted
    for."""
    line = "".join(f"{STORIES.story(n)}" for n in range(40))
    for name, size in (("small", 2), ("large", megabytes)):
        with (folder / f"{name}.txt").open("w", encoding="utf-8", newline="") as file:
            for _ in range(size * 10**6 // len(line)):
                file.write(line)
    done = subprocess.run([sys.executable, "-c", MEMORY, str(folder), kind], capture_output=True, text=True, check=True)
    (small, _), (large, size) = (map(float, row.split()) for row in done.stdout.splitlines())
    assert size == (folder / "large.txt").stat().st_size
    return large - small


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is asked of the resource module")
def test_memory_does_not_grow_with_the_text(tmp_path: Path):
    assert grown(tmp_path, "byte", 50) < 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is asked of the resource module")
def test_memory_does_not_grow_with_the_text_for_byte_pairs(tmp_path: Path):
    assert grown(tmp_path, "bpe", 100) < 60


def test_a_corpus_is_read_lazily():
    class Endless(Corpus):
        def documents(self, split: str):
            yield Document("endless", ("word " for _ in iter(int, 1)))

        def identity(self) -> str:
            return ""

        def about(self) -> dict[str, Any]:
            return {}

    pieces = next(Endless().documents("train")).pieces
    assert len(next(pieces)) >= 16 * 1024
