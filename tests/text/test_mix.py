"""Mixes: the shares hold at every place, repetition is counted and bounded, splits stay apart, words become parts."""

from __future__ import annotations

import collections
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from etude.cli.spelling import spell
from etude.cli.subject import carry_out
from etude.core.errors import DamagedError, UsageError
from etude.core.family import Family
from etude.core.spec import Spec
from etude.text.corpora._blend import Blend
from etude.text.corpora.base import Corpus, Document
from etude.text.corpora.copying import Copying
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.corpora.mix import Mix, Part
from etude.text.corpora.modular_addition import ModularAddition
from etude.text.recipes import Tokens

FABLES = Fable(stories=200)  # about 113 kB of training text
COPIES = Copying(problems=400)  # about 11 kB


def mix(*parts: tuple[Corpus, float], **fields: Any) -> Mix:
    return Mix(parts=tuple(Part(corpus, share) for corpus, share in parts), **fields)


def read(corpus: Corpus, split: str = "train") -> list[tuple[str, str, int | None]]:
    return [(document.name, document.text(), document.label) for document in corpus.documents(split)]


def given_bytes(documents: list[tuple[str, str, int | None]]) -> dict[int | None, int]:
    counts: dict[int | None, int] = collections.Counter()
    for _, text, label in documents:
        counts[label] += len(text.encode())
    return counts


# shares


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=4), st.integers(2_000, 60_000))
def test_shares_hold_at_every_place(shares: list[float], total: int):
    parts = [(Copying(problems=2000, seed=n), share) for n, share in enumerate(shares)]
    documents = read(mix(*parts, train_bytes=total, epochs=50))
    longest = max(len(text) for _, text, _ in documents)
    counts = [0] * len(shares)
    for _, text, label in documents:
        assert label is not None
        counts[label] += len(text)
        for count, share in zip(counts, shares, strict=True):  # never more than a document away on either side
            assert abs(count - sum(counts) * share / sum(shares)) <= longest * len(shares)
    assert total <= sum(counts) < total + longest


def test_documents_of_very_different_size_keep_their_bytes():
    documents = read(mix((FABLES, 0.5), (COPIES, 0.5), train_bytes=20_000))
    counts = given_bytes(documents)
    assert abs(counts[0] - counts[1]) < 1000  # one fable
    labels = collections.Counter(label for _, _, label in documents)
    assert labels[1] > 10 * labels[0]


def test_it_comes_again_the_same_in_the_order_of_each_part():
    one = mix((FABLES, 0.7), (COPIES, 0.3), train_bytes=30_000)
    first = read(one)
    assert first == read(one)
    for label, corpus in enumerate((FABLES, COPIES)):
        own = [text for _, text, found in first if found == label]
        assert own == list(itertools.islice((d.text() for d in corpus.documents("train")), len(own)))


# repetition


def test_a_part_that_runs_out_is_read_again_and_counted():
    blend = mix((FABLES, 1), (COPIES, 1))
    documents = read(blend, "train")
    once = {label: sum(len(text) for _, text, _ in read(corpus)) for label, corpus in enumerate((FABLES, COPIES))}
    facts = blend.about()["parts"]
    assert facts["copying"]["epochs"] == 4.0 and facts["copying"]["bytes"] == 4 * once[1]  # no fifth time
    assert facts["fable"]["epochs"] == pytest.approx(4 * once[1] / once[0], rel=0.05)
    copies = [text for _, text, label in documents if label == 1]
    assert copies == [text for _, text, _ in read(COPIES)] * 4
    assert sum(part["documents"] for part in facts.values()) == len(documents)


def test_it_ends_when_each_was_read_once():
    wide = mix((FABLES, 0.95), (COPIES, 0.05), epochs=100)
    facts = wide.about()["parts"]
    assert facts["copying"]["epochs"] == 1.0 or facts["fable"]["epochs"] == 1.0
    assert min(part["epochs"] for part in facts.values()) >= 1.0
    assert facts["copying"]["share"] == 0.05


