"""Layer norm: each vector is brought to mean 0 and variance 1."""

import torch
from torch import Tensor


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Normalise each vector of [..., D] over its width, then scale by gain [D] and shift by bias [D]."""
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / (variance + epsilon).sqrt() * gain + bias
