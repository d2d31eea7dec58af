"""Direct logit attribution: a difference of logits as a sum over the components that wrote the stream."""

import torch
from torch import Tensor


def attribute(components: Tensor, gain: Tensor, W_U: Tensor, right: int, wrong: int, epsilon: float) -> Tensor:
    """Divide the logit of one token less that of another among the components.

    The stream at the end is x = sum_c component_c. The final norm and the unembedding read it:

        deviation = sqrt(variance(x) + epsilon)
        norm(x) = (x - mean(x)) / deviation * gain,    logits = norm(x) W_U

    Mean and variance are over the D entries of one vector, the variance with 1/D. Held at the deviation that x has,
    the norm is linear: each component passes through it alone, and what they give adds up to
    logits[right] - logits[wrong] (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; Wang et al.
    2022, section 3.1, for the difference).

    Args:
        components: what each of C components wrote at T positions, of shape [C, T, D].
        gain: of the final norm, of shape [D]. The norm has no shift.
        W_U: of shape [D, V].
        right: the token whose logit counts.
        wrong: the token whose logit is taken away.
        epsilon: of the final norm.

    Returns:
        The contribution of each component at each position, of shape [C, T].
    """
    raise NotImplementedError
