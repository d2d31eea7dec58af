"""REINFORCE: a loss whose gradient makes actions that paid more likely."""

import torch
from torch import Tensor


def reinforce_loss(logits: Tensor, actions: Tensor, returns: Tensor, baseline: Tensor) -> Tensor:
    """Return the loss of a policy over N steps that were played with it (Williams 1992).

        loss = - (1 / N) sum_n (G_n - b_n) log pi(a_n | s_n),     pi(. | s_n) = softmax(logits_n)

    It is the mean over the steps, not their sum. What an action brought beyond the baseline, G - b, is a constant: the
    gradient of the loss is the policy gradient only if none flows through it, to returns or to baseline.

    Args:
        logits: of the policy at each step, of shape [N, A] for A actions.
        actions: the number of the action that was taken, of shape [N].
        returns: G, what followed each step, of shape [N].
        baseline: b, what was expected to follow, of shape [N]. It may be the output of a network that learns by a loss
            of its own.

    Returns:
        The loss, of shape []. Logits may be as large as 1,000, and probabilities as small as exp(-1000): the loss has
        to be finite all the same.
    """
    raise NotImplementedError
