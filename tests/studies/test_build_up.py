"""The ladder: each rung has what the one before it has, numbers are those of the runs, and words follow from them."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.recipes import Score
from etude.evals.statistics import Estimate
from etude.studies.build_up import BuildUp
from etude.studies.sections.ladder_numbers import from_even
from etude.text.corpora.ag_news import AgNews
from etude.text.corpora.fable import Fable
from etude.text.corpora.rt_polarity import RtPolarity
from etude.train.recipes import At, Train

MADE = Path(__file__).parent / "made"
STUDY = BuildUp(
    reviews=RtPolarity(path=str(MADE / "reviews")),
    news=AgNews(path=str(MADE / "news")),
    vocabulary=300,
    news_vocabulary=300,
    language_vocabulary=300,
    width=16,
    classifier_width=24,
    heads=2,
    dropout=0.1,
    average=0.0,
    steps=40,
    batch=16,
    peak=1e-2,
    evaluate_every=20,
    review_tokens=32,
    news_tokens=32,
    language_width=16,
    language_layers=1,
    language_steps=20,
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def answer(lab: Lab) -> Run:
    return lab.run(STUDY)


# Planning


def test_the_rungs_in_their_order() -> None:
    assert list(STUDY.models) == [
        "attention",
        "single head",
        "multi-head",
        "block",
        "classifier",
        "classifier of news",
        "BERT",
        "GPT",
    ]
    assert STUDY.of_reviews() == list(STUDY.models)[:5]
    assert STUDY.of_language() == ["BERT", "GPT"]


def changed(one: Train, other: Train) -> set[str]:
    """Return the fields of the model that differ; nothing else of the trainings may."""
    assert replace(one, model=other.model) == other
    return {f.name for f in fields(one.model) if getattr(one.model, f.name) != getattr(other.model, f.name)}


def test_each_rung_changes_what_it_says() -> None:
    rungs = list(STUDY.models.values())[:5]
    steps = [changed(one, other) for one, other in itertools.pairwise(rungs)]
    assert steps == [
        {"positions", "biases"},
        {"heads"},
        {"feedforward", "norm", "norm_at"},
        {"width", "feedforward", "norm", "norm_at"},
    ]
    assert (rungs[0].model.heads, rungs[0].model.layers, rungs[0].model.feedforward) == (1, 1, 0)


def test_what_is_asked_for() -> None:
    asked = list(STUDY.plan({}))
    kinds = [recipe.kind for recipe in asked]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "tokens": 3,  # reviews; news in lower case for the classifier, and as it is for the language models
        "train": 8,
        "score": 16,
        "floor": 4,
        "patterns": 8,
        "parity": 1,
    }
    assert all(recipe.split == "test" for recipe in asked if isinstance(recipe, Score))
    untrained = [recipe.of for recipe in asked if isinstance(recipe, Score) and isinstance(recipe.of, At)]
    assert {at.step for at in untrained} == {0} and {at.of for at in untrained} == set(STUDY.models.values())


@pytest.mark.parametrize("preset", BuildUp.presets())
def test_without_the_texts_the_remedy_is_one_line(preset: str) -> None:
    with pytest.raises(UsageError, match=r"build-up reads reviews .*: give --reviews.path FOLDER") as caught:
        BuildUp.preset(preset).resolve()
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"give --news.path FOLDER .* or --news.path hub"):
        replace(BuildUp.preset(preset), reviews=STUDY.reviews).resolve()
    known = replace(BuildUp.preset(preset), reviews=STUDY.reviews, news=STUDY.news).resolve()
    assert replace(known, reviews=replace(known.reviews, path="")).resolve().id == known.id, "a path is no identity"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reviews": Fable()}, "reviews = fable has no labels to learn"),
        ({"news": Fable()}, "news = fable has no labels to learn"),
        ({"steps": 0}, "steps = 0"),
    ],
)
def test_what_cannot_be_asked(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(STUDY, **change)


# The answer


def test_numbers_are_those_of_the_runs(answer: Run, lab: Lab) -> None:
    for name, model in STUDY.models.items():
        told, run = answer.result["rungs"][name], lab.run(model)
        assert (told["run"], told["parameters"], told["steps"]) == (
            run.id,
            *(run.result[k] for k in ("parameters", "steps")),
        )
        for key, recipe in (("test", Score(model)), ("untrained", Score(At(model, 0)))):
            scored = lab.run(recipe).result
            assert told[key] == {k: scored[k] for k in ("loss", "accuracy", "samples")}
        assert told["floor"] == lab.run(STUDY.floor(name)).result["baselines"]
    assert answer.result["parity"] == lab.run(STUDY.parity).result["rungs"]


def test_comparisons_are_paired_by_sample(answer: Run, lab: Lab) -> None:
    rows = {(row["of"], row["against"]): row for row in answer.result["comparisons"]}
    assert ("single head", "attention") in rows and ("GPT", "bigram") in rows and ("BERT", "its untrained self") in rows
    assert not any(of == "classifier of news" and other in STUDY.models for of, other in rows)
    one, other = (lab.run(Score(STUDY.models[n])).tensors("scores.safetensors") for n in ("single head", "attention"))
    row = rows["single head", "attention"]
    assert row["mean"] == pytest.approx(float((one["right"] - other["right"]).mean())) and row["n"] == len(one["right"])
    gpt = lab.run(Score(STUDY.models["GPT"])).tensors("scores.safetensors")
    floor = lab.run(STUDY.floor("GPT")).tensors("bigram.safetensors")
    expected = float((gpt["loss"] - floor["loss"]).sum() / gpt["count"].sum())
    assert rows["GPT", "bigram"]["mean"] == pytest.approx(expected)


def test_what_can_be_learned_is_learned_and_said(answer: Run) -> None:
    """The made reviews say good or bad words, so that every rung can tell them apart."""
    for name in STUDY.of_reviews()[:3]:
        test = Estimate.from_json(answer.result["rungs"][name]["test"]["accuracy"])
        assert test.above(0.5), name
    texts = [finding["text"] for finding in answer.result["findings"]]
    assert len(texts) == 1 + 2 + 8 + 4
    assert "All 8 steps compute what PyTorch's modules do" in texts[0]
    said = next(text for text in texts if text.startswith("Multi-head attention ") and "untrained self" in text)
    assert "beats the most frequent class by" in said


def test_words_follow_the_sign(answer: Run) -> None:
    for finding in answer.result["findings"]:
        assert " by -" not in finding["text"]
        assert ("cannot be told apart" in finding["text"]) <= (finding["strength"] == "uncertain")


def test_the_heads_of_each_are_drawn(answer: Run, lab: Lab) -> None:
    page = answer.file("report.html").read_text(encoding="utf-8")
    for name in STUDY.models:
        assert lab.run(STUDY.patterns(name)).id in page
    assert page.count("of its attention would have to move") == 8


def test_how_far_from_even() -> None:
    even = np.full((1, 1, 4, 4), 0.25)
    assert from_even(even, causal=False) == pytest.approx(0)
    first = np.zeros((1, 1, 4, 4))
    first[..., 0] = 1
    assert from_even(first, causal=False) == pytest.approx(0.75)
    causal = np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
    assert from_even(causal[None, None], causal=True) == pytest.approx(0)
