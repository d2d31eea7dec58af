"""Whether the objective is clipped where it should be, and only there."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

FINE = 1e-5
"""Tolerance of a loss, so that no two mistakes come to the same by chance."""


def check(theirs: Any, exam: Exam) -> None:
    """Ask with ratios below, within and above the bounds, each with advantages of both signs."""
    for _ in range(2):
        _value(theirs, *_given(exam), exam)
    _constants(theirs, exam)
    now, before, gain, clip = _given(exam)
    exam.gradients(
        lambda log_p: theirs.clipped_loss(log_p, before, gain, clip) * len(gain),
        lambda log_p: _step_by_step(log_p, before, gain, clip) * len(gain),
        {"log_p": now},
        "N times your loss",
    )
    _unmoved(theirs, exam)
    for _ in range(2):
        now, before, _, clip = _given(exam)
        _fraction(theirs, now, before, clip, exam)
    _near(theirs, exam)


def _given(exam: Exam) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return log-probabilities now and before, advantages, and a bound that no ratio comes near to."""
    clip = exam.random.uniform(0.15, 0.25)
    bands = [(0.4, 0.7), (0.9, 1.1), (1.4, 2.0)] * 2
    bands += [exam.random.choice(bands) for _ in range(exam.random.randint(1, 4))]
    ratio = torch.tensor([exam.random.uniform(*band) for band in bands])
    gain = exam.uniform(len(bands), low=0.5, high=2.0)
    gain[:3] *= -1
    gain[6:] *= exam.random.choice((1.0, -1.0))
    order = exam.permutation(len(bands))
    before = -exam.uniform(len(bands), low=1.0, high=3.0)
    return (before + ratio.log())[order], before[order], gain[order], clip


def _step_by_step(log_p: Tensor, before: Tensor, gain: Tensor, clip: float) -> Tensor:
    """Return the loss by cases: of each step the ratio counts unless it has gone too far in its own direction."""
    total = torch.zeros(())
    for now, then, A in zip(log_p, before, gain, strict=True):
        ratio = (now - then).exp()
        too_far = (A > 0 and ratio > 1 + clip) or (A < 0 and ratio < 1 - clip)
        bound = 1 + clip if A > 0 else 1 - clip
        total = total - (bound * A if too_far else ratio * A)
    return total / len(gain)


def _value(theirs: Any, now: Tensor, before: Tensor, gain: Tensor, clip: float, exam: Exam) -> None:
    ratio = (now - before).exp()

    def loss(of: Tensor, choose: Callable[[Tensor, Tensor], Tensor] = torch.minimum) -> Tensor:
        return -choose(of * gain, of.clamp(1 - clip, 1 + clip) * gain).mean()

    right = _step_by_step(now, before, gain, clip)
    spread = (gain - gain.mean()) / gain.std()
    exam.same(
        theirs.clipped_loss(now, before, gain, clip),
        right.item(),
        f"your loss with epsilon = {clip:.3g}",
        unless={
            "the sign is wrong: what is made small is the negative of the objective": -right,
            "that is the sum over the steps; the mean is asked for": right * len(gain),
            "the minimum is missing: a ratio that has moved the wrong way is clipped too, and nothing brings it back": (
                -(ratio.clamp(1 - clip, 1 + clip) * gain).mean()
            ),
            "nothing is clipped: that is the plain surrogate, which gains by any ratio": -(ratio * gain).mean(),
            "the larger of the two is taken: the objective is the smaller, a bound from below": loss(
                ratio, torch.maximum
            ),
            "the ratio is a difference of logarithms without its exponential": loss(now - before),
            "the ratio is the wrong way round: it is the new policy's probability over the old one's": loss(1 / ratio),
            "the ratio is that of the log-probabilities: it is exp(log_p - log_p_before)": loss(now / before),
            "the bounds are -epsilon and epsilon: the ratio is held near 1, not near 0": (
                -torch.minimum(ratio * gain, ratio.clamp(-clip, clip) * gain).mean()
            ),
            "the ratio is clipped from above alone: with a negative advantage it is clipped from below": (
                -torch.minimum(ratio * gain, ratio.clamp(max=1 + clip) * gain).mean()
            ),
            "the product of ratio and advantage is clipped: clip the ratio, and multiply then": (
                -torch.minimum(ratio * gain, (ratio * gain).clamp(1 - clip, 1 + clip)).mean()
            ),
            "the advantages are standardised here: they count as they are": (
                -torch.minimum(ratio * spread, ratio.clamp(1 - clip, 1 + clip) * spread).mean()
            ),
        },
        tolerance=FINE,
    )


def _constants(theirs: Any, exam: Exam) -> None:
    now, before, gain, clip = _given(exam)
    constants = {"log_p_before": before.requires_grad_(), "advantages": gain.requires_grad_()}
    loss = theirs.clipped_loss(now.requires_grad_(), before, gain, clip)
    exam.ask(
        getattr(loss, "requires_grad", False),
        "no gradient can flow through your loss to log_p: only log_p_before and advantages are constants",
    )
    flows = torch.autograd.grad(loss, list(constants.values()), allow_unused=True)
    for name, gradient in zip(constants, flows, strict=True):
        exam.ask(
            gradient is None or not bool(gradient.any()),
            f"a gradient flows to {name}: these are constants, which tell what was played, and are not learned",
        )


def _unmoved(theirs: Any, exam: Exam) -> None:
    """Ask that at the policy that played the gradient is the policy gradient, - A / N."""
    _, before, gain, clip = _given(exam)
    now = before.clone().requires_grad_()
    (got,) = torch.autograd.grad(theirs.clipped_loss(now, before, gain, clip), [now])
    exam.same(
        got,
        -gain / len(gain),
        "where the policy has not moved yet, the gradient of your loss, which is the policy gradient - A / N,",
        axes=("step",),
    )


def _near(theirs: Any, exam: Exam) -> None:
    """Ask for the fraction where the ratio, its inverse and its logarithm lie on different sides of the bounds."""
    clip = exam.random.uniform(0.3, 0.4)
    above, between, below = 1 + clip, math.exp(clip), 1 / (1 - clip)
    near = [(above + between) / 2] * 3 + [(between + below) / 2, (1 - clip + math.exp(-clip)) / 2, 0.4]
    before = -exam.uniform(len(near), low=1.0, high=3.0)
    _fraction(theirs, before + torch.tensor(near).log()[exam.permutation(len(near))], before, clip, exam)


def _fraction(theirs: Any, now: Tensor, before: Tensor, clip: float, exam: Exam) -> None:
    ratio = (now - before).exp()
    above, below = (ratio > 1 + clip).float(), (ratio < 1 - clip).float()
    exam.same(
        theirs.clip_fraction(now, before, clip),
        (above + below).mean().item(),
        f"your clip fraction with epsilon = {clip:.3g}",
        unless={
            "only ratios above 1 + epsilon are counted: those below 1 - epsilon are as far from 1": above.mean(),
            "only ratios below 1 - epsilon are counted: those above 1 + epsilon are as far from 1": below.mean(),
            "that is the share of the ratios within the bounds": 1 - (above + below).mean(),
            "that is the number of steps; their share is asked for": (above + below).sum(),
            "the difference of the log-probabilities is measured, not that of the ratio from 1": (
                ((now - before - 1).abs() > clip).float().mean()
            ),
            "the logarithm of the ratio is measured: it is the ratio that is further than epsilon from 1": (
                ((now - before).abs() > clip).float().mean()
            ),
            "the ratio counted is the wrong way round: it is the new policy's probability over the old one's": (
                (((before - now).exp() - 1).abs() > clip).float().mean()
            ),
        },
    )
