"""The pre-norm block: two parts read the residual stream in turn, and each adds what it found to it."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import layer_norm


def block(
    x: Tensor,
    attention: Callable[[Tensor], Tensor],
    feed_forward: Callable[[Tensor], Tensor],
    gain_1: Tensor,
    bias_1: Tensor,
    gain_2: Tensor,
    bias_2: Tensor,
) -> Tensor:
    """Return the residual stream [B, T, D] after attention and the feed-forward network, each with its norm before."""
    x = x + attention(layer_norm(x, gain_1.shape, gain_1, bias_1))
    return x + feed_forward(layer_norm(x, gain_2.shape, gain_2, bias_2))
