"""The attention loss: an agent learns to say where its expert is."""

import torch
from torch import Tensor


def attention_loss(predicted: Tensor, towards: Tensor, present: Tensor) -> Tensor:
    """Return how far off an agent is about where its expert is (Bhoopchand et al. 2022, arXiv 2203.00715, section 3.3).

        loss = sum over t, b where present of sum_c |predicted_tbc - towards_tbc|, over the number of such t, b

    It is the L1 distance, a sum over the coordinates, in the mean over the steps at which the expert can be seen. An
    agent that has learned to keep it small keeps track of the expert.

    Args:
        predicted: where the agent thinks the expert is, relative to itself, of shape [T, B, C]: T steps in each of B
            worlds, C coordinates.
        towards: where the expert is, relative to the agent, of shape [T, B, C]. Where it is not present this has no
            meaning: any number may stand there, nan too.
        present: whether the expert can be seen, of shape [T, B], true or false.

    Returns:
        The loss, of shape []. Gradients flow to predicted, and are 0, never nan, where the expert is not present. Where
        it is present at no step at all the loss is 0, and so is its gradient.
    """
    raise NotImplementedError
