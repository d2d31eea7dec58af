"""Whether the loss is of the steps at which the expert is there, and nothing comes from others, not even a nan."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

FINE = 1e-5
"""Tolerance of a loss, so that no two mistakes come to the same by chance."""


def check(theirs: Any, exam: Exam) -> None:
    """Ask with numbers that mean nothing where the expert is absent, with nan, and with nobody there."""
    for _ in range(2):
        _value(theirs, *_given(exam), exam)
    _everywhere(theirs, exam)
    _unknown(theirs, exam)
    _nobody(theirs, exam)
    _once(theirs, exam)


def _given(exam: Exam) -> tuple[Tensor, Tensor, Tensor]:
    """Return predictions and positions that are never equal, and an expert that is there for a part."""
    steps, worlds, width = *exam.sizes(2, least=4), exam.random.choice((2, 3))
    off = exam.uniform(steps, worlds, width, low=0.3, high=3.0) * (exam.integers(2, steps, worlds, width) * 2 - 1)
    towards = exam.normal(steps, worlds, width, scale=3.0)
    present = exam.uniform(steps, worlds) < 0.6
    present[0, 0], present[1, 0], present[:, 1] = True, False, False
    while int(present.sum()) * width == steps * worlds:  # dividing by all steps would be dividing by the coordinates
        present[2:, 2:] = exam.uniform(steps - 2, worlds - 2) < 0.6
    return towards + off, towards, present


def _slow(predicted: Tensor, towards: Tensor, present: Tensor) -> Tensor:
    """Return the mean over steps by going through them."""
    found = [
        sum(abs(p - q) for p, q in zip(predicted[t, b], towards[t, b], strict=True))
        for t, b in present.nonzero().tolist()
    ]
    return torch.stack([torch.as_tensor(each) for each in found]).mean()


def _value(theirs: Any, predicted: Tensor, towards: Tensor, present: Tensor, exam: Exam) -> None:
    off, there, width = (predicted - towards).abs(), present.float(), predicted.shape[-1]
    seen = off.sum(-1) * there
    right = _slow(predicted, towards, present)
    squares = (off**2).sum(-1)
    by_world = (seen.sum(0) / there.sum(0).clamp(min=1)).mean()
    exam.same(
        theirs.attention_loss(predicted, towards, present),
        right.item(),
        "your loss",
        unless={
            "steps without the expert count as well: what stands in towards there means nothing": off.sum(-1).mean(),
            "steps without the expert count as well, and the coordinates are averaged": off.mean(),
            "the sum is divided by all steps: the mean is over those at which the expert is present": seen.mean(),
            "the coordinates are averaged: the L1 distance of a step is their sum": right / width,
            "the coordinates are averaged, and the sum is divided by all steps": seen.mean() / width,
            "that is the sum over the steps; the mean over those with the expert is asked for": seen.sum(),
            "the differences are squared: the L1 distance has their absolute values": (
                (squares * there).sum() / there.sum()
            ),
            "that is the Euclidean distance: the L1 distance is the sum of the absolute values": (
                (squares.sqrt() * there).sum() / there.sum()
            ),
            "the steps without the expert count, and those with it do not": (
                (off.sum(-1) * (1 - there)).sum() / (1 - there).sum()
            ),
            "the differences are summed with their signs: errors to the left and right must not cancel": (
                ((predicted - towards).sum(-1) * there).sum() / there.sum()
            ),
            "each world's mean is taken first, and then theirs: all steps with the expert count alike": by_world,
        },
        tolerance=FINE,
    )


def _everywhere(theirs: Any, exam: Exam) -> None:
    predicted, towards, present = _given(exam)
    exam.gradients(
        lambda predicted: theirs.attention_loss(predicted, towards, present) * present.sum(),
        lambda predicted: _slow(predicted, towards, present) * present.sum(),
        {"predicted": predicted},
        "your loss, times the number of steps with the expert,",
    )


def _unknown(theirs: Any, exam: Exam) -> None:
    """Ask where positions are nan unless the expert is there."""
    predicted, towards, present = _given(exam)
    towards[~present] = torch.nan
    loss = theirs.attention_loss(predicted.requires_grad_(), towards, present)
    exam.ask(
        not bool(torch.as_tensor(loss).isnan()),
        "towards is nan where the expert is absent, and so is your loss: 0 times nan is nan. Choose what counts, and do"
        " not multiply by 0",
    )
    (gradient,) = torch.autograd.grad(loss, [predicted])
    exam.ask(
        not bool(gradient.isnan().any()),
        "your loss is a number, and its gradient is nan at steps without the expert: put 0 in the place of the"
        " difference there before anything else is done with it",
    )
    exam.same(
        gradient * present.sum(),
        torch.where(present[..., None], (predicted.detach() - towards).sign(), 0.0),
        "the gradient of your loss, times the number of steps with the expert, where towards is nan elsewhere,",
        axes=("step", "world", "coordinate"),
    )


def _once(theirs: Any, exam: Exam) -> None:
    predicted, towards, present = _given(exam)
    once = torch.zeros_like(present)
    once[0, 0] = True
    right = _slow(predicted, towards, once).item()
    exam.same(theirs.attention_loss(predicted, towards, once), right, "your loss where the expert is there once")


def _nobody(theirs: Any, exam: Exam) -> None:
    predicted, towards, present = _given(exam)
    loss = theirs.attention_loss(predicted.requires_grad_(), towards, torch.zeros_like(present))
    exam.ask(
        not bool(torch.as_tensor(loss).isnan()),
        "where the expert is nowhere your loss is nan: a mean over no steps is 0 / 0. It has to be 0",
    )
    exam.same(loss, 0.0, "your loss where the expert is nowhere")
    exam.ask(
        getattr(loss, "requires_grad", False),
        "where the expert is nowhere your loss is a constant, and backward() fails on it: it has to hang on predicted"
        " still, with a gradient of 0",
    )
    (gradient,) = torch.autograd.grad(loss, [predicted], allow_unused=True)
    flat = torch.zeros_like(predicted) if gradient is None else gradient
    exam.same(flat, torch.zeros_like(predicted), "the gradient of your loss where the expert is nowhere")
