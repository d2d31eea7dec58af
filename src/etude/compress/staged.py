"""Codebooks fitted one after the other, each to what the ones before have left."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from etude.compress.clustering import clustered, tell_unused, used
from etude.compress.codec import nearest
from etude.compress.explained import ROUNDING
from etude.compress.quantised import Residual
from etude.core.run import Draft
from etude.core.seeds import stream


def squared(data: Float[Tensor, "N D"]) -> float:
    """Return the sum of the squares."""
    return float((data.double() ** 2).sum())


def staged(data: Float[Tensor, "N D"], stages: int, codes: int, iterations: int, seed: int, run: Draft) -> Residual:
    """Return codebooks whose centres add up to activations.

    A stage that lowers the error no further, since nothing but rounding is left, is of zeros: it adds nothing, and
    costs no bits.
    """
    left, centres, frequency = data, [], []
    rounding = ROUNDING * squared(data)
    for number in range(stages):
        found = clustered(left, codes, iterations, stream(seed, "stage", number))
        after = left - found[nearest(left, found)]
        if squared(left) - squared(after) <= rounding:
            found, after = torch.zeros_like(found), left
        centres.append(found)
        frequency.append(used(nearest(left, found), codes))
        left = after
        run.progress(number + 1, stages, unit="stages")
    tell_unused(torch.stack(frequency), run)
    return Residual(torch.stack(centres), torch.stack(frequency))
