"""kNN-LM: a language model whose next word is in part that which followed where the training text read alike
(Khandelwal et al. 2020, "Generalization through Memorization", section 2)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

HALVINGS = 40
"""Of the interval that holds the best share: to less than what float32 losses can tell."""


def neighbour_chances(
    distances: Float[Tensor, "Q K"],
    followed: Int[Tensor, "Q K"],
    targets: Int[Tensor, " Q"],
    temperatures: tuple[float, ...],
) -> Float[Tensor, "Q N"]:
    """Return the chance of each target by its neighbours alone, at each temperature: their votes for what followed
    them, weighed by a softmax of minus the squared distance over the temperature (equation 2, whose temperature is 1).

    Args:
        distances: squared.
        followed: the token behind each neighbour.
        targets: the tokens that come.
        temperatures: above 0.
    """
    right = (followed == targets[:, None]).to(distances.dtype)
    return torch.stack([((-distances / each).softmax(1) * right).sum(1) for each in temperatures], dim=1)


def mixed(losses: Float[np.ndarray, " T"], chances: Float[np.ndarray, " T"], share: float) -> Float[np.ndarray, " T"]:
    """Return losses in nats of a model of which a share is the neighbours': minus the logarithm of
    share · chance + (1 - share) · exp(-loss) (equation 3). Of a share of 0 they are the model's own.

    Args:
        losses: of the model, in nats.
        chances: by the neighbours.
        share: λ, from 0 to below 1.
    """
    losses = np.asarray(losses, np.float64)
    with np.errstate(divide="ignore"):  # where no neighbour is right, or the share is 0
        of_neighbours = np.log(share) + np.log(np.asarray(chances, np.float64))
    return -np.logaddexp(of_neighbours, np.log1p(-share) - losses)


def best_share(losses: Float[np.ndarray, " T"], chances: Float[np.ndarray, " T"]) -> float:
    """Return the share of least mean loss. The loss is convex in it, so where it stops falling is found by halving; one
    that rises from 0 on leaves the neighbours out. Of T tokens the greatest share is T / (T + 1): that neighbours were
    right on all of them does not say that they always are.

    Args:
        losses: of the model, in nats.
        chances: by the neighbours.
    """
    own = np.maximum(np.exp(-np.asarray(losses, np.float64)), np.finfo(np.float64).tiny)
    gain = np.asarray(chances, np.float64) - own

    def falls(share: float) -> bool:
        with np.errstate(over="ignore"):  # where the model has a token for impossible, and the neighbours do not
            return bool(np.mean(gain / (own + share * gain)) > 0)

    if not falls(0.0):
        return 0.0
    low, high = 0.0, len(gain) / (len(gain) + 1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) else (low, middle)
    return low
