"""Whether two factors are the best of their rank, and whether their error is told."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close, shown
from etude.practice.exam import Exam

RIGHT = "the error"


def check(theirs: Any, exam: Exam) -> None:
    """Ask of tall, wide and square matrices, at ranks from none to all."""
    wide, narrow = sorted(exam.sizes(2, least=4), reverse=True)
    for M, N in ((wide, narrow), (narrow, wide), (narrow, narrow)):
        W = _matrix(exam, M, N)
        ranks = (2, 1, narrow - 1, narrow, 0)
        errors: list[Tensor] = []
        table: list[dict[str, Tensor]] = []
        for r in ranks:
            A, B, error = theirs.low_rank(W, r)
            turned = (
                isinstance(A, Tensor) and isinstance(B, Tensor) and (*A.shape, *B.shape) == (r, M, N, r) != (M, r, r, N)
            )
            exam.ask(not turned, f"the factors are transposed: A is [{r}, {M}] and should be [{M}, {r}], B the reverse")
            exam.shaped(A, (M, r), "your A", axes=("M", "r"))
            exam.shaped(B, (r, N), "your B", axes=("r", "N"))
            want = _nearest(W, r)
            exam.same(A @ B, want, f"your A B of rank {r}", unless=_mistakes(W, r, A @ B), tolerance=1e-3)
            errors.append(error)
            table.append(_errors(W, r, want))
        wrong = {why: [each[why] for each in table] for why in table[0]}  # one error may be near another by chance
        exam.same(
            errors,
            wrong.pop(RIGHT),
            f"your errors of a {M} by {N} matrix at ranks {ranks}",
            unless=wrong,
            tolerance=1e-3,
        )


def _errors(W: Tensor, r: int, nearest: Tensor) -> dict[str, Tensor]:
    """Return the error, and what known mistakes give for it, by what is said of them."""
    away, whole = (W - nearest).norm(), W.norm()
    values = torch.cat((torch.linalg.svdvals(W), torch.zeros(1)))
    return {
        RIGHT: away / whole,
        "the error is the share of the squares: its root is missing": (away / whole) ** 2,
        "the error is not divided by the norm of W: of a matrix twice as large it would be twice as large": away,
        "the error is a ratio of the greatest singular values alone (the spectral norm): the Frobenius norm sums the"
        " squares of all that are left out": values[r] / values[0],
        "the error sums the singular values, not their squares (the nuclear norm)": values[r:].sum() / values.sum(),
        "the error is the share that is kept, not the one that is lost": nearest.norm() / whole,
        "the error is 1 less the share that is kept: of norms, only the squares add up to 1": 1
        - nearest.norm() / whole,
    }


def _matrix(exam: Exam, M: int, N: int) -> Tensor:
    """Return a matrix whose singular values are well apart."""
    rank = min(M, N)
    left, right = (torch.linalg.qr(exam.normal(side, rank)).Q for side in (M, N))
    values = 2.5 * torch.cumprod(exam.uniform(rank, low=0.6, high=0.8), 0)
    return left * values @ right.T


def _directions(W: Tensor) -> Tensor:
    """Return the eigenvectors of W^T W, the greatest first, in columns, in float64."""
    return torch.linalg.eigh(W.double().T @ W.double()).eigenvectors.flip(1)


def _nearest(W: Tensor, r: int) -> Tensor:
    """Return W on the r directions that it stretches most."""
    most = _directions(W)[:, :r]
    return (W.double() @ most @ most.T).float()


def _mistakes(W: Tensor, r: int, product: Tensor) -> dict[str, Tensor]:
    """Return what known mistakes give for the product, by what is said of them."""
    U, s, Vh = torch.linalg.svd(W, full_matrices=False)
    said = {
        "the smallest singular values are kept: the nearest matrix keeps the greatest": U[:, len(s) - r :]
        * s[len(s) - r :]
        @ Vh[len(s) - r :],
        "the singular values are missing: each of the r terms is as long as every other": U[:, :r] @ Vh[:r],
        "the singular values are in both factors, so the product has their squares": U[:, :r] * s[:r] ** 2 @ Vh[:r],
    }
    if Vh.shape[0] == Vh.shape[1]:
        said["the right singular vectors are the rows of V^T: its columns are taken"] = U[:, :r] * s[:r] @ Vh[:, :r].T
    far, least = (W - product).norm(), (W - _nearest(W, r)).norm()
    if not close(far, least, 1e-3):
        said[
            f"|W - A B| is {shown(far)}, and {shown(least)} can be had at rank {r}: keep the terms of the singular"
            " value decomposition with the greatest singular values"
        ] = product
    return said
