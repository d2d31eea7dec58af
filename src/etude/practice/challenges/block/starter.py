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
    """Return the residual stream after one layer.

        m   = x + attention(norm_1(x))
        out = m + feed_forward(norm_2(m))

    (Radford et al. 2019, section 2.3; Vaswani et al. 2017, section 3.1, have norm(x + part(x)) in its place, which is
    called post-norm.) A part that writes nothing leaves the stream as it is.

    Args:
        x: the stream before the layer, [B, T, D].
        attention: from [B, T, D] to [B, T, D]. It does not add its input itself.
        feed_forward: likewise.
        gain_1: of the first norm, [D].
        bias_1: of the first norm, [D].
        gain_2: of the second norm, [D].
        bias_2: of the second norm, [D].

    A norm is `layer_norm(x, x.shape[-1:], gain, bias)`, which is imported: PyTorch's own, with its epsilon.

    Returns:
        The stream after the layer, [B, T, D].
    """
    raise NotImplementedError
