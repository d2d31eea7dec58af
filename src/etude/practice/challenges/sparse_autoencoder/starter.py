"""A sparse autoencoder: activations as sums of few directions out of many."""

import torch
from torch import Tensor


def encode(x: Tensor, W_enc: Tensor, b_enc: Tensor, b_dec: Tensor) -> Tensor:
    """Return how strongly each feature fires, f = relu((x - b_dec) W_enc + b_enc), of shape [..., F].

    Shapes: x [..., D], W_enc [D, F], b_enc [F], b_dec [D] (Bricken et al. 2023, "Towards Monosemanticity").
    """
    raise NotImplementedError


def decode(f: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
    """Return the reconstruction, f W_dec + b_dec, of shape [..., D]. Shapes: f [..., F], W_dec [F, D], b_dec [D]."""
    raise NotImplementedError


def loss(x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, penalty: float) -> Tensor:
    """Return reconstruction error plus the price of firing, a tensor of shape [].

        1/N sum_n ( |x_n - decode(f_n)|^2 + penalty sum_i f_ni |W_dec[i]| ),    f = encode(x), x of shape [N, D]

    |.| is the Euclidean norm. A feature pays for what it writes, its firing times the norm of its row of W_dec: with f
    alone, a smaller f and a longer row would cost less and say the same (Conerly et al. 2024, "Update on how we train
    SAEs").
    """
    raise NotImplementedError


def normalise(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return W_enc, b_enc and W_dec of an autoencoder that reconstructs all x as before, but has rows of norm 1.

    Each row of the new W_dec has Euclidean norm 1 and the direction of the old one. So feature i has to fire as many
    times as strongly as its row was long. No row of W_dec is 0.
    """
    raise NotImplementedError
