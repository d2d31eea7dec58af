"""BERT's loss: the hidden tokens, and whether the second sentence follows the first."""

import torch
from torch import Tensor


def bert_loss(logits: Tensor, labels: Tensor, next_logits: Tensor, is_next: Tensor) -> Tensor:
    """Return the sum of the two mean losses, in nats."""
    hidden = labels != -100
    tokens = surprises(logits[hidden], labels[hidden])
    masked = tokens.sum() / max(1, len(tokens))
    columns = (~is_next).long()
    following = surprises(next_logits, columns)
    return masked + following.mean()


def surprises(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -ln softmax at the target of each row: logits are [N, V], targets [N]."""
    return -logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]
