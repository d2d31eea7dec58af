"""Muon against PyTorch's on plain matrices, what orthogonal means, and how heads are taken."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.train.optimisers._orthogonal import as_matrices, orthogonalise, update_scale
from etude.train.optimisers.muon import Muon

D, H, K, F = 12, 3, 4, 20


class Layer(nn.Module):
    """The weights of a layer, by their names, and something that is no hidden matrix."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        sizes = {"W_Q": (D, H, K), "W_K": (D, 1, K), "W_O": (H, K, D), "W_in": (D, F), "W_gate": (D, F)}
        for name, size in {**sizes, "W_out": (F, D), "W_E": (30, D), "W_U": (D, 30), "w": (D,), "b_Q": (H, K)}.items():
            self.register_parameter(name, nn.Parameter(torch.randn(size, generator=draw)))

    def given_gradients(self, seed: int) -> Layer:
        draw = torch.Generator().manual_seed(seed)
        for p in self.parameters():
            p.grad = torch.randn(p.shape, generator=draw)
        return self


def step(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("multiplier", 1.0)
    optimiser.step()


def moves(**fields) -> dict[str, Tensor]:
    """Return by how much one step at rate 1 moves each weight."""
    live = Layer().given_gradients(1)
    before = {name: p.detach().clone() for name, p in live.named_parameters()}
    step(Muon(weight_decay=0.0, **fields).build(live), 1.0)
    return {name: before[name] - p.detach() for name, p in live.named_parameters()}


def singular(m: Tensor) -> Tensor:
    return torch.linalg.svdvals(m.float())


@pytest.mark.parametrize("scale", ["adamw", "original"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_equals_torch_on_matrices(scale, nesterov: bool):
    live = Layer()
    for name in ("W_Q", "W_K", "W_O", "W_E", "W_U", "w", "b_Q"):
        delattr(live, name)
    ours = Muon(scale=scale, nesterov=nesterov, precision="bf16", weight_decay=0.2, momentum=0.9).build(live)
    # PyTorch's maps hold what is written first.
    others = [nn.Parameter(p.detach().mT.contiguous()) for p in live.parameters()]
    named = "match_rms_adamw" if scale == "adamw" else "original"
    theirs = torch.optim.Muon(others, lr=0.0, weight_decay=0.2, momentum=0.9, nesterov=nesterov, adjust_lr_fn=named)
    for number in range(4):
        live.given_gradients(number)
        for p, other in zip(live.parameters(), others, strict=True):
            assert p.grad is not None
            other.grad = p.grad.mT.clone()
        step(ours, 0.01 * (number + 1))
        step(theirs, 0.01 * (number + 1))
    for p, other in zip(live.parameters(), others, strict=True):
        torch.testing.assert_close(p.detach(), other.detach().mT, rtol=1e-6, atol=2e-3)  # a rounding of bf16 may differ


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 5, 20), (1, 20, 5), (4, 1, 6)], ids=str)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32], ids=str)
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, ...], precision: torch.dtype):
    m = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = orthogonalise(m, 5, precision)
    values = singular(found)
    well = singular(m) > 0.1 * singular(m).amax(-1, keepdim=True)
    assert (values[well] > 0.6).all() and (values < 1.3).all()
    u, _, vh = torch.linalg.svd(m, full_matrices=False)
    turned = u.mT @ found.float() @ vh.mT  # diagonal where the singular vectors are the same
    off = turned - torch.diag_embed(torch.diagonal(turned, dim1=-2, dim2=-1))
    assert off.abs().max() < 0.05


def test_together_as_one_by_one():
    m = torch.randn(5, 6, 9, generator=torch.Generator().manual_seed(0))
    together = orthogonalise(m, 5, torch.float32)
    torch.testing.assert_close(together, torch.cat([orthogonalise(one[None], 5, torch.float32) for one in m]))


def test_no_gradient_is_no_move():
    assert not orthogonalise(torch.zeros(2, 3, 4), 5).any()


