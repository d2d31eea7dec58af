"""Expert dropout: when an agent can see its expert, and what it keeps when the expert has gone."""

import torch
from torch import Tensor


def presence(kind: str, steps: int, worlds: int) -> Tensor:
    """Return when the expert is present (Bhoopchand et al. 2022, arXiv 2203.00715, section 3.2), true or false, [T, B].

    Args:
        kind: "full" (at every step), "half" (at the first steps // 2 of them) or "none" (at no step).
        steps: T.
        worlds: B. In all of them it is the same.
    """
    raise NotImplementedError


def flickering(uniform: Tensor, leaves: float, comes: float) -> Tensor:
    """Return when an expert is present that comes and goes at random, a Markov chain of two states in each world.

    At step 0 it is present. After that, if it was present at step t - 1, it is absent at t with chance `leaves`; if it
    was absent, it is present with chance `comes`. An event of chance p happens at step t where uniform[t] < p.

    Args:
        uniform: independent draws between 0 and 1, of shape [T, B]; those of step 0 are not used.
        leaves: chance to go, at each step.
        comes: chance to return, at each step.

    Returns:
        True or false, of shape [T, B].
    """
    raise NotImplementedError


def cultural_transmission(full: float, half: float, solo: float, expert: float) -> float:
    """Return cultural transmission (equation 1): 0 for an agent whom the expert does not help, 1 for one that does as
    well as the expert with it and after it, and nothing alone.

        CT = 1/2 (A_full - A_solo) / E  +  1/2 (A_half - A_solo) / E

    Args:
        full: A_full, the agent's score with the expert present throughout.
        half: A_half, its score with the expert present for the first half.
        solo: A_solo, its score alone.
        expert: E, the expert's score. One that is not above 0 transmits nothing: the answer is then 0.
    """
    raise NotImplementedError
