"""What a check asks with: numbers that differ each time, and words for what is wrong.

A challenge's `check.py` has one function, `check(theirs, exam)`. It calls the learner's functions as attributes of
`theirs` and returns where all is well; anything wrong raises `Wrong`, in words of mathematics.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close, difference, misformed, place, shown

TOLERANCE = 1e-4


class Wrong(Exception):
    """What is wrong with an answer, said to the learner."""


class Exam:
    """One asking, with numbers of its own.

    Attributes:
        seed: that all of them come from.
        random: for Python's own draws.
        generator: for PyTorch's.
        shown: what the check keeps to be drawn later.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.shown: dict[str, Any] = {}

    def sizes(self, count: int, least: int = 2, most: int = 9) -> list[int]:
        """Return that many sizes, all different, so that an axis taken for another is seen."""
        return self.random.sample(range(least, most + 1), count)

    def normal(self, *shape: int, scale: float = 1.0, grad: bool = False) -> Tensor:
        """Return draws from a normal distribution, `[*shape]`."""
        return (torch.randn(shape, generator=self.generator) * scale).requires_grad_(grad)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return draws between two bounds, `[*shape]`."""
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def integers(self, high: int, *shape: int, low: int = 0) -> Tensor:
        """Return whole numbers from `low` up to `high`, which is left out, `[*shape]`."""
        return torch.randint(low, high, shape, generator=self.generator)

    def permutation(self, n: int) -> Tensor:
        """Return 0 to n - 1 in some order."""
        return torch.randperm(n, generator=self.generator)

    def same(
        self,
        got: Any,
        want: Any,
        what: str,
        *,
        unless: Mapping[str, Any] | None = None,
        axes: Sequence[str] = (),
        tolerance: float = TOLERANCE,
    ) -> None:
        """Ask that a value is right, and where it is not, say why, as far as it can be told.

        Args:
            got: the learner's value: a tensor, number, word, list or dict.
            want: the right one.
            what: its name in a sentence, as in `your pattern`.
            unless: what a known mistake would have given, by what is then said. The first that fits is said.
            axes: names of a tensor's axes.
            tolerance: absolute and relative.

        Raises:
            Wrong: it is not right.
        """
        if not (said := difference(got, want, what, tuple(axes), tolerance)):
            return
        for why, mistaken in (unless or {}).items():
            if close(got, mistaken, tolerance):
                raise Wrong(f"{why}\n({said})")
        raise Wrong(said)

    def shaped(self, got: Any, shape: Sequence[int], what: str, axes: Sequence[str] = ()) -> None:
        """Ask that a value is a tensor of real numbers of a shape; for what has to be seen before values are compared.

        Raises:
            Wrong: it is not.
        """
        if said := misformed(got, torch.zeros(tuple(shape)), what, tuple(axes)):
            raise Wrong(said)

    def ask(self, holds: bool, otherwise: str) -> None:
        """Ask that something holds.

        Raises:
            Wrong: it does not.
        """
        if not holds:
            raise Wrong(otherwise)

    def sums_to_one(self, got: Tensor, what: str, *, axis: int = -1, row: str = "row") -> None:
        """Ask that the entries along an axis are a distribution: none negative, summing to 1.

        Raises:
            Wrong: they are not; the first that is not is named with its sum.
        """
        if got.numel() and float(got.min()) < -TOLERANCE:
            at = tuple((got < -TOLERANCE).nonzero()[0].tolist())
            raise Wrong(f"{what} is {shown(got[at])} at {place(at, ())}: a share cannot be negative")
        sums = got.sum(axis)
        off = (sums - 1).abs() > 1e-3
        if not off.any():
            return
        at = tuple(off.nonzero()[0].tolist())
        across = got.sum(-2 if axis in (-1, got.ndim - 1) else -1) if got.ndim > 1 else sums
        turned = close(across, torch.ones_like(across), 1e-3)
        hint = " (its columns do: the sum runs over the wrong axis)" if turned else ""
        if not hint and close(got.sum(), torch.ones(()), 1e-3):
            hint = " (all entries together do: each row is to be divided by its own sum)"
        where = f"{row} {at[-1]}" if len(at) == 1 else f"{row} {at[-1]} of {place(at[:-1], ())}" if at else what
        raise Wrong(f"{where} of {what} sums to {shown(sums[at])}, not to 1{hint}")

    def looks_back_only(self, pattern: Tensor, what: str = "your pattern") -> None:
        """Ask that no query attends to a key in its future: `pattern` is `[..., query, key]`.

        Raises:
            Wrong: one does.
        """
        ahead = pattern.detach().abs().triu(1) > 1e-6
        if ahead.any():
            *before, query, key = ahead.nonzero()[0].tolist()
            inside = f" (in {place(tuple(before), ())})" if before else ""
            raise Wrong(
                f"in {what} position {query} attends to position {key}, which is in its future,"
                f" with {shown(pattern[(*before, query, key)])}{inside}"
            )

    def gradients(
        self,
        theirs: Callable[..., Any],
        ours: Callable[..., Any],
        inputs: Mapping[str, Tensor],
        what: str,
    ) -> None:
        """Ask that gradients flow back to each input as they should.

        Args:
            theirs: from inputs, by position, to a tensor.
            ours: the same, right.
            inputs: by name, of real numbers.
            what: names the output.

        Raises:
            Wrong: the output hangs on no input any more, or a gradient differs.
        """
        leaves = [[each.detach().clone().requires_grad_() for each in inputs.values()] for _ in range(2)]
        outs = [f(*given) for f, given in zip((theirs, ours), leaves, strict=True)]
        if not isinstance(outs[0], Tensor) or not outs[0].requires_grad:
            raise Wrong(
                f"no gradient can flow through {what}: it does not depend on its inputs any more"
                " (did it pass through .item(), .detach(), .tolist(), NumPy or torch.tensor?)"
            )
        if said := misformed(outs[0], outs[1], what):
            raise Wrong(said)
        weights = torch.randn(outs[1].shape, generator=self.generator)
        pairs = [
            torch.autograd.grad((out * weights).sum(), given, allow_unused=True)
            for out, given in zip(outs, leaves, strict=True)
        ]
        for name, got, want in zip(inputs, *pairs, strict=True):
            if got is None and want is not None and want.abs().max() > 1e-8:
                raise Wrong(f"{what} does not depend on {name}: its gradient there is nothing at all")
            if want is not None and got is not None:
                self.same(got, want, f"the gradient of {what} with respect to {name}", tolerance=1e-3)

    def show(self, name: str, series: Sequence[float]) -> None:
        """Keep a series, as in the losses of a training, for the page."""
        self.shown[name] = [float(value) for value in series]
