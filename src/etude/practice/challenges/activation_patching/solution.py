"""Activation patching: which place of the residual stream carries what matters."""

from collections.abc import Callable

import torch
from torch import Tensor

Run = Callable[..., tuple[Tensor, Tensor]]


def patch_effects(run: Run, clean: Tensor, corrupted: Tensor, right: int, wrong: int) -> Tensor:
    """Return how much of the clean answer each vector of the clean stream restores, [L, T]."""

    def metric(logits: Tensor) -> Tensor:
        return logits[-1, right] - logits[-1, wrong]

    clean_logits, stream = run(clean)
    start, goal = metric(run(corrupted)[0]), metric(clean_logits)
    L, T, _ = stream.shape
    effects = torch.zeros(L, T)
    for layer in range(L):
        for t in range(T):
            logits, _ = run(corrupted, patch=(layer, t, stream[layer, t]))
            effects[layer, t] = (metric(logits) - start) / (goal - start)
    return effects
