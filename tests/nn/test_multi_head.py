"""Multi-head attention against `nn.MultiheadAttention`, and its explicit path against the fused one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from etude.nn.attention.base import AttentionShape
from etude.nn.multi_head import MultiHead, head_outputs, join_heads

PRECISION = [(torch.float32, 1e-5), (torch.float64, 1e-12)]
D, H = 24, 3


def attention(**options: object) -> MultiHead:
    module = MultiHead(AttentionShape(D, H, context=16, **options))  # type: ignore[arg-type]
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.3)
    return module


def torchs(ours: MultiHead) -> nn.MultiheadAttention:
    """Return PyTorch's module with the same weights: it stores them transposed, and q, k and v in one matrix."""
    theirs = nn.MultiheadAttention(D, H, batch_first=True)
    three = [weight.detach().flatten(1).T for weight in (ours.W_Q, ours.W_K, ours.W_V)]
    assert ours.b_Q is not None and ours.b_K is not None and ours.b_V is not None and ours.b_O is not None
    state = {
        "in_proj_weight": torch.cat(three),
        "in_proj_bias": torch.cat([bias.detach().flatten() for bias in (ours.b_Q, ours.b_K, ours.b_V)]),
        "out_proj.weight": ours.W_O.detach().flatten(0, 1).T,
        "out_proj.bias": ours.b_O.detach(),
    }
    theirs.load_state_dict(state)
    return theirs


def watch(module: MultiHead, *names: str) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    for name in names:
        module.get_submodule(name).register_forward_hook(lambda _, __, x, name=name: seen.update({name: x}))
    return seen


@pytest.mark.parametrize(("dtype", "close"), PRECISION, ids=str)
def test_equals_torchs_module(dtype: torch.dtype, close: float) -> None:
    ours = attention().to(dtype)
    theirs = torchs(ours).to(dtype)
    x = torch.randn(2, 11, D, dtype=dtype)
    hidden = torch.ones(11, 11, dtype=torch.bool).triu(1)
    expected, pattern = theirs(x, x, x, attn_mask=hidden, average_attn_weights=False)
    assert (ours(x) - expected).abs().max() < close
    seen = watch(ours, "pattern")
    assert (ours(x) - expected).abs().max() < close
    assert (seen["pattern"] - pattern).abs().max() < close


@pytest.mark.parametrize(("dtype", "close"), PRECISION, ids=str)
@pytest.mark.parametrize("watched", ["scores", "pattern", "head_out"])
@pytest.mark.parametrize("options", [{}, {"biases": False}, {"rotary_base": 100.0}], ids=str)
def test_the_explicit_path_equals_the_fused(
    dtype: torch.dtype, close: float, watched: str, options: dict[str, object]
) -> None:
    module = attention(**options).to(dtype)
    x = torch.randn(2, 11, D, dtype=dtype)
    fused = module(x)
    seen = watch(module, watched)
    assert (module(x) - fused).abs().max() < close
    assert set(seen) == {watched}


def test_scores_and_pattern_are_made_only_for_a_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("made without a watcher")

    module = attention()
    for made in ("attention_scores", "head_outputs"):
        monkeypatch.setattr(f"etude.nn.multi_head.{made}", refuse)
    module(torch.randn(1, 5, D))
    for tap in ("pattern", "head_out"):
        watch(module, tap)
        with pytest.raises(AssertionError, match="without a watcher"):
            module(torch.randn(1, 5, D))


def test_a_function_at_the_scores_cannot_open_the_future() -> None:
    def zero(_: nn.Module, __: object, scores: Tensor) -> Tensor:
        return torch.zeros_like(scores)

    module = attention()
    module.scores.register_forward_hook(zero)
    seen = watch(module, "pattern")
    module(torch.randn(1, 4, D))
    torch.testing.assert_close(seen["pattern"][0, 0], torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None])


def test_the_output_is_the_sum_over_heads() -> None:
    z, W, b = torch.randn(2, 5, H, 8), torch.randn(H, 8, D), torch.randn(D)
    torch.testing.assert_close(head_outputs(z, W).sum(2) + b, join_heads(z, W, b))


def test_dropout_acts_on_both_paths_while_training_alone() -> None:
    module = attention(dropout=0.5)
    x = torch.randn(1, 8, D)
    quiet = module.eval()(x)
    assert not torch.allclose(module.train()(x), quiet)
    watch(module, "pattern")
    assert not torch.allclose(module(x), quiet)
    torch.testing.assert_close(module.eval()(x), quiet)
