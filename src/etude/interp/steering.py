"""What an edit along a direction does, beside what it does along random ones.

Almost any push of a network's activations changes its output. An effect belongs to a direction when random directions,
put through the same edit, have less of it; so an edit is never measured here without its placebos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.evals.statistics import Estimate, mean
from etude.interp.directions import steered
from etude.interp.metrics import Metric, measured, positions_read
from etude.models.transformer import Transformer
from etude.nn.look import Positions, Seen, look
from etude.nn.taps import Edit

Directions = Float[Tensor, " D"] | Float[Tensor, "R D"]
"""One direction, or several: the basis of a subspace, or one for each of R positions."""

EditOf = Callable[[Tensor], Edit]
"""Makes an edit from directions: `ablated_direction` itself, or `lambda d: steered(d, 4.0)`."""


@dataclass(frozen=True, eq=False)
class Compared:
    """A metric without an edit, with it, and with its placebos.

    M is the number of texts, or 1 where the metric gives one number for all of them.

    Attributes:
        without: [M] of the model as it is.
        edited: [M] with the edit along the directions in question.
        placebos: [P M] with the same edit along random directions of the same norms; for an ablation these span a
            random subspace of the same dimension.
        matched: [P M] with the placebos' changes multiplied so that each moves the activations as far as the edit does.
        factors: [P] what they were multiplied by.
    """

    without: Float[Tensor, " M"]
    edited: Float[Tensor, " M"]
    placebos: Float[Tensor, "P M"]
    matched: Float[Tensor, "P M"]
    factors: Float[Tensor, " P"]

    @property
    def effect(self) -> Estimate:
        """The change that the edit makes, with its interval over texts."""
        return _over_texts(self.edited - self.without)

    @property
    def placebo_effects(self) -> Float[Tensor, " P"]:
        """The mean change over texts that each placebo makes."""
        return (self.placebos - self.without).mean(1)

    @property
    def matched_effects(self) -> Float[Tensor, " P"]:
        """The same for the placebos that move the activations as far as the edit."""
        return (self.matched - self.without).mean(1)

    @property
    def p(self) -> float:
        """Chance of an effect so large if the direction were one among the placebos; see `p_among`."""
        return p_among(self.effect.mean, self.placebo_effects)

    @property
    def p_matched(self) -> float:
        """The same among the placebos that move the activations as far as the edit."""
        return p_among(self.effect.mean, self.matched_effects)


def rank_among(effect: float, placebos: Float[Tensor, " P"]) -> int:
    """Return the place of an effect when it and the placebos' are ordered by size, either sign; 1 is the largest, and
    a tie counts against the effect."""
    return 1 + int((placebos.abs() >= abs(effect)).sum())


def p_among(effect: float, placebos: Float[Tensor, " P"]) -> float:
    """Return the two-sided p-value of an effect among those of P placebos: (1 + at least as large) / (1 + P), which is
    never below 1 / (1 + P) (Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero")."""
    return rank_among(effect, placebos) / (1 + len(placebos))


@torch.no_grad()
def compared(
    model: Transformer,
    tokens: Int[Tensor, "N T"],
    sites: str,
    edit_of: EditOf,
    directions: Directions,
    metric: Metric,
    placebos: int = 20,
    seed: int = 0,
) -> Compared:
    """Return what an edit along directions does to a metric, and what it does along random ones.

    Two kinds of placebo answer two questions. Random directions of the same norms ask whether these directions are
    special among all. For steering that is the whole question, since the activations then move equally far. For an
    ablation it is not: what the model uses is large, and a random subspace of the same dimension holds little of the
    activations, so its removal does little of anything. The matched placebos therefore remove so many times what the
    random subspace holds that the mean squared change over all positions is that of the edit. They ask whether the
    effect is more than that of so large a change. For steering both kinds are the same and are computed once.

    Args:
        model: in evaluation mode.
        tokens: the texts.
        sites: a site or a glob; the edit is put at all of them. Changes are matched over all, as in the clean pass.
        edit_of: makes the edit from directions.
        directions: [D], or [R D].
        metric: of `etude.interp.metrics`, or any function of the logits.
        placebos: how many of each kind.
        seed: of their draw.

    Raises:
        UsageError: there is no placebo, a direction is zero, a glob matches nothing, a placebo changes nothing where
            the edit does, or the metric is not finite.
    """
    clean = look(model, tokens, sites)
    edit = edit_of(directions)
    moved = _moved(clean, edit)
    others = [edit_of(one) for one in random_like(directions, placebos, seed)]
    factors = torch.tensor([_factor(moved, _moved(clean, other), sites) for other in others], dtype=torch.float64)
    plain = [_measured_with(model, tokens, sites, other, metric) for other in others]
    matched = [
        value if abs(factor - 1) < 1e-4 else _measured_with(model, tokens, sites, _multiplied(other, factor), metric)
        for value, other, factor in zip(plain, others, factors.tolist(), strict=True)
    ]
    return Compared(
        _measured(model, tokens, metric),
        _measured_with(model, tokens, sites, edit, metric),
        torch.stack(plain),
        torch.stack(matched),
        factors,
    )


@dataclass(frozen=True, eq=False)
class DoseResponse:
    """The effect of steering against its strength, for one direction and for random ones of the same norm.

    Attributes:
        strengths: S of them.
        changes: [S M] of the metric by text.
        placebo_changes: [S P] mean over texts, by placebo; a placebo is one direction at all strengths.
    """

    strengths: tuple[float, ...]
    changes: Float[Tensor, "S M"]
    placebo_changes: Float[Tensor, "S P"]

    @property
    def effects(self) -> list[Estimate]:
        """By strength, the change with its interval over texts."""
        return [_over_texts(change) for change in self.changes]

    @property
    def placebos(self) -> list[Estimate]:
        """By strength, the placebos' mean change with its interval over placebos. The interval is that of the mean:
        single placebos lie further apart."""
        return [_over_texts(change) for change in self.placebo_changes]

    @property
    def p(self) -> list[float]:
        """By strength, the effect's place among the placebos; see `p_among`."""
        pairs = zip(self.effects, self.placebo_changes, strict=True)
        return [p_among(effect.mean, placebos) for effect, placebos in pairs]


@torch.no_grad()
def dose_response(
    model: Transformer,
    tokens: Int[Tensor, "N T"],
    sites: str,
    direction: Directions,
    metric: Metric,
    strengths: Sequence[float],
    positions: Positions | None = None,
    placebos: int = 20,
    seed: int = 0,
) -> DoseResponse:
    """Return how a metric changes as a direction is added ever more strongly.

    Args:
        model: in evaluation mode.
        tokens: the texts.
        sites: a site or a glob; the direction is added at all of them.
        direction: one for all positions, or one for each of several, as for `steered`.
        metric: of `etude.interp.metrics`, or any function of the logits.
        strengths: what the direction is multiplied by; negative ones too.
        positions: as for `steered`.
        placebos: how many random directions.
        seed: of their draw.

    Raises:
        UsageError: there is no strength or no placebo, the direction is zero, or the metric is not finite.
    """
    if not strengths:
        raise UsageError("strengths = () is none: give at least one")
    without = _measured(model, tokens, metric)

    def change(vectors: Tensor, strength: float) -> Float[Tensor, " M"]:
        return _measured_with(model, tokens, sites, steered(vectors, strength, positions), metric) - without

    others = random_like(direction, placebos, seed)
    return DoseResponse(
        tuple(strengths),
        torch.stack([change(direction, strength) for strength in strengths]),
        torch.stack([torch.stack([change(other, s).mean() for other in others]) for s in strengths]),
    )


def random_like(directions: Directions, count: int, seed: int) -> list[Tensor]:
    """Return random directions of the same shape and norms: each row is uniform on its sphere, and several span a
    uniformly random subspace.

    Raises:
        UsageError: none are asked for, or a row has no length.
    """
    if count < 1:
        raise UsageError(f"placebos = {count}: an effect is compared with at least one")
    norms = directions.norm(dim=-1, keepdim=True)
    if not (norms > 0).all():
        raise UsageError("a direction has norm 0 (or is not finite): there is nothing to compare with")
    draw = torch.Generator().manual_seed(seed)  # on the CPU, so that every machine draws the same
    drawn = torch.randn((count, *directions.shape), generator=draw, dtype=torch.float64)
    unit = (drawn / drawn.norm(dim=-1, keepdim=True)).to(directions)
    return list(unit * norms)


def _over_texts(values: Float[Tensor, " M"]) -> Estimate:
    return mean(values.cpu().double().numpy())


def _measured(model: Transformer, tokens: Tensor, metric: Metric) -> Float[Tensor, " M"]:
    """Return the metric by text, in float64 on the CPU."""
    model.check_steady()
    logits = model(tokens, last=positions_read(metric))
    (values,) = measured(metric, logits[None])
    if not values.isfinite().all():
        raise UsageError("the metric is not finite: measure one that is, or edit less strongly")
    return values.cpu().double()


def _measured_with(model: Transformer, tokens: Tensor, sites: str, edit: Edit, metric: Metric) -> Float[Tensor, " M"]:
    with model.tapped({sites: edit}):
        return _measured(model, tokens, metric)


def _moved(clean: Seen, edit: Edit) -> float:
    """Return the sum of squares of what an edit changes at the sites, given the activations there."""
    return sum(float((edit(x) - x).float().square().sum()) for x in clean.values())


def _factor(moved: float, placebo: float, sites: str) -> float:
    """Return what a placebo's change is multiplied by to be as large as the edit's."""
    if not placebo and moved:
        raise UsageError(f"a placebo changes nothing at {sites}: make the edit from the directions it is given")
    return (moved / placebo) ** 0.5 if moved else 0.0


def _multiplied(edit: Edit, factor: float) -> Edit:
    """Return the edit that changes its argument so many times as much."""
    return lambda x: x + factor * (edit(x) - x)
