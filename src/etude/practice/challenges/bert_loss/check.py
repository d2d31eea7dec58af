"""Whether BERT's loss counts what it should: against PyTorch's cross-entropy with ignored targets."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask with unequally many labels in each text, with none at all, with large scores, and for gradients."""
    for _ in range(3):
        batch, length, vocabulary = exam.sizes(3, least=4)
        given = _given(exam, batch, length, vocabulary)
        got = theirs.bert_loss(*given)
        exam.ask(
            not isinstance(got, Tensor) or got.ndim == 0,
            "your loss has axes: it is one number, a mean over the positions and a mean over the texts, added",
        )
        exam.same(got, _loss(*given), "your loss", unless=_mistakes(*given))
    logits, labels, next_logits, is_next = _given(exam, *exam.sizes(3, least=4))
    none = torch.full_like(labels, -100)
    got = theirs.bert_loss(logits, none, next_logits, is_next)
    exam.ask(
        not bool(torch.as_tensor(got).isnan()),
        "where no position has a label the loss is not a number, 0 / 0: `masked` is then 0",
    )
    exam.same(got, _next(next_logits, is_next), "your loss where no position has a label")
    one = none.clone()
    one[-1, 1] = labels.max()
    exam.same(
        theirs.bert_loss(logits, one, next_logits, is_next),
        _loss(logits, one, next_logits, is_next),
        "your loss where a single position has a label",
    )
    large = 300.0 * logits
    unlikely = torch.where(labels == -100, -100, large.argmin(-1))
    got = theirs.bert_loss(large, unlikely, next_logits, is_next)
    exam.ask(
        bool(torch.as_tensor(got).isfinite()),
        "with scores in the hundreds the loss is not finite: a share is rounded to 0 before its logarithm is taken, or"
        " an exponential overflows",
    )
    exam.same(got, _loss(large, unlikely, next_logits, is_next), "your loss with large scores", tolerance=1e-3)
    exam.gradients(
        lambda scores, follows: theirs.bert_loss(scores, labels, follows, is_next),
        lambda scores, follows: _loss(scores, labels, follows, is_next),
        {"logits": logits, "next_logits": next_logits},
        "your loss",
    )


def _given(exam: Exam, batch: int, length: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scores, labels of which the first text has one and the second three, and both kinds of pairs."""
    labels = torch.full((batch, length), -100)
    for row in range(batch):
        places = exam.permutation(length)[: 1 if row == 0 else 3 if row == 1 else exam.random.randint(1, length - 1)]
        labels[row, places] = exam.integers(vocabulary, len(places))
    is_next = exam.permutation(batch) % 3 == 0
    return exam.normal(batch, length, vocabulary), labels, exam.normal(batch, 2, scale=2.0), is_next


def _next(next_logits: Tensor, is_next: Tensor) -> Tensor:
    return cross_entropy(next_logits, torch.where(is_next, 0, 1))


def _loss(logits: Tensor, labels: Tensor, next_logits: Tensor, is_next: Tensor) -> Tensor:
    masked = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    return masked / max(1, int((labels != -100).sum())) + _next(next_logits, is_next)


def _mistakes(logits: Tensor, labels: Tensor, next_logits: Tensor, is_next: Tensor) -> dict[str, Tensor]:
    """Return what known mistakes come to."""
    every = cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    filled = cross_entropy(logits.transpose(1, 2), labels.clamp(min=0), reduction="none")
    last = cross_entropy(logits.transpose(1, 2), labels % logits.shape[-1], reduction="none")
    hidden = labels != -100
    masked, follows, other_way = every[hidden].mean(), _next(next_logits, is_next), _next(next_logits, ~is_next)
    number = cross_entropy(next_logits, is_next.long(), reduction="sum")
    return {
        "the masked loss is divided by all B T positions: those without a label count for nothing": (
            every.sum() / every.numel() + follows
        ),
        "the masked loss is a mean for each text, and then over the texts: every hidden token counts the same": (
            (every.sum(1) / hidden.sum(1)).mean() + follows
        ),
        "positions without a label count, as if their label were token 0": filled.mean() + follows,
        "positions without a label count, -100 being taken as a token's number": last.mean() + follows,
        "the two columns are exchanged: column 0 says that the second sentence follows": masked + other_way,
        "this is the mean of the two losses: they are added": (masked + follows) / 2,
        "the masked loss is missing": follows,
        "the loss of the next sentence is missing": masked,
        "the loss of the next sentence is subtracted": masked - follows,
        "the loss of the next sentence is a sum over the texts: it is their mean": masked + follows * len(is_next),
        "the loss of the next sentence is a sum over the texts, with its columns exchanged": masked + number,
        "the masked loss is a sum over the hidden tokens: it is their mean": every.sum() + follows,
        "all terms are averaged together: each loss is a mean of its own": (
            (every.sum() + follows * len(is_next)) / (hidden.sum() + len(is_next))
        ),
    }
