from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.core.errors import UsageError
from etude.nn.attention.base import AttentionShape
from etude.nn.chunked_cross_attention import ChunkedCrossAttention, Lot, chunked_attention, places
from etude.nn.taps import Tap
from etude.nn.view import View

B, H, K, E = 2, 3, 4, 6


def attention(size: int = 4, heads: int = H, groups: int = 0, width: int = H * K) -> ChunkedCrossAttention:
    fixed: dict[str, Any] = {"rotary_base": 10_000.0, "cross": True, "causal": False, "source": E}
    shape = AttentionShape(width=width, heads=heads, context=64, kv_heads=groups, **fixed)
    part, generator = ChunkedCrossAttention(shape, size, 2 * size), torch.Generator().manual_seed(0)
    for weight in part.parameters():
        weight.data.normal_(0, 0.5, generator=generator)
    return part.eval()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_loops(part: Any, x: Tensor, read: Tensor, visible: Tensor | None = None) -> Tensor:
    """Chunked cross-attention position by position, as section 2.4 of the paper and its figure have it."""
    m, out = part.size, torch.zeros_like(x)
    for b in range(len(x)):
        for t in range(m - 1, x.shape[1]):
            u, i = (t - (m - 1)) // m, (t - (m - 1)) % m
            q = torch.einsum("d,dhk->hk", x[b, t], part.W_Q) + part.b_Q
            q = part.rotary(q[None, None], torch.tensor([[i + m - 1]]))[0, 0]
            keys, values, there = [], [], []
            for j in range(read.shape[2]):
                for place in range(read.shape[3]):
                    e = read[b, u, j, place]
                    k = torch.einsum("e,ehk->hk", e, part.W_K) + part.b_K
                    keys.append(part.rotary(k[None, None], torch.tensor([[place]]))[0, 0])
                    values.append(torch.einsum("e,ehk->hk", e, part.W_V) + part.b_V)
                    there.append(True if visible is None else bool(visible[b, u, j, place]))
            if not any(there):
                continue
            k, v = (torch.stack(y)[torch.tensor(there)] for y in (keys, values))
            each = part.heads // k.shape[1]
            k, v = k.repeat_interleave(each, 1), v.repeat_interleave(each, 1)
            weights = (torch.einsum("hk,shk->hs", q, k) / K**0.5).softmax(-1)
            z = torch.einsum("hs,shk->hk", weights, v)
            out[b, t] = torch.einsum("hk,hkd->d", z, part.W_O) + part.b_O
    return out


