"""Scores on a split are the training's own, and what has to be beaten is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals.recipes import Baselines, Floor, Score
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.text.corpora.fable import Fable
from etude.text.corpora.rt_polarity import RtPolarity
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.classification import Classification
from etude.train.objectives.masked import Masked
from etude.train.recipes import At, Train

MADE = Path(__file__).parents[1] / "studies" / "made"
BASE = {"batch": 8, "steps": 6, "evaluate_every": 3, "evaluate_tokens": 0, "precision": "fp32"}
SMALL: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "feedforward": 32, "context": 24}
MASKING = Tokens(Fable(stories=40), BytePair(vocabulary=300, specials=("mask",)))

TRAININGS = {
    "next token": Train(data=Tokens(Fable(stories=40), Byte()), model=Decoder(**SMALL), **BASE),
    "classes": Train(
        data=Tokens(RtPolarity(path=str(MADE / "reviews")), Byte()),
        model=Encoder(**SMALL, classes=2),
        objective=Classification(),
        **BASE,
    ),
    "hidden": Train(data=MASKING, model=Encoder(**SMALL), objective=Masked(), **BASE),
    "hidden in documents": Train(data=MASKING, model=Encoder(**SMALL), objective=Masked(samples="documents"), **BASE),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.mark.parametrize("name", TRAININGS)
def test_on_the_validation_split_it_is_the_trainings_own_score(name: str, lab: Lab) -> None:
    train = TRAININGS[name]
    made = lab.run(train)
    for recipe, own in ((train, made.result["validation"]), (At(train, 0), made.result["untrained"])):
        found = lab.run(Score(recipe, "valid")).result
        assert found["samples"] == found["of"]
        assert {key: found[key] for key in own} == own
    test = lab.run(Score(train)).result
    assert test["loss"]["mean"] != made.result["validation"]["loss"]["mean"]
    assert ("bits_per_byte" in test) == train.objective.per_byte


def test_fewer_samples_are_read_where_asked(lab: Lab) -> None:
    found = lab.run(Score(TRAININGS["next token"], "test", tokens=5 * 24))
    assert found.result["samples"] == 5 < found.result["of"]
    assert len(found.tensors("scores.safetensors")["loss"]) == 5


def test_of_next_tokens_the_floor_is_the_baselines(lab: Lab) -> None:
    train = TRAININGS["next token"]
    floor = lab.run(Floor(train, "valid"))
    assert floor.result["baselines"] == lab.run(Baselines(train.data, 24, 0)).result["baselines"]


def test_of_classes_the_floor_is_chance_and_the_most_frequent(lab: Lab) -> None:
    train = TRAININGS["classes"]
    floor = lab.run(Floor(train))
    labels = [document.label for document in train.data.corpus.documents("test")]
    taught = [document.label or 0 for document in train.data.corpus.documents("train")]
    most = int(np.bincount(taught).argmax())
    found = floor.result["baselines"]
    assert found["chance"]["accuracy"]["mean"] == 0.5
    assert found["chance"]["loss"]["mean"] == pytest.approx(np.log(2))
    assert found["majority"]["accuracy"]["mean"] == pytest.approx(np.mean(np.array(labels) == most))
    assert floor.tensors("majority.safetensors")["count"].sum() == len(labels)
    scored = lab.run(Score(train)).tensors("scores.safetensors")
    assert np.array_equal(scored["count"], floor.tensors("chance.safetensors")["count"]), "the same samples"


@pytest.mark.parametrize("name", ["hidden", "hidden in documents"])
def test_of_hidden_tokens_the_floor_is_taken_at_them_alone(name: str, lab: Lab) -> None:
    train = TRAININGS[name]
    floor, scored = lab.run(Floor(train)), lab.run(Score(train)).tensors("scores.safetensors")
    found = floor.result["baselines"]
    assert found["uniform"]["loss"]["mean"] == pytest.approx(np.log(300))
    for kind in ("uniform", "unigram", "bigram"):
        assert np.array_equal(floor.tensors(f"{kind}.safetensors")["count"], scored["count"])
    assert found["bigram"]["loss"]["mean"] < found["unigram"]["loss"]["mean"] < found["uniform"]["loss"]["mean"]


def test_what_cannot_be_asked() -> None:
    with pytest.raises(UsageError, match="tokens = -1 is too small"):
        Score(TRAININGS["classes"], tokens=-1)
    with pytest.raises(UsageError, match="split"):
        Floor(TRAININGS["classes"], "tests")  # type: ignore[arg-type]
