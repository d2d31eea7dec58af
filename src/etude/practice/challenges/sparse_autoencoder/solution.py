"""A sparse autoencoder: activations as sums of few directions out of many."""

import torch
from torch import Tensor


def encode(x: Tensor, W_enc: Tensor, b_enc: Tensor, b_dec: Tensor) -> Tensor:
    """Return how strongly each feature fires, [..., F]."""
    return torch.relu((x - b_dec) @ W_enc + b_enc)


def decode(f: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
    """Return the reconstruction, [..., D]."""
    return f @ W_dec + b_dec


def loss(x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, penalty: float) -> Tensor:
    """Return the squared error of a row and the price of its features, on average."""
    f = encode(x, W_enc, b_enc, b_dec)
    error = (x - decode(f, W_dec, b_dec)).square().sum(dim=-1)
    price = f @ W_dec.norm(dim=-1)
    return (error + penalty * price).mean()


def normalise(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same autoencoder with rows of W_dec of norm 1."""
    norms = W_dec.norm(dim=-1)
    return W_enc * norms, b_enc * norms, W_dec / norms[:, None]
