"""How far latents are from a standard normal: the maximum mean discrepancy, and the divergence of a Gaussian."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def expected_kernel(variance: float, spread: float, size: int, away: float = 0.0) -> float:
    """Return the expectation of exp(-|a - b|² / 2s²) over a and b, where a - b is drawn from N(m, spread · I).

    It is (s² / (s² + spread))^(R/2) · exp(-|m|² / 2(s² + spread)), a Gaussian integral. Of two independent draws from
    N(0, I) the spread is 2; of one such draw and a fixed point it is 1.

    Args:
        variance: s² of the kernel.
        spread: variance of the difference in each dimension.
        size: R.
        away: |m|².
    """
    return (variance / (variance + spread)) ** (size / 2) * math.exp(-away / (2 * (variance + spread)))


def mmd_of_collapse(size: int, bandwidth: float) -> float:
    """Return the squared maximum mean discrepancy between N(0, I) and latents that are all zero: what `mmd_to_normal`
    is of a code that tells nothing. Where it is near zero, the term cannot hold latents to the prior.

    Args:
        size: R.
        bandwidth: s² of the kernel is `bandwidth` · R.
    """
    s = bandwidth * size
    return 1 + expected_kernel(s, 2.0, size) - 2 * expected_kernel(s, 1.0, size)


def mmd_to_normal(z: Float[Tensor, "N R"], bandwidth: float) -> Float[Tensor, ""]:
    """Return the squared maximum mean discrepancy between a sample and N(0, I).

    The kernel is k(a, b) = exp(-|a - b|² / 2s²) with s² = `bandwidth` · R. Two of the three expectations are taken
    exactly, since the prior is known (`expected_kernel`). The sample's own term leaves out each point with itself
    (unbiased; Gretton et al. 2012, lemma 6), so the value may be slightly below 0. It has a gradient, but no second
    one.
    """
    return cast(Tensor, _Mmd.apply(z, bandwidth))


class _Mmd(torch.autograd.Function):
    """The discrepancy with its gradient in closed form, from the one kernel matrix: the tape would keep seven."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, bandwidth: float) -> Tensor:
        n, r = z.shape
        variance = bandwidth * r
        half = (z * z).sum(1, keepdim=True) / (-2 * variance)
        one = torch.ones_like(half)
        # -|a - b|² / 2s² of every pair as one product; rounding may leave it above 0
        kernel = torch.cat((z / variance, half, one), 1) @ torch.cat((z, one, half), 1).T
        kernel.clamp_(max=0).exp_()
        rows = kernel.sum(1, keepdim=True)
        within = (rows.sum() - kernel.diagonal().sum()) / (n * (n - 1))
        across = expected_kernel(variance, 1.0, r) * (half * (variance / (variance + 1))).exp()
        if ctx.needs_input_grad[0]:
            pulled = (rows * z - kernel @ z) * (-2 / (variance * n * (n - 1)))
            ctx.save_for_backward(pulled.addcmul_(across, z, value=2 / ((variance + 1) * n)))
        return within + expected_kernel(variance, 2.0, r) - 2 * across.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad_outputs[0] * ctx.saved_tensors[0], None


def kl_to_normal(mean: Float[Tensor, "N R"], log_variance: Float[Tensor, "N R"]) -> Float[Tensor, "N R"]:
    """Return the Kullback–Leibler divergence from each N(mean, exp(log_variance)) to N(0, 1), in nats (Kingma and
    Welling 2014, appendix B).
    """
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
