"""The logit lens: what a model would predict if it ended at an earlier layer."""

import torch
from torch import Tensor


def logit_lens(stream: Tensor, gain: Tensor, shift: Tensor, W_U: Tensor, epsilon: float) -> Tensor:
    """Read the stream before every layer as the model reads its end: final layer norm, then unembedding.

        norm(x) = (x - mean(x)) / sqrt(variance(x) + epsilon) * gain + shift,    logits = norm(x) W_U

    Mean and variance are over the D entries of one vector, the variance with 1/D (nostalgebraist 2020, "interpreting
    GPT: the logit lens").

    Args:
        stream: of shape [L + 1, T, D]: before each of L layers, and after the last.
        gain: of the final norm, of shape [D].
        shift: of the final norm, of shape [D].
        W_U: of shape [D, V].
        epsilon: of the final norm.

    Returns:
        Logits, of shape [L + 1, T, V]. The last entry of the first axis is what the model itself says.
    """
    raise NotImplementedError


def divergence_from_end(logits: Tensor) -> Tensor:
    """Say how far each layer's prediction is from the model's own, in nats.

        KL(p_L || p_l) = sum_v p_L(v) (log p_L(v) - log p_l(v)),    p_l = softmax(logits_l)

    Args:
        logits: of shape [L + 1, T, V], as large as some hundred: a probability may be 0 in float32.

    Returns:
        Of shape [L + 1, T]: finite, never below 0 but for rounding, and 0 for the last layer.
    """
    raise NotImplementedError
