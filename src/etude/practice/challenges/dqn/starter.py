"""Deep Q-learning: what an action is found to be worth, and the loss of what was thought."""

import torch
from torch import Tensor


def dqn_targets(rewards: Tensor, ended: Tensor, next_q: Tensor, discount: float) -> Tensor:
    """Return what N actions are found to be worth (Mnih et al. 2015, Nature 518, algorithm 1).

        y = R                            where the episode ended with the action
            R + gamma max_a Q'(s', a)    elsewhere

    Args:
        rewards: R, of shape [N].
        ended: of shape [N], true or false.
        next_q: Q'(s', a), what the target network, a copy that lags behind, thinks of each of A actions in the state
            that came next, of shape [N, A].
        discount: gamma, from 0 to 1.

    Returns:
        y, of shape [N]: constants, through which no gradient flows to next_q.
    """
    raise NotImplementedError


def dqn_loss(q: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean Huber loss of what was thought of the actions taken, r = Q(s, a) - y.

        Huber(r) = r^2 / 2      where |r| <= 1
                   |r| - 1/2    where |r| >  1

    Args:
        q: Q(s, a) of all actions, of shape [N, A].
        actions: the number of the action that was taken, of shape [N].
        targets: y, of shape [N].

    Returns:
        The loss, of shape []. Its gradient reaches q at the actions taken, and is 0 at all others.
    """
    raise NotImplementedError
