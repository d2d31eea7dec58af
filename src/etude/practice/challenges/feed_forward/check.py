"""Whether a GELU is exact and stands between the two maps."""

import math
from typing import Any

import torch
from scipy.special import ndtr
from torch import Tensor
from torch.nn import functional as F

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for GELU from -5 to 5 and far outside, then for the whole network, and for the gradients of both."""
    _check_gelu(theirs, exam)
    _check_feed_forward(theirs, exam)


def _check_gelu(theirs: Any, exam: Exam) -> None:
    x = torch.linspace(-5.0, 5.0, 60) + exam.uniform(60, low=-0.05, high=0.05)
    got, below = theirs.gelu(x), torch.as_tensor(ndtr(x.double().numpy())).float()
    exam.same(
        got,
        x * below,
        "your gelu(x), for x from -5 to 5",
        unless={
            "this is ReLU: gelu is smooth, and a little below 0 for negative numbers": x.clamp(min=0),
            "this is the approximation with tanh: asked for is the exact one, with erf": F.gelu(x, approximate="tanh"),
            "this is the approximation with a sigmoid of 1.702 x: asked for is the exact one, with erf": (
                x * torch.sigmoid(1.702 * x)
            ),
            "this is x times its sigmoid (SiLU): the share is that of the normal distribution": F.silu(x),
            "erf is taken of x itself, not of x / √2: erf belongs to a normal distribution of variance 1/2": x
            * (1 + torch.erf(x))
            / 2,
            "your result is twice gelu(x): Φ goes from 0 to 1, and 1 + erf from 0 to 2": 2 * x * below,
            "this is Φ(x) alone: x is still to be multiplied by it": below,
            "this is x erf(x / √2), without the 1 and the half in Φ": x * torch.erf(x / math.sqrt(2)),
        },
    )
    far = torch.tensor([[-1000.0, -30.0, 0.0], [0.0, 30.0, 1000.0]])
    exam.same(theirs.gelu(far), far.clamp(min=0), "your gelu far from 0 and at 0")
    exam.gradients(theirs.gelu, F.gelu, {"x": exam.normal(4, 5, scale=2.0)}, "your gelu")


def _check_feed_forward(theirs: Any, exam: Exam) -> None:
    B, T, D, width = exam.sizes(4)
    for many in ((B, T), (), (B,)):
        x, (W_in, b_in, W_out, b_out) = exam.normal(*many, D), _weights(exam, D, width)
        want, hidden = _network(x, W_in, b_in, W_out, b_out), x @ W_in + b_in
        exam.same(
            theirs.feed_forward(x, W_in, b_in, W_out, b_out),
            want,
            "your feed_forward(x)",
            unless={
                "nothing stands between the two maps, so that both are one affine map: gelu belongs there": (
                    hidden @ W_out + b_out
                ),
                "b_in is added after gelu: it belongs to what gelu is given": (F.gelu(x @ W_in) + b_in) @ W_out + b_out,
                "x is added to your output: the block adds it, the network returns what it writes alone": want + x,
                "b_in has no effect": F.gelu(x @ W_in) @ W_out + b_out,
                "b_out has no effect": want - b_out,
                "gelu stands after the second map, too: it stands between the two alone": F.gelu(want),
                "gelu stands after the second map: it stands between the two": F.gelu(hidden @ W_out + b_out),
            },
        )
    given = (exam.normal(B, T, D), *_weights(exam, D, width))
    exam.gradients(
        theirs.feed_forward,
        _network,
        dict(zip(("x", "W_in", "b_in", "W_out", "b_out"), given, strict=True)),
        "your feed_forward",
    )


def _weights(exam: Exam, D: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    into, back = exam.normal(D, width, scale=D**-0.5), exam.normal(width, D, scale=width**-0.5)
    return into, exam.normal(width), back, exam.normal(D)


def _network(x: Tensor, W_in: Tensor, b_in: Tensor, W_out: Tensor, b_out: Tensor) -> Tensor:
    """Return the same by PyTorch's functions, which want each map transposed."""
    return F.linear(F.gelu(F.linear(x, W_in.mT, b_in)), W_out.mT, b_out)
