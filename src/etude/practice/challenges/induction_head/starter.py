"""An induction head by hand: two attention heads, one in each of two layers, that continue what was there before.

The stream of a text of at most T tokens out of V has width D = 3 V + T and four slots, one after another:

    token      [0, V)              one-hot: which token stands here
    position   [V, V + T)          one-hot: where
    previous   [V + T, 2 V + T)    empty; the head of layer 0 writes the token before here
    output     [2 V + T, D)        empty; the head of layer 1 writes the token that it expects next

Each layer is x <- x + softmax(mask(x W_Q (x W_K)^T)) x W_V W_O: rows of x are positions, the mask hides the future, and
scores are not divided by anything. A head counts as looking somewhere if it gives 0.9 of its attention to it.
"""

import torch
from torch import Tensor


def previous_token_head(V: int, T: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Set the head of layer 0, which copies the token before into the slot `previous`.

    Every position t >= 1 looks at position t - 1, and writes the one-hot vector of the token there into the slot
    `previous`, and nothing into any other. Position 0 can look only at itself.

    Returns:
        W_Q, W_K, W_V and W_O, of shapes [D, K], [D, K], [D, J] and [J, D], with any K and J.
    """
    raise NotImplementedError


def induction_head(V: int, T: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Set the head of layer 1, which looks behind the earlier appearance of the present token.

    Position t looks at the position s whose slot `previous` holds the token that stands at t, and raises the token at s
    in the slot `output`: by 0.5 at least above every other (Elhage et al. 2021, "Induction heads"). Texts begin with
    token 0, which is nowhere else; where a token appears for the first time, anything may be written.

    Returns:
        W_Q, W_K, W_V and W_O, of shapes as above.
    """
    raise NotImplementedError
