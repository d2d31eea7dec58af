"""What every objective owes, asked of each file in the family's folder: its samples, its loss, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.evals.loss import Live, live, score
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.transformer import Transformer
from etude.text.batches import IGNORE, Examples
from etude.text.corpora.base import Corpus
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.store_writer import StoreWriter
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.live import Tokenizer
from etude.train.objectives.base import Objective
from etude.train.recipes import Train
from etude.train.trainer import parts

FAMILY = Family("train/objectives")
CPU = torch.device("cpu")
SHAPE: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "feedforward": 24, "context": 24}
WORDS = [
    "A cat sat.",
    "Dogs ran far away",
    "One, two, three: go",
    "No",
    "It is late; sleep well",
    "The sea is calm today",
]
TALK = "User: {}\nAssistant: {}"


@dataclass(frozen=True)
class Toy(Corpus):
    """A corpus that says of itself what a test wants; its documents are never asked for."""

    labels: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    documents = identity = about = cast(Any, None)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.labels

    @property
    def sides(self) -> tuple[str, ...]:
        return self.parts


Toy.__abstractmethods__ = frozenset()
PLAIN, MASKING = Byte(), Byte(specials=("mask", "first", "separator", "pad"))
LABELLED, PAIRED = Toy(labels=("bad", "so", "good")), Toy(parts=("en", "de"))


@dataclass(frozen=True)
class Case:
    """How a test makes one of a member, with a model and data that fit it."""

    model: Architecture
    fields: dict[str, Any] = field(default_factory=dict)
    corpus: Corpus = field(default_factory=Fable)
    tokenizer: Byte = PLAIN
    texts: tuple[str, ...] = tuple(WORDS)

    @property
    def data(self) -> Tokens:
        return Tokens(self.corpus, self.tokenizer)


SENTENCES: dict[str, Any] = {"next_sentence": True, "segments": 2}
CASES: dict[str, Case] = {
    "next-token": Case(Decoder(**SHAPE)),
    "next-token, apart": Case(Decoder(**SHAPE), {"apart": True, "restart": True}),
    "retrieval": Case(Decoder(**SHAPE)),
    "masked": Case(Encoder(**SHAPE), tokenizer=MASKING),
    "masked, documents": Case(Encoder(**SHAPE, head="bert", tied=True), {"samples": "documents"}, tokenizer=MASKING),
    "masked, sentences": Case(Encoder(**SHAPE, **SENTENCES), {"next_sentence": True}, tokenizer=MASKING),
    "classification": Case(Encoder(**SHAPE, classes=3), corpus=LABELLED),
    "sequence-to-sequence": Case(EncoderDecoder(**SHAPE), corpus=PAIRED),
    "dialogue": Case(Decoder(**{**SHAPE, "context": 60}), texts=tuple(TALK.format(word, word[::-1]) for word in WORDS)),
}
"""A member without a case fails here: give it one."""


@pytest.fixture(params=CASES, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture(scope="module")
def objective(name: str, case: Case) -> Objective:
    return cast(Objective, FAMILY.member(name.partition(",")[0])(**case.fields))


def opened(folder: Path, case: Case) -> TextData:
    """Write the case's texts as a tokens run does."""
    tokenizer: Tokenizer = case.tokenizer.build(lambda: iter([]))
    classes, sides = case.corpus.classes, case.corpus.sides
    tokenizer.save(folder)
    for split in ("train", "valid"):
        with StoreWriter(folder / f"{split}.tokens", tokenizer.vocabulary, 0, classes, sides) as writer:
            for number, text in enumerate(case.texts * 2):
                ids = tokenizer.encode(text)
                writer.add(ids, len(ids))
                writer.add([tokenizer.end], 0)
                writer.end_document(number % len(classes) if classes else None)
    return TextData.open(folder)


@pytest.fixture(scope="module")
def data(case: Case, tmp_path_factory: pytest.TempPathFactory) -> TextData:
    return opened(tmp_path_factory.mktemp("tokens"), case)


@pytest.fixture(scope="module")
def examples(objective: Objective, data: TextData, case: Case) -> Examples:
    return objective.examples(data, "train", case.model.context)


@pytest.fixture
def model(case: Case, data: TextData) -> Transformer:
    torch.manual_seed(0)
    model = case.model.build(data.vocabulary)
    for weight in model.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def some(examples: Examples, count: int = 6, draw: int = 0) -> Live:
    return live(examples.batch(np.arange(len(examples))[:count], draw), CPU)


