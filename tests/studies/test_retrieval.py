"""What a library brings, as a study: what it trains and compares, and what its page may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.by_document import ByDocument
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.retro import Retro
from etude.report.blocks import Finding, walk
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.recipes import Library
from etude.studies.retrieval import ABLATED, Retrieval
from etude.studies.sections.retrieval_numbers import differences, matching
from etude.text.corpora.facts import Facts
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.retrieval import Retrieval as Objective
from etude.train.recipes import Train

DATA = Tokens(Facts(subjects=40, facts=2, lead=8), Byte())
TRAIN = Train(
    data=DATA,
    model=Retro(layers=2, width=16, heads=2, feedforward=16, context=64, chunk=16, cross_from=0, cross_every=1),
    objective=Objective(),
    batch=4,
    steps=3,
    evaluate_tokens=512,
    precision="fp32",
)
SMALL = Retrieval(
    TRAIN,
    library=Library(DATA, chunk=16, embedder=Tfidf(dimension=4)),
    stored=4,
    k=1,
    ks=(1, 3),
    retrofit=2,
    knn=256,
    sizes=(1.5, 2.0),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    return lab.run(SMALL)


@pytest.fixture(scope="module")
def done(lab: Lab, run: Run) -> dict[Recipe, Run]:
    study = SMALL.resolve()
    return {recipe: lab.run(recipe.resolve()) for recipe in study.plan({})}


def test_every_model_learns_from_the_same_windows() -> None:
    trainings = {score.of for score in replace(SMALL, ablations=True).scores.values()}
    assert len({(t.data, t.batch, t.schedule, t.seed, t.context) for t in trainings if isinstance(t, Train)}) == 1
    assert all(isinstance(t, Train) and t.objective.name == "retrieval" for t in trainings)
    plain, fitted = SMALL.plain, SMALL.retrofitted
    assert isinstance(plain.model, Decoder) and plain.objective == Objective()
    assert fitted.start == plain and fitted.freeze and fitted.model == SMALL.retrieving.model


def test_the_frozen_decoder_is_the_plain_one_with_retrieval_off(done: dict[Recipe, Run]) -> None:
    plain, off = (ByDocument.of(done[SMALL.resolve().scores[name]]) for name in ("plain", "fitted out, off"))
    np.testing.assert_allclose(off.nats, plain.nats, rtol=1e-6)
    weights = done[SMALL.resolve().plain].tensors("model.safetensors")
    kept = done[SMALL.resolve().retrofitted].tensors("model.safetensors")
    assert all(np.array_equal(kept[name], value) for name, value in weights.items())
    assert any(name.startswith("encoder.") for name in kept)


def test_differences_are_paired_by_document(done: dict[Recipe, Run], run: Run) -> None:
    study = SMALL.resolve()
    one, other = (ByDocument.of(done[study.scores[name]]) for name in ("retrieval, k = 1", "retrieval, off"))
    gap = (one.nats.sum() - other.nats.sum()) / one.bytes.sum() / np.log(2)
    assert differences(study, done)["on against off"][2].mean == pytest.approx(gap)
    assert run.result["differences"]["on against off"]["bits_per_byte"]["mean"] == pytest.approx(gap)
    assert {"on against as many parameters", "on against as many FLOPs", "fitted out against plain"} <= set(
        run.result["differences"]
    )


def test_flops_count_what_neighbours_cost(run: Run) -> None:
    scores = run.result["scores"]
    off, one, three = (scores[f"retrieval, {k}"]["flops_per_token"] for k in ("off", "k = 1", "k = 3"))
    assert off == scores["plain"]["flops_per_token"] < one < three
    ratio = scores["plain, as many FLOPs"]["flops_per_token"] / one
    assert 0.7 < ratio < 1.4
    params = scores["plain, as many parameters"]["parameters"] / scores["retrieval, off"]["parameters"]
    assert 0.8 < params < 1.25


class _Told:
    """Runs with made-up results, by recipe."""

    def __init__(self, study: Retrieval, bits: Mapping[str, float], sizes: Mapping[str, int]) -> None:
        self.study, self.bits, self.sizes = study, bits, sizes

    def __getitem__(self, recipe: Recipe) -> Any:
        names = {score: name for name, score in self.study.scores.items()}
        models = {score.of: name for name, score in self.study.scores.items() if name.startswith("plain")}
        result = (
            {"bits_per_byte": {"mean": self.bits[names[recipe]]}}  # pyright: ignore[reportArgumentType]
            if recipe in names
            else {"parameters": self.sizes[models[recipe]]}  # pyright: ignore[reportArgumentType]
        )
        return type("Run", (), {"result": result})()


def test_the_size_that_matches_lies_on_the_line_between_two() -> None:
    study = replace(SMALL, rivals=False)
    names = ["plain", "plain, 1.5 times the parameters", "plain, 2 times the parameters"]
    bits = dict(zip(names, (2.0, 1.8, 1.7), strict=True))
    sizes = dict(zip(names, (1000, 4000, 16000), strict=True))
    for on, expected in ((1.9, 2000.0), (1.75, 8000.0), (2.0, 1000.0), (1.6, None), (2.1, None)):
        told: Any = _Told(study, {**bits, "retrieval, k = 1": on}, sizes)
        assert matching(study, told) == (expected if expected is None else pytest.approx(expected))


def test_its_page_hedges_what_it_does_not_know(done: dict[Recipe, Run]) -> None:
    report = SMALL.resolve().tell(done)
    findings = [block for block in walk(report) if isinstance(block, Finding)]
    assert len(findings) >= 8
    gap = differences(SMALL.resolve(), done)["on against off"][2]
    assert (findings[0].strength == "clear") == gap.excludes_zero


def test_ablations_change_one_thing_each() -> None:
    study = replace(SMALL, ablations=True)
    assert set(study.ablated) <= set(ABLATED)
    assert "trained with 1 neighbour" not in study.ablated, "that is the model itself, here"
    for name, training in study.ablated.items():
        assert training != study.retrieving, name
    assert study.ablated["continuation without its neighbour"].objective.reads == "continuation"  # pyright: ignore


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": replace(TRAIN, model=Decoder(layers=1, width=16, heads=2))}, "a decoder reads no neighbours"),
        ({"k": 5}, "choose 1 to the 4 neighbours that are stored"),
        ({"ks": ()}, "choose 1 to the 4 neighbours"),
        ({"library": Library(DATA, chunk=8)}, "the library's chunks have 8 tokens and the model's 16"),
        ({"retrofit": -1}, "none is below 0"),
        ({"train": replace(TRAIN, objective=Objective(k=3))}, "the objective and what trainings begin with"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(SMALL, **changes)


def test_questions_are_looked_up_in_a_library_of_their_statements() -> None:
    study = Retrieval().resolve()
    asked, stated = study.train.data, study.searched.data
    assert isinstance(asked.corpus, Facts) and isinstance(stated.corpus, Facts)
    assert (asked.corpus.holds, stated.corpus.holds, stated.like) == ("questions", "statements", asked)
    assert replace(stated.corpus, holds="questions") == asked.corpus and study.neighbours.data == asked
    assert study.neighbours.of == study.searched and study.searched.chunk == study.model.chunk
    whole = replace(study, train=replace(study.train, data=replace(asked, corpus=replace(asked.corpus, holds="both"))))
    assert whole.searched.data == whole.train.data and whole.neighbours.data is None


@pytest.mark.slow
def test_planted_facts_are_learned_to_be_looked_up(lab: Lab) -> None:
    study = replace(Retrieval.presets()["quick"], retrofit=0, ks=(2,))
    scores = lab.run(study).result["scores"]
    on, off, plain = (scores[name]["answers"]["right"] for name in ("retrieval, k = 2", "retrieval, off", "plain"))
    assert on["low"] > 0.9 and max(off["high"], plain["high"]) < 0.1