@pytest.mark.parametrize("groups", [0, 1])
@pytest.mark.parametrize("length", [4, 7, 8, 13, 16])
@torch.no_grad()
def test_it_is_the_papers_sum_position_by_position(length: int, groups: int) -> None:
    part = attention(groups=groups)
    x, read = random(B, length, H * K), random(B, length // 4, 2, 8, E, seed=1)
    visible = random(B, length // 4, 2, 8, seed=2) > -0.5
    visible[0, 0] = False
    for seen in (None, visible):
        found = part(x, View(neighbours=read, neighbours_visible=seen))
        torch.testing.assert_close(found, by_loops(part, x, read, seen))


@torch.no_grad()
def test_watching_the_pattern_changes_nothing_and_shows_who_looks_where() -> None:
    part, x, read = attention(), random(B, 14, H * K), random(B, 3, 2, 8, E, seed=1)
    visible = random(B, 3, 2, 8, seed=2) > 0
    visible[1, 1] = False
    view, seen = View(neighbours=read, neighbours_visible=visible), {}
    plain = part(x, view)
    for name in ("scores", "pattern"):
        tap: Tap = getattr(part, name)
        tap.register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
    torch.testing.assert_close(part(x, view), plain)
    pattern = seen["pattern"]
    assert pattern.shape == seen["scores"].shape == (B, H, 14, 2, 8)
    total = pattern.sum((-1, -2))
    assert not total[:, :, :3].any(), "the first m - 1 positions attend to nothing"
    torch.testing.assert_close(total[0, :, 3:], torch.ones(H, 11))
    assert not total[1, :, 7:11].any() and total[1, :, 11:].all(), "chunk 1 of text 1 has no neighbours"
    lots = (torch.arange(14) - 3) // 4
    hidden = ~visible[:, lots.clamp(min=0)][:, None].expand(-1, H, -1, -1, -1)
    assert not pattern[hidden].any()


@torch.no_grad()
def test_a_function_at_the_pattern_acts() -> None:
    part, x, read = attention(), random(1, 8, H * K), random(1, 2, 3, 8, E, seed=1)

    def second_alone(_: Tap, __: object, y: Tensor) -> Tensor:
        only = torch.zeros_like(y)
        only[:, :, :, 1] = y[:, :, :, 1] / y[:, :, :, 1].sum(-1, keepdim=True).clamp(min=1e-9)
        return only

    part.pattern.register_forward_hook(second_alone)
    edited = part(x, View(neighbours=read))
    part.pattern._forward_hooks.clear()
    torch.testing.assert_close(edited, part(x, View(neighbours=read[:, :, 1:2])))


@pytest.mark.parametrize("size", [2, 8, 16, 64])
@torch.no_grad()
def test_distances_are_distinct_over_keys_and_over_queries(size: int) -> None:
    """Queries that stand on one position, or keys that do, make scores that are equal where they should differ. With
    one query vector and one key vector for all, a score is a function of the distance i - j + m - 1 alone."""
    part = attention(size, heads=1, width=32)
    x, read = torch.ones(1, 2 * size, 32), torch.ones(1, 2, 1, 2 * size, E)
    seen: dict[str, Any] = {}
    part.scores.register_forward_hook(lambda _, __, y: seen.setdefault("scores", y))
    part.double()
    part(x.double(), View(neighbours=read.double()))
    scores = seen["scores"][0, 0, size - 1 : 2 * size - 1, 0]
    assert scores.shape == (size, 2 * size)
    for lines in (scores, scores.T):
        gaps = lines.sort(dim=-1).values.diff(dim=-1)
        assert gaps.min() > 1e-6 * scores.std()
    offsets = torch.arange(size)[:, None] - torch.arange(2 * size) + size - 1
    for distance in offsets.unique():
        same = scores[offsets == distance]
        torch.testing.assert_close(same, same[:1].expand_as(same), rtol=1e-5, atol=1e-5)
    assert places(2 * size, size)[size - 1 : 2 * size - 1].tolist() == list(range(size - 1, 2 * size - 1))


@torch.no_grad()
def test_the_order_of_neighbours_does_not_matter() -> None:
    part, x, read = attention(), random(B, 12, H * K), random(B, 3, 4, 8, E, seed=1)
    visible = random(B, 3, 4, 8, seed=3) > -1
    order = torch.tensor([2, 0, 3, 1])
    one = part(x, View(neighbours=read, neighbours_visible=visible))
    other = part(x, View(neighbours=read[:, :, order], neighbours_visible=visible[:, :, order]))
    torch.testing.assert_close(one, other)


@given(st.integers(1, 30), st.integers(2, 7), st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_lots_hold_each_attending_position_once(positions: int, size: int, before: int) -> None:
    lot = Lot.of(positions, size, before)
    at = torch.arange(before, before + positions)
    divided = lot.divide((at + 1.0)[None, :, None])
    assert divided.shape == (1, lot.lots, size, 1)
    joined = lot.join(divided, positions)[0, :, 0]
    attending = at >= size - 1
    assert joined.tolist() == torch.where(attending, at + 1.0, 0.0).tolist()
    for number in divided[divided > 0].long() - 1:
        u, i = (number - (size - 1)) // size, (number - (size - 1)) % size
        first = max(before, size - 1)
        assert divided[0, u - (first - (size - 1)) // size, i, 0] == number + 1


@torch.no_grad()
def test_a_lot_that_sees_nothing_is_given_zeros_and_no_gradient_is_lost_on_it() -> None:
    q, k, v = random(1, 2, 3, H, K), random(1, 2, 5, H, K, seed=1), random(1, 2, 5, H, K, seed=2)
    visible = torch.zeros(1, 2, 5, dtype=torch.bool)
    visible[0, 1, 2] = True
    with torch.enable_grad():
        for y in (q, k, v):
            y.requires_grad_()
        z = chunked_attention(q, k, v, visible)
        z.sum().backward()
    assert not z[0, 0].any()
    torch.testing.assert_close(z[0, 1], v[0, 1, 2].expand(3, H, K))
    assert all(y.grad is not None and y.grad.isfinite().all() for y in (q, k, v))


def test_what_it_cannot_read_is_said() -> None:
    part = attention()
    with pytest.raises(UsageError, match="no neighbours to read"):
        part(random(1, 8, H * K))
    with pytest.raises(UsageError, match="8 positions attend to neighbours of 2 chunks, and of 3 are given"):
        part(random(1, 8, H * K), View(neighbours=random(1, 3, 1, 8, E)))
    with pytest.raises(UsageError, match="rotary"):
        ChunkedCrossAttention(AttentionShape(8, 2, 16, cross=True, source=4), 4, 8)