def gradients(model: Transformer, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    names = (name for name, _ in model.named_parameters())
    return {name: gradient for name, gradient in zip(names, found, strict=True) if gradient is not None}


def test_the_family_has_its_members_and_each_has_a_case() -> None:
    assert FAMILY.base() is Objective
    assert {name.partition(",")[0] for name in CASES} == set(FAMILY.names())


def test_samples_are_of_one_form_and_any_of_them_can_be_had_alone(examples: Examples) -> None:
    count = len(examples)
    assert count > 0
    whole, again = examples.batch(np.arange(count), draw=2), examples.batch(np.array([count - 1, 0]), draw=2)
    assert whole.inputs.shape == (count, examples.context) and whole.inputs.dtype == np.int64
    assert whole.targets.shape in (whole.inputs.shape, (count,)) and whole.targets.dtype == np.int64
    assert all(len(array) == count for array in whole.given.values())
    for one, other in zip(
        (whole.inputs, whole.targets, *whole.given.values()),
        (again.inputs, again.targets, *again.given.values()),
        strict=True,
    ):
        assert (one[[-1, 0]] == other).all()
    assert whole.inputs.min() >= 0 and whole.inputs.max() < examples.vocabulary
    assert (whole.targets != IGNORE).reshape(count, -1).any(axis=1).all(), "each sample teaches something"
    for wrong in ([-1], [count]):
        with pytest.raises(IndexError):
            examples.batch(np.array(wrong))


def test_a_loss_is_one_finite_sum(objective: Objective, model: Transformer, examples: Examples) -> None:
    found = objective.summed(model, *some(examples), count_right=True)
    assert found.loss.shape == () and found.loss.dtype == torch.float32 and found.loss.item() > 0
    assert found.right is not None and 0 <= found.right <= some(examples).targets.numel()
    assert objective.summed(model, *some(examples)).right is None


def test_parts_add_up_to_the_whole(objective: Objective, model: Transformer, examples: Examples) -> None:
    batch = some(examples)
    whole = objective.summed(model, *batch, count_right=True)
    split = [objective.summed(model, *part, count_right=True) for part in parts(batch, 3)]
    torch.testing.assert_close(sum(part.loss for part in split), whole.loss)
    assert whole.right is not None and sum(int(part.right) for part in split if part.right is not None) == whole.right
    for name in whole.beside or {}:
        torch.testing.assert_close(sum(part.beside[name] for part in split if part.beside), (whole.beside or {})[name])


def test_chunked_and_whole_agree_with_their_gradients(
    objective: Objective, model: Transformer, examples: Examples
) -> None:
    batch = some(examples)
    one, other = (objective.summed(model, *batch, chunked=chunked, count_right=True) for chunked in (False, True))
    torch.testing.assert_close(one.loss, other.loss)
    assert one.right == other.right
    wanted, found = gradients(model, one.loss), gradients(model, other.loss)
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_what_has_no_target_counts_for_nothing(objective: Objective, model: Transformer, examples: Examples) -> None:
    batch = some(examples)
    left = batch._replace(targets=batch.targets.clone())
    left.targets[1:] = IGNORE
    first = parts(batch, len(batch.targets))[0]
    torch.testing.assert_close(objective.summed(model, *left).loss, objective.summed(model, *first).loss)
    none = batch._replace(targets=torch.full_like(batch.targets, IGNORE))
    assert objective.summed(model, *none).loss.item() == 0


def test_every_parameter_learns(objective: Objective, model: Transformer, examples: Examples) -> None:
    found = gradients(model, objective.summed(model, *some(examples, 99)).loss)
    for name, weight in model.named_parameters():
        learned = found.get(name)
        assert learned is not None and learned.isfinite().all(), name
        # What is added to all scores of a row of attention changes nothing: a key's bias is such.
        assert learned.any() or name.endswith("b_K"), (name, weight.shape)


def test_recomputing_changes_no_gradient(objective: Objective, model: Transformer, examples: Examples) -> None:
    batch = some(examples)
    kept = gradients(model, objective.summed(model, *batch).loss)
    model.recompute = True
    again = gradients(model, objective.summed(model, *batch).loss)
    assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_a_few_steps_lower_the_loss(objective: Objective, model: Transformer, examples: Examples) -> None:
    optimiser, batch = torch.optim.Adam(model.parameters(), lr=1e-2), some(examples, 99)
    first = objective.summed(model, *batch).loss.item()
    for _ in range(12):
        optimiser.zero_grad()
        loss = objective.summed(model, *batch).loss
        (loss / len(batch.targets)).backward()
        optimiser.step()
    assert objective.summed(model, *batch).loss.item() < 0.9 * first


def test_an_evaluation_reads_the_samples(objective: Objective, model: Transformer, examples: Examples) -> None:
    windows = np.arange(min(5, len(examples)))
    scores = score(model, examples, windows)
    batch = some(examples, 5)
    assert scores.count.sum() == (batch.targets != IGNORE).sum()
    if not objective.smoothed and "follows" not in batch.given:
        assert scores.loss.sum() == pytest.approx(objective.summed(model, *batch).loss.item(), rel=1e-4)
    json.dumps([scores.summary(None), objective.beside(model, examples, windows, "fp32")])


def test_the_spec_survives_json_and_names_the_run(objective: Objective, case: Case) -> None:
    assert Objective.from_json(json.loads(json.dumps(objective.to_json()))) == objective
    if not isinstance(case.corpus, Toy):  # which is in no family's folder
        recipe = Train(data=case.data, model=case.model, objective=objective)
        assert json.loads(json.dumps(recipe.to_json()))["objective"]["member"] == objective.name


def test_it_fits_its_own_case_and_refuses_another_architecture(objective: Objective, case: Case) -> None:
    objective.check_fits(case.data, case.model)
    kinds: list[Callable[..., Architecture]] = [Decoder, Encoder, EncoderDecoder]
    for kind in kinds:
        if kind(**SHAPE).name not in objective.architectures:
            with pytest.raises(UsageError, match=f"objective {objective.name} trains .*: set --model"):
                objective.check_fits(case.data, kind(**SHAPE))


REFUSED: list[tuple[str, dict[str, Any], Tokens, Architecture, str]] = [
    ("masked", {}, Tokens(Fable(), PLAIN), Encoder(), "tokenizer byte has no token .*specials mask"),
    ("masked", {}, Tokens(Fable(), MASKING), Encoder(classes=4), "a model of 4 classes has no scores for tokens"),
    ("masked", {}, Tokens(Fable(), MASKING), Encoder(**SENTENCES), "has a head that nothing would teach"),
    ("masked", {"next_sentence": True}, Tokens(Fable(), MASKING), Encoder(), "set --model.next-sentence and"),
    ("masked", {}, Tokens(Fable(), MASKING, openings=20), Encoder(), "set --objective.samples documents"),
    ("classification", {}, Tokens(Fable(), PLAIN), Encoder(), "corpus fable has no labels to learn: choose"),
    ("classification", {}, Tokens(LABELLED, PLAIN), Encoder(classes=2), "has 3 .bad, so, good.: set --model.classes 3"),
    ("sequence-to-sequence", {}, Tokens(Fable(), PLAIN), EncoderDecoder(), "corpus fable has no pairs of texts"),
    ("sequence-to-sequence", {"source": "fr"}, Tokens(PAIRED, PLAIN), EncoderDecoder(), "unknown side 'fr'"),
    ("sequence-to-sequence", {}, Tokens(PAIRED, PLAIN, openings=9), EncoderDecoder(), "would cut sentences short"),
    ("dialogue", {}, Tokens(Fable(), PLAIN, openings=20), Decoder(), "openings = 20 would cut dialogues short"),
    ("next-token", {"apart": True}, Tokens(Fable(), PLAIN, openings=20), Decoder(), "nothing to keep apart"),
]


@pytest.mark.parametrize(("name", "fields", "data", "model", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_does_not_fit_is_refused_in_one_line(
    name: str, fields: dict[str, Any], data: Tokens, model: Architecture, message: str
) -> None:
    member = cast(Objective, FAMILY.member(name)(**fields))
    with pytest.raises(UsageError, match=message) as caught:
        member.check_fits(data, model)
    assert "\n" not in str(caught.value)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("masked", {"share": 0.0}, "share = 0.0 is not above 0 and below 1"),
    ("masked", {"mask_share": 0.8, "random_share": 0.3}, "shares 0.8 of masks and 0.3 of random tokens"),
    ("masked", {"next_sentence": True, "samples": "documents"}, "leave samples at windows"),
    ("sequence-to-sequence", {"smoothing": 1.0}, "smoothing = 1.0 is not a share"),
    ("dialogue", {"model_mark": " "}, "each is some letters within one line"),
    ("dialogue", {"user_mark": "A", "model_mark": "AB"}, "begin alike"),
    ("next-token", {"restart": True}, "restart says nothing where documents are not kept apart"),
]


@pytest.mark.parametrize(("name", "fields", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_values_that_cannot_be_are_refused(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FAMILY.member(name)(**fields)


def test_data_of_another_kind_are_refused_when_they_are_opened(tmp_path: Path) -> None:
    plain = opened(tmp_path, CASES["next-token"])
    for name, message in (
        ("masked", "has no token that stands for a hidden one"),
        ("classification", "the text in train.tokens has no labels to learn"),
        ("sequence-to-sequence", "corpus with sides"),
        ("dialogue", "the model says nothing in train.tokens"),
    ):
        with pytest.raises(UsageError, match=message):
            cast(Objective, FAMILY.member(name)()).examples(plain, "train", 24)
