"""Train a small language model of your own making."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

WIDTH, LENGTH, WINDOWS = 24, 32, 8


class Model(nn.Module):
    """One causal head and a feed-forward layer."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.feed_forward = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.unembedding = nn.Linear(WIDTH, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits, [B, T, V], of tokens, [B, T]."""
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1]))
        x = x + scaled_dot_product_attention(*self.qkv(x).chunk(3, dim=-1), is_causal=True)
        return self.unembedding(x + self.feed_forward(x))


def train_one(tokens: Tensor, vocabulary: int, steps: int) -> tuple[Callable[[Tensor], Tensor], list[float]]:
    """Train the model on random windows, and return it with the loss before each step."""
    model, losses = Model(vocabulary), []
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        starts = torch.randint(len(tokens) - LENGTH, (WINDOWS,))
        windows = tokens[starts[:, None] + torch.arange(LENGTH + 1)]
        inputs, targets = windows[:, :-1], windows[:, 1:]
        loss = cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, losses
