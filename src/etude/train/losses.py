"""The loss of a batch, by way of all its scores or chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import cross_entropy

from etude.models.transformer import Transformer
from etude.nn.cross_entropy import chunked_cross_entropy
from etude.text.batches import IGNORE
from etude.train.objectives.base import Summed


def summed(
    model: Transformer,
    inputs: Tensor,
    targets: Tensor,
    given: Mapping[str, Tensor],
    smoothing: float = 0.0,
    *,
    chunked: bool = False,
    count_right: bool = False,
) -> Summed:
    """Return the summed cross-entropy of a model at its targets. See `Objective.summed`.

    Args:
        model: what is trained.
        inputs: [B, T] tokens.
        targets: [B, T] with IGNORE where there is nothing to predict, or [B] classes.
        given: what else the model is called with.
        smoothing: share of each target's chance that is spread over all others (Vaswani et al. 2017, section 5.4).
        chunked: never hold the scores of all positions at once.
        count_right: whether to count the targets with the highest score.
    """
    if chunked:
        x = model.hidden(inputs, **given)
        W, b = model.unembedding()
        flat, wanted = x.flatten(0, -2), targets.flatten()
        loss, right = chunked_cross_entropy(flat, W, b, wanted, smoothing, counted=count_right)
        return Summed(loss, right)
    logits = model(inputs, **given).flatten(0, -2)
    wanted = targets.flatten()
    loss = cross_entropy(logits.float(), wanted, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)
    right = (logits.detach().argmax(-1) == wanted).sum() if count_right else None
    return Summed(loss, right)
