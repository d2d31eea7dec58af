"""Expectations from samples: a mean, how far it may be off, and samples of another distribution."""

import math

import torch
from torch import Tensor


def standard_error(samples: Tensor) -> Tensor:
    """Return the standard deviation of the mean of samples, [S], as estimated from them."""
    variance = (samples - samples.mean()).square().sum() / (len(samples) - 1)
    return (variance / len(samples)).sqrt()


def interval(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends of the 95% interval of the mean by the normal distribution."""
    reach = 1.96 * standard_error(samples)
    return samples.mean() - reach, samples.mean() + reach


def importance_mean(values: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the expectation under p of values, [S], of samples that were drawn from q."""
    return (values * (log_p - log_q).exp()).mean()
