"""The parametric law of the loss: what is predicted, and what a fit makes small."""

import torch
from torch import Tensor


def log_prediction(theta: Tensor, params: Tensor, tokens: Tensor) -> Tensor:
    """Return the predicted logarithm of the loss of P models, [P]."""
    a, b, e, alpha, beta = theta
    terms = torch.stack([a - alpha * params.log(), b - beta * tokens.log(), e.expand(params.shape)])
    return torch.logsumexp(terms, dim=0)


def objective(theta: Tensor, params: Tensor, tokens: Tensor, losses: Tensor, delta: float = 1e-3) -> Tensor:
    """Return the sum over models of the Huber loss of measured less predicted logarithms."""
    far = (losses.log() - log_prediction(theta, params, tokens)).abs()
    return torch.where(far <= delta, far**2 / 2, delta * (far - delta / 2)).sum()
