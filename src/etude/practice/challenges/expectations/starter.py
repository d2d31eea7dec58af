"""Expectations from samples: a mean, how far it may be off, and samples of another distribution."""

import math

import torch
from torch import Tensor


def standard_error(samples: Tensor) -> Tensor:
    """Estimate the standard deviation of the mean of S independent samples.

        variance = sum_s (x_s - mean)^2 / (S - 1),     standard error = sqrt(variance / S)

    Dividing by S - 1 makes the variance unbiased: the mean was fitted to the same samples, and lies too near to them.

    Args:
        samples: of shape [S], S >= 2. They may be as large as 100,000 and differ by 1.

    Returns:
        A number, of shape [].
    """
    raise NotImplementedError


def interval(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends, lower and upper, of the 95% interval of the mean by the normal distribution.

        mean -/+ 1.96 standard errors

    Args:
        samples: as above, [S].
    """
    raise NotImplementedError


def importance_mean(values: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """Estimate the expectation of f under p from samples that were drawn from q.

        E_p[f] = E_q[f p / q], about (1 / S) sum_s f(x_s) p(x_s) / q(x_s)

    Args:
        values: f(x_s), of shape [S], with x_s drawn from q.
        log_p: log p(x_s), of shape [S].
        log_q: log q(x_s), of shape [S].

    Returns:
        The estimate, of shape []. It is unbiased: weights are not made to sum to 1. Gradients flow to all three.
    """
    raise NotImplementedError
