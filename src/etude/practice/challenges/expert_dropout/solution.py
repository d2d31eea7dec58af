"""Expert dropout: when an agent can see its expert, and what it keeps when the expert has gone."""

import torch
from torch import Tensor


def presence(kind: str, steps: int, worlds: int) -> Tensor:
    """Return when the expert is present, [T, B]."""
    until = {"full": steps, "half": steps // 2, "none": 0}[kind]
    return (torch.arange(steps) < until)[:, None].expand(steps, worlds)


def flickering(uniform: Tensor, leaves: float, comes: float) -> Tensor:
    """Return when an expert is present that comes and goes at random, [T, B]."""
    states = [torch.ones_like(uniform[0], dtype=torch.bool)]
    for draw in uniform[1:]:
        states.append(torch.where(states[-1], draw >= leaves, draw < comes))
    return torch.stack(states)


def cultural_transmission(full: float, half: float, solo: float, expert: float) -> float:
    """Return what an agent has for having seen the expert, as a share of the expert's score."""
    if expert <= 0:
        return 0.0
    return 0.5 * (full - solo) / expert + 0.5 * (half - solo) / expert
