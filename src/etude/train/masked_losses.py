"""BERT's two losses: hidden tokens, and whether the second segment follows the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from etude.evals.loss import batch_for, batches
from etude.evals.statistics import ratio
from etude.models.encoder_model import EncoderModel
from etude.models.transformer import Transformer
from etude.nn.cross_entropy import chunked_cross_entropy
from etude.nn.linear import linear
from etude.nn.precision import autocast
from etude.text.batches import IGNORE, Examples
from etude.train.objectives.base import Summed


def summed(
    model: Transformer,
    inputs: Tensor,
    targets: Tensor,
    given: Mapping[str, Tensor],
    *,
    chunked: bool = False,
    count_right: bool = False,
) -> Summed:
    """Return the summed loss of the hidden tokens, and of the next-sentence head where the sample says what follows.
    See `Objective.summed`.

    Each pair's second loss counts as often as it has hidden tokens. Divided by their number over a whole batch, the sum
    is then the mean of the one plus a mean of the other, whatever parts the batch was taken in; pairs fill the context,
    so their weights differ little.
    """
    if not isinstance(model, EncoderModel):
        raise TypeError(f"hidden tokens are an encoder's to find, not {type(model).__name__}'s")
    read = {name: value for name, value in given.items() if name != "follows"}
    x = model.stream(inputs, **read)
    tokens = of_tokens(model, model.transformed(x), targets, chunked=chunked, count_right=count_right)
    if "follows" not in given:
        return tokens
    scores, counts = model.following(x).float(), (targets != IGNORE).sum(1)
    each = cross_entropy(scores, given["follows"], reduction="none")
    second = (each * counts).sum()
    beside = {"masked_loss": tokens.loss.detach(), "next_sentence_loss": second.detach()}
    if count_right:
        right = scores.detach().argmax(-1) == given["follows"]
        beside["next_sentence_accuracy"] = (right * counts).sum().float()
    return Summed(tokens.loss + second, tokens.right, beside)


def of_tokens(
    model: EncoderModel, x: Tensor, targets: Tensor, *, chunked: bool = False, count_right: bool = False
) -> Summed:
    """Return the summed cross-entropy at the targets, of which a sample has few: the others are not multiplied by the
    unembedding at all, unless a compiler (for which their number would be a shape) or a watcher wants all scores.

    Args:
        model: has the unembedding.
        x: [B, T, D] what it reads.
        targets: [B, T] with IGNORE.
        chunked: never hold all of the scores at once.
        count_right: whether to count the targets with the highest score.
    """
    W, b = model.unembedding()
    x, wanted = x.flatten(0, 1), targets.flatten()
    if chunked:
        return Summed(*chunked_cross_entropy(x, W, b, wanted, counted=count_right))
    if torch.compiler.is_compiling() or model.watchers:
        logits = model.logits(linear(x.view(*targets.shape, -1), W, b)).flatten(0, 1)
    else:
        there = wanted != IGNORE
        x, wanted = x[there], wanted[there]
        logits = linear(x, W, b)
    loss = cross_entropy(logits.float(), wanted, ignore_index=IGNORE, reduction="sum")
    return Summed(loss, (logits.detach().argmax(-1) == wanted).sum() if count_right else None)


@torch.no_grad()
def next_sentence_scores(model: Transformer, examples: Examples, windows: np.ndarray, precision: str) -> dict[str, Any]:
    """Return loss and accuracy of the next-sentence head with intervals, each pair counted once.

    Args:
        model: has the head.
        examples: pairs, with `follows` in what they give.
        windows: which of them.
        precision: as the training had it.
    """
    if not isinstance(model, EncoderModel):
        raise TypeError(f"{type(model).__name__} has no next-sentence head")
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    losses, right = [], []
    for inputs, _, given in batches(examples, windows, device, batch_for(examples.vocabulary, examples.context)):
        follows = given.pop("follows")
        with autocast(device, precision):
            scores = model.following(model.stream(inputs, **given)).float()
        losses.append(cross_entropy(scores, follows, reduction="none").cpu().double().numpy())
        right.append((scores.argmax(-1) == follows).cpu().double().numpy())
    model.train(was_training)
    loss, hits = np.concatenate(losses), np.concatenate(right)
    ones = np.ones(len(loss))
    return {"loss": ratio(loss, ones).to_json(), "accuracy": ratio(hits, ones).to_json(), "pairs": len(loss)}
