"""The smaller parts against PyTorch's own: linear maps, norms, the feed-forward network, embeddings."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.core.errors import UsageError
from etude.nn.block import Block
from etude.nn.embedding import Embedding
from etude.nn.feedforward import FeedForward, feed_forward, gated_feed_forward
from etude.nn.linear import linear
from etude.nn.norm import LayerNorm, RMSNorm
from etude.nn.positions import sinusoids

D = 12


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_x_W_plus_b(bias: bool) -> None:
    x, W, b = torch.randn(2, 3, D), torch.randn(D, 5), torch.randn(5) if bias else None
    torch.testing.assert_close(linear(x, W, b), x @ W + (0 if b is None else b))


@pytest.mark.parametrize(
    "ours", [LayerNorm(D), LayerNorm(D, biases=False), RMSNorm(D)], ids=["layer", "no bias", "rms"]
)
def test_norms_equal_torchs_whether_watched_or_not(ours: LayerNorm | RMSNorm) -> None:
    theirs = nn.RMSNorm(D, eps=1e-5) if isinstance(ours, RMSNorm) else nn.LayerNorm(D, bias=ours.b is not None)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        nn.init.normal_(mine)
        other.data.copy_(mine.data)
    x = 3 * torch.randn(2, 5, D) + 1
    torch.testing.assert_close(ours(x), theirs(x))
    seen = []
    ours.scale.register_forward_hook(lambda _, __, scale: seen.append(scale))
    torch.testing.assert_close(ours(x), theirs(x))
    centre = 0 if isinstance(ours, RMSNorm) else x.mean(-1, keepdim=True)
    torch.testing.assert_close(seen[0], (x - centre).square().mean(-1, keepdim=True).sqrt(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "activation"),
    [("relu", nn.ReLU()), ("gelu", nn.GELU()), ("gelu-tanh", nn.GELU("tanh")), ("silu", nn.SiLU())],
)
def test_feed_forward_equals_torchs_layers(name: str, activation: nn.Module) -> None:
    ours = FeedForward(D, 30, name)
    for weight in ours.parameters():
        nn.init.normal_(weight)
    assert ours.b_in is not None and ours.b_out is not None
    into, out = nn.Linear(D, 30), nn.Linear(30, D)
    into.weight.data, into.bias.data = ours.W_in.data.T, ours.b_in.data
    out.weight.data, out.bias.data = ours.W_out.data.T, ours.b_out.data
    x = torch.randn(2, 3, D)
    torch.testing.assert_close(ours(x), nn.Sequential(into, activation, out)(x))
    by_function = feed_forward(x, ours.W_in, ours.W_out, ours.b_in, ours.b_out, ours.activation)
    torch.testing.assert_close(ours(x), by_function)


@pytest.mark.parametrize("biases", [True, False])
def test_a_gated_feed_forward_is_its_formula(biases: bool) -> None:
    ours, x = FeedForward(D, 30, "silu", biases, gated=True), torch.randn(2, 3, D)
    for weight in ours.parameters():
        nn.init.normal_(weight)
    b_in, b_gate, b_out = (0 if b is None else b for b in (ours.b_in, ours.b_gate, ours.b_out))
    gate, value = x @ ours.W_gate + b_gate, x @ ours.W_in + b_in
    expected = (gate * torch.sigmoid(gate) * value) @ ours.W_out + b_out
    torch.testing.assert_close(ours(x), expected)
    if not biases:
        torch.testing.assert_close(gated_feed_forward(x, ours.W_in, ours.W_gate, ours.W_out), expected)


def test_a_parallel_block_adds_both_parts_to_what_both_read() -> None:
    attend, feed = nn.Linear(D, D), FeedForward(D, 30)
    norm = partial(LayerNorm, D)
    block = Block(D, Attending(attend), feed, norm, parallel=True)
    for weight in block.parameters():
        nn.init.normal_(weight, std=0.3)
    x = torch.randn(2, 3, D)
    expected = x + attend(block.attn_norm(x)) + feed(block.mlp_norm(x))
    torch.testing.assert_close(block(x), expected)
    assert not hasattr(block.resid, "mid")
    serial = Block(D, Attending(attend), feed, norm)
    serial.load_state_dict(block.state_dict())
    y = x + attend(serial.attn_norm(x))
    torch.testing.assert_close(serial(x), y + feed(serial.mlp_norm(y)))


class Attending(nn.Module):
    """A map that takes a view, as attention does, and does not ask it anything."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, view: object) -> Tensor:
        return self.inner(x)


@pytest.mark.parametrize("added", ["learned", "sinusoidal", "none"])
def test_embeddings_add_positions_to_scaled_tokens(added: str) -> None:
    module = Embedding(7, D, 10, added, scaled=True)  # type: ignore[arg-type]
    for weight in module.parameters():
        nn.init.normal_(weight)
    tokens = torch.tensor([[3, 0, 6], [1, 1, 2]])
    expected = F.embedding(tokens, module.W_E) * D**0.5
    if added != "none":
        expected = expected + (module.W_pos[:3] if added == "learned" else sinusoids(10, D)[:3])
    torch.testing.assert_close(module(tokens), expected)
    assert ("W_pos" in module.state_dict()) == (added == "learned")
    assert "sinusoids" not in module.state_dict()


@pytest.mark.parametrize("token", [-1, 7, 50_000])
def test_a_token_outside_the_vocabulary_is_named(token: int) -> None:
    with pytest.raises(UsageError, match=rf"token {token} is outside the vocabulary of 7 \(0 to 6\)"):
        Embedding(7, D, 10)(torch.tensor([[1, token]]))
