"""Each objective from a corpus's files to a trained model, and a training with chance in its samples gone on with."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from etude.core.family import Family
from etude.core.lab import Lab
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.text.corpora.ag_news import AgNews
from etude.text.corpora.base import Corpus
from etude.text.corpora.files import Files
from etude.text.corpora.multi30k import Multi30k
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.base import Objective
from etude.train.recipes import Train
from etude.train.trainer import Trainer

SMALL: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "feedforward": 32, "context": 40}
WORDS = ("cat", "dog", "sea", "sun", "tree", "house", "bird", "snow")


def ag_news(folder: Path) -> Corpus:
    for split, count in (("train", 120), ("test", 8)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            rows = ([n % 4 + 1, f"{split} {n}", f"The {WORDS[n % 8]} is {WORDS[n * 3 % 8]} {n}"] for n in range(count))
            csv.writer(file).writerows(rows)
    return AgNews(path=str(folder))


def multi30k(folder: Path) -> Corpus:
    for split in ("train", "val", "test"):
        pairs = ({"en": f"a {word} {n}", "de": f"ein {word[::-1]} {n}"} for n in range(9) for word in WORDS)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return Multi30k(path=str(folder))


def talk(folder: Path) -> Corpus:
    for split in ("train", "valid", "test"):
        rows = ({"text": f"User: {word} {n}?\nAssistant: {word[::-1]}!"} for n in range(5) for word in WORDS)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Files(path=str(folder))


MASKING = Byte(specials=("mask", "first", "separator", "pad"))
CASES: dict[str, tuple[Callable[[Path], Corpus], Byte, Architecture, dict[str, Any]]] = {
    "next-token": (ag_news, Byte(), Decoder(**SMALL), {"apart": True, "restart": True}),
    "masked": (ag_news, MASKING, Encoder(**SMALL, segments=2, next_sentence=True), {"next_sentence": True}),
    "classification": (ag_news, Byte(), Encoder(**SMALL, classes=4), {}),
    "sequence-to-sequence": (multi30k, Byte(), EncoderDecoder(**SMALL), {"source": "de"}),
    "retrieval": (ag_news, Byte(), Decoder(**SMALL), {}),
    "dialogue": (talk, Byte(), Decoder(**SMALL), {}),
}


def recipe(name: str, folder: Path, **fields: Any) -> Train:
    corpus, tokenizer, model, options = CASES[name]
    member = cast(Objective, Family("train/objectives").member(name)(**options))
    data = Tokens(corpus(folder), tokenizer)
    given: dict[str, Any] = {"batch": 8, "steps": 12, "evaluate_every": 0, "evaluate_tokens": 640, "precision": "fp32"}
    return Train(data=data, model=model, objective=member, **{**given, **fields})


@pytest.mark.parametrize("name", CASES)
def test_it_trains(name: str, lab: Lab, tmp_path: Path) -> None:
    result = lab.run(recipe(name, tmp_path)).result
    assert result["validation"]["loss"]["mean"] < result["untrained"]["loss"]["mean"]
    assert ("bits_per_byte" in result["validation"]) == (name in ("next-token", "retrieval")), (
        "only of a text, token by token"
    )


def test_the_family_is_all_here() -> None:
    assert set(CASES) == set(Family("train/objectives").names())


@pytest.mark.parametrize("name", ["masked", "sequence-to-sequence"])
def test_a_training_goes_on_with_the_very_samples_that_it_would_have_had(name: str, lab: Lab, tmp_path: Path) -> None:
    train = recipe(name, tmp_path, compiled="no", chunked="no", recompute="no")
    data = TextData.open(lab.run(train.data).path)
    examples = train.objective.examples(data, "train", train.context)

    def trainer() -> Trainer:
        torch.manual_seed(0)
        return Trainer(train, train.model.build(data.vocabulary), examples, 1.0)

    unbroken, again = trainer(), trainer()
    rows = [unbroken.step(number) for number in range(4)]
    assert [again.step(number) for number in range(2)] == rows[:2]
    later = trainer()
    later.load(again.state())
    assert [later.step(number) for number in (2, 3)] == rows[2:]
