"""BERT's two losses by hand, and that the ways to the same loss agree."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from etude.core.family import Family
from etude.models.architectures.encoder import Encoder
from etude.models.encoder_model import EncoderModel
from etude.text.batches import IGNORE, Batch
from etude.train.masked_losses import next_sentence_scores, summed

B, T, V = 4, 10, 19
SPEC = Encoder(layers=1, width=16, heads=2, feedforward=24, context=T, segments=2, next_sentence=True, head="bert")


class Pairs:
    """Random pairs of segments, with 1, 2, 3 and 4 hidden tokens."""

    context, vocabulary = T, V

    def __len__(self) -> int:
        return B

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        generator = np.random.default_rng(0)
        inputs, wanted = generator.integers(0, V, (2, B, T))
        targets = np.where(np.arange(T) <= np.arange(B)[:, None], wanted, IGNORE)
        given = {
            "segments": (np.arange(T) > 5).astype(np.int64) * np.ones((B, 1), np.int64),
            "present": np.arange(T) < np.array([[10], [8], [7], [10]]),
            "follows": np.array([0, 1, 1, 0]),
        }
        return Batch(inputs, targets, given).rows(np.asarray(indices))  # type: ignore[arg-type]


@pytest.fixture
def model() -> EncoderModel:
    torch.manual_seed(0)
    model = cast(EncoderModel, SPEC.build(V))
    for weight in model.parameters():
        weight.data.add_(0.3 * torch.randn_like(weight))
    return model.eval()


def some() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    batch = Pairs().batch(np.arange(B))
    given = {name: torch.from_numpy(array) for name, array in batch.given.items()}
    return torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets), given


def by_hand(model: EncoderModel) -> tuple[float, float]:
    """Return the mean loss of the hidden tokens, and the mean over pairs, each as often as it has hidden tokens."""
    inputs, targets, given = some()
    hidden = [(b, t) for b in range(B) for t in range(T) if targets[b, t] != IGNORE]
    logp = model(inputs, **given).log_softmax(-1)
    masked = -sum(logp[b, t, targets[b, t]].item() for b, t in hidden) / len(hidden)
    read = {name: value for name, value in given.items() if name != "follows"}
    second = model.following(model.stream(inputs, **read)).log_softmax(-1)
    pairs = -sum(second[b, given["follows"][b]].item() for b, _ in hidden) / len(hidden)
    return masked, pairs


@pytest.mark.parametrize("chunked", [False, True])
def test_the_loss_is_the_sum_of_both_means(model: EncoderModel, chunked: bool) -> None:
    inputs, targets, given = some()
    count = int((targets != IGNORE).sum())
    assert count == 1 + 2 + 3 + 4
    masked, pairs = by_hand(model)
    found = summed(model, inputs, targets, given, chunked=chunked, count_right=True)
    assert found.loss.item() / count == pytest.approx(masked + pairs, rel=1e-5)
    assert found.beside is not None
    assert found.beside["masked_loss"].item() / count == pytest.approx(masked, rel=1e-5)
    assert found.beside["next_sentence_loss"].item() / count == pytest.approx(pairs, rel=1e-5)
    assert 0 <= found.beside["next_sentence_accuracy"].item() <= count


def test_every_score_is_made_for_a_watcher_alone(model: EncoderModel) -> None:
    inputs, targets, given = some()
    plain, seen = summed(model, inputs, targets, given), list[tuple[int, ...]]()
    with model.tapped({"logits": lambda x: seen.append(tuple(x.shape)) or x.clone()}):
        torch.testing.assert_close(summed(model, inputs, targets, given).loss, plain.loss)
    assert seen == [(B, T, V)]
    with model.tapped({"logits": lambda x: 2 * x}):
        assert summed(model, inputs, targets, given).loss != plain.loss


def test_an_evaluation_counts_each_pair_once(model: EncoderModel) -> None:
    inputs, _, given = some()
    follows = given.pop("follows")
    scores = model.following(model.stream(inputs, **given))
    expected = torch.nn.functional.cross_entropy(scores, follows)
    found: Any = next_sentence_scores(model, Pairs(), np.arange(B), "fp32")
    assert found["loss"]["mean"] == pytest.approx(expected.item(), rel=1e-5)
    assert found["accuracy"]["mean"] == (scores.argmax(-1) == follows).float().mean().item()
    assert found["pairs"] == B


def test_labels_are_smoothed_in_training_alone() -> None:
    member: Any = Family("train/objectives").member("sequence-to-sequence")
    assert member().smoothed == 0.1 and member(smoothing=0.0).smoothed == 0.0
