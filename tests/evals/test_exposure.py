"""Exposure: its identities, against counting by hand, and models that know nothing or everything."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals.asking import Asker, ask_for
from etude.evals.exposure import compared_with, expected_exposure, likelihoods, ranked, requests
from etude.evals.risk_recipes import Exposure
from etude.models.architectures.decoder import Decoder
from etude.models.load import load
from etude.models.recipes import OnText
from etude.text.corpora.canaries import Canaries
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.recipes import Train
from etude.train.schedule import Schedule

CORPUS = Canaries(of=Fable(stories=40), digits=2, repeats=(1, 2), each=8, controls=48)
MODEL = Train(
    data=Tokens(CORPUS, Byte()),
    model=Decoder(layers=1, width=16, heads=2, feedforward=16, context=64),
    batch=4,
    steps=2,
    evaluate_tokens=320,
    precision="fp32",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def test_the_likeliest_has_log_of_the_space_and_the_least_likely_nothing():
    others = np.linspace(-9, -3, 999)
    assert ranked(-1.0, others).exposure == pytest.approx(math.log2(1000))
    assert ranked(-10.0, others) == (1.0, 0.0)
    assert ranked(-1.0, others).share * 1000 == pytest.approx(1)


def test_it_is_log_space_less_log_rank_counted_by_hand():
    draw = random.Random(1)
    every = [draw.gauss(0, 1) for _ in range(500)]
    order = sorted(every, reverse=True)
    for n in range(0, 500, 37):
        others = np.array(every[:n] + every[n + 1 :])
        by_hand = math.log2(500) - math.log2(1 + order.index(every[n]))
        assert ranked(every[n], others).exposure == pytest.approx(by_hand, abs=1e-12)


def test_who_finds_all_alike_knows_nothing():
    assert ranked(-5.0, np.full(99, -5.0)).share == pytest.approx(50.5 / 100)


@pytest.mark.parametrize("space", [2, 10, 1000])
def test_the_expectation_is_the_mean_over_all_ranks(space):
    by_hand = np.mean([math.log2(space) - math.log2(rank) for rank in range(1, space + 1)])
    assert expected_exposure(space) == pytest.approx(by_hand)


def test_a_large_space_tends_to_log2_of_e():
    assert expected_exposure(10**9) == pytest.approx(math.log2(math.e), abs=1e-6)


def test_a_sample_estimates_the_rank_and_ends_where_it_must():
    draw = np.random.default_rng(3)
    every = draw.normal(size=100_000)
    own = np.sort(every)[-1000]  # rank 1000 of 100,000: 6.64 bits
    sampled = ranked(own, draw.choice(every, 20_000, replace=False))
    assert sampled.exposure == pytest.approx(math.log2(100), abs=0.25)
    assert ranked(9.0, draw.choice(every, 1023)).exposure == pytest.approx(10)


def test_all_others_are_compared_or_so_many_drawn_without_the_secret_itself():
    canary = CORPUS.planted()[0]
    every = compared_with(Exposure(MODEL), CORPUS, 0, canary)
    assert sorted([*every, canary.secret]) == list(range(100))
    some = compared_with(Exposure(MODEL, compared=60), CORPUS, 0, canary)
    assert len({*some}) == 60 and canary.secret not in some and {*some} < {*range(100)}
    assert some != compared_with(Exposure(MODEL, compared=60, seed=1), CORPUS, 0, canary)


def test_requests_are_those_of_ask_for():
    tokenizer, answers = ByteTokenizer(), [" 1 2", " 9 9"]
    by_hand = [ask_for(tokenizer, "The code of Zoë is", answer, opened=True) for answer in answers]
    assert requests(tokenizer, "The code of Zoë is", answers) == by_hand


def test_likelihoods_are_those_of_plain_passes(lab):
    model, tokenizer = load(lab.run(MODEL))
    canary = CORPUS.planted()[3]
    others = [0, 7, 55, 99]
    own, found = likelihoods(Asker(model), tokenizer, CORPUS, canary, others)
    for secret, said in zip([canary.secret, *others], [own, *found], strict=True):
        question, answer = CORPUS.question(canary), " " + CORPUS.written(secret)
        text = torch.tensor([[tokenizer.end, *tokenizer.encode(question + answer)]])
        with torch.no_grad():
            logs = model(text[:, :-1])[0].double().log_softmax(-1)
        picked = logs.gather(1, text[0, 1:, None])[-len(tokenizer.encode(answer)) :]
        assert said == pytest.approx(float(picked.sum()), abs=1e-4)


def test_a_model_that_learned_nothing_has_what_chance_gives(lab):
    result = lab.run(Exposure(MODEL)).result
    assert result["exact"] and result["compared"] == 99 and result["most"] == pytest.approx(math.log2(100))
    assert [group["repeats"] for group in result["groups"]] == [0, 1, 2]
    assert [group["exposure"]["n"] for group in result["groups"]] == [48, 8, 8]
    every = np.array([row["exposure"] for row in result["canaries"]])
    assert abs(every.mean() - result["expected"]) < 4 * every.std() / math.sqrt(len(every))
    assert sum(row["extracted"] for row in result["canaries"]) <= 4
    ranks = np.array([row["rank"] for row in result["canaries"]])
    assert np.allclose(ranks * 2, np.round(ranks * 2)) and ranks.min() >= 1 and ranks.max() <= 100


def test_a_model_that_learned_by_heart_has_the_log_of_the_space_and_recites(lab):
    corpus = replace(CORPUS, of=Fable(stories=20), repeats=(300,), each=2, controls=4)
    learned = replace(
        MODEL,
        data=Tokens(corpus, Byte()),
        model=replace(MODEL.model, layers=1, width=48, heads=2, feedforward=96, positions="rotary"),
        schedule=Schedule(peak=1e-2, warmup=10),
        batch=8,
        steps=150,
    )
    result = lab.run(Exposure(learned)).result
    never, often = result["groups"]
    assert often["exposure"]["mean"] == pytest.approx(math.log2(100)) and often["extracted"] == 2
    assert never["exposure"]["mean"] < 5 and never["extracted"] == 0
    planted = [row for row in result["canaries"] if row["repeats"]]
    assert all(row["written"] == row["secret"] and row["rank"] == 1 for row in planted)


def test_a_model_of_another_text_is_asked_with_on_text_and_any_other_is_refused(lab):
    other = replace(MODEL, data=Tokens(Fable(stories=40), Byte()))
    with pytest.raises(UsageError, match=r"the text of this model, fable, has none: train one with --data.corpus"):
        Exposure(other)
    result = lab.run(Exposure(OnText(other, CORPUS), compared=20)).result
    assert not result["exact"] and result["most"] == pytest.approx(math.log2(21))


def test_killed_between_two_canaries_it_comes_to_the_same(lab, tmp_path, monkeypatch):
    whole = lab.run(Exposure(MODEL, compared=10)).result
    again = Lab(tmp_path, threads=1, quiet=True)
    again.run(MODEL)
    calls = []

    def stops(*given):
        calls.append(given)
        if len(calls) == 20:
            raise RuntimeError("cut off")
        return likelihoods(*given)

    monkeypatch.setattr("etude.evals.exposure.likelihoods", stops)
    with pytest.raises(RuntimeError, match="cut off"):
        again.run(Exposure(MODEL, compared=10))
    result = again.run(Exposure(MODEL, compared=10)).result
    assert len(calls) == 65  # 64 canaries, one of them twice
    assert {k: v for k, v in result.items() if k != "timing"} == {k: v for k, v in whole.items() if k != "timing"}


@pytest.mark.parametrize("fields", [{"compared": 0}, {"at_once": 0}])
def test_what_cannot_be_asked_is_refused(fields):
    with pytest.raises(UsageError, match="each is 1 or more"):
        Exposure(MODEL, **fields)
