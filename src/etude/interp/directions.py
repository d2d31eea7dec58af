"""Directions and subspaces of activations: how they are found, and the edits that add, remove or keep them.

Every edit acts on the last axis of what it is given, so that it fits the residual stream [B T D], what each head holds
[B T H K] and the columns of a weight alike, and returns a new tensor of the same shape and dtype. Edits are put at
sites with `model.tapped`, and let gradients through, to the directions too.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.evals.statistics import Estimate
from etude.models.transformer import Transformer
from etude.nn.look import Positions, listed, look
from etude.nn.taps import Edit


def difference_of_means(x_pos: Float[Tensor, "N D"], x_neg: Float[Tensor, "M D"]) -> Float[Tensor, " D"]:
    """Return the mean of one group of activations less the mean of the other (Arditi et al. 2024, "Refusal in Language
    Models Is Mediated by a Single Direction", section 2.3). Its norm is the distance between the means.

    Raises:
        UsageError: a group is empty.
    """
    if not len(x_pos) or not len(x_neg):
        raise UsageError(f"a difference of means of {len(x_pos)} and {len(x_neg)} samples: each group has at least one")
    return x_pos.mean(0) - x_neg.mean(0)


class Separation(NamedTuple):
    """How well a difference of means tells two groups apart in samples that it was not made from.

    Attributes:
        auc: chance that a sample of the first group lies further along the direction than one of the second; 0.5 is
            chance. The interval is DeLong's (DeLong et al. 1988), with samples taken as independent; it has no width
            where every pair is in order. n is the size of the smaller group.
        norm: of the direction made from all samples, in the activations' unit.
    """

    auc: Estimate
    norm: float


def separation(x_pos: Float[Tensor, "N D"], x_neg: Float[Tensor, "M D"], folds: int = 5, seed: int = 0) -> Separation:
    """Return how well the difference of means separates two groups, each sample judged by a direction made without it.

    Only samples of one fold are compared with each other, since another fold has another direction (Airola et al. 2011,
    "An experimental comparison of cross-validation techniques for estimating the area under the ROC curve").

    Args:
        x_pos: the first group.
        x_neg: the second.
        folds: into how many parts each group is cut.
        seed: of the cut.

    Raises:
        UsageError: a group has fewer samples than there are folds, or there are fewer than two folds.
    """
    if not 2 <= folds <= min(len(x_pos), len(x_neg)):
        sizes = f"groups of {len(x_pos)} and {len(x_neg)} samples"
        raise UsageError(f"folds = {folds} for {sizes}: it is at least 2 and at most the size of the smaller group")
    draw = torch.Generator().manual_seed(seed)
    fold_pos, fold_neg = (torch.randperm(len(x), generator=draw).to(x.device) % folds for x in (x_pos, x_neg))
    ahead, behind = [], []
    for fold in range(folds):
        direction = difference_of_means(x_pos[fold_pos != fold], x_neg[fold_neg != fold])
        order = _in_order(x_pos[fold_pos == fold] @ direction, x_neg[fold_neg == fold] @ direction)
        ahead.append(order.mean(1))
        behind.append(order.mean(0))
    norm = float(difference_of_means(x_pos, x_neg).norm())
    return Separation(_auc(torch.cat(ahead), torch.cat(behind)), norm)


def _in_order(pos: Float[Tensor, " N"], neg: Float[Tensor, " M"]) -> Float[Tensor, "N M"]:
    """Return for each pair 1 where the first is greater, 0 where it is less, and a half where they are equal."""
    return (1 + (pos[:, None] - neg).sign()) / 2


def _auc(ahead: Float[Tensor, " N"], behind: Float[Tensor, " M"]) -> Estimate:
    """Return the AUC from each sample's share of pairs in order, by group."""
    auc = float(ahead.mean())
    reach = 1.96 * float(ahead.var() / len(ahead) + behind.var() / len(behind)) ** 0.5
    return Estimate(auc, max(0.0, auc - reach), min(1.0, auc + reach), min(len(ahead), len(behind)))


def activation_difference(
    model: Transformer,
    site: str,
    plus: Int[Tensor, " T"],
    minus: Int[Tensor, " S"],
    positions: Positions | None = None,
) -> Float[Tensor, "P D"]:
    """Return the activations of one prompt less those of another, position by position (Turner et al. 2023,
    "Activation Addition", section 3): what `steered` adds to the first positions of another text.

    Args:
        model: in evaluation mode.
        site: one activation [B T D].
        plus: tokens of the prompt whose effect is wanted.
        minus: tokens of the prompt that is its opposite, as long as the first: the paper pads the shorter with spaces.
        positions: of these alone, in this order.

    Raises:
        UsageError: the prompts differ in length, or the site is no single activation [B T D].
    """
    if len(plus) != len(minus):
        raise UsageError(
            f"prompts of {len(plus)} and {len(minus)} tokens: pad the shorter one, with spaces for instance"
        )
    found = model.sites(site)
    axes = [" ".join(axis.name for axis in shape) for shape in found.values()]
    if len(found) != 1 or not axes[0].startswith("B T ") or axes[0].count(" ") != 2:
        raise UsageError(f"{site!r} is {', '.join(axes[:3])}: name one activation B T D, as L0.resid.pre")
    (seen,) = look(model, torch.stack([plus, minus]), site, positions=positions).values()
    return seen[0] - seen[1]


class Principal(NamedTuple):
    """Where activations vary most.

    Attributes:
        directions: [R D] orthonormal, the one of most variance first. The sign is arbitrary in principle; here the
            largest component of each is positive.
        share: [R] of the variance that lies along each.
        mean: [D] what they were taken about.
    """

    directions: Float[Tensor, "R D"]
    share: Float[Tensor, " R"]
    mean: Float[Tensor, " D"]


def principal_directions(x: Float[Tensor, "N D"], count: int) -> Principal:
    """Return the directions of most variance of activations about their mean.

    Args:
        x: the activations.
        count: R, how many directions.

    Raises:
        UsageError: the activations vary in fewer directions than that.
    """
    mean = x.mean(0)
    _, spread, directions = torch.linalg.svd(x - mean, full_matrices=False)
    rank = int((spread > max(x.shape) * torch.finfo(x.dtype).eps * x.abs().max()).sum())
    if not 1 <= count <= rank:
        raise UsageError(f"count = {count}: {len(x)} activations of width {x.shape[1]} vary in {rank} directions")
    variance = spread.square()
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return Principal((directions * largest.sign())[:count], (variance / variance.sum())[:count], mean)


def orthonormal(directions: Float[Tensor, " D"] | Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
    """Return an orthonormal basis of the subspace that directions span, by a QR decomposition in float64.

    Raises:
        UsageError: the directions depend on each other: they span fewer dimensions than there are of them.
    """
    rows = torch.atleast_2d(directions).to("cpu", torch.float64)
    # Lengths say nothing about dependence, so the rank is that of the unit vectors. Their rounding moves no singular
    # value by more than √R eps (Weyl); a few times that is allowed to sums that were rounded as they were made.
    unit = torch.nan_to_num(rows / rows.norm(dim=1, keepdim=True))
    rounding = 4 * len(rows) ** 0.5 * torch.finfo(directions.dtype).eps
    rank = int(torch.linalg.matrix_rank(unit, atol=rounding, rtol=0.0))
    if rank < max(1, len(rows)):
        raise UsageError(
            f"{len(rows)} directions of width {rows.shape[1]} have rank {rank}: leave out those that depend"
        )
    return torch.linalg.qr(rows.mT).Q.mT.to(directions)


def projected(x: Float[Tensor, "*N D"], basis: Float[Tensor, "R D"]) -> Float[Tensor, "*N D"]:
    """Return the component of vectors in a subspace, from an orthonormal basis of it."""
    return x @ basis.mT @ basis


def steered(
    direction: Float[Tensor, " D"] | Float[Tensor, "T D"], strength: float = 1.0, positions: Positions | None = None
) -> Edit:
    """Return an edit that adds `strength` times a direction.

    Args:
        direction: one for all positions, or one for each of several (`activation_difference`).
        strength: what it is multiplied by; the direction's own norm counts as well.
        positions: on axis 1, which is T at activations. None is all of them for one direction, and the first T for T
            directions (Turner et al. 2023, section 3). They count within the call, so that in a generation with a past
            the first is that of the new tokens.

    The edit raises UsageError where the width does not fit, a position is outside the text or named twice, or there are
    not as many positions as directions.
    """
    return partial(_steered, vectors=strength * direction, positions=positions)


def ablated_direction(
    directions: Float[Tensor, " D"] | Float[Tensor, "R D"], about: Float[Tensor, " D"] | None = None
) -> Edit:
    """Return an edit that removes the component in the subspace that directions span (directional ablation, Arditi et
    al. 2024, section 2.4). Their lengths do not matter.

    Args:
        directions: one or several.
        about: the point that takes the component's place, as the mean of the activations: there the subspace carries
            no information, yet the model reads what it usually reads. None is zero, as in the paper.

    Raises:
        UsageError: the directions depend on each other; or, from the edit, the width does not fit.
    """
    return partial(_ablated, basis=orthonormal(directions), about=about)


def kept_subspace(
    directions: Float[Tensor, " D"] | Float[Tensor, "R D"], about: Float[Tensor, " D"] | None = None
) -> Edit:
    """Return an edit that keeps the component in a subspace alone, and puts that of `about` in place of the rest.

    Args:
        directions: one or several that span the subspace.
        about: what the rest becomes; None is zero.

    Raises:
        UsageError: as `ablated_direction`.
    """
    return partial(_kept, basis=orthonormal(directions), about=about)


def _steered(x: Tensor, vectors: Tensor, positions: Positions | None) -> Tensor:
    _require_width(x, vectors)
    vectors = vectors.to(x)
    if vectors.ndim == 1 and positions is None:
        return x + vectors
    if x.ndim < 3:
        raise UsageError(f"positions are on axis 1 of [B, T, ...], and {list(x.shape)} has none: steer all of it alike")
    rows = _rows(x.shape[1], range(len(vectors)) if positions is None else positions)
    if vectors.ndim == 2 and len(vectors) != len(rows):
        raise UsageError(f"{len(vectors)} directions for {len(rows)} positions: give one for all, or one for each")
    added = torch.zeros(x.shape[1], x.shape[-1], dtype=x.dtype, device=x.device)
    added = added.index_copy(0, torch.tensor(rows, device=x.device), vectors.expand(len(rows), -1))
    return x + added.view(x.shape[1], *[1] * (x.ndim - 3), x.shape[-1])


def _rows(length: int, positions: Positions) -> list[int]:
    """Return positions counted from the start."""
    wanted = listed(positions, length)
    outside = [at for at in wanted if not -length <= at < length]
    if outside:
        raise UsageError(f"position {outside[0]} is outside a text of {length} tokens (0 to {length - 1})")
    rows = [at % length for at in wanted]
    if len(set(rows)) < len(rows):
        raise UsageError(f"positions {wanted} name one place twice in a text of {length} tokens")
    return rows


def _ablated(x: Tensor, basis: Tensor, about: Tensor | None) -> Tensor:
    return (x - _within(x, basis, about)).to(x.dtype)


def _kept(x: Tensor, basis: Tensor, about: Tensor | None) -> Tensor:
    within = _within(x, basis, about)
    return (within if about is None else within + about.to(within)).to(x.dtype)


def _within(x: Tensor, basis: Tensor, about: Tensor | None) -> Tensor:
    """Return the component of x - about in the subspace, in float32 at least: in bf16 a projection would leave a
    hundredth behind."""
    _require_width(x, basis)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if about is not None:
        _require_width(x, about)
        wide = wide - about.to(wide)
    return projected(wide, basis.to(wide))


def _require_width(x: Tensor, vectors: Tensor) -> None:
    if x.shape[-1] != vectors.shape[-1]:
        raise UsageError(
            f"directions of width {vectors.shape[-1]} do not fit an activation of {list(x.shape)}, whose last axis is"
            f" {x.shape[-1]}: take them from the site that is edited"
        )
