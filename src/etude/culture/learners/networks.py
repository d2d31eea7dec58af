"""The small networks of the ladder, and how actions are drawn from one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from etude.core.seeds import stream


def network(
    inputs: int,
    width: int,
    outputs: int,
    seed: int,
    *,
    scale: float,
    part: str,
) -> nn.Sequential:
    """Return two hidden layers with tanh between observation and scores. Weights are orthogonal (Saxe et al. 2013), of
    gain √2, biases 0.

    Args:
        inputs: numbers that it reads.
        width: of the hidden layers.
        outputs: numbers that it gives.
        seed: of the weights.
        scale: gain of the last layer; a small one has a policy begin with even chances.
        part: the network's name, which decides its stream.
    """
    draw = torch.Generator().manual_seed(stream(seed, "weights", part))
    shapes = ((inputs, width), (width, width), (width, outputs))
    layers = [nn.Linear(*shape, device="meta").to_empty(device="cpu") for shape in shapes]  # undrawn
    for layer, gain in zip(layers, (math.sqrt(2), math.sqrt(2), scale), strict=True):
        nn.init.orthogonal_(layer.weight, gain, generator=draw)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


def drawn(scores: Float[Tensor, "B A"], draw: torch.Generator) -> Int[Tensor, " B"]:
    """Return actions drawn with the chances that their scores (logits) give."""
    return torch.multinomial(scores.softmax(-1), 1, generator=draw)[:, 0]
