"""Norms over the model width: layer norm (Ba et al. 2016) and RMS norm (Zhang and Sennrich 2019)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from etude.nn.linear import bias
from etude.nn.taps import Tap


def centred(x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
    """Return each vector less its mean over the width."""
    return x - x.mean(dim=-1, keepdim=True)


def root_mean_square(x: Float[Tensor, "*N D"], epsilon: float) -> Float[Tensor, "*N 1"]:
    """Return √(mean of squares + epsilon) over the width; of a centred vector, its standard deviation."""
    return (x.square().mean(dim=-1, keepdim=True) + epsilon).sqrt()


class LayerNorm(nn.Module):
    """(x - mean) / scale · w + b, with scale the standard deviation over the width.

    Sites: `scale` [B T 1], the divisor; `out` [B T D], after w and b. The divisor exists apart only while its tap is
    watched; otherwise one fused kernel does all.
    """

    axes: ClassVar[dict[str, str]] = {"w": "D", "b": "D"}

    def __init__(self, width: int, epsilon: float = 1e-5, biases: bool = True) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(width))
        self.b = bias(biases, width)
        self.epsilon = epsilon
        self.scale, self.out = Tap("B T 1"), Tap("B T D", D=width)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        if not self.scale.watched:
            return self.out(F.layer_norm(x, self.w.shape, self.w, self.b, self.epsilon))
        x = centred(x)
        y = x / self.scale(root_mean_square(x, self.epsilon)) * self.w
        return self.out(y if self.b is None else y + self.b)


class RMSNorm(nn.Module):
    """x / scale · w, with scale the root of the mean square over the width. Nothing is centred and there is no bias.

    Sites: as in `LayerNorm`.
    """

    axes: ClassVar[dict[str, str]] = {"w": "D"}

    def __init__(self, width: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon
        self.scale, self.out = Tap("B T 1"), Tap("B T D", D=width)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        if not self.scale.watched:
            return self.out(F.rms_norm(x, self.w.shape, self.w, self.epsilon))
        return self.out(x / self.scale(root_mean_square(x, self.epsilon)) * self.w)
