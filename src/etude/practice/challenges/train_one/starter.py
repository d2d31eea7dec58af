"""Train a small language model of your own making."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention


def train_one(tokens: Tensor, vocabulary: int, steps: int) -> tuple[Callable[[Tensor], Tensor], list[float]]:
    """Make a model of the next token, train it on a text, and return it with its losses.

        loss = mean over positions t of -ln softmax(logits at t)[token t + 1], in nats

    The model is yours to choose: a small transformer, or anything less that does. Train on windows that begin at
    random places of the text, some at a time.

    Args:
        tokens: the text, whole numbers below V, [N]. N is several thousand. The next token depends on those before it;
            the same source writes the text that the model is judged on.
        vocabulary: V, about a dozen.
        steps: how many steps the optimiser makes, about 100. All of them together take 2 seconds or less.

    Returns:
        The model: a function from tokens [B, T], for any B and any T from 1 to 32, to logits [B, T, V], where those at
        position t depend on tokens 0 to t alone.
        And the loss of each step's windows before the step, as Python numbers. The first is of the untrained model,
        which knows nothing yet: near ln V, the loss of equal shares.

    It is right where, on a new text, the loss is close to the entropy of the next token given those before it, which no
    model can be below; well below the entropy of the tokens' frequencies alone.
    """
    raise NotImplementedError
