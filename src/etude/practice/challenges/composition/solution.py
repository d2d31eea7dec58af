"""Composition: how strongly a later head reads what an earlier one writes."""

import torch
from torch import Tensor


def composition(earlier: tuple[Tensor, Tensor], later: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Return the Q-, K- and V-composition of H earlier with G later heads, [3, H, G]."""
    C = earlier[0] @ earlier[1]
    W_Q, W_K, W_V, W_O = later
    R = torch.stack((W_Q @ W_K.mT, W_K @ W_Q.mT, W_V @ W_O))
    joint = C[None, :, None] @ R[:, None]
    sizes = C.norm(dim=(-2, -1))[None, :, None] * R.norm(dim=(-2, -1))[:, None]
    return joint.norm(dim=(-2, -1)) / sizes
