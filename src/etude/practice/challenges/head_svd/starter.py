"""The singular value decomposition of a head's OV circuit, from its thin factors."""

import torch
from torch import Tensor


def head_svd(W_V: Tensor, W_O: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose what a head does into directions that it reads and directions that it writes.

        W_V W_O = U diag(s) Vh = sum_i s_i u_i vh_i

    Read u_i, and write s_i times vh_i: a vector x becomes sum_i (x . u_i) s_i vh_i. The circuit is D by D, but its rank
    is at most K. Nothing larger than D by K may be made: orthonormal bases of the two factors leave a K by K matrix,
    which has the same singular values (the SVD of a product in factored form; Millidge and Black 2022 look at such
    directions).

    Args:
        W_V: of shape [D, K], of rank K <= D.
        W_O: of shape [K, D], of rank K.

    Returns:
        U: of shape [D, K], its columns orthonormal: the directions read.
        s: of shape [K], above 0, from the greatest down.
        Vh: of shape [K, D], its rows orthonormal: the directions written. A pair u_i, vh_i may change sign together.

    `torch.linalg.qr` of a [D, K] matrix gives Q, [D, K], with orthonormal columns, and R, [K, K], with Q R the matrix.
    """
    raise NotImplementedError
