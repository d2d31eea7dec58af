"""Attention against PyTorch's own, in both precisions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from etude.nn.dot_product import attention_pattern, attention_scores, causal_mask, fused_attention, scaled_dot_product

PRECISION = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


@pytest.mark.parametrize(("dtype", "close"), PRECISION, ids=str)
@pytest.mark.parametrize("leading", [(), (3,), (2, 4)], ids=["single head", "a batch", "several heads"])
def test_equals_torch(dtype: torch.dtype, close: float, leading: tuple[int, ...]) -> None:
    q, k, v = (torch.randn(*leading, 7, 16, dtype=dtype) for _ in range(3))
    ours = scaled_dot_product(q, k, v, causal_mask(7))
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (ours - theirs).abs().max() < close


@pytest.mark.parametrize(("dtype", "close"), PRECISION, ids=str)
def test_any_mask_and_a_longer_source(dtype: torch.dtype, close: float) -> None:
    q, k, v = torch.randn(2, 5, 8, dtype=dtype), torch.randn(2, 9, 8, dtype=dtype), torch.randn(2, 9, 8, dtype=dtype)
    mask = torch.rand(5, 9) < 0.5
    mask[:, 0] = True
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert (scaled_dot_product(q, k, v, mask) - theirs).abs().max() < close


def test_a_pattern_is_a_mean_over_what_is_seen() -> None:
    mask = causal_mask(6)
    pattern = attention_pattern(attention_scores(torch.randn(2, 6, 4), torch.randn(2, 6, 4)), mask)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 6))
    assert not pattern[:, ~mask].any()
    alike = attention_pattern(torch.zeros(1, 6, 6), mask)
    torch.testing.assert_close(alike[0, 3], torch.tensor([0.25, 0.25, 0.25, 0.25, 0, 0]))


@pytest.mark.parametrize("way", ["by its pattern", "by the kernel"])
@pytest.mark.parametrize("masked", ["causal", "a mask", "not at all"])
def test_bf16_on_a_cpu_is_as_near_to_the_truth_as_its_rounding(
    way: str, masked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etude.nn.dot_product.SHORT", 1 << 30 if way == "by its pattern" else 0)
    texts = [torch.randn(2, 3, 11, 16, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    mask = torch.rand(2, 1, 11, 11, generator=torch.Generator().manual_seed(3)) < 0.5
    mask |= torch.eye(11, dtype=torch.bool)
    given: dict[str, Any] = {"causal": {"causal": True}, "a mask": {"mask": mask}, "not at all": {}}[masked]
    q, k, v = (x.bfloat16().requires_grad_() for x in texts)
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    found = fused_attention(q, k, v, **given)
    truth = fused_attention(exact[0], exact[1], exact[2], **given)
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found.double(), truth, rtol=0.02, atol=0.02)
    found.float().square().sum().backward()
    truth.square().sum().backward()
    for ours, theirs in zip((q, k, v), exact, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert (ours.grad.double() - theirs.grad).norm() < 0.02 * theirs.grad.norm()
