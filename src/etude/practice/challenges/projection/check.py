"""Whether a vector is split into its part in a span and a remainder perpendicular to it."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close, shown
from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask of spans of one, several and all dimensions, of x of several shapes, and for the gradient."""
    K, batch, rows, D = *exam.sizes(3, most=5), 7
    for shape, count in (((D,), 1), ((D,), K), ((rows, D), K), ((batch, rows, D), 2), ((rows, D), D)):
        vectors, x = _vectors(exam, count, D), exam.normal(*shape, scale=2.0)
        part, remainder = theirs.project(x, vectors)
        exam.shaped(part, shape, "your part")
        exam.shaped(remainder, shape, "your remainder")
        want = _nearest(x, vectors)
        exam.ask(
            close(part, want, 1e-3) or not (close(part, x - want, 1e-3) and close(remainder, want, 1e-3)),
            "the two are swapped: first comes the part in the span, then the remainder",
        )
        exam.same(part, want, "your part", unless=_mistakes(x, vectors, part), tolerance=1e-3)
        exam.same(
            remainder,
            x - want,
            "your remainder",
            unless={"the remainder points the other way: it is x - part, so that the two add up to x": want - x},
            tolerance=1e-3,
        )
    vectors = _vectors(exam, K, D)
    for n, name in enumerate(("your part", "your remainder")):
        exam.gradients(
            lambda x, A, n=n: theirs.project(x, A)[n],
            lambda x, A, n=n: (_nearest(x, A), x - _nearest(x, A))[n],
            {"x": exam.normal(rows, D), "the vectors": vectors},
            name,
        )


def _vectors(exam: Exam, count: int, D: int) -> Tensor:
    """Return independent vectors, [count, D], that lean on one another and have lengths of their own."""
    axes = torch.linalg.qr(exam.normal(D, D)).Q[:count]
    lengths = exam.uniform(count, low=1.2, high=1.8)
    lean = exam.uniform(count, count, low=0.4, high=0.7) * (1 - 2 * exam.integers(2, count, count)).float()
    return (lean.tril(-1) + torch.diag(lengths)) @ axes


def _nearest(x: Tensor, vectors: Tensor) -> Tensor:
    """Return the projection onto the span, by way of an orthonormal basis of it."""
    basis = torch.linalg.qr(vectors.T.double()).Q
    return (x.double() @ basis @ basis.T).float()


def _mistakes(x: Tensor, vectors: Tensor, part: Tensor) -> dict[str, Tensor]:
    """Return what known mistakes give for the part, by what is said of them."""
    plain = x @ vectors.T @ vectors
    lengths = vectors / vectors.norm(dim=-1, keepdim=True)
    rest = x
    for unit in lengths:
        rest = rest - (rest @ unit)[..., None] * unit
    leaning = ((x - part) @ vectors.T).reshape(-1, len(vectors))[0]
    worst = int(leaning.abs().argmax())
    within = close(part, _nearest(part, vectors), 1e-3)
    said = {
        "the coefficients are the inner products of x with the vectors: right only if the vectors were orthonormal."
        " Their own inner products, A A^T, have to be undone": plain,
        "each vector is divided by its length, but the parts along them are added as if they were perpendicular:"
        " what two vectors share is counted twice": x @ lengths.T @ lengths,
        "the vectors are taken away one after another: taking away the second brings some of the first back, unless"
        " they are perpendicular": x - rest,
    }
    if not within:
        return {**said, "your part is not in the span: it is no sum of multiples of the vectors": part}
    return {
        **said,
        f"your part is in the span, but is not the nearest point: x - part has inner product {shown(leaning[worst])}"
        f" with vector {worst}, and should be perpendicular to it": part,
    }
