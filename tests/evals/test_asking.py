"""Likelihoods of continuations: against a plain pass over each request, however they are batched."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.evals.asking import Ask, Asker, Said, ask_for, rolled
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.retro import Retro
from etude.models.transformer import Transformer
from etude.nn.attention.sliding import Sliding
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.live import ByteTokenizer

V, CONTEXT = 40, 48
SHAPE = {"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "context": CONTEXT, "spread": 0.5}
SHAPES = {
    "learned": Decoder(**SHAPE),
    "rotary, groups": Decoder(**SHAPE, positions="rotary", kv_heads=1, norm="rms"),
    "sinusoidal, tied": Decoder(**SHAPE, positions="sinusoidal", tied=True),
    "a window": Decoder(**SHAPE, positions="rotary", attention=Sliding(window=5)),
    "retro without neighbours": Retro(**SHAPE, chunk=8, cross_from=0, cross_every=1, encoder_width=16),
    "no layers": Decoder(**{**SHAPE, "layers": 0}),
}


def plainly(model: Transformer, ask: Ask) -> Said:
    """Answer by one pass over the whole request, as its definition says."""
    with torch.no_grad():
        scores = model(torch.tensor([ask.tokens[:-1]]))[0].double()
    logs, total, greedy = scores.log_softmax(-1), 0.0, True
    for at in range(ask.start, len(ask.tokens)):
        total += float(logs[at - 1, ask.tokens[at]])
        greedy &= int(scores[at - 1].argmax()) == ask.tokens[at]
    return Said(total, greedy, len(ask.tokens) - ask.start)


def model_of(name: str) -> Transformer:
    return SHAPES[name].build(V, seed=3).eval()


def some_groups(seed: int, shared: int = 0) -> list[list[Ask]]:
    """Return groups of every kind: alike but for the end, alike not at all, alone, one of them as long as can be."""
    draw = random.Random(seed)
    text = lambda n: tuple(draw.randrange(V) for _ in range(n))  # noqa: E731
    before, groups = text(shared), list[list[Ask]]()
    for _ in range(12):
        question = before + text(draw.randint(1, 20))
        answers = [text(draw.randint(1, 6)) for _ in range(draw.randint(1, 4))]
        groups.append([Ask(question + answer, len(question)) for answer in answers])
    end = text(3)
    groups.append([Ask(text(n) + end, n) for n in (4, 9)])  # as Winograd schemas are
    whole = text(CONTEXT + 1)
    groups.append([Ask(whole, CONTEXT), Ask((*whole[:-1], 5), CONTEXT)])
    groups.append([Ask(text(CONTEXT + 1), 1)])
    return groups


def answered(asker: Asker, groups: Sequence[Sequence[Ask]]) -> dict[Ask, Said]:
    said = dict[Ask, Said]()
    for batch in asker.batches(groups):
        for number, answers in zip(batch.groups, asker.answer(groups, batch), strict=True):
            said |= dict(zip(groups[number], answers, strict=True))
    return said


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("shared", [0, 12])
def test_it_is_what_a_plain_pass_over_each_request_says(name: str, shared: int) -> None:
    model = model_of(name)
    groups = some_groups(1, shared)
    said = answered(Asker(model), groups)
    for group in groups:
        for ask in group:
            wanted = plainly(model, ask)
            assert said[ask].log_probability == pytest.approx(wanted.log_probability, abs=1e-4), (ask, wanted)
            assert said[ask][1:] == wanted[1:]


def test_a_shared_beginning_is_read_once() -> None:
    model, read = model_of("learned"), []
    hidden = model.hidden
    model.hidden = lambda tokens, **given: (read.append(tokens.numel()), hidden(tokens, **given))[1]
    for end, expected in {
        (): 20 + 6 * 6,  # the examples and the questions: answers of one token are all told from a question's last
        (9,): 20 + 6 * 5 + 24 * 2,  # the questions without their last token, and two for each answer
    }.items():
        groups = [
            [Ask((*range(20), question, *range(5), answer, *end), 26) for answer in range(4)]
            for question in range(30, 36)
        ]
        asker = Asker(model)
        (batch,) = asker.batches(groups)
        read.clear()
        asker.answer(groups, batch)
        assert batch.common == 20
        assert sum(read) == expected < sum(len(ask.tokens) - 1 for group in groups for ask in group) / 5


@pytest.mark.parametrize("name", ["learned", "rotary, groups", "a window"])
@given(seed=st.integers(0, 1000), at_once=st.sampled_from([1, 30, 200, 10_000]), shared=st.sampled_from([0, 9]))
@settings(max_examples=15, deadline=None)
def test_neither_order_nor_batches_matter(name: str, seed: int, at_once: int, shared: int) -> None:
    model, groups = model_of(name), some_groups(seed, shared)
    usual = answered(Asker(model), groups)
    shuffled = random.Random(seed).sample(groups, len(groups))
    other = answered(Asker(model, at_once), shuffled)
    assert usual.keys() == other.keys()
    for ask, said in usual.items():
        assert other[ask].log_probability == pytest.approx(said.log_probability, abs=1e-4)
        assert other[ask][1:] == said[1:]
    again = answered(Asker(model), shuffled)
    assert again == usual  # to the last bit where only the order differs


def test_each_group_is_in_one_batch() -> None:
    groups = some_groups(5, 7)
    for at_once in (1, 60, 5000):
        batches = Asker(model_of("learned"), at_once).batches(groups)
        assert sorted(number for batch in batches for number in batch.groups) == list(range(len(groups)))


def test_bad_requests_are_refused() -> None:
    asker = Asker(model_of("learned"))
    with pytest.raises(UsageError, match="longer than the model's context of 48"):
        asker.batches([[Ask(tuple(range(40)) + tuple(range(10)), 3)]])
    for start in (0, 3):
        with pytest.raises(UsageError, match="behind its first"):
            asker.batches([[Ask((1, 2, 3), start)]])
    with pytest.raises(UsageError, match="likelihoods are asked of models that predict the next token"):
        Asker(Encoder(**SHAPE).build(V))


# Windows over a whole text


@given(length=st.integers(1, 100), context=st.integers(1, 30))
def test_every_token_of_a_text_is_asked_about_once_with_as_much_before_it_as_fits(length: int, context: int) -> None:
    text = tuple(range(1, length + 1))
    asks = rolled(text, context, opening=0)
    assert [token for ask in asks for token in ask.tokens[ask.start :]] == list(text)
    whole = (0, *text)
    for ask in asks:
        assert len(ask.tokens) - 1 <= context
        first = ask.tokens[0]
        assert ask.tokens == whole[first : first + len(ask.tokens)]  # a stretch of the text, where tokens are places
    for ask in asks[1:]:
        assert len(ask.tokens) == context + 1  # a full window before the last token


def test_an_empty_text_asks_nothing() -> None:
    assert rolled((), 8, opening=0) == []


# Texts to tokens


def test_an_answer_is_what_the_context_alone_does_not_have() -> None:
    tokenizer = Byte().build(lambda: iter(()))
    assert isinstance(tokenizer, ByteTokenizer)
    assert ask_for(tokenizer, "ab", " c") == Ask(tuple(b"ab c"), 2)
    assert ask_for(tokenizer, "", "c") == Ask((tokenizer.end, *b"c"), 1)
    assert ask_for(tokenizer, "ab", "c", opened=True) == Ask((tokenizer.end, *b"abc"), 3)
    with pytest.raises(UsageError, match="has no token"):
        ask_for(tokenizer, "", "")
    with pytest.raises(UsageError, match="the answer '' has no token"):
        ask_for(tokenizer, "ab", "")
