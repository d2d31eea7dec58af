"""The feed-forward network at each position (Vaswani et al. 2017, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from etude.nn.linear import bias, linear, weight
from etude.nn.precision import lowered
from etude.nn.taps import Tap

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
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


def gated_feed_forward(
    x: Float[Tensor, "*N D"],
    W_in: Float[Tensor, "D F"],
    W_gate: Float[Tensor, "D F"],
    W_out: Float[Tensor, "F D"],
    activation: Activation = F.silu,
) -> Float[Tensor, "*N D"]:
    """Return (activation(x W_gate) ⊙ x W_in) W_out: SwiGLU where the activation is silu (Shazeer 2020, section 2)."""
    return linear(activation(linear(x, W_gate)) * linear(x, W_in), W_out)


class FeedForward(nn.Module):
    """`feed_forward` or `gated_feed_forward` with their weights.

    Sites: `pre` [B T F], x W_in + b_in; `post` [B T F], what W_out reads; `out` [B T D]; and where it is gated `gate`
    [B T F], before the activation, which then acts on the gate alone.
    """

    axes: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("W_in", "W_gate"), "D F"),
        **dict.fromkeys(("b_in", "b_gate"), "F"),
        "W_out": "F D",
        "b_out": "D",
    }

    def __init__(
        self, width: int, hidden: int, activation: str = "gelu", biases: bool = True, gated: bool = False
    ) -> None:
        super().__init__()
        self.W_in, self.W_out = weight(width, hidden), weight(hidden, width)
        self.b_in, self.b_out = bias(biases, hidden), bias(biases, width)
        self.activation, self.gated = ACTIVATIONS[activation], gated
        if gated:
            self.W_gate, self.b_gate = weight(width, hidden), bias(biases, hidden)
            self.gate = Tap("B T F", F=hidden)
        self.pre, self.post = Tap("B T F", F=hidden), Tap("B T F", F=hidden)
        self.out = Tap("B T D", D=width)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        x = lowered(x) if self.gated else x
        pre = self.pre(linear(x, self.W_in, self.b_in))
        if self.gated:
            post = self.post(self.activation(self.gate(linear(x, self.W_gate, self.b_gate))) * pre)
        else:
            post = self.post(self.activation(pre))
        return self.out(linear(post, self.W_out, self.b_out))
