"""The weights a model starts from, decided by a seed alone.

Each weight draws from a generator of its own, made of the seed and the weight's name. So the global random state has no
say, and two models that share a part start with the same weights in it: an attention-only model and its sibling with
feed-forward networks differ by those alone.
"""

from __future__ import annotations

import hashlib
import math

import torch

from etude.models.architectures.base import Architecture
from etude.models.transformer import Transformer


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Set every weight: biases to 0, norms to 1, the rest normal with `spread`'s deviation.

    A model on the meta device has nothing to set and is left alone.
    """
    for name, weight in model.named_parameters():
        last = name.rpartition(".")[2]
        if weight.is_meta:
            continue
        if last == "w":
            weight.fill_(1)
        elif last.startswith("b"):
            weight.zero_()
        else:
            weight.normal_(0, spread(model.spec, last, weight.shape), generator=_generator(seed, name))


def spread(spec: Architecture, name: str, shape: torch.Size) -> float:
    """Return the standard deviation of a weight's starting values.

    Where the parts read through a norm: GPT-2's scheme (Radford et al. 2019, section 2.3, and its released code),
    `spec.spread` (0.02) for all, and what writes to the stream divided by the root of the number of writes, so that the
    stream does not grow with depth. Where they read the stream itself, with the norm after the addition or none: Glorot
    and Bengio 2010 for the maps, which keeps a vector's size, and 1/√D for embeddings, as in the code released with
    Vaswani et al. 2017, where scaling by √D then gives token vectors the size of the sinusoids.

    Under µP (Yang et al. 2022, table 8) embeddings and unembedding start as at `mup_base`, and what has the width on
    both sides with a spread that falls with the root of the width, as Glorot's does by itself.
    """
    if name == "W_R":  # what it makes of token vectors is as large as they are
        return shape[0] ** -0.5
    outer = name in ("W_E", "W_pos", "W_seg", "W_U")
    if spec.norm_at == "pre" and spec.norm != "none":
        writes = spec.layers * (1 if spec.attention_only else 2)
        start = spec.spread / math.sqrt(writes) if name in ("W_O", "W_out") else spec.spread
        return start * math.sqrt(spec.mup_base / spec.width) if spec.mup_base and not outer else start
    width = spec.mup_base or spec.width
    if outer and name != "W_U":
        return width**-0.5
    ways_in, ways_out = _fans(name, shape) if name != "W_U" else (width, shape[1])
    return math.sqrt(2 / (ways_in + ways_out))


def _fans(name: str, shape: torch.Size) -> tuple[int, int]:
    """Return how many numbers a map reads and writes. Only W_O reads two axes, [H K] to D."""
    axes_read = 2 if name == "W_O" else 1
    return math.prod(shape[:axes_read]), math.prod(shape[axes_read:])


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)  # the generator takes 63 bits
