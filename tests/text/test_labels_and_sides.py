"""Labels and sides through a tokens run: what goes in with a document comes out with its tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.core.recipe import work_of
from etude.core.run import Draft, Run
from etude.text.corpora.base import Corpus, Document
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.splits import SPLITS
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.live import ByteTokenizer
from etude.text.work import marked

MARK = "_START_PARAGRAPH_\n"
LONG = "word " * 20_000  # several pieces


@dataclass(frozen=True)
class Toy(Corpus):
    """Documents as they are given, the same in every split."""

    texts: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.names

    @property
    def sides(self) -> tuple[str, ...]:
        return self.groups

    def documents(self, split: str) -> Iterator[Document]:
        for n, text in enumerate(self.texts):
            yield Document(f"text {n}", [text], self.labels[n] if self.labels else None)

    def identity(self) -> str:
        return "0" * 64

    def about(self) -> dict[str, Any]:
        return {"licence": "none"}


def made(folder: Path, corpus: Corpus, tokenizer: TokenizerSpec | None = None, openings: int = 0) -> Run:
    recipe = Tokens(corpus, tokenizer or Byte(), openings).resolve()
    draft = Draft(folder / "tokens.partial", recipe)
    return draft.finish(dict(work_of(recipe)(recipe, {}, draft)), {})


def decoded(data: TextData, split: str) -> list[str]:
    store, end = data.store(split), data.tokenizer.end
    parts = (store.tokens[a:b] for a, b in zip(store.documents, store.documents[1:], strict=False))
    return [data.tokenizer.decode(part[part != end].tolist()) for part in parts]


def test_labels_stay_with_their_documents(tmp_path: Path):
    texts, labels = ("zero", "two", "", LONG, "one", "two again"), (0, 2, 1, 1, 1, 2)
    run = made(tmp_path, Toy(texts=texts, labels=labels, names=("a", "b", "c")))
    data = TextData.open(run)
    for split in SPLITS:
        store = data.store(split)
        assert store.classes == ("a", "b", "c") and store.labels is not None
        found = list(zip(decoded(data, split), store.labels.tolist(), strict=True))
        assert found == [
            pair for pair in zip(texts, labels, strict=True) if pair[0]
        ]  # the empty one and its label left
        assert run.result["splits"][split]["labels"] == [1, 2, 2] and run.result["splits"][split]["left_out"] == 1
    assert run.result["classes"] == ["a", "b", "c"] and "sides" not in run.result


def test_openings_keep_labels_aligned(tmp_path: Path):
    texts = tuple(f"{MARK if n % 3 else ''}text {n}" for n in range(12))
    corpus = Toy(texts=texts, labels=tuple(n % 2 for n in range(12)), names=("even", "odd"))
    data = TextData.open(made(tmp_path, corpus, openings=20))
    kept = [n for n in range(12) if n % 3]
    store = data.store("train")
    assert decoded(data, "train") == [f"text {n}" for n in kept]
    assert store.labels is not None and store.labels.tolist() == [n % 2 for n in kept]


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (Toy(texts=("a",), labels=(3,), names=("x", "y")), r"text 0 has the label 3, and there are 2 classes \(x, y\)"),
        (Toy(texts=("a",), names=("x", "y")), "text 0 has the label None, and there are 2 classes"),
        (Toy(texts=("a",), labels=(0,)), "text 0 has the label 0, and there are no classes"),
    ],
    ids=["too great", "missing", "no classes"],
)
@pytest.mark.parametrize("openings", [0, 5])
def test_wrong_labels(tmp_path: Path, corpus: Toy, message: str, openings: int):
    texts = tuple(MARK + text for text in corpus.texts)
    with pytest.raises(UsageError, match=message) as caught:
        made(tmp_path, dataclasses.replace(corpus, texts=texts), openings=openings)
    assert "\n" not in str(caught.value) and "train split" in str(caught.value)


def test_sides_are_stored(tmp_path: Path):
    texts = ("a dog", "ein Hund", LONG, "lang", "end", "Ende")
    run = made(tmp_path, Toy(texts=texts, groups=("en", "de")))
    data = TextData.open(run)
    assert data.store("test").sides == ("en", "de") and run.result["sides"] == ["en", "de"]
    assert decoded(data, "test") == list(texts) and data.store("test").labels is None


@pytest.mark.parametrize("at", range(4))
def test_an_empty_side_never_shifts_the_pairs(tmp_path: Path, at: int):
    texts = tuple("" if n == at else f"text {n}" for n in range(4))
    side = ("en", "de")[at % 2]
    with pytest.raises(
        UsageError, match=rf"train split: text {at} holds no text to keep, on its side {side};"
    ) as caught:
        made(tmp_path, Toy(texts=texts, groups=("en", "de")))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "tokens.partial").glob("*.tokens"))


def test_an_opening_without_its_mark_never_shifts_the_pairs(tmp_path: Path):
    texts = (MARK + "a", MARK + "b", "no mark", MARK + "d")
    with pytest.raises(UsageError, match="text 2 holds no text to keep, on its side en"):
        made(tmp_path, Toy(texts=texts, groups=("en", "de")), openings=5)


def test_half_a_pair_at_the_end(tmp_path: Path):
    with pytest.raises(UsageError, match=r"3 texts come in groups \(en, de\), and the last lacks de"):
        made(tmp_path, Toy(texts=("a", "b", "c"), groups=("en", "de")))


class WholeTokenizer(ByteTokenizer):
    """One that remembers what it was given."""

    by_piece = False
    given: list[str]

    def encode(self, text: str) -> list[int]:
        self.given.append(text)
        return super().encode(text)

    def encode_batch(self, texts: Any) -> list[list[int]]:
        return [self.encode(text) for text in texts]


@dataclass(frozen=True)
class Whole(TokenizerSpec):
    def build(self, texts: Any) -> Any:
        return WholeTokenizer()

    def expected_vocabulary(self) -> int:
        return 257


@pytest.mark.parametrize("openings", [0, 7])
def test_a_tokenizer_that_needs_whole_texts_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, openings: int):
    monkeypatch.setattr(WholeTokenizer, "given", [], raising=False)
    texts = (MARK + LONG, MARK + "short", MARK + "x" + LONG)
    data = TextData.open(made(tmp_path, Toy(texts=texts), Whole(), openings))
    wanted = [text.removeprefix(MARK) for text in texts] if openings else list(texts)
    assert WholeTokenizer.given == wanted * len(SPLITS)
    assert decoded(data, "train") == [text[: openings or None] for text in wanted]


def test_pieces_of_a_document_end_with_it():
    counts = {"replaced": 0, "left_out": 0}
    documents = [Document("long", [LONG], 1), Document("empty", []), Document("short", ["a"], 0)]
    found = list(marked(iter(documents), counts))
    assert [ended.label for _, ended in found if ended] == [1, 0] and counts["left_out"] == 1
    assert len(found) > 4 and "".join(piece for piece, _ in found) == LONG + "a"
    assert np.sum([ended is None for _, ended in found]) == len(found) - 2
