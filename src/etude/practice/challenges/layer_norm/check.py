"""Whether a layer norm measures each vector by itself, by the right variance."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from etude.practice.exam import Exam

EPSILON = 1e-5


def check(theirs: Any, exam: Exam) -> None:
    """Ask with vectors of several shapes, then small ones, then constant ones, and for the gradient."""
    B, T, D = exam.sizes(3, least=3)
    for shape in ((T, D), (D,), (B, T, D)):
        x, gain, bias = _vectors(exam, *shape), exam.normal(D) + 2.0, exam.normal(D)
        got = theirs.layer_norm(x, gain, bias)
        exam.shaped(got, shape, "your layer_norm")
        exam.same(got, _norm(x, gain, bias), "your layer_norm", unless=_mistakes(x, gain, bias))
    gain, bias = torch.ones(D), torch.zeros(D)
    small = _vectors(exam, T, D) * 2e-3
    deviation = small.var(-1, correction=0, keepdim=True).sqrt()
    centred = small - small.mean(-1, keepdim=True)
    exam.same(
        theirs.layer_norm(small, gain, bias),
        _norm(small, gain, bias),
        "your layer_norm of vectors near 0",
        unless={
            "epsilon is added outside the root, to the standard deviation: it belongs to the variance": (
                centred / (deviation + EPSILON)
            ),
            "vectors near 0 are normalised without epsilon: the variance is that small, too": centred / deviation,
        },
    )
    x, large = _vectors(exam, T, D), 0.5 + float(exam.uniform())
    exam.same(
        theirs.layer_norm(x, gain, bias, large),
        F.layer_norm(x, (D,), gain, bias, large),
        f"your layer_norm with epsilon {large:.4g}",
        unless={"epsilon is 1e-5 in your layer_norm, whatever is asked for": _norm(x, gain, bias)},
    )
    same, bias = exam.integers(9, T, 1).float().expand(T, D), exam.normal(D)
    exam.same(theirs.layer_norm(same, gain, bias), bias.expand(T, D), "your layer_norm of vectors of equal coordinates")
    given = {"x": _vectors(exam, T, D), "gain": exam.normal(D) + 2.0, "bias": exam.normal(D)}
    exam.gradients(theirs.layer_norm, _norm, given, "your layer_norm")


def _vectors(exam: Exam, *shape: int) -> Tensor:
    """Return vectors whose means are far from 0 and whose spread is far from 1 and never near 0."""
    wave = torch.tensor([1.0, -1.0, 0.5]).repeat(shape[-1])[: shape[-1]] + 0.3 * exam.normal(*shape)
    return wave * exam.uniform(*shape[:-1], 1, low=1.5, high=2.5) + exam.uniform(*shape[:-1], 1, low=2.0, high=3.0)


def _norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, gain.shape, gain, bias, EPSILON)


def _mistakes(x: Tensor, gain: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Return what the usual mistakes give."""
    centred, plain = x - x.mean(-1, keepdim=True), _norm(x, torch.ones_like(gain), torch.zeros_like(bias))
    variance = centred.square().mean(-1, keepdim=True)
    across = [x - x.mean(axis, keepdim=True) for axis in range(x.ndim - 1)]
    told = {
        "the variance is divided by D - 1: it is the mean of the D squares (correction=0 in torch.var)": (
            centred / (x.var(-1, keepdim=True) + EPSILON).sqrt() * gain + bias
        ),
        "your vectors are divided by the variance, not by its root": centred / (variance + EPSILON) * gain + bias,
        "the mean is not taken away: this is the root mean square norm": (
            x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt() * gain + bias
        ),
        "the mean is not taken away from what is divided by the standard deviation": (
            x / (variance + EPSILON).sqrt() * gain + bias
        ),
        "your vectors are centred but not divided by anything": centred * gain + bias,
        "gain and bias have no effect": plain,
        "the normalised vector is multiplied by gain + bias: the gain multiplies it, and the bias is added after": (
            plain * (gain + bias)
        ),
        "the bias is added before the gain multiplies: it is added after": (plain + bias) * gain,
        "the gain has no effect": plain + bias,
        "the bias has no effect": plain * gain,
    }
    for axis, moved in enumerate(across):
        spread = (moved.square().mean(axis, keepdim=True) + EPSILON).sqrt()
        why = f"mean and variance run over the wrong axis ({axis}): each vector is measured along its own last axis"
        told[why] = moved / spread * gain + bias
    if x.ndim > 1:
        every = (x - x.mean()) / (x.var(correction=0) + EPSILON).sqrt()
        told["one mean and one variance serve all vectors: each has its own"] = every * gain + bias
    return told
