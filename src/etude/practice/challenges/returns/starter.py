"""Discounted returns: what followed each step of an episode."""

import torch
from torch import Tensor


def discounted_returns(rewards: Tensor, ended: Tensor, discount: float, after: Tensor) -> Tensor:
    """Sum the rewards from each step on, later ones for less (Sutton and Barto 2018, equations 3.8 and 3.9).

        G_t = R_t + gamma R_{t+1} + gamma^2 R_{t+2} + ...

    R_t is the reward of the action taken at step t. The sum ends with the last step of the episode. Where the recorded
    steps end before the episode does, a value stands for all that would have followed them.

    Args:
        rewards: R, of shape [T, B]: T steps in each of B environments, T >= 1.
        ended: whether an episode was over after a step, of shape [T, B], true or false. What is recorded after it in
            the same column is another episode.
        discount: gamma, from 0 to 1.
        after: the value of what follows the last step, of shape [B]; it counts where the last step ended no episode.

    Returns:
        G, of shape [T, B]. Gradients flow to rewards and to after.
    """
    raise NotImplementedError
