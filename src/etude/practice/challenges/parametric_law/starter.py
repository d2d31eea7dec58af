"""The parametric law of the loss: what is predicted, and what a fit makes small."""

import torch
from torch import Tensor


def log_prediction(theta: Tensor, params: Tensor, tokens: Tensor) -> Tensor:
    """Predict the logarithm of the loss of P models (Hoffmann et al. 2022, section 3.3 and appendix D).

        L(N, D) = E + A / N^alpha + B / D^beta,    A = exp(a), B = exp(b), E = exp(e)

        log L(N, D) = log-sum-exp(a - alpha log N, b - beta log D, e)

    Args:
        theta: a, b, e, alpha and beta, in this order, of shape [5].
        params: N, the parameters of each model, of shape [P].
        tokens: D, the tokens that each was trained on, of shape [P].

    Returns:
        log L, of shape [P]. A search may begin with an a of 1,000, and exp(1000) is infinite: the result has to be
        finite all the same.
    """
    raise NotImplementedError


def objective(theta: Tensor, params: Tensor, tokens: Tensor, losses: Tensor, delta: float = 1e-3) -> Tensor:
    """Return the sum over models of the Huber loss of r = log L measured - log L predicted, a tensor of shape [].

        Huber_delta(r) = r^2 / 2                       where |r| <= delta
                         delta (|r| - delta / 2)       where |r| >  delta

    Args:
        theta: as above, [5].
        params: as above, [P].
        tokens: as above, [P].
        losses: the loss measured of each model (not its logarithm), of shape [P].
        delta: above 0.

    Gradients flow to theta.
    """
    raise NotImplementedError
