"""Uniform quantisation: evenly spaced values about zero, and the spacing that loses least."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int8
from torch import Tensor

IN_CACHE = 1 << 18
"""Numbers that are gone through at a time: each is read for every step that is tried."""

FINER = tuple(2 ** (-n / 6) for n in range(37))
"""Shares of the whole range that are tried, from all of it to a 64th. The error is flat about its least."""


def number_of(x: Float[Tensor, "*N D"], step: Float[Tensor, " D"], bits: int) -> Int8[Tensor, "*N D"]:
    """Return the number n of the nearest of the values (n + 1/2) · step, of which there are 2^bits, half of them
    negative. Zero is none of them, so that one bit is a sign. A step of 0 has the value 0 alone."""
    most = 2 ** (bits - 1)
    return (x / step.where(step > 0, 1.0)).floor().clamp(-most, most - 1).to(torch.int8)


def value_of(number: Int8[Tensor, "*N D"], step: Float[Tensor, " D"]) -> Float[Tensor, "*N D"]:
    """Return the value that a number stands for."""
    return (number.to(step.dtype) + 0.5) * step


def best_step(data: Float[Tensor, "N D"], bits: int) -> Float[Tensor, " D"]:
    """Return for each column the step with the least squared error, among those whose values reach to the greatest
    magnitude or to a share of it: what lies beyond is held as the last value (Nagel et al. 2021, section 3.1).
    """
    reach = data.abs().amax(0) * 2 / (2**bits - 1)
    shares = torch.tensor(FINER)
    lost = torch.zeros(len(shares), data.shape[1], dtype=torch.float64)
    most = 2 ** (bits - 1)
    scaled_by = 1 / reach.where(reach > 0, 1.0)
    for piece in data.split(max(1, IN_CACHE // data.shape[1])):
        scaled = piece * scaled_by
        for error, share in zip(lost, shares, strict=True):
            steps = scaled / share
            away = steps.floor().clamp_(-most, most - 1).add_(0.5).sub_(steps)
            error += away.square_().sum(0) * share**2
    return reach * shares[lost.argmin(0)]
