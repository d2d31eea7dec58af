"""The singular value decomposition of a head's OV circuit, from its thin factors."""

import torch
from torch import Tensor


def head_svd(W_V: Tensor, W_O: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U [D, K], s [K] and Vh [K, D] of W_V W_O, without the product."""
    Q_V, R_V = torch.linalg.qr(W_V)
    Q_O, R_O = torch.linalg.qr(W_O.T)
    core = R_V @ R_O.T
    u, s, vh = torch.linalg.svd(core)
    return Q_V @ u, s, vh @ Q_O.T
