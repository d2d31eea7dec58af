"""The translation study: what it plans, and that its numbers and words are those of the runs behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.recipes import Score
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.studies.translation import Translation
from etude.text.corpora.fable import Fable
from etude.text.corpora.multi30k import Multi30k
from etude.train.recipes import At

PAIRS = Path(__file__).parent / "made" / "pairs"
STUDY = Translation(
    pairs=Multi30k(path=str(PAIRS)),
    vocabulary=300,
    model=EncoderDecoder(layers=1, width=32, heads=2, feedforward=64, context=32, tied=True),
    steps=120,
    batch=16,
    peak=5e-3,
    warmup=20,
    evaluate_every=30,
    untrained=4,
    shown=3,
    drawn=("A man sits.", "Ein Mann sitzt."),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def answer(lab: Lab) -> Run:
    pytest.importorskip("sacrebleu", reason="sacrebleu is in the extra translation")
    return lab.run(STUDY)


def test_what_is_asked_for() -> None:
    kinds = [recipe.kind for recipe in STUDY.plan({})]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "tokens": 1,
        "train": 1,
        "at": 1,
        "translations": 3,
        "score": 1,
        "parity": 1,
        "patterns": 1,
    }
    assert STUDY.before.of == At(STUDY.train, 0) and STUDY.before.sentences == 4
    assert (STUDY.greedy.sampling.beams, STUDY.beam.sampling.beams) == (1, 4)


def test_a_wider_beam_asks_for_its_translations_alone() -> None:
    new = set(replace(STUDY, beams=8).plan({})) - set(STUDY.plan({}))
    assert [recipe.kind for recipe in new] == ["translations"]


@pytest.mark.parametrize("preset", Translation.presets())
def test_without_the_texts_the_remedy_is_one_line(preset: str) -> None:
    with pytest.raises(UsageError, match=r"give --pairs.path FOLDER .* or --pairs.path hub") as caught:
        Translation.preset(preset).resolve()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pairs": Fable()}, "pairs = fable has no pairs of texts"),
        ({"drawn": ("A dog.",)}, "drawn has a source without its translation"),
        ({"beams": 1}, "at least 2 beams"),
    ],
)
def test_what_cannot_be_asked(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(STUDY, **change)


def test_numbers_are_those_of_the_runs(answer: Run, lab: Lab) -> None:
    told = answer.result
    for name, recipe in (("greedy", STUDY.greedy), ("beam search", STUDY.beam), ("untrained", STUDY.before)):
        run = lab.run(recipe)
        assert told["bleu"][name] == {"run": run.id, **run.result["bleu"]}
    assert told["copied"] == lab.run(STUDY.greedy).result["copied"]
    assert told["test"]["loss"] == lab.run(Score(STUDY.train)).result["loss"]
    gain = told["bleu"]["beam search"]["mean"] - told["bleu"]["greedy"]["mean"]
    assert told["beam over greedy"]["mean"] == pytest.approx(gain)


def test_a_language_of_four_words_is_learned(answer: Run) -> None:
    told = answer.result
    assert told["bleu"]["greedy"]["low"] > 40 > told["bleu"]["untrained"]["high"]
    assert told["greedy over copying"]["low"] > 20
    assert "beam search reaches BLEU" in told["findings"][0]["text"]
    for finding in told["findings"]:
        assert ("cannot be told apart" in finding["text"]) <= (finding["strength"] == "uncertain")


def test_the_page_has_signature_translations_and_cross_attention(answer: Run) -> None:
    page = answer.file("report.html").read_text(encoding="utf-8")
    assert "nrefs:1|case:mixed" in page
    first = (PAIRS / "test_2016_flickr.de").read_text(encoding="utf-8").splitlines()[0]
    assert first in page
    assert page.count("Cross-attention: ") >= 2
