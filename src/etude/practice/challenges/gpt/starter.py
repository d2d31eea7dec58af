"""A small GPT: from tokens to the scores of the next token."""

import math

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm


def gpt(
    tokens: Tensor, embedding: Tensor, positions: Tensor, blocks: list[dict[str, Tensor]], norm: Tensor, heads: int
) -> Tensor:
    """Run a pre-norm decoder with learned positions and a tied unembedding (Radford et al. 2019, section 2.3).

        x = embedding[tokens] + positions[0 .. T-1]
        x = x + attention(norm_1(x))           in each block, one after another
        x = x + feed_forward(norm_2(x))
        logits = norm(x) embedding^T

        attention(y) = (A_1 V_1, ..., A_H V_H, side by side) W_O,   A_h = softmax of Q_h K_h^T / sqrt(D / H), causal,
        where Q = y W_Q, K = y W_K, V = y W_V, and head h has columns h D/H to (h + 1) D/H - 1 of each, h from 0
        feed_forward(y) = GELU(y W_in + b_in) W_out + b_out, with the exact GELU

    Args:
        tokens: whole numbers below V, [B, T].
        embedding: [V, D].
        positions: [N, D] with N at least T: row t is added at position t.
        blocks: of each block "W_Q", "W_K", "W_V", "W_O" [D, D], "W_in" [D, F], "b_in" [F], "W_out" [F, D], "b_out" [D],
            and "norm_1" and "norm_2" [2, D]. There may be no block.
        norm: [2, D]. Of each norm row 0 is the gain and row 1 the bias of a layer norm over D, with 1e-5 added to the
            variance: `layer_norm(y, [D], gain, bias)`.
        heads: H, which divides D.

    Returns:
        Logits, [B, T, V]. Those at position t depend on tokens 0 to t alone.
    """
    raise NotImplementedError
