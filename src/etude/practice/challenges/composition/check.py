"""Whether composition scores say how much of what one head writes another one reads."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

Earlier = tuple[Tensor, Tensor]
Later = tuple[Tensor, Tensor, Tensor, Tensor]
AXES = ("kind", "earlier head", "later head")


def check(theirs: Any, exam: Exam) -> None:
    """Ask of random heads, of heads whose weights are twice as large, and of a planted pair."""
    H, G, K, D = exam.sizes(4, most=6)
    for heads, readers, width, inner in ((H, G, max(D, K), min(D, K)), (1, 1, 8, 3), (G, H, 9, 2)):
        earlier, later = _weights(exam, heads, width, inner, 2), _weights(exam, readers, width, inner, 4)
        given: tuple[Earlier, Later] = ((earlier[0], earlier[1].mT), (later[0], later[1], later[2], later[3].mT))
        got = theirs.composition(*given)
        exam.ask(
            not isinstance(got, Tensor) or got.shape != (3, readers, heads) or readers == heads,
            f"the scores have shape [3, {readers}, {heads}]: earlier heads are the rows, so it should be [3, {heads},"
            f" {readers}]",
        )
        exam.shaped(got, (3, heads, readers), "your table of scores", axes=("3", "H", "G"))
        exam.same(got, _score(*given), "your table of scores", unless=_mistakes(*given), axes=AXES, tolerance=1e-3)
    one, two = torch.linalg.qr(exam.normal(7, 7)).Q[:2, None, :]
    any_vector, between = exam.normal(1, 1, 7), (one + two) / 2**0.5
    planted = theirs.composition((any_vector.mT, one[None]), (two.mT[None], one.mT[None], between.mT[None], any_vector))
    exam.same(
        planted[:, 0, 0],
        torch.tensor([0.0, 1.0, 0.5**0.5]),
        "the scores (Q, K, V) of an earlier head that writes one direction, where the later key reads that one, the"
        " query one perpendicular to it, and the value one halfway between,",
        tolerance=1e-3,
    )


def _weights(exam: Exam, heads: int, D: int, K: int, count: int) -> list[Tensor]:
    """Return weights [heads, D, K] with some directions in common, so that scores differ well."""
    common = exam.normal(1, D, 1)
    return [exam.normal(heads, D, K) + common * exam.normal(heads, 1, K, scale=1.5) for _ in range(count)]


def _score(
    earlier: Earlier,
    later: Later,
    kinds: str = "QKV",
    size: Callable[[Tensor], Tensor] = lambda M: M.square().sum().sqrt(),
    joint: Callable[[Tensor, Tensor], Tensor] = lambda C, R: C @ R,
) -> Tensor:
    """Return the scores, pair by pair, in float64. What is given beside the heads makes a mistake of it."""
    W_Q, W_K, W_V, W_O = (weight.double() for weight in later)
    reading = {"Q": W_Q @ W_K.mT, "K": W_K @ W_Q.mT, "V": W_V @ W_O, "v": W_V @ W_V.mT, "q": W_Q, "k": W_K, "w": W_V}
    writing = earlier[0].double() @ earlier[1].double()
    table = [[[size(joint(C, R)) / (size(C) * size(R)) for R in reading[kind]] for C in writing] for kind in kinds]
    return torch.tensor(table)


def _mistakes(earlier: Earlier, later: Later) -> dict[str, Tensor]:
    """Return what known mistakes give, by what is said of them."""
    right = _score(earlier, later)
    C, (W_Q, W_K, W_V, W_O) = earlier[0] @ earlier[1], later
    R = torch.stack((W_Q @ W_K.mT, W_K @ W_Q.mT, W_V @ W_O))
    written, read = C.norm(dim=(-2, -1))[None, :, None], R.norm(dim=(-2, -1))[:, None]
    return {
        "Q and K are swapped: where the earlier head writes to queries, C meets W_Q first": _score(
            earlier, later, "KQV"
        ),
        "the same score stands for Q and for K: the circuit has to be transposed for the other": _score(
            earlier, later, "QQV"
        ),
        "the same score stands for K and for Q: the circuit has to be transposed for the other": _score(
            earlier, later, "KKV"
        ),
        "the product is the wrong way round: the later head reads what the earlier one has written, so C stands before"
        " R": _score(earlier, later, joint=lambda C, R: R @ C),
        "the earlier head's circuit is transposed: it is joined by what it reads, not by what it writes": _score(
            earlier, later, joint=lambda C, R: C.T @ R
        ),
        "the norms are the greatest singular values (the spectral norm): the Frobenius norm sums over all entries": (
            _score(earlier, later, size=lambda M: torch.linalg.matrix_norm(M, 2))
        ),
        "the norms sum absolute values, not squares": _score(earlier, later, size=lambda M: M.abs().sum()),
        "the scores are squared: the root of the sums of squares is missing": right**2,
        "the scores are not divided by the norms: larger weights alone would make them larger": right * written * read,
        "the scores are not divided by the norm of what the later head reads, |R|": right * read,
        "the scores are not divided by the norm of what the earlier head writes, |C|": right * written,
        "the scores are those of W_Q, W_K and W_V alone: R is the whole circuit": _score(earlier, later, "qkw"),
    }
