"""What is said of planted answers: where they stand among tokens, which are right, and what they cost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals.recipes import BitsPerByte
from etude.evals.sliding_work import losses_in, right_in
from etude.models.architectures.decoder import Decoder
from etude.retrieval.answers import BY_DOCUMENT
from etude.retrieval.recipes import Answers
from etude.text.corpora.fable import Fable
from etude.text.corpora.facts import Facts
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.retrieval import Retrieval
from etude.train.recipes import Train

FACTS = Facts(subjects=40, facts=3, lead=10)
TRAIN = Train(
    data=Tokens(FACTS, Byte()),
    model=Decoder(layers=1, width=16, heads=2, feedforward=16, context=64),
    objective=Retrieval(),
    steps=0,
    precision="fp32",
)


@given(st.integers(0, 39), st.lists(st.integers(1, 9), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_an_answers_tokens_are_those_that_hold_any_of_it(number: int, cuts: list[int]) -> None:
    """However the text is cut: the tokens cover the value, and none of them lies beside it."""
    text, pieces, at = FACTS.question(number).encode(), [], 0
    while at < len(text):
        step = cuts[len(pieces) % len(cuts)]
        pieces.append(text[at : at + step])
        at += step
    starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    spans = FACTS.spans(text.decode())
    assert len(spans) == 3
    for (first, last), span in zip(FACTS.places(pieces), spans, strict=True):
        held = {n for n in range(len(pieces)) if starts[n] < span.stop and starts[n + 1] > span.start}
        assert set(range(first, last)) == held


def test_answers_are_counted_from_the_losses_that_were_kept(tmp_path) -> None:
    lab = Lab(tmp_path, threads=1, quiet=True)
    score = BitsPerByte(TRAIN)
    run = lab.run(Answers(score))
    scored, data = lab.run(score), TextData.open(lab.run(TRAIN.data))
    store, losses, right = data.store("test"), losses_in(scored), right_in(scored)
    bounds = np.asarray(store.documents).astype(int)
    nats, known, count = 0.0, 0, 0
    for number, start in zip(FACTS.asked("test"), bounds, strict=False):
        for span in FACTS.spans(FACTS.question(number)):  # a token is a byte
            at = slice(start + span.start, start + span.stop)
            nats, known, count = nats + losses[at].sum(), known + bool(right[at].all()), count + 1
    assert run.result["n"] == count == 3 * len(FACTS.asked("test"))
    assert run.result["bits"]["mean"] == pytest.approx(nats / count / math.log(2), rel=1e-5)
    assert run.result["right"]["mean"] == pytest.approx(known / count)
    assert run.result["entropy"] == 6.0
    assert run.tensors(BY_DOCUMENT)["count"].tolist() == [3] * len(FACTS.asked("test"))


def test_a_token_is_right_where_the_likeliest_is_it(tmp_path) -> None:
    """A model that always says one byte has right what is that byte."""
    import torch

    from etude.evals.loss import Live
    from etude.evals.window_reading import token_losses

    model = TRAIN.model.build(257)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        cast(Any, model).final_norm.b[0] = 1.0
        model.unembedding()[0][0, 101] = 20.0
    tokens = torch.tensor([[101, 7, 101, 9]])
    found = token_losses(model.eval())(Live(tokens, tokens.roll(-1, 1), {}))
    assert found["right"].tolist() == [False, True, False, True]
    assert (found["losses"] < 1).tolist() == found["right"].tolist()


def test_other_texts_have_no_known_answers() -> None:
    with pytest.raises(UsageError, match="corpus fable has no answers that are known"):
        Answers(BitsPerByte(replace(TRAIN, data=Tokens(Fable(stories=60), Byte()))))
