"""Multi-head attention against `nn.MultiheadAttention`, and its explicit path against the fused one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from etude.nn.attention.banded import Banded
from etude.nn.attention.base import Attention, AttentionShape
from etude.nn.attention.full import Full
from etude.nn.attention.sliding import Sliding
from etude.nn.multi_head import MultiHead, head_outputs, join_heads
from etude.nn.positions import Rotary

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


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("rotary", [None, 100.0])
def test_shared_keys_and_values_equal_their_explicit_repetition(groups: int, rotary: float | None) -> None:
    options = {"rotary_base": rotary}
    few = MultiHead(AttentionShape(D, 6, 16, kv_heads=groups, **options))  # type: ignore[arg-type]
    every = MultiHead(AttentionShape(D, 6, 16, **options))  # type: ignore[arg-type]
    for weight in few.parameters():
        nn.init.normal_(weight, std=0.3)
    for name, weight in every.named_parameters():
        given = few.get_parameter(name).data
        axis = weight.ndim - 2  # that of heads
        repeats = [weight.shape[axis] // given.shape[axis] if n == axis else 1 for n in range(weight.ndim)]
        weight.data = given if given.shape == weight.shape else given.repeat_interleave(max(repeats), dim=axis)
    x = torch.randn(2, 11, D)
    torch.testing.assert_close(few(x), every(x))
    seen = watch(few, "k", "v", "pattern")
    torch.testing.assert_close(few(x), every(x))
    assert seen["k"].shape == seen["v"].shape == (2, 11, groups, 4) and seen["pattern"].shape == (2, 6, 11, 11)


def test_a_part_of_each_head_is_turned() -> None:
    part = attention(rotary_base=100.0, rotary_fraction=0.5)
    seen = watch(part, "q", "q_rot", "k", "k_rot")
    part(torch.randn(2, 11, D))
    whole = Rotary(4, 16, 100.0)
    for name in ("q", "k"):
        before, after = seen[name], seen[f"{name}_rot"]
        torch.testing.assert_close(after[..., :4], whole(before[..., :4]))
        assert torch.equal(after[..., 4:], before[..., 4:])


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("member", [Sliding(window=3), Banded(window=3), Full()], ids=lambda member: member.name)
def test_who_sees_whom_is_as_written(member: Attention, layer: int, causal: bool) -> None:
    module: Any = member.build(AttentionShape(D, H, 16, layer=layer, causal=causal))
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.3)
    near = isinstance(member, Sliding) or (isinstance(member, Banded) and layer == 1)
    sees = [
        [(j <= i or not causal) and (abs(i - j) < 3 or not near) for j in range(11)]  # itself and two to each side
        for i in range(11)
    ]
    x = torch.randn(2, 11, D)
    fused, seen = module(x), watch(module, "pattern")
    torch.testing.assert_close(module(x), fused)
    assert ((seen["pattern"] > 0) == torch.tensor(sees)).all()


def test_a_scale_takes_the_place_of_the_root() -> None:
    plain, scaled = attention(), attention(scale=0.7)
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(2, 5, D)
    seen, other = watch(plain, "scores"), watch(scaled, "scores")
    plain(x)
    fused = scaled(x)
    torch.testing.assert_close(other["scores"], seen["scores"] * 8**0.5 * 0.7)
    for handle in list(scaled.scores._forward_hooks):
        del scaled.scores._forward_hooks[handle]
    torch.testing.assert_close(scaled(x), fused)
