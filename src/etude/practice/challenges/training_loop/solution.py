"""The training loop: six lines in an order that matters."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_


def train(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], optimiser: torch.optim.Optimizer, limit: float
) -> list[float]:
    """Train the model in place, one step for each batch, and return the loss before each step."""
    losses = []
    model.train()
    for inputs, targets in batches:
        optimiser.zero_grad()
        loss = cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        clip_grad_norm_(model.parameters(), limit)
        optimiser.step()
        losses.append(loss.item())
    return losses
