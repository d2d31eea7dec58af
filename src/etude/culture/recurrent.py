"""Recurrent memories. The arithmetic is PyTorch's; the weights have the house's names."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from etude.culture.remembering import Kept, Remembering
from etude.nn.linear import weight


class Recurrent(Remembering):
    """One recurrent layer as wide as what it reads.

    Weights: `W_in` [gates x D, D] reads the input and `W_back` [gates x D, D] the state, with `b_in` and `b_back`, in
    PyTorch's order of gates.
    """

    def __init__(self, width: int, gates: int) -> None:
        super().__init__(width)
        self.W_in, self.W_back = weight(gates * width, width), weight(gates * width, width)
        self.b_in, self.b_back = weight(gates * width), weight(gates * width)

    @property
    def weights(self) -> list[Tensor]:
        return [self.W_in, self.W_back, self.b_in, self.b_back]


class Gru(Recurrent):
    """Gated recurrent units; what is kept is their state [1 B D]."""

    def __init__(self, width: int) -> None:
        super().__init__(width, gates=3)

    def forward(self, x: Float[Tensor, "B T D"], kept: Kept) -> tuple[Float[Tensor, "B T D"], Kept]:
        state = x.new_zeros(1, len(x), x.shape[2]) if kept is None else kept
        y, state = torch.gru(x, state, self.weights, True, 1, 0.0, False, False, True)
        return self.out(y), state.detach()


class Lstm(Recurrent):
    """Long short-term memory; what is kept are its output and its cells, [1 B D] each."""

    def __init__(self, width: int) -> None:
        super().__init__(width, gates=4)

    def forward(self, x: Float[Tensor, "B T D"], kept: Kept) -> tuple[Float[Tensor, "B T D"], Kept]:
        empty = x.new_zeros(1, len(x), x.shape[2])
        state = [empty, empty] if kept is None else list(kept)
        y, output, cells = torch.lstm(x, state, self.weights, True, 1, 0.0, False, False, True)
        return self.out(y), (output.detach(), cells.detach())
