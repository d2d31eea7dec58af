"""The feed-forward network at each position (Vaswani et al. 2017, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from etude.nn.linear import bias, linear, weight
from etude.nn.taps import Tap

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),  # the approximation that GPT-2 was trained with
}


def feed_forward(
    x: Float[Tensor, "*N D"],
    W_in: Float[Tensor, "D F"],
    W_out: Float[Tensor, "F D"],
    b_in: Float[Tensor, " F"] | None = None,
    b_out: Float[Tensor, " D"] | None = None,
    activation: Activation = F.relu,
) -> Float[Tensor, "*N D"]:
    """Return activation(x W_in + b_in) W_out + b_out: equation 2 with its ReLU, or another activation."""
    return linear(activation(linear(x, W_in, b_in)), W_out, b_out)


class FeedForward(nn.Module):
    """`feed_forward` with its weights. Sites: `pre` and `post` the activation [B T F], and `out` [B T D]."""

    axes: ClassVar[dict[str, str]] = {"W_in": "D F", "b_in": "F", "W_out": "F D", "b_out": "D"}

    def __init__(self, width: int, hidden: int, activation: str = "gelu", biases: bool = True) -> None:
        super().__init__()
        self.W_in, self.W_out = weight(width, hidden), weight(hidden, width)
        self.b_in, self.b_out = bias(biases, hidden), bias(biases, width)
        self.activation = ACTIVATIONS[activation]
        self.pre, self.post = Tap("B T F", F=hidden), Tap("B T F", F=hidden)
        self.out = Tap("B T D", D=width)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        pre = self.pre(linear(x, self.W_in, self.b_in))
        post = self.post(self.activation(pre))
        return self.out(linear(post, self.W_out, self.b_out))
