"""Translating a split: sources, references and texts belong together, and the counts are theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.bleu import score
from etude.evals.recipes import Translations
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.sampling import Sampling
from etude.text.corpora.fable import Fable
from etude.text.corpora.multi30k import Multi30k
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.sequence_to_sequence import SequenceToSequence
from etude.train.recipes import Train

PAIRS = Path(__file__).parents[1] / "studies" / "made" / "pairs"
TRAIN = Train(
    data=Tokens(Multi30k(path=str(PAIRS)), Byte()),
    model=EncoderDecoder(layers=1, width=16, heads=2, feedforward=32, context=40),
    objective=SequenceToSequence(),
    batch=8,
    steps=3,
    evaluate_tokens=0,
    precision="fp32",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def lines(folder: Path, name: str) -> list[str]:
    return [line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def rows(run: Run) -> list[dict[str, str]]:
    return [json.loads(line) for line in run.file("texts.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def _sacrebleu() -> None:
    pytest.importorskip("sacrebleu", reason="sacrebleu is in the extra translation")


def test_every_pair_of_the_split_once_in_order(lab: Lab) -> None:
    from etude.evals.translating import counts_of

    run = lab.run(Translations(TRAIN, sampling=Sampling(temperature=0.0, max_tokens=8)))
    found = rows(run)
    assert [row["source"] for row in found] == lines(PAIRS, "test_2016_flickr.en")
    assert [row["reference"] for row in found] == lines(PAIRS, "test_2016_flickr.de")
    assert run.result["sentences"] == len(found) == 20
    assert run.result["bleu"]["mean"] == pytest.approx(score(counts_of(run)))
    assert (
        run.result["copied"]["mean"] == pytest.approx(score(counts_of(run, copied=True))) and run.result["copied"]["n"]
    )
    assert run.result["unended"] <= 20 and run.result["cut"] == 0 and "tok:13a" in run.result["signature"]


def test_the_other_way_and_another_split(lab: Lab) -> None:
    other = replace(TRAIN, objective=SequenceToSequence(source="de"))
    run = lab.run(Translations(other, split="valid", sampling=Sampling(temperature=0.0, max_tokens=4), sentences=3))
    found, sources, targets = rows(run), lines(PAIRS, "val.de"), lines(PAIRS, "val.en")
    places = np.linspace(0, len(sources) - 1, 3).round().astype(int)
    assert [(row["source"], row["reference"]) for row in found] == [(sources[n], targets[n]) for n in places]


def test_a_source_that_is_too_long_is_cut_and_counted(lab: Lab) -> None:
    short = replace(TRAIN, model=replace(TRAIN.model, context=30))
    lengths = [len(text.encode()) for text in lines(PAIRS, "test_2016_flickr.en")]
    run = lab.run(Translations(short, sampling=Sampling(temperature=0.0, max_tokens=4)))
    assert run.result["cut"] == sum(length + 1 > 30 for length in lengths)


def test_a_model_that_learned_no_pairs(lab: Lab) -> None:
    train = Train(data=Tokens(Fable(stories=20), Byte()), model=Decoder(1, 16, 2, feedforward=0, context=16), steps=0)
    with pytest.raises(UsageError, match="translations need a corpus of pairs of texts"):
        lab.run(Translations(train))


def test_what_cannot_be_asked() -> None:
    with pytest.raises(UsageError, match="sentences = -1"):
        Translations(TRAIN, sentences=-1)