def test_joined_heads_are_one_matrix():
    moved = moves(precision="fp32", scale="original")
    for name in ("W_Q", "W_O"):
        whole = as_matrices(moved[name], name == "W_O", apart=False)[0]
        assert whole.shape == ((H * K, D) if name == "W_O" else (D, H * K))
        assert singular(whole)[0] < 1.3
        assert singular(whole)[H * K // 2] > 0.6


def test_heads_apart_are_each_orthogonal():
    moved = moves(precision="fp32", scale="original", heads="apart")
    for name in ("W_Q", "W_K", "W_O"):
        heads = as_matrices(moved[name], name == "W_O", apart=True)
        assert heads.shape == ((H, K, D) if name == "W_O" else (1 if name == "W_K" else H, D, K))
        size = update_scale("original", *heads.shape[1:])
        assert (singular(heads) > 0.6 * size).all() and (singular(heads) < 1.3 * size).all()


def test_an_update_has_the_size_of_adamws():
    moved = moves()
    for name in ("W_Q", "W_O", "W_in", "W_out"):
        assert moved[name].square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)
    for name in ("W_E", "W_U", "w", "b_Q"):  # Adam's first step is the gradient's sign
        torch.testing.assert_close(moved[name].abs(), torch.ones_like(moved[name]), rtol=1e-4, atol=1e-4)


def test_scales_are_the_papers():
    assert update_scale("adamw", 768, 3072) == 0.2 * math.sqrt(3072) == update_scale("adamw", 3072, 768)
    assert update_scale("original", 768, 3072) == 2.0
    assert update_scale("original", 3072, 768) == 1.0


def test_the_others_have_a_rate_of_their_own():
    slow, plain = moves(others_rate=0.1), moves()
    assert torch.equal(slow["W_in"], plain["W_in"])
    torch.testing.assert_close(slow["W_E"], 0.1 * plain["W_E"], rtol=1e-4, atol=1e-6)


def test_only_matrices_decay():
    live = Layer()
    before = {name: p.detach().clone() for name, p in live.named_parameters()}
    optimiser = Muon(weight_decay=0.5).build(live)
    for p in live.parameters():
        p.grad = torch.zeros_like(p)
    step(optimiser, 0.1)
    for name, p in live.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if name.startswith("W_") else 1.0), msg=name)


def test_what_has_no_gradient_stays():
    live = Layer().given_gradients(0)
    still = live.get_parameter("W_Q")
    still.grad = live.get_parameter("W_E").grad = None
    before = still.detach().clone()
    optimiser = Muon().build(live)
    step(optimiser, 1.0)
    assert torch.equal(still, before) and still not in optimiser.state


def test_state_dict_goes_round():
    one, other = Layer(), Layer()
    first, second = Muon().build(one), Muon().build(other)
    for number in range(3):
        one.given_gradients(number)
        step(first, 0.1)
    other.load_state_dict(one.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # loading alone shares the tensors
    for live, optimiser in ((one, first), (other, second)):
        live.given_gradients(9)
        step(optimiser, 0.1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_model_without_hidden_matrices_or_with_nothing_else():
    embedding, hidden = nn.Module(), nn.Module()
    embedding.W_E = nn.Parameter(torch.ones(3, 2))
    hidden.W_in = nn.Parameter(torch.eye(3))
    for live in (embedding, hidden):
        (p,) = live.parameters()
        p.grad = torch.eye(*p.shape)
        before = p.detach().clone()
        step(Muon().build(live), 0.1)
        assert not torch.equal(p, before)


def test_precision_is_settled_before_a_run_is_named():
    assert Muon().resolve().precision in ("bf16", "fp32")
    with pytest.raises(UsageError):
        Muon().fingerprint()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"momentum": 1.0}, r"momentum 1\.0"),
        ({"beta2": 1.5}, r"betas 0\.9, 1\.5"),
        ({"iterations": 0}, "iterations 0"),
        ({"epsilon": 0.0}, r"epsilon 0\.0"),
        ({"others_rate": 0.0}, r"others' rate 0\.0"),
        ({"weight_decay": -1.0}, r"weight decay -1\.0"),
        ({"scale": "moonlight"}, "adamw, original"),
    ],
)
def test_bad_fields(fields: dict, message: str):
    with pytest.raises(UsageError, match=message):
        Muon(**fields)