def test_too_many_readings_for_a_size_are_an_error():
    with pytest.raises(UsageError) as caught:
        read(mix((FABLES, 1), (COPIES, 1), train_bytes=150_000))
    assert str(caught.value).startswith("a mix of 150,000 bytes would read copying 6.")
    assert "times, and 4 are allowed: give it a smaller share or more text, or change train_bytes or epochs" in str(
        caught.value
    )
    read(mix((FABLES, 1), (COPIES, 1), train_bytes=150_000, epochs=8))


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 0.9), st.integers(1, 6))
@example(0.837890625, 1)  # the first ends a document before the second does, and its size is an estimate
def test_nothing_is_read_more_often_than_allowed(share: float, epochs: int):
    both = mix((Copying(problems=100), share), (ModularAddition(modulus=11), 1 - share), epochs=epochs)
    facts = both.about()["parts"].values()
    assert all(part["epochs"] <= epochs for part in facts)
    assert max(part["epochs"] for part in facts) == epochs or min(part["epochs"] for part in facts) >= 1


def test_about_needs_no_reading_before_it():
    said = mix((FABLES, 1), (COPIES, 2)).about()
    read(same := mix((FABLES, 1), (COPIES, 2)))
    assert same.about() == said == json.loads(json.dumps(said))
    assert said["licence"] == "fable: Apache-2.0; copying: Apache-2.0"


def test_size_is_near():
    for blend in (mix((FABLES, 1), (COPIES, 1)), mix((FABLES, 9), (COPIES, 1)), mix((FABLES, 1), train_bytes=9000)):
        found = sum(len(text.encode()) for _, text, _ in read(blend))
        assert blend.size("train") == pytest.approx(found, rel=0.1)


# splits and labels


def test_valid_and_test_are_each_parts_own_in_order():
    blend = mix((FABLES, 1), (COPIES, 9))
    for split in ("valid", "test"):
        own = [(text, label) for label, corpus in enumerate((FABLES, COPIES)) for _, text, _ in read(corpus, split)]
        assert [(text, label) for _, text, label in read(blend, split)] == own


def test_no_text_crosses_splits():
    blend = mix((FABLES, 1), (COPIES, 1))
    train, valid, test = ({text for _, text, _ in read(blend, split)} for split in ("train", "valid", "test"))
    assert not train & valid and not train & test and not valid & test


def test_each_part_is_a_class():
    blend = mix((FABLES, 1), (COPIES, 1), (Fable(stories=100, seed=1), 1))
    assert blend.classes == ("fable", "copying", "fable-2")
    name, _, label = read(blend, "valid")[-1]
    assert label == 2 and name.startswith("fable-2: story ")


