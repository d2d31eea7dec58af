"""The OV circuit: what a head says when it looks at a token, and whether it copies."""

import torch
from torch import Tensor


def ov_circuit(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    """Return what looking at a token (row) adds to the logit of another (column), [V, V]."""
    return W_E @ W_V @ W_O @ W_U


def copying_score(circuit: Tensor) -> Tensor:
    """Return the sum of the eigenvalues of a circuit, [V, V], over the sum of their absolute values."""
    values = torch.linalg.eigvals(circuit)
    return values.sum().real / values.abs().sum()
