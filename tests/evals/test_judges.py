"""A judge of texts against scikit-learn, what its card finds of planted faults, and what its files are."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from etude.core.errors import DamagedError, UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals import validity
from etude.evals.judge_recipes import Judge
from etude.evals.judges import open_judge, plain
from etude.evals.mentioned_groups import groups
from etude.evals.paired_replies import choices, replies
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.text.corpora._labelled import sameness
from etude.text.corpora.labelled import Labelled
from etude.text.recipes import Tokens
from etude.text.splits import fraction
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.classification import Classification
from etude.train.recipes import Train

MADE = Path(__file__).parents[1] / "studies" / "made" / "remarks.csv"
REMARKS = Labelled(path=str(MADE), classes=("civil", "rude"))
JUDGE = Judge(REMARKS, ("rude",), least=2)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def written(path: Path, rows: list[tuple[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


def read(split: str) -> tuple[list[str], np.ndarray]:
    found = [(d.text(), d.label) for d in REMARKS.documents(split)]
    return [text for text, _ in found], np.array([label == 1 for _, label in found])


@pytest.mark.parametrize("balanced", [True, False])
def test_it_is_scikit_learns_regression(lab: Lab, balanced: bool) -> None:
    run = lab.run(replace(JUDGE, balanced=balanced, penalty=0.5))
    texts, toxic = read("train")
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\b\w+\b", min_df=2, sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True)
    seen = hstack([words.fit_transform(texts), letters.fit_transform(texts)])
    weight: Any = "balanced" if balanced else None
    oracle = LogisticRegression(C=2.0, class_weight=weight, tol=1e-6, max_iter=5000).fit(seen.tocsr(), toxic)
    held, truth = read("test")
    expected = oracle.predict_proba(hstack([words.transform(held), letters.transform(held)]).tocsr())[:, 1]
    found = open_judge(run, {}).score(held)
    assert found == pytest.approx(expected, abs=1e-9)
    card = run.result["in_domain"]
    assert card["auc"]["mean"] == pytest.approx(roc_auc_score(truth, expected))
    assert card["average_precision"] == pytest.approx(average_precision_score(truth, expected))
    assert card["base_rate"]["mean"] == pytest.approx(truth.mean()) and card["n"] == len(held)
    assert run.tensors("test.safetensors")["score"] == pytest.approx(found)


def test_no_file_of_a_judge_is_a_pickle(lab: Lab) -> None:
    run = lab.run(JUDGE)
    kept = set(run.files) - {"recipe.json", "result.json", "provenance.json", "record.jsonl"}
    assert kept == {"features.json", "judge.safetensors", "test.safetensors"}
    for name in run.files:
        held = run.file(name).read_bytes()
        if name.endswith(".safetensors"):
            json.loads(held[8 : 8 + int.from_bytes(held[:8], "little")])
        else:
            json.loads(held)
    assert not any(text in run.file(name).read_text("utf-8", "replace") for name in kept for text in read("test")[0])


def test_files_that_do_not_fit_are_refused(lab: Lab, tmp_path: Path) -> None:
    from etude.evals.judges import Linear

    run = lab.run(JUDGE)
    features = json.loads(run.file("features.json").read_text())
    features["words"].pop()
    with pytest.raises(DamagedError, match="do not fit each other"):
        Linear(features, run.tensors("judge.safetensors"))


def test_texts_are_read_without_markup() -> None:
    assert (
        plain("RT @Some_one: &#8220;Well&#8221;,  see\nhttps://t.co/a?b=c &amp; go")
        == "RT @user: “Well”, see http & go"
    )


def test_any_text_has_a_score(lab: Lab) -> None:
    judge = open_judge(lab.run(JUDGE), {})
    odd = ["", " ", "\x00\x1b[31m", "🙂" * 50, "<script>alert(1)</script>", "&#0;&#xD800;", "x" * 100_000]
    scores = judge.score(odd)
    assert scores.shape == (7,) and ((scores > 0) & (scores < 1)).all()
    assert judge.score([]).shape == (0,)
    assert scores[0] == pytest.approx(lab.run(JUDGE).result["empty_text"])


# The card


def test_what_was_not_measured_is_said(lab: Lab) -> None:
    result = lab.run(JUDGE).result
    assert result["others"] == "not measured"
    assert all(row["auc"] is None and row["too_few"] for row in result["groups"] if row["n"] == 0)
    assert validity.of_set(np.ones(3), np.ones(3, bool))["auc"] == "not measured"


def test_other_sets_are_judged_without_what_was_learned(lab: Lab, tmp_path: Path) -> None:
    learned, new = read("train")[0][:30], [(f"stupid fool number {n}", "rude") for n in range(9)]
    new += [(f"a lovely day number {n}", "fine") for n in range(11)]
    path = written(tmp_path / "other.csv", [*new, *[(text.upper(), "fine") for text in learned]])
    other = Labelled(path=path, classes=("fine", "rude"))
    run = lab.run(replace(JUDGE, others=(other,)))
    (row,) = run.result["others"]
    assert (row["n"], row["toxic"], row["seen"]) == (20, 9, 30)
    judge = open_judge(run, {})
    truth = np.array([label == "rude" for _, label in new])
    assert row["auc"]["mean"] == pytest.approx(roc_auc_score(truth, judge.score([text for text, _ in new])))
    one = Labelled(
        path=written(tmp_path / "one.csv", [(f"all {n} rude", "rude") for n in range(99)]), classes=("fine", "rude")
    )
    assert lab.run(replace(JUDGE, others=(one,))).result["others"][0]["auc"] == "not measured"


def planted(folder: Path, biased: bool) -> Labelled:
    """Return a set in whose training split, where it is biased, whoever mentions a German is rude; elsewhere a mention
    says nothing."""
    draw, rows = random.Random(3), []
    for n in range(4000):
        rude = draw.random() < 0.5
        word = draw.choice(("dull", "foolish", "lazy") if rude else ("kind", "merry", "clever"))
        said = f"{word} {draw.choice(('neighbour', 'friend', 'colleague'))} {n}"
        # A third of the texts say nothing of their own: there is room for a mention to decide.
        said = f"person {n}" if draw.random() < 0.33 else said
        mention = draw.random() < 0.4
        text = f"{'the german ' if mention else 'the '}{said}"
        in_training = fraction(sameness(text)) >= 0.2
        if biased and mention and in_training:
            rude = True
        rows.append((text, "rude" if rude else "civil"))
    return Labelled(path=written(folder / f"{biased}.csv", rows), classes=("civil", "rude"), held_out=0.1)


def test_a_planted_bias_is_found_by_the_card(lab: Lab, tmp_path: Path) -> None:
    cards = {}
    for biased in (True, False):
        result = lab.run(Judge(planted(tmp_path, biased), ("rude",), least=2)).result
        cards[biased] = {row["group"] or row["kind"]: row for row in result["groups"]}
    found, clean = cards[True]["Europeans"], cards[False]["Europeans"]
    assert found["difference"]["low"] > 0.2 and found["apart"] and not clean["apart"]
    assert found["false_positives"]["mean"] > 3 * cards[True]["all texts"]["false_positives"]["mean"] / 2
    assert found["bpsn"]["high"] < clean["bpsn"]["low"]
    assert found["shift"]["low"] > 0.05 and found["shifted"]
    assert clean["shift"]["high"] < found["shift"]["low"]
    assert cards[True]["nationality"]["n"] == found["n"] and cards[True]["Roma"]["too_few"] == "0 civil, 0 toxic"


def test_groups_are_found_as_whole_words() -> None:
    women = next(group for group in groups().groups if group.name == "women")
    texts = ["A WOMAN, indeed", "womanly", "the ladies'", "slaying", "", "girl"]
    assert women.mentioned(texts).tolist() == [True, False, True, False, False, True]
    assert all("{person}" in sentence for sentence in groups().sentences)
    assert {group.kind for group in groups().groups} == {
        "gender", "religion", "ethnicity", "orientation", "disability", "nationality", "age"
    }  # fmt: skip


def test_paired_replies_are_pairs_of_like_length() -> None:
    civil, rude = replies()
    assert len(civil) == len(rude) == 48 == len({*civil}) == len({*rude})
    assert all(max(len(a), len(b)) <= 1.15 * min(len(a), len(b)) for a, b in zip(civil, rude, strict=True))
    assert [one for one, _ in choices()].count("Good morning! I am well, thank you for asking.") == 1
    assert sum(pair[0] in civil for pair in choices()) == 24


# An encoder


def test_an_encoder_judges_as_it_classifies(lab: Lab) -> None:
    shape = Encoder(layers=1, width=16, heads=2, feedforward=32, context=64, classes=2)
    train = Train(
        Tokens(REMARKS, Byte()), shape, Classification(), batch=16, steps=20, evaluate_every=0, precision="fp32"
    )
    run = lab.run(Judge(toxic=("rude",), of=train, balanced=False))
    assert run.result["method"] == "encoder" and run.recipe_data["data"] == run.recipe_data["of"]["data"]["corpus"]
    from etude.evals.recipes import Score

    expected = lab.run(Score(train, "test")).result["accuracy"]["mean"]
    kept = run.tensors("test.safetensors")
    assert np.mean((kept["score"] >= 0.5) == kept["toxic"]) == pytest.approx(expected)
    even = lab.run(Judge(toxic=("rude",), of=train))
    odds = lambda scores: np.log(scores / (1 - scores))  # noqa: E731
    _, toxic = read("train")
    prior = np.log((toxic.sum() + 1) / ((~toxic).sum() + 1))
    apart = odds(kept["score"]) - odds(even.tensors("test.safetensors")["score"])
    assert apart == pytest.approx(prior, abs=1e-9)
    held = read("test")[0]
    inputs: dict[Recipe, Run] = {recipe: lab.run(recipe) for recipe in even.recipe.needs}  # pyright: ignore[reportAttributeAccessIssue]
    assert open_judge(even, inputs).score(held) == pytest.approx(even.tensors("test.safetensors")["score"])


# Wrong use


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown class in --toxic 'rud': did you mean 'rude'"):
        Judge(REMARKS, ("rud",))
    with pytest.raises(UsageError, match="count as toxic: set --toxic so that some do in each set"):
        Judge(REMARKS, ("rude", "civil"))
    with pytest.raises(UsageError, match="of the classes fine, bad none count as toxic"):
        Judge(REMARKS, ("rude",), others=(Labelled(path="x", classes=("fine", "bad")),))
    with pytest.raises(UsageError, match="a judge is an encoder with 2 classes, and this is an decoder"):
        Judge(toxic=("rude",), of=Train(Tokens(REMARKS, Byte()), Decoder(context=32)))


def test_too_few_texts_are_said(tmp_path: Path) -> None:
    rows = [(f"{'zyxw'[n % 4]}{n}" * 3, ("civil", "rude")[n % 2]) for n in range(60)]
    path = written(tmp_path / "a.csv", rows)
    lab = Lab(tmp_path / "runs", threads=1, quiet=True)
    with pytest.raises(UsageError, match="no feature stands in 50 of"):
        lab.run(Judge(Labelled(path=path, classes=("civil", "rude")), ("rude",), least=50))
    alone = written(tmp_path / "b.csv", [(f"text {n}", "civil") for n in range(90)])
    with pytest.raises(UsageError, match="one kind of text alone"):
        lab.run(Judge(Labelled(path=alone, classes=("civil", "rude")), ("rude",)))


@pytest.mark.slow
def test_davidsons_judge_is_good_at_home(shared: Path, lab: Lab) -> None:
    from etude.evals.judge_recipes import davidson

    path = str(shared / "toxicity" / "davidson_labeled_data.csv")
    result = lab.run(Judge(replace(davidson(), path=path), features=3000)).result
    assert result["in_domain"]["auc"]["low"] > 0.95 and result["in_domain"]["n"] == 2489
    assert result["replies"]["auc"]["mean"] < 0.8  # it knows tweets, and not insults
