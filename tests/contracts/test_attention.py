"""What every member of the family `nn/attention` owes. A new one is tested here as soon as its file is there."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from etude.core.family import Family
from etude.nn.attention.base import Attention, AttentionShape
from etude.nn.attention.full import Full
from etude.nn.multi_head import MultiHead
from etude.nn.rule import Rule
from etude.nn.taps import Tap


@dataclass(frozen=True)
class Near(Full):
    """A toy member that only says who may see whom: itself and the one before."""

    def build(self, shape: AttentionShape) -> nn.Module:
        return MultiHead(shape, Rule(causal=shape.causal, window=2))


FAMILY = Family("nn/attention")
MEMBERS: list[Any] = [*FAMILY, Near]
SHAPES = [
    AttentionShape(12, 3, 9),
    AttentionShape(8, 1, 9, biases=False, dropout=0.5),
    AttentionShape(16, 4, 9, rotary_base=100.0, kv_heads=2),
    AttentionShape(16, 4, 9, rotary_base=100.0, rotary_fraction=0.5, layer=1, scale=0.1),
]
every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda cls: cls.__name__)
every_shape = pytest.mark.parametrize(
    "shape", SHAPES, ids=["plain", "no biases", "rotary, groups", "part rotary, odd layer"]
)


def built(member: type[Attention], shape: AttentionShape) -> nn.Module:
    torch.manual_seed(0)
    module = member().build(shape)
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.4)
    return module.eval()


def taps(module: nn.Module) -> dict[str, Tap]:
    return {name: tap for name, tap in module.named_modules() if isinstance(tap, Tap)}


def test_the_family_is_found() -> None:
    assert FAMILY.base() is Attention
    assert "full" in FAMILY.names()


@every_member
def test_a_member_is_plain_data_that_reads_back_equal(member: type[Attention]) -> None:
    assert inspect.getdoc(member)
    assert "torch" not in vars(sys.modules[member.__module__]) or member is Near
    if member is not Near:
        assert Attention.from_json(member().to_json()) == member()


@every_member
@every_shape
def test_nothing_comes_from_the_future(member: type[Attention], shape: AttentionShape) -> None:
    module, x = built(member, shape), torch.randn(2, 9, shape.width)
    changed = torch.cat((x[:, :5], torch.randn(2, 4, shape.width)), dim=1)
    torch.testing.assert_close(module(x)[:, :5], module(changed)[:, :5])
    assert not torch.equal(module(x), module(changed))


@every_member
@every_shape
def test_a_shorter_text_is_read_alike(member: type[Attention], shape: AttentionShape) -> None:
    module, x = built(member, shape), torch.randn(2, 9, shape.width)
    for length in (1, 4):
        torch.testing.assert_close(module(x)[:, :length], module(x[:, :length]))


@every_member
@every_shape
def test_parameters_and_flops_by_arithmetic(member: type[Attention], shape: AttentionShape) -> None:
    module = built(member, shape)
    assert sum(weight.numel() for weight in module.parameters()) == member().parameters(shape)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(torch.randn(2, 9, shape.width))
    assert counter.get_total_flops() == member().flops(shape, 9) * 2 * 9


@every_member
@every_shape
def test_watching_does_not_change_the_answer_and_patterns_are_means(
    member: type[Attention], shape: AttentionShape
) -> None:
    module, x = built(member, shape), torch.randn(2, 9, shape.width)
    unwatched, seen = module(x), dict[str, Tensor]()
    for name, tap in taps(module).items():
        tap.register_forward_hook(lambda _, __, value, name=name: seen.update({name: value}))
    torch.testing.assert_close(module(x), unwatched)
    assert {"q", "k", "v", "scores", "pattern", "z", "head_out", "out"} <= seen.keys() == taps(module).keys()
    torch.testing.assert_close(seen["pattern"].sum(-1), torch.ones(2, shape.heads, 9))
    sizes = {"B": 2, "T": 9, "S": 9}
    for name, tap in taps(module).items():
        assert seen[name].shape == tuple(sizes[a.name] if a.size is None else a.size for a in tap.shape)


@every_member
@every_shape
def test_every_parameter_has_axes_and_receives_a_gradient(member: type[Attention], shape: AttentionShape) -> None:
    module = built(member, shape)
    module(torch.randn(2, 9, shape.width)).square().sum().backward()
    for name, weight in module.named_parameters():
        owner, _, last = name.rpartition(".")
        axes: dict[str, str] = getattr(module.get_submodule(owner), "axes", {})
        assert len(axes[last].split()) == weight.ndim
        assert weight.grad is not None and weight.grad.isfinite().all()
