"""Sentences that differ in a group's name: what is compared, against counting by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals.asking import Asker
from etude.evals.group_terms import BITS, SENTENCES, Sentence, bits_of, costs, leanings, names, sizes
from etude.evals.risk_recipes import GroupTerms
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.load import load
from etude.text.corpora.fable import Fable
from etude.text.corpora.rt_polarity import RtPolarity
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.classification import Classification
from etude.train.recipes import Train

HELD = json.loads(SENTENCES.read_text(encoding="utf-8"))
MODEL = Train(
    data=Tokens(Fable(stories=40), Byte()),
    model=Decoder(layers=1, width=16, heads=2, feedforward=16, context=128),
    batch=4,
    steps=2,
    evaluate_tokens=320,
    precision="fp32",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def test_every_sentence_has_one_place_for_a_name_and_the_words_behind_it_are_its_own():
    every = [*HELD["plain"], *(text for pair in HELD["pairs"] for text in pair)]
    assert len({*every}) == len(every) == 24 + 2 * 16
    for text in every:
        sentence = Sentence.of(text)
        assert f"{sentence.before} X{sentence.after}" == text.replace("{who}", "X") and text.endswith(".")
        assert sentence.before and sentence.after
    for kind in HELD["kinds"].values():
        assert len({*kind["terms"]}) == len(kind["terms"]) > 1 and kind["who"].count("{term}") == 1


def test_a_group_that_is_read_like_the_others_differs_from_them_by_nothing():
    alike = np.tile(np.arange(1.0, 9), (3, 1))
    assert [(c.mean, c.low, c.high) for c in costs(alike, np.full(8, 5.0))] == [(0, 0, 0)] * 3
    pairs = np.stack([alike, 2 * alike], axis=-1)
    assert [(c.mean, c.low, c.high) for c in leanings(pairs)] == [(0, 0, 0)] * 3


def test_differences_are_paired_by_sentence():
    noise = np.random.default_rng(0).normal(scale=50, size=24)
    bits = np.stack([noise, noise + 3])  # three bits more in every sentence, however long
    low, high = costs(bits, np.full(24, 6.0))
    assert low.mean == pytest.approx(-0.25) and high.mean == pytest.approx(0.25)
    assert high.high - high.low < 1e-9 and high.n == 24


def test_a_group_whose_unfavourable_words_are_likelier_leans_below_nothing():
    bits = np.zeros((2, 16, 2))
    bits[0, :, 1] = 1.0
    kind, unkind = leanings(bits)
    assert kind.mean == 0.5 and unkind.mean == -0.5


def test_bits_are_those_of_plain_passes(lab):
    model, tokenizer = load(lab.run(MODEL))
    sentences = [Sentence.of("On Monday {who} ran."), Sentence.of("We saw {who}, and no other.")]
    people = ["the cat", "Zoë"]
    own, after = bits_of(Asker(model), tokenizer, sentences, people)
    for g, who in enumerate(people):
        for n, sentence in enumerate(sentences):
            text = f"{sentence.before} {who}{sentence.after}"
            ids = torch.tensor([[tokenizer.end, *tokenizer.encode(text)]])
            with torch.no_grad():
                logs = model(ids[:, :-1])[0].double().log_softmax(-1)
            bits = -logs.gather(1, ids[0, 1:, None])[:, 0] / math.log(2)
            first, behind = (len(part.encode()) for part in (sentence.before, sentence.after))
            assert own[g, n] == pytest.approx(float(bits[first : len(bits) - behind].sum()), abs=1e-4)
            assert after[g, n] == pytest.approx(float(bits[len(bits) - behind :].sum()), abs=1e-4)


def test_the_result_is_what_the_kept_bits_come_to(lab):
    run = lab.run(GroupTerms(MODEL))
    kept, result = run.tensors(BITS), run.result
    assert result["sentences"] == 24 and result["pairs"] == 16 and result["left_out"] == 0
    assert {*result["kinds"]} == {*HELD["kinds"]}
    lengths = sizes([Sentence.of(text) for text in HELD["plain"]])
    for kind, said in HELD["kinds"].items():
        plain, pairs = kept[f"{kind}.plain"], kept[f"{kind}.pairs"]
        assert plain.shape == (len(names(said)), 24) and pairs.shape == (len(names(said)), 16, 2)
        for g, row in enumerate(result["kinds"][kind]):
            assert row["cost"]["mean"] == pytest.approx((plain[g] - plain.mean(0)).sum() / lengths.sum())
            dearer = pairs[..., 1] - pairs[..., 0]
            assert row["leaning"]["mean"] == pytest.approx((dearer[g] - dearer.mean(0)).mean(), abs=1e-9)
        assert sum(row["leaning"]["mean"] for row in result["kinds"][kind]) == pytest.approx(0, abs=1e-9)


def test_what_does_not_fit_is_left_out_for_every_group(lab):
    short = replace(MODEL, model=replace(MODEL.model, context=72))
    result = lab.run(GroupTerms(short)).result
    assert 0 < result["sentences"] < 24 and result["left_out"] == 40 - result["sentences"] - result["pairs"]
    assert {row["cost"]["n"] for rows in result["kinds"].values() for row in rows} == {result["sentences"]}
    nothing = lab.run(GroupTerms(replace(MODEL, model=replace(MODEL.model, context=16)))).result
    assert nothing["sentences"] == nothing["pairs"] == 0 and nothing["left_out"] == 40
    assert nothing["kinds"]["age"][0] == {"term": "young", "named": None, "cost": None, "leaning": None}


def test_an_encoder_is_refused():
    shape = Encoder(layers=1, width=8, heads=2, feedforward=8, context=16, classes=2)
    data = Tokens(RtPolarity(path="reviews"), Byte())
    with pytest.raises(UsageError, match="likelihoods are asked of models that predict the next token"):
        GroupTerms(replace(MODEL, data=data, model=shape, objective=Classification()))
