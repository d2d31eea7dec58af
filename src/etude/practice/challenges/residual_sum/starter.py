"""The residual stream as a sum: what each component wrote to it, and how much of its end is whose."""

import torch
from torch import Tensor


def residual_stream(embedding: Tensor, attention: Tensor, feed_forward: Tensor) -> Tensor:
    """Add up what is written to the stream of a model with L layers.

        x_0 = embedding,    x_{l+1} = x_l + attention_l + feed_forward_l

    Args:
        embedding: of shape [T, D], at T positions.
        attention: what the attention of each layer writes, of shape [L, T, D]. L may be 0.
        feed_forward: what the feed-forward network of each layer writes, of shape [L, T, D].

    Returns:
        The stream x_0, ..., x_L, of shape [L + 1, T, D]: before each layer, and after the last
        (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits").
    """
    raise NotImplementedError


def shares(embedding: Tensor, attention: Tensor, feed_forward: Tensor) -> Tensor:
    """Divide the end of the stream among the components that wrote it, position by position.

    The share of component c is how far it points along the sum x_L of them all. Shares add up to 1 at each position.
    One is negative where a component points against the sum:

        share[c, t] = component_c[t] . x_L[t] / |x_L[t]|^2

    Args:
        embedding, attention, feed_forward: as above. x_L is 0 nowhere.

    Returns:
        Of shape [1 + 2 L, T], in the order of writing: embedding, attention of layer 0, feed-forward of layer 0,
        attention of layer 1, and so on.
    """
    raise NotImplementedError
