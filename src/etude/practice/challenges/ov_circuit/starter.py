"""The OV circuit: what a head says when it looks at a token, and whether it copies."""

import torch
from torch import Tensor


def ov_circuit(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    """Return what looking at each token alone adds to the logit of each token, by way of one head.

        circuit = W_E W_V W_O W_U

    A vector stands to the left of its weights: token i has the value W_E[i] W_V, which W_O writes to the stream and W_U
    reads (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; this is the transpose of theirs).

    Args:
        W_E: embedding, of shape [V, D].
        W_V: of shape [D, K].
        W_O: of shape [K, D].
        W_U: unembedding, of shape [D, V].

    Returns:
        Of shape [V, V]: rows are the tokens looked at, columns those whose logits change.
    """
    raise NotImplementedError


def copying_score(circuit: Tensor) -> Tensor:
    """Return the share of positive eigenvalues, each counted by its size.

        score = sum_i lambda_i / sum_i |lambda_i|

    The eigenvalues lambda_i are complex; |.| is the absolute value of a complex number. Since the circuit is real, the
    sum is real. The score is 1 where all eigenvalues are positive: tokens raise themselves. It is -1 where all are
    negative (Elhage et al. 2021, section "Summarizing OV/QK matrices").

    Args:
        circuit: of shape [V, V], neither symmetric nor 0.

    Returns:
        A real tensor of shape [], from -1 to 1.
    """
    raise NotImplementedError
