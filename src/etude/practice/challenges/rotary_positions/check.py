"""Whether a rotation is one, by the right angles, so that products hang on distances alone."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close
from etude.practice.exam import TOLERANCE, Exam

BASE = 10_000.0
AXES = ("position", "coordinate")


def check(theirs: Any, exam: Exam) -> None:
    """Ask with several shapes and positions in any order, for lengths, for relative positions, and for the gradient."""
    B, H, T = exam.sizes(3, least=3)
    K = 2 * exam.random.randint(3, 8)
    later = exam.permutation(3 * T)[:T] + 2
    for many, width, positions in (((), 4, torch.arange(1, 4)), ((), K, later), ((B, H), K, later), ((B,), 2, later)):
        x = exam.normal(*many, len(positions), width)
        got = theirs.rotary_positions(x, positions)
        exam.shaped(got, x.shape, "your result")
        exam.same(
            got,
            _turned(x, positions),
            "your result",
            axes=AXES,
            unless=_mistakes(x, positions) | _properties(theirs, x, got),
        )
    x, positions, base = exam.normal(T, K), exam.permutation(3 * T)[:T], 50.0 + 50.0 * float(exam.uniform())
    exam.same(
        theirs.rotary_positions(x, positions, base),
        _turned(x, positions, base),
        f"your result with base {base:.4g}",
        unless={"the base is 10000 in your angles, whatever is asked for": _turned(x, positions)},
    )
    exam.same(theirs.rotary_positions(x[:1], torch.tensor([0])), x[:1], "your result at position 0, where no angle is")
    _check_relative(theirs, exam, T, K)
    exam.gradients(
        lambda x: theirs.rotary_positions(x, positions), lambda x: _turned(x, positions), {"x": x}, "your result"
    )


def _check_relative(theirs: Any, exam: Exam, T: int, K: int) -> None:
    """Ask that moving a query and a key together leaves their product as it is."""
    q, k, positions, moved = exam.normal(T, K), exam.normal(T, K), torch.arange(T), exam.random.randint(2, 9)
    first, second = (
        theirs.rotary_positions(q, at) @ theirs.rotary_positions(k, at).mT for at in (positions, positions + moved)
    )
    exam.same(
        second,
        first,
        f"the products of turned queries and keys, all of them {moved} positions later (they should be as before)",
        tolerance=1e-3,
    )


def _turned(x: Tensor, positions: Tensor, base: float = BASE, exponent: float = 2.0, sign: float = 1.0) -> Tensor:
    """Return the pairs as complex numbers, multiplied by exp(iφ)."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).double().contiguous())
    turns = pairs * torch.exp(1j * sign * _angle(x, positions, base, exponent))
    return torch.view_as_real(turns).flatten(-2).to(x.dtype)


def _angle(x: Tensor, positions: Tensor, base: float = BASE, exponent: float = 2.0) -> Tensor:
    rates = [base ** (-exponent * i / x.shape[-1]) for i in range(x.shape[-1] // 2)]
    return torch.outer(positions.double(), torch.tensor(rates, dtype=torch.float64))


def _mistakes(x: Tensor, positions: Tensor) -> dict[str, Tensor]:
    """Return what the usual mistakes give."""
    halves = torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2)
    right, of_halves = _turned(x, positions), _turned(halves, positions)
    return {
        "your pairs are turned the other way: see which of the two products with sin has the minus": (
            _turned(x, positions, sign=-1.0)
        ),
        "your pairs are i and i + K/2, as some code has them: here they are neighbours, 2i and 2i + 1": (
            _apart(of_halves)
        ),
        "the turned pairs are not put back where they were: all first coordinates stand before all second ones": (
            _apart(right)
        ),
        "your pairs all turn at the same rate: pair i has the rate base^(-2i / K)": _turned(x, positions, exponent=0.0),
        "the exponent is half of what it should be: pair i has 2i / K": _turned(x, positions, exponent=1.0),
        "the exponent is twice what it should be: pair i stands at coordinate 2i, and its exponent is 2i / K": (
            _turned(x, positions, exponent=4.0)
        ),
        "your pairs turn faster and faster: the exponent is negative": _turned(x, positions, exponent=-2.0),
        "positions are counted from 0 whatever is asked for: each vector has the position that is given for it": (
            _turned(x, torch.arange(len(positions)))
        ),
    }


def _apart(x: Tensor) -> Tensor:
    """Return the first coordinates of all pairs, and the second ones after them."""
    return torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)


def _properties(theirs: Any, x: Tensor, got: Tensor) -> dict[str, Tensor]:
    """Return what is to be said of a result by what every rotation does, whatever its angles."""
    before, after = (each.detach().unflatten(-1, (-1, 2)).norm(dim=-1) for each in (x, got))
    if not close(before, after, 1e-3):
        return {"the lengths of your pairs change: a rotation leaves them as they are (cos² + sin² = 1)": got}
    start = x[..., :1, :]
    if not close(theirs.rotary_positions(start, torch.tensor([0])), start, TOLERANCE):
        return {"at position 0 every angle is 0 and nothing is turned, but there your result is not x": got}
    return {}
