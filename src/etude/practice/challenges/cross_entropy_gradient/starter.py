"""The gradient of cross-entropy: what a model learns from, at each position."""

import torch
from torch import Tensor


def cross_entropy_gradient(logits: Tensor, targets: Tensor, ignore: int = -100) -> Tensor:
    """Return the gradient of the mean cross-entropy with respect to the logits.

        L = -(1/n) sum_p log softmax(logits[p])[targets[p]]

    The sum runs over the positions p that have a target, and n is how many they are. The gradient is to be derived by
    hand and written as a formula; automatic differentiation is not to be used.

    Args:
        logits: a score for each of V tokens at each position, [..., V].
        targets: the right token at each position, a whole number from 0 to V - 1, or `ignore` where there is none, of
            shape [...]: that of the logits without the last axis.
        ignore: stands for no target. It may be any number, also one from 0 to V - 1.

    Returns:
        ∂L/∂logits, [..., V]. It is 0 at positions without a target, and 0 everywhere where no position has one.
    """
    raise NotImplementedError
