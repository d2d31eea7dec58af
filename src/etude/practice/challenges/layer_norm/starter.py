"""Layer norm: each vector is brought to mean 0 and variance 1."""

import torch
from torch import Tensor


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Normalise each vector over its width, then scale and shift each coordinate.

        mean     = (1/D) sum_d x_d
        variance = (1/D) sum_d (x_d - mean)²
        out_d    = (x_d - mean) / √(variance + epsilon) · gain_d + bias_d

    (Ba, Kiros and Hinton 2016, "Layer Normalization", section 3.)

    Args:
        x: vectors, [..., D]. A vector is the last axis; before it there may be any number of axes, or none.
        gain: [D].
        bias: [D].
        epsilon: added to the variance, so that a vector whose coordinates are all equal gives its bias, and not 0 / 0.

    Returns:
        Vectors of the same shape. The result for one vector does not depend on the others.
    """
    raise NotImplementedError
