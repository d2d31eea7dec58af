"""Whether padding counts for nothing, and the loss is the cross-entropy: against PyTorch's own."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for means over texts of several lengths, one of them empty, then for losses, and for gradients of both."""
    for _ in range(2):
        _means(theirs, exam)
        _losses(theirs, exam)


def _means(theirs: Any, exam: Exam) -> None:
    batch, length, width, vocabulary = exam.sizes(4, least=4)
    padding = exam.random.randrange(vocabulary)
    embedding = exam.normal(vocabulary, width) + 0.5
    tokens = _texts(exam, batch, length, vocabulary, padding)
    got = theirs.pooled(tokens, embedding, padding)
    exam.shaped(got, (batch, width), "pooled(...)", ("text", "dimension"))
    own = tokens != padding
    sums = torch.stack(
        [sum((embedding[token] for token in row if token != padding), exam.normal(width) * 0) for row in tokens]
    )
    full = embedding[tokens].mean(1)
    want = F.embedding_bag(tokens, embedding, mode="mean", padding_idx=padding)
    distinct = torch.stack([embedding[row[row != padding].unique()].mean(0) for row in tokens])
    largest = embedding[tokens].masked_fill(~own[..., None], float("-inf")).max(1).values
    exam.same(
        got,
        want,
        "pooled(...) of texts with padding",
        unless={
            "padding counts as a word: its embedding is in the mean": full,
            "the sum is right and is divided by T: divide by how many tokens the text has of its own": sums / length,
            "the padding's embedding is in the sum, which is divided by the number of the text's own tokens": (
                full * length / own.sum(1, keepdim=True)
            ),
            "this is the sum of the embeddings: their mean is asked for": sums,
            "a token that stands in a text twice counts twice": distinct,
            "this is the largest of each dimension, not the mean": largest,
            "one mean for all texts: each is divided by the number of its own tokens": sums / own.sum() * batch,
        },
        axes=("text", "dimension"),
    )
    empty = tokens.clone()
    empty[0] = padding
    got = theirs.pooled(empty, embedding, padding)
    exam.ask(bool(got.isfinite().all()), "a text without any token is not finite, 0 / 0: its vector is to be zeros")
    exam.same(
        got,
        F.embedding_bag(empty, embedding, mode="mean", padding_idx=padding),
        "pooled(...) of texts of which the first is empty",
    )
    exam.gradients(
        lambda table: theirs.pooled(empty, table, padding),
        lambda table: F.embedding_bag(empty, table, mode="mean", padding_idx=padding),
        {"the embedding": embedding},
        "pooled(...)",
    )


def _texts(exam: Exam, batch: int, length: int, vocabulary: int, padding: int) -> Tensor:
    """Return texts of different lengths: one full, one of a single token, one with a token twice."""
    tokens = (padding + exam.integers(vocabulary, batch, length, low=1)) % vocabulary
    lengths = exam.integers(length, batch, low=2)
    lengths[0], lengths[1] = length, 1
    tokens[2, 1] = tokens[2, 0]
    return tokens.masked_fill(torch.arange(length) >= lengths[:, None], padding)


def _losses(theirs: Any, exam: Exam) -> None:
    batch, width, classes = exam.sizes(3, least=3)
    vectors, W, b = exam.normal(batch, width), exam.normal(width, classes), exam.normal(classes, scale=2.0)
    labels = exam.integers(classes, batch)
    scores = torch.addmm(b, vectors, W)
    every = F.cross_entropy(scores, labels, reduction="none")
    exam.same(
        theirs.loss(vectors, W, b, labels),
        F.cross_entropy(scores, labels),
        "your loss",
        unless={
            "this is the sum over the texts: the mean is asked for": every.sum(),
            "the sign is wrong: the logarithm of a share is never positive, and the loss is less it": -every.mean(),
            "this is a mean of shares, without the logarithm": (-every).exp().mean(),
            "this is a mean of 1 less the share, without the logarithm": (1 - (-every).exp()).mean(),
            "the bias is missing: scores = vectors W + b": F.cross_entropy(vectors @ W, labels),
            "the logarithms of all classes are averaged: only that of the label counts": -scores.log_softmax(-1).mean(),
            "the softmax runs over the texts: shares are of the classes": F.nll_loss(scores.log_softmax(0), labels),
            "the labels' scores are taken as they are: ln softmax takes the logarithm of the row's sum away": (
                -scores.gather(1, labels[:, None]).mean()
            ),
        },
    )
    large = 300.0 * vectors
    unlikely = torch.addmm(b, large, W).argmin(-1)
    got = theirs.loss(large, W, b, unlikely)
    want = F.cross_entropy(torch.addmm(b, large, W), unlikely)
    if isinstance(got, Tensor):
        exam.ask(
            bool(got.isfinite()),
            "with scores in the hundreds the loss is not finite: a share is rounded to 0 before its logarithm is taken,"
            " or an exponential overflows",
        )
    exam.same(got, want, "your loss with scores in the hundreds", tolerance=1e-3)
    exam.gradients(
        lambda *given: theirs.loss(*given, labels),
        lambda vectors, W, b: F.cross_entropy(torch.addmm(b, vectors, W), labels),
        {"vectors": vectors, "W": W, "b": b},
        "your loss",
    )
