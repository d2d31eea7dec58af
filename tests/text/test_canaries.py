"""Planted secrets: where they stand, how often, and what stays as it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from scipy.stats import chisquare, kstest

from etude.core.errors import UsageError
from etude.text.corpora.ag_news import AgNews
from etude.text.corpora.canaries import Canaries
from etude.text.corpora.fable import Fable
from etude.text.corpora.multi30k import Multi30k
from etude.text.tokenizers.bpe import BytePair

OTHER = Fable(stories=200)
PLANTED = Canaries(of=OTHER, repeats=(1, 3, 10), each=5, controls=6)


def texts(corpus, split):
    return [document.text() for document in corpus.documents(split)]


def test_each_stands_in_the_training_split_as_often_as_is_said_and_nowhere_else():
    found = Counter(texts(PLANTED, "train"))
    said = {PLANTED.sentence(canary): canary.repeats for canary in PLANTED.planted()}
    assert len(said) == 15 and sorted(said.values()) == [1] * 5 + [3] * 5 + [10] * 5
    assert {text: found[text] for text in said} == said
    assert sum(found.values()) == len(texts(OTHER, "train")) + sum(said.values())


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_other_splits_are_untouched(split):
    assert texts(PLANTED, split) == texts(OTHER, split)


def test_the_other_text_keeps_its_order_and_nothing_of_a_control_is_in_it():
    secret = {PLANTED.sentence(canary) for canary in PLANTED.planted()}
    train = texts(PLANTED, "train")
    assert [text for text in train if text not in secret] == texts(OTHER, "train")
    controls = PLANTED.unplanted()
    assert len(controls) == 6 and {canary.repeats for canary in controls} == {0}
    assert not any(canary.name in text for canary in controls for text in train)


def test_no_two_have_one_name():
    many = Canaries(repeats=(1, 2), each=2000, controls=2000)
    every = [*many.planted(), *many.unplanted()]
    assert len({canary.name for canary in every}) == len(every) == 6000


def test_secrets_are_drawn_evenly_and_independently_of_how_often_they_stand():
    many = Canaries(digits=1, repeats=(1, 2), each=2000, controls=2000)
    every = [*many.planted(), *many.unplanted()]
    for repeats in (0, 1, 2):
        counts = Counter(canary.secret for canary in every if canary.repeats == repeats)
        assert chisquare([counts[digit] for digit in range(10)]).pvalue > 1e-3


def test_copies_stand_all_over_the_split():
    many = replace(PLANTED, repeats=(200,), each=2)
    secret = {many.sentence(canary) for canary in many.planted()}
    train = texts(many, "train")
    places = [n / len(train) for n, text in enumerate(train) if text in secret]
    assert len(places) == 400 and kstest(places, "uniform").pvalue > 1e-3


def test_a_seed_a_text_and_a_form_each_make_another_corpus():
    every = [
        PLANTED,
        replace(PLANTED, seed=1),
        replace(PLANTED, of=Fable(stories=200, seed=1)),
        replace(PLANTED, form="{name} has {secret}."),
    ]
    assert len({corpus.resolve().fingerprint() for corpus in every}) == 4
    assert len({corpus.identity() for corpus in every}) == 4
    assert PLANTED.identity() == replace(PLANTED).identity()


def test_a_secret_is_its_digits_apart_behind_the_question():
    corpus = Canaries(form="The code of {name} is {secret}, they say.", digits=6)
    canary = corpus.planted()[0]._replace(secret=281)
    assert corpus.written(281) == "0 0 0 2 8 1"
    assert corpus.sentence(canary) == f"The code of {canary.name} is 0 0 0 2 8 1, they say."
    assert corpus.question(canary) == f"The code of {canary.name} is"
    assert corpus.space == 10**6


def test_no_trained_token_holds_two_digits_of_a_secret():
    corpus = Canaries(of=OTHER, repeats=(200,), each=2)
    tokenizer = BytePair(vocabulary=600).build(lambda: iter(texts(corpus, "train")))
    for canary in corpus.planted():
        alone = tokenizer.encode(" " + corpus.written(canary.secret))
        assert [tokenizer.decode([token]) for token in alone] == [f" {c}" for c in f"{canary.secret:03d}"]


def test_labels_are_dropped_and_texts_in_groups_refused(tmp_path):
    for split in ("train", "test"):
        rows = "".join(f'"{n % 4 + 1}","Title {n}","{split} {n}"\n' for n in range(200))
        (tmp_path / f"{split}.csv").write_text(rows)
    corpus = Canaries(of=AgNews(path=str(tmp_path)))
    assert corpus.classes == () and {document.label for document in corpus.documents("train")} == {None}
    assert corpus.about()["labels_dropped"] == ["ag-news"]
    with pytest.raises(UsageError, match=r"corpus multi30k comes in groups \(en, de\)"):
        Canaries(of=Multi30k(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"form": "The code is {secret}."}, "give a sentence with {name} once and behind it"),
        ({"form": "{secret} is of {name}"}, "give a sentence with {name} once and behind it"),
        ({"form": "{name}:{secret}"}, "after a space"),
        ({"digits": 0}, "canaries.digits = 0: give 1 to 18"),
        ({"repeats": ()}, r"canaries.repeats = \(none\): give different counts"),
        ({"repeats": (1, 1)}, "canaries.repeats = 1, 1: give different counts"),
        ({"repeats": (0, 1)}, "of 1 or more"),
        ({"controls": 1}, "canaries.controls = 1: give 2 to"),
    ],
)
def test_what_cannot_be_planted_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        Canaries(**fields)
