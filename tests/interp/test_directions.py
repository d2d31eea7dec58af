"""Directions that were put there are found, and edits are the projections that they say they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.core.errors import UsageError
from etude.interp.directions import (
    ablated_direction,
    activation_difference,
    difference_of_means,
    kept_subspace,
    orthonormal,
    principal_directions,
    separation,
    steered,
)
from etude.models.architectures.decoder import Decoder
from etude.models.planted import planted
from etude.nn.look import look

V, T = 6, 10


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


shapes = st.tuples(st.integers(1, 3), st.integers(1, 5)) | st.tuples(*[st.integers(1, 4)] * 3)


@settings(deadline=None, max_examples=40)
@given(leading=shapes, width=st.integers(2, 9), data=st.data())
def test_ablating_and_keeping_are_complementary_projections(leading: tuple[int, ...], width: int, data: st.DataObject):
    rank = data.draw(st.integers(1, width))
    about = data.draw(st.sampled_from([None, drawn(width, seed=1)]))
    x, directions = drawn(*leading, width, seed=2), drawn(rank, width, seed=3)
    ablate, keep = ablated_direction(directions, about), kept_subspace(directions, about)
    torch.testing.assert_close(ablate(ablate(x)), ablate(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(keep(keep(x)), keep(x), atol=1e-5, rtol=1e-4)
    point = torch.zeros(width) if about is None else about
    torch.testing.assert_close(ablate(x) + keep(x), x + point, atol=1e-5, rtol=1e-4)
    # Within the subspace the ablated activation is where `about` is, and nothing else has moved.
    assert ((ablate(x) - point) @ directions.mT).abs().max() < 1e-4
    moved = (x - ablate(x)).reshape(-1, width).mT.double().numpy()
    span = directions.mT.double().numpy()
    np.testing.assert_allclose(span @ np.linalg.lstsq(span, moved)[0], moved, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(leading=shapes, strength=st.floats(-8, 8, width=32))
def test_steering_back_is_the_identity(leading: tuple[int, ...], strength: float):
    x, direction = drawn(*leading, 5), drawn(5, seed=1)
    there = steered(direction, strength)(x)
    torch.testing.assert_close(there - x, (strength * direction).expand_as(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(steered(direction, -strength)(there), x, atol=1e-5, rtol=1e-5)


def test_steering_at_positions_leaves_the_others():
    x, direction = drawn(2, 6, 3, 4), drawn(4, seed=1)
    for positions, rows in ((2, [2]), (-1, [5]), (slice(1, 3), [1, 2]), ([5, 0], [0, 5])):
        change = steered(direction, 2.0, positions)(x) - x
        torch.testing.assert_close(change[:, rows], (2 * direction).expand(2, len(rows), 3, 4))
        assert not change[:, [row for row in range(6) if row not in rows]].any()


def test_a_direction_for_each_position_goes_to_the_first_ones_in_order():
    x, directions = drawn(2, 6, 4), drawn(3, 4, seed=1)
    change = steered(directions, 0.5)(x) - x
    torch.testing.assert_close(change[:, :3], 0.5 * directions.expand(2, 3, 4))
    assert not change[:, 3:].any()
    change = steered(directions, 0.5, [4, 0, -1])(x) - x
    torch.testing.assert_close(change[0, [4, 0, 5]], 0.5 * directions)
    heads = drawn(2, 6, 3, 4)
    torch.testing.assert_close(steered(directions)(heads)[:, :3, 1], heads[:, :3, 1] + directions)


@pytest.mark.parametrize("edit", [steered, ablated_direction, kept_subspace])
def test_gradients_pass_to_the_activation_and_to_the_direction(edit):
    x, direction = drawn(2, 3, 5).double().requires_grad_(), drawn(5, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, direction: edit(direction)(x), (x, direction))


@pytest.mark.parametrize("edit", [steered, ablated_direction, kept_subspace])
def test_an_edit_keeps_shape_and_dtype_and_its_argument(edit):
    for dtype in (torch.bfloat16, torch.float64):
        x = drawn(2, 3, 64).to(dtype)
        before = x.clone()
        new = edit(drawn(64, seed=1))(x)
        assert new.dtype == dtype and new.shape == x.shape and torch.equal(x, before)


def test_an_ablation_in_bf16_leaves_no_more_than_its_rounding():
    direction = drawn(256, seed=1)
    x = (drawn(40, 256, seed=2) + 30 * direction).bfloat16()
    left = ablated_direction(direction)(x).float() @ direction / direction.norm()
    assert left.abs().max() < 0.02, "of a component of 480; numbers near 1 are rounded by 1/256"


def test_an_edit_that_does_not_fit_says_both_widths():
    for edit in (steered(drawn(4)), ablated_direction(drawn(4)), kept_subspace(drawn(2, 4))):
        with pytest.raises(UsageError, match=r"width 4 do not fit an activation of \[2, 3, 5\], whose last axis is 5"):
            edit(drawn(2, 3, 5))


@pytest.mark.parametrize(
    ("directions", "positions", "message"),
    [
        (drawn(4), [6], r"position 6 is outside a text of 6 tokens \(0 to 5\)"),
        (drawn(4), -7, "position -7 is outside"),
        (drawn(4), [1, -5], "name one place twice"),
        (drawn(7, 4), None, "position 6 is outside"),
        (drawn(3, 4), [1, 2], "3 directions for 2 positions"),
    ],
)
def test_positions_that_cannot_be_steered(directions: Tensor, positions, message: str):
    with pytest.raises(UsageError, match=message):
        steered(directions, 1.0, positions)(drawn(2, 6, 4))


def test_a_weight_has_no_positions():
    with pytest.raises(UsageError, match="steer all of it alike"):
        steered(drawn(4), 1.0, [0])(drawn(6, 4))


@settings(deadline=None, max_examples=40)
@given(width=st.integers(1, 12), data=st.data())
def test_a_basis_is_orthonormal_and_spans_what_it_was_made_from(width: int, data: st.DataObject):
    rank = data.draw(st.integers(1, width))
    scale = 10.0 ** data.draw(st.integers(-12, 12))
    directions = drawn(rank, width, seed=data.draw(st.integers(0, 99)))
    basis = orthonormal(directions * torch.tensor(scale) ** torch.linspace(0, 1, rank)[:, None])
    torch.testing.assert_close(basis @ basis.mT, torch.eye(rank), atol=1e-6, rtol=0)
    torch.testing.assert_close(directions @ basis.mT @ basis, directions, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_basis_of_dependent_directions_is_refused_with_their_rank(dtype: torch.dtype):
    rows = drawn(3, 768).to(dtype)
    assert orthonormal(rows).dtype == dtype
    dependent = torch.cat([rows, (rows[:1] + rows[1:2]) * 1e-3])
    for directions, found in ((dependent, "4 directions of width 768 have rank 3"), (torch.zeros(768), "rank 0")):
        with pytest.raises(UsageError, match=found):
            orthonormal(directions)
    with pytest.raises(UsageError, match="3 directions of width 2 have rank 2"):
        ablated_direction(drawn(3, 2))
    with pytest.raises(UsageError, match="rank 2"):
        kept_subspace(torch.cat([drawn(2, 4), torch.full((1, 4), torch.nan)]))


def test_the_difference_of_means_finds_a_planted_shift():
    shift = 3 * torch.nn.functional.normalize(drawn(8, seed=1), dim=0)
    x_neg, x_pos = drawn(4000, 8), drawn(3000, 8, seed=2) + shift
    assert (difference_of_means(x_pos, x_neg) - shift).norm() < 0.15
    found = separation(x_pos, x_neg)
    assert found.norm == pytest.approx(3, abs=0.1)
    # Two Gaussians of unit variance, d apart: AUC = Phi(d / √2).
    expected = float(torch.special.ndtr(torch.tensor(3 / 2**0.5)))
    assert found.auc.low < expected < found.auc.high and found.auc.high - found.auc.low < 0.01
    assert found.auc.n == 3000


def test_without_a_difference_held_out_samples_are_not_separated_though_the_seen_ones_are():
    x_pos, x_neg = drawn(40, 200), drawn(40, 200, seed=1)
    direction = difference_of_means(x_pos, x_neg)
    seen = ((x_pos @ direction)[:, None] > x_neg @ direction).float().mean()
    held_out = separation(x_pos, x_neg).auc
    assert seen > 0.95 and held_out.low < 0.5 < held_out.high


def test_separation_is_the_count_of_pairs_in_order():
    x_pos, x_neg = drawn(4, 1) + 1.5, drawn(6, 1, seed=1)
    found = separation(x_pos, x_neg, folds=2, seed=3)
    draw = torch.Generator().manual_seed(3)
    fold_pos, fold_neg = (torch.randperm(n, generator=draw) % 2 for n in (4, 6))
    wins = []
    for fold in (0, 1):
        sign = (x_pos[fold_pos != fold].mean() - x_neg[fold_neg != fold].mean()).sign()
        pairs = itertools.product(x_pos[fold_pos == fold], x_neg[fold_neg == fold])
        wins += [float(sign * a > sign * b) for a, b in pairs]
    assert found.auc.mean == pytest.approx(np.mean(wins))


def test_equal_samples_are_half_in_order():
    found = separation(torch.ones(6, 2), torch.ones(6, 2), folds=3)
    assert found.auc.mean == 0.5 and found.norm == 0


@pytest.mark.parametrize("folds", [1, 6])
def test_separation_needs_samples_in_every_fold(folds: int):
    with pytest.raises(UsageError, match=rf"folds = {folds} for groups of 9 and 5 samples"):
        separation(drawn(9, 2), drawn(5, 2), folds)
    with pytest.raises(UsageError, match="0 and 5 samples"):
        difference_of_means(drawn(0, 2), drawn(5, 2))


def test_principal_directions_are_the_covariances_eigenvectors():
    spread = torch.tensor([5.0, 3.0, 1.0, 0.1])
    turn = torch.linalg.qr(drawn(4, 4, seed=1)).Q
    x = drawn(500, 4) * spread @ turn + 7
    found = principal_directions(x, 3)
    values, vectors = np.linalg.eigh(np.cov(x.T.numpy().astype(np.float64)))
    np.testing.assert_allclose(found.share, values[::-1][:3] / values.sum(), rtol=1e-4)
    overlap = np.abs(found.directions.double().numpy() @ vectors[:, ::-1][:, :3])
    np.testing.assert_allclose(overlap, np.eye(3), atol=1e-3)
    assert (found.directions.gather(1, found.directions.abs().argmax(1, keepdim=True)) > 0).all()
    torch.testing.assert_close(found.mean, x.mean(0))
    kept = kept_subspace(principal_directions(x, 4).directions[:3], found.mean)(x)
    assert (kept - x).square().mean().sqrt() < 0.1


@pytest.mark.parametrize("count", [0, 4])
def test_there_are_no_more_principal_directions_than_the_activations_vary_in(count: int):
    with pytest.raises(UsageError, match=rf"count = {count}: 9 activations of width 5 vary in 3 directions"):
        principal_directions(drawn(9, 3) @ drawn(3, 5, seed=1) + 100, count)


def test_the_difference_of_two_prompts_is_the_difference_of_their_tokens():
    model = planted(V, T)
    found = activation_difference(model, "L0.resid.pre", torch.tensor([1, 2, 3]), torch.tensor([1, 5, 0]))
    expected = torch.zeros_like(found)
    expected[1, 2] = expected[2, 3] = 1.0
    expected[1, 5] = expected[2, 0] = -1.0
    assert torch.equal(found, expected)
    last = activation_difference(model, "L0.resid.pre", torch.tensor([1, 2, 3]), torch.tensor([1, 5, 0]), positions=-1)
    assert torch.equal(last, expected[2:])


def test_adding_the_difference_at_the_embedding_is_reading_the_other_prompt():
    model = Decoder(layers=2, width=16, heads=2, context=T, feedforward=8).build(V, seed=0).eval()
    plus, minus = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 0])
    text = torch.tensor([[4, 5, 0, 2, 2, 1], [4, 5, 0, 1, 3, 3]])
    with model.tapped({"L0.resid.pre": steered(activation_difference(model, "L0.resid.pre", plus, minus))}):
        edited = look(model, text, "logits")["logits"]
    other = text.clone()
    other[:, :3] = plus
    torch.testing.assert_close(edited, look(model, other, "logits")["logits"], atol=1e-5, rtol=1e-4)


def test_prompts_and_sites_that_make_no_difference():
    model, three = planted(V, T), torch.tensor([1, 2, 3])
    with pytest.raises(UsageError, match="prompts of 3 and 2 tokens: pad"):
        activation_difference(model, "L0.resid.pre", three, three[:2])
    for site, axes in (("L*.resid.pre", "B T D, B T D"), ("L0.attn.z", "B T H K"), ("L0.attn.W_Q", "D H K")):
        with pytest.raises(UsageError, match=f"is {axes}: name one activation B T D"):
            activation_difference(model, site, three, three)