class Labelled:
    """What a corpus with labels or groups would say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **said: tuple[str, ...]) -> None:
        for name, value in said.items():
            monkeypatch.setattr(Copying, name, property(lambda _, value=value: value))


def test_a_parts_own_labels_are_dropped_and_groups_refused(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patched:
        Labelled(patched, classes=("good", "bad"))
        about = mix((FABLES, 1), (Copying(problems=300), 1), train_bytes=3000).about()
        assert about["labels_dropped"] == ["copying"]
    Labelled(monkeypatch, sides=("en", "de"))
    with pytest.raises(UsageError, match=r"corpus copying comes in groups \(en, de\), which a mix would take apart"):
        mix((Copying(problems=300), 1))


# identity


def test_what_decides_a_mix(tmp_path: Path):
    (tmp_path / "a.txt").write_text("one two three " * 500)
    own = mix((Files(path=str(tmp_path)), 1), (COPIES, 1)).resolve()
    (tmp_path / "moved").mkdir()
    (tmp_path / "a.txt").rename(tmp_path / "moved" / "a.txt")
    moved = mix((Files(path=str(tmp_path / "moved")), 1), (COPIES, 1)).resolve()
    assert own.fingerprint() == moved.fingerprint()
    prints = {
        mix((FABLES, a), (COPIES, b), **more).resolve().fingerprint()
        for a, b, more in [(1, 1, {}), (1, 2, {}), (1, 1, {"epochs": 5}), (1, 1, {"train_bytes": 9})]
    }
    assert len(prints) == 4
    (tmp_path / "moved" / "a.txt").write_text("another text " * 500)
    with pytest.raises(DamagedError, match="the text has changed"):
        read(moved)


# one document at a time


class Long(Corpus):
    """A document of many stretches, made as it is read."""

    def documents(self, split: str) -> Iterator[Document]:
        yield Document("long", ("word " * 20_000 for _ in range(200)))

    def identity(self) -> str:
        return "0" * 64

    def about(self) -> dict[str, Any]:
        return {"licence": "none"}


def test_a_long_document_is_not_held():
    blend = Blend([Long(), COPIES], ["long", "copying"], [1, 1], 12_000_000, 10_000)
    tracemalloc.start()
    for document in blend.documents():
        for _ in document.pieces:
            pass
        if document.label == 0:
            break
    assert tracemalloc.get_traced_memory()[1] < 4_000_000  # the document has 20 MB
    tracemalloc.stop()


def test_what_was_not_read_is_counted_all_the_same_and_then_closed():
    partly = Blend([COPIES, Fable(stories=100)], ["copying", "fable"], [1, 1], 20_000, 9)
    documents = list(partly.documents())  # nothing of them is read
    whole = Blend([COPIES, Fable(stories=100)], ["copying", "fable"], [1, 1], 20_000, 9)
    read_documents = [document.text() for document in whole.documents()]
    assert partly.tallies == whole.tallies and len(documents) == len(read_documents)
    with pytest.raises(UsageError, match="read one after the other"):
        documents[0].text()


def test_replaced_bytes_are_still_counted(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"good bad\xff " * 3000)
    for document in mix((Files(path=str(tmp_path)), 1)).documents("train"):
        document.text()
        assert document.replaced > 2000


def test_a_part_without_text_is_named():
    class Empty(Long):
        def documents(self, split: str) -> Iterator[Document]:
            return iter(())

    with pytest.raises(UsageError, match="the train split of void holds no text: take it out of the mix"):
        list(Blend([Empty()], ["void"], [1], 0, 4).documents())


# the command line


def asked(*words: str) -> Any:
    found: list[Spec] = []

    def act(recipe: Any, *, preset: str | None = None, runs: str | None = None) -> None:
        found.append(recipe)

    carry_out("plan", words, act)
    return found[0]


def parts_of(*words: str) -> tuple[Part, ...]:
    return asked("tokens", "--corpus", "mix", "--corpus.parts", *words).corpus.parts


def test_parts_are_named_in_words():
    assert parts_of("fable:0.7,copying:0.3") == (Part(Fable(), 0.7), Part(Copying(), 0.3))
    assert parts_of("fable:2", "copying") == (Part(Fable(), 2.0), Part(Copying(), 1.0))
    assert parts_of('[{"corpus": "fable", "seed": 3, "share": 2}, {"corpus": "files", "path": "a,b"}]') == (
        Part(Fable(seed=3), 2.0),
        Part(Files(path="a,b"), 1.0),
    )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("fabel:1", "unknown corpus 'fabel': did you mean 'fable'?"),
        ("fable:x", "the share of fable is 'x', which is not a number"),
        ("fable:nan", "Part.share = nan is not a finite number"),
        ("fable:0", "the share of fable is 0: give more than 0, or leave it out"),
        ('[{"corpus": "fable", "sed": 3}]', "corpus fable has no field 'sed'; it has: sha256, seed, stories"),
        ('[{"corpus": "fable", "seed": "a"}]', "fable.seed = 'a' is not a whole number"),
        ('[{"seed": 3}]', 'the part {"seed": 3} names no corpus: write {"corpus": "fable", ...}'),
        ('[{"corpus": "fable"', "is not JSON"),
        (",", "mix.parts is empty: name corpora and their shares, as in pylib:0.5,fable:0.5"),
    ],
)
def test_parts_that_cannot_be(word: str, message: str):
    with pytest.raises(UsageError) as caught:
        parts_of(word)
    assert message in str(caught.value)


NAMES = st.sampled_from(["fable", "copying", "sorting", "modular-addition", "pylib", "files"])


def corpora() -> st.SearchStrategy[Corpus]:
    def made(name: str, number: int, text: str) -> Corpus:
        fields = {"pylib": {"part": "docstrings"}, "files": {"path": text}}.get(name, {"seed": number})
        return Family("text/corpora").member(name)(**(fields if number % 2 else {}))  # type: ignore[return-value]

    plain = st.builds(made, NAMES, st.integers(0, 9), st.text(st.characters(codec="utf-8", exclude_characters="\0")))
    return st.recursive(plain, lambda inner: st.builds(lambda parts: Mix(parts=tuple(parts)), st.lists(
        st.builds(Part, inner, st.floats(0.01, 10)), min_size=1, max_size=3)), max_leaves=4)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(corpora())
def test_any_mix_can_be_spelled(corpus: Corpus):
    assume(isinstance(corpus, Mix))
    recipe = Tokens(corpus=corpus)
    assert asked("tokens", *spell(recipe)) == recipe
