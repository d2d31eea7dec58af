"""The logit lens: what a model would predict if it ended at an earlier layer."""

import torch
from torch import Tensor


def logit_lens(stream: Tensor, gain: Tensor, shift: Tensor, W_U: Tensor, epsilon: float) -> Tensor:
    """Return the logits, [L + 1, T, V], that the model gives where it ends with each of the streams [L + 1, T, D]."""
    normed = torch.nn.functional.layer_norm(stream, gain.shape, gain, shift, epsilon)
    return normed @ W_U


def divergence_from_end(logits: Tensor) -> Tensor:
    """Return KL(last layer || each layer), [L + 1, T]."""
    log_p = logits.log_softmax(dim=-1)
    end = log_p[-1]
    return (end.exp() * (end - log_p)).sum(dim=-1)
