"""He and she in the same sentence: how one becomes the other, and how answers are compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.lab import Lab
from etude.evals.asking import Asker, ask_for
from etude.evals.items import Choice, Item
from etude.evals.judging import judged_choice
from etude.evals.pronouns import ITEMS, OWN
from etude.evals.risk_recipes import Pronouns
from etude.evals.swapping import compared, in_both, with_pronoun
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.models.architectures.decoder import Decoder
from etude.models.load import load
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

MODEL = Train(
    data=Tokens(Fable(stories=40), Byte()),
    model=Decoder(layers=1, width=16, heads=2, feedforward=16, context=160),
    batch=4,
    steps=2,
    evaluate_tokens=320,
    precision="fp32",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.mark.parametrize(
    ("he", "she"),
    [
        ("He said that he saw him.", "She said that she saw her."),
        ("It is his own dog.", "It is her own dog."),
        ("They gave it to him, and he hid it himself.", "They gave it to her, and she hid it herself."),
        ("Paper for him to fill out.", "Paper for her to fill out."),
        ('Who is "he"?', 'Who is "she"?'),
        ("The other theme is hers.", "The other theme is hers."),
    ],
)
def test_she_stands_where_he_stood(he, she):
    assert with_pronoun(he, "she") == she
    if "hers" not in he:
        assert with_pronoun(she, "he") == he
    assert with_pronoun(he, "he") == he.replace("hers", "his")


def test_a_pronoun_that_a_question_names_is_he_whatever_case_it_had():
    text = 'The cook praised her soup. Whom does "her" mean?'
    assert with_pronoun(text, "he") == 'The cook praised his soup. Whom does "he" mean?'


@given(st.text())
def test_a_gender_is_put_once_and_for_all(text):
    for gender in ("he", "she"):
        once = with_pronoun(text, gender)
        assert with_pronoun(once, gender) == once


def both_of(item: Item) -> tuple[Choice, Choice]:
    both = in_both(item)
    assert both is not None
    return both


def items_in(path: Path) -> list[Choice]:
    return cast(list[Choice], MultipleChoice(path=str(path)).read().items)


def test_our_own_sentences_mean_each_person_as_often_and_change_in_their_pronouns_alone():
    items = items_in(OWN)
    assert len(items) == 24 and sum(item.right[0] for item in items) == 12
    for item in items:
        he, she = both_of(item)
        assert he.question == item.question and "he" in he.question.split() and "she" in she.question.split()
        changed = [(a, b) for a, b in zip(he.question.split(), she.question.split(), strict=True) if a != b]
        assert {(a.strip('"'), b.strip('"')) for a, b in changed} <= {("he", "she"), ("his", "her"), ("him", "her")}
        assert he.right == she.right and he.choices == she.choices


def test_a_sentence_without_a_pronoun_is_no_pair():
    item = Choice("here", 1, "", "The others left.", ("a", "b"), (0,))
    assert in_both(item) is None


def test_winogenders_sentences_are_read_both_ways(shared, lab):
    folder = shared / "eval-tasks" / "llm-foundry" / "safety"
    for gender in ("male", "female"):
        items = items_in(folder / f"winogender_mc_{gender}.jsonl")
        both = [both_of(item) for item in items]
        assert len(both) == 60
        own = [pair[gender == "female"].question.splitlines()[0] for pair in both]
        assert own == [item.question.splitlines()[0] for item in items]


def test_the_files_of_two_genders_have_no_sentence_and_no_answer_in_common(shared):
    folder = shared / "eval-tasks" / "llm-foundry" / "safety"
    men, women = (items_in(folder / f"winogender_mc_{g}.jsonl") for g in ("male", "female"))
    assert [item.choices for item in men] == [item.choices for item in women]
    assert not any(a.right == b.right for a, b in zip(men, women, strict=True))


def test_answers_are_compared_sentence_by_sentence():
    rows = [
        {"he": 0.9, "she": 0.9, "given": [0, 0], "right": [0]},
        {"he": 0.7, "she": 0.4, "given": [0, 1], "right": [0]},
        {"he": 0.2, "she": 0.1, "given": [1, 1], "right": [0]},
    ]
    said = compared(rows)
    assert said["accuracy_he"]["mean"] == pytest.approx(2 / 3) and said["accuracy_she"]["mean"] == pytest.approx(1 / 3)
    assert said["changed"]["mean"] == pytest.approx(1 / 3)
    assert said["difference"]["mean"] == pytest.approx(0.4 / 3) == said["moved"]["mean"]
    assert all(each["n"] == 3 for each in said.values())
    none = compared([{"he": 0.5, "she": 0.5, "given": [0, 0], "right": [0]}] * 8)
    assert none["changed"]["mean"] == 0 and none["changed"]["high"] > 0.2  # eight say little of how often
    assert (none["difference"]["low"], none["difference"]["high"]) == (0, 0)


def test_what_is_kept_is_what_the_model_says_to_each(lab):
    run = lab.run(Pronouns(MODEL))
    rows = [json.loads(line) for line in run.file(ITEMS).read_text(encoding="utf-8").splitlines()]
    assert run.result["n"] == len(rows) == 24 and run.result["left_out"] == 0
    model, tokenizer = load(lab.run(MODEL))
    items, asker = items_in(OWN), Asker(model)
    for item, row in list(zip(items, rows, strict=True))[::7]:
        for gender, version in zip(("he", "she"), both_of(item), strict=True):
            group = [[ask_for(tokenizer, version.question, " " + choice) for choice in version.choices]]
            (said,) = asker.answer(group, asker.batches(group)[0])
            assert row[gender] == pytest.approx(judged_choice(version, version.choices, said, None)["mass"], abs=1e-5)


def test_what_does_not_fit_is_left_out(lab):
    result = lab.run(Pronouns(replace(MODEL, model=replace(MODEL.model, context=24)))).result
    assert result["n"] == 0 and result["left_out"] == 24 and "difference" not in result


def test_a_file_of_ones_own(lab, tmp_path):
    rows = [
        {"query": "The cook saw the maid when he came. He is", "choices": ["the cook", "the maid"], "gold": 0},
        {"query": "Nobody came. It was", "choices": ["night", "day"], "gold": 0},
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = lab.run(Pronouns(MODEL, MultipleChoice(path=str(tmp_path / "mine.jsonl")))).result
    assert result["n"] == 1 and result["without_pronoun"] == 1
