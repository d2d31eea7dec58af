"""The training loop: six lines in an order that matters."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_


def train(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], optimiser: torch.optim.Optimizer, limit: float
) -> list[float]:
    """Train a model in place, one step for each batch, and return the loss of each batch before its step.

        loss = mean over all B T targets of -ln softmax(logits)[target]
        g = gradient of this loss alone, with respect to all parameters
        g is multiplied by limit / |g| where |g| > limit, and left as it is where not; |g| is the Euclidean norm over
        the entries of all parameters together (Pascanu et al. 2013, section 3.2)
        then the optimiser makes one step with g

    Args:
        model: maps tokens, [B, T], to logits, [B, T, V]. It may be in evaluation mode, and its parameters may hold
            gradients of something before. It is trained in training mode (`model.train()`).
        batches: inputs and targets, whole numbers, both [B, T]. There may be none.
        optimiser: has all parameters of the model. `optimiser.step()` reads the gradients that the parameters hold.
        limit: the longest that a gradient may be.

    Returns:
        Losses in nats, as many as there are batches, as Python numbers: a tensor would keep its step's graph in memory.
    """
    raise NotImplementedError
