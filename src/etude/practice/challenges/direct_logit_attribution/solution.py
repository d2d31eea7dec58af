"""Direct logit attribution: a difference of logits as a sum over the components that wrote the stream."""

import torch
from torch import Tensor


def attribute(components: Tensor, gain: Tensor, W_U: Tensor, right: int, wrong: int, epsilon: float) -> Tensor:
    """Return what each of the components, [C, T, D], adds to the logit of `right` less that of `wrong`, [C, T]."""
    stream = components.sum(dim=0)
    deviation = (stream.var(dim=-1, correction=0) + epsilon).sqrt()
    centred = components - components.mean(dim=-1, keepdim=True)
    direction = gain * (W_U[:, right] - W_U[:, wrong])
    return centred @ direction / deviation
