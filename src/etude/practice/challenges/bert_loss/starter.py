"""BERT's loss: the hidden tokens, and whether the second sentence follows the first."""

import torch
from torch import Tensor


def bert_loss(logits: Tensor, labels: Tensor, next_logits: Tensor, is_next: Tensor) -> Tensor:
    """Return the sum of BERT's two losses, in nats (Devlin et al. 2019, section 3.1 and appendix A.2).

        masked = mean over all positions with a label, of all texts together, of -ln softmax(logits)[label]
        next   = mean over the texts of -ln softmax(next_logits)[0 where is_next, 1 where not]
        loss   = masked + next

    Args:
        logits: scores of the tokens at every position, [B, T, V].
        labels: the hidden tokens, [B, T], and -100 at all positions where none was hidden. These count for nothing.
            Where no position at all has a label, `masked` is 0.
        next_logits: two scores for each text, [B, 2]: column 0 that its second sentence follows the first, column 1
            that it does not.
        is_next: whether it does, truth values, [B].

    Returns:
        One number, as a tensor without axes. Scores may be in the hundreds.
    """
    raise NotImplementedError
