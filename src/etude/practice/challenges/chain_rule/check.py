"""Whether a backward pass written by hand gives what automatic differentiation gives."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

NAMES = ("x", "W_1", "b_1", "W_2", "b_2")


def check(theirs: Any, exam: Exam) -> None:
    """Ask with all widths equal, so that a missing transpose is seen, then with all different, and with one row."""
    N, D, F, M = exam.sizes(4)
    for sizes in ((N, D, D, D), (N, D, F, M), (1, D, F, M)):
        values, g = _values(exam, *sizes), exam.normal(sizes[0], sizes[3])
        got, want = theirs.gradients(*values.values(), g), _automatic(values, g)
        exam.ask(isinstance(got, dict), "gradients returns a dict, from the five names to the five gradients")
        missing = [name for name in NAMES if name not in got]
        exam.ask(not missing, f"your gradients have no {', '.join(map(repr, missing))}")
        mistakes = _mistakes(**values, g=g)
        for name in ("b_2", "W_2", "W_1", "b_1", "x"):
            known = mistakes[name] | _averaged(want, name, sizes[0])
            exam.same(got[name], want[name], f"your gradient of {name}", unless=known)


def _values(exam: Exam, N: int, D: int, F: int, M: int) -> dict[str, Tensor]:
    """Return rows, maps and biases under which tanh is neither straight nor flat."""
    return {
        "x": exam.normal(N, D),
        "W_1": exam.normal(D, F, scale=D**-0.5),
        "b_1": exam.normal(F, scale=0.5),
        "W_2": exam.normal(F, M),
        "b_2": exam.normal(M),
    }


def _automatic(values: dict[str, Tensor], g: Tensor) -> dict[str, Tensor]:
    """Return the gradients by automatic differentiation, in double precision."""
    leaves = {name: value.double().requires_grad_() for name, value in values.items()}
    h = torch.tanh(leaves["x"] @ leaves["W_1"] + leaves["b_1"])
    y = h @ leaves["W_2"] + leaves["b_2"]
    found = torch.autograd.grad((y * g.double()).sum(), list(leaves.values()))
    return {name: each.float() for name, each in zip(leaves, found, strict=True)}


def _averaged(want: dict[str, Tensor], name: str, rows: int) -> dict[str, Tensor]:
    """Return what is to be said of a gradient that is right but for its scale."""
    return {
        f"your gradient of {name} averages over the rows: each row adds its part, and nothing is divided by N": (
            want[name] / rows
        ),
        f"your gradient of {name} has the wrong sign": -want[name],
    }


def _mistakes(
    x: Tensor, W_1: Tensor, b_1: Tensor, W_2: Tensor, b_2: Tensor, g: Tensor
) -> dict[str, dict[str, Tensor | None]]:
    """Return what the usual mistakes give, by the name of the gradient. Shapes do not allow some of them."""
    a = x @ W_1 + b_1
    h, g_h = a.tanh(), g @ W_2.mT
    square = W_1.shape[0] == W_1.shape[1] == W_2.shape[1]
    slope = 1 - h.square()
    back = {
        "it is taken without the derivative of tanh, 1 - h²": g_h,
        "the derivative of tanh is taken at h: it is 1 - tanh(a)², which is 1 - h²": g_h * (1 - h.tanh().square()),
        "the derivative of tanh is 1 - h², and yours is 1 - h": g_h * (1 - h),
        "the derivative of tanh is 1 - h², and yours is h²": g_h * h.square(),
        "on the way from y to h, W_2 is not transposed: entry f of h is multiplied by row f of W_2": (
            g @ W_2 * slope if square else None
        ),
    }

    def through(name: str, last: Any) -> dict[str, Tensor | None]:
        return {f"your gradient of {name}: {why}": None if each is None else last(each) for why, each in back.items()}

    return {
        "b_2": {"your gradient of b_2 is not summed over rows: b_2 is added to each, and is [M]": g},
        "W_2": {
            "your gradient of W_2 has a where h belongs: y is made from h": a.mT @ g,
            "your gradient of W_2 is transposed": g.mT @ h,
        },
        "b_1": {
            "your gradient of b_1 is not summed over rows: b_1 is added to each, and is [F]": g_h * slope,
            "your gradient of b_1 is that of h, summed: b_1 is added before tanh, whose derivative is 1 - h²": (
                g_h.sum(0)
            ),
        }
        | through("b_1", lambda each: each.sum(0)),
        "W_1": {"your gradient of W_1 is transposed": (g_h * slope).mT @ x} | through("W_1", lambda each: x.mT @ each),
        "x": {
            "on the way from a to x, W_1 is not transposed: entry d of x is multiplied by row d of W_1": (
                (g_h * slope) @ W_1 if square else None
            )
        }
        | through("x", lambda each: each @ W_1.mT),
    }
