"""The residual stream as a sum: what each component wrote to it, and how much of its end is whose."""

import torch
from torch import Tensor


def residual_stream(embedding: Tensor, attention: Tensor, feed_forward: Tensor) -> Tensor:
    """Return the stream before each layer and after the last, [L + 1, T, D]."""
    written = torch.cat((embedding[None], attention + feed_forward))
    return written.cumsum(dim=0)


def shares(embedding: Tensor, attention: Tensor, feed_forward: Tensor) -> Tensor:
    """Return each component's share of the end of the stream, [1 + 2 L, T], in the order of writing."""
    layers = torch.stack((attention, feed_forward), dim=1).flatten(0, 1)
    components = torch.cat((embedding[None], layers))
    end = components.sum(dim=0)
    along = (components * end).sum(dim=-1)
    return along / end.square().sum(dim=-1)
