"""Whether factors of a head are decomposed into orthonormal directions and singular values, at no more than D by K."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from etude.practice.differences import close, shown
from etude.practice.exam import Exam


class _Largest(TorchFunctionMode):
    """Keeps the shape of the largest tensor that is made."""

    shape: tuple[int, ...] = (0,)

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, Tensor) and each.numel() > torch.Size(self.shape).numel():
                self.shape = tuple(each.shape)
        return made


def check(theirs: Any, exam: Exam) -> None:
    """Ask of heads that are thin, square and of width 1, by what a decomposition has to be. Signs are free."""
    K, D = exam.random.randint(3, 5), exam.random.randint(40, 50)
    for width, rank in ((D, K), (7, 1), (6, 5), (4, 4)):
        W_V, W_O = _factor(exam, width, rank), _factor(exam, width, rank).T
        with _Largest() as largest:
            U, s, Vh = theirs.head_svd(W_V, W_O)
        made = torch.Size(largest.shape).numel()
        exam.ask(
            width != D or made < D * D,
            f"a tensor of shape {list(largest.shape)} is made on the way, with D = {D} and K = {K}: in a large model"
            " it is thousands of times what D by K is. What is left of the product between orthonormal bases is K by K",
        )
        exam.shaped(U, (width, rank), "your U", axes=("D", "K"))
        exam.shaped(s, (rank,), "your s", axes=("K",))
        exam.shaped(Vh, (rank, width), "your Vh", axes=("K", "D"))
        exam.ask(bool((s >= -1e-4).all()), "a singular value is negative: turn the direction, not the value")
        want = torch.linalg.svdvals((W_V @ W_O).double())[:rank].float()
        exam.same(s, want, "your s", unless=_mistakes(W_V, W_O, want), tolerance=1e-3)
        _orthonormal(exam, U.T @ U, "the columns of your U", "U^T U")
        _orthonormal(exam, Vh @ Vh.T, "the rows of your Vh", "Vh Vh^T")
        product = U * s @ Vh
        joined = U.T @ (W_V @ W_O) @ Vh.T
        off = (joined - torch.diag(joined.diagonal())).abs()
        unless = {
            "U and Vh are exchanged: U has the directions that W_V reads, Vh those that W_O writes": (
                product if close(product, (W_V @ W_O).T, 1e-3) else None
            ),
            "the signs do not fit: the two directions of a pair may be turned, but only together": (
                product if close(joined.diagonal().abs(), s, 1e-3) else None
            ),
        }
        if off.max() > 1e-2:
            i, j = divmod(int(off.argmax()), rank)
            unless[
                f"the directions do not belong together: what is read along u_{i} is written along vh_{j} with"
                f" {shown(joined[i, j])}, and should be along vh_{i} alone. The bases of W_V and W_O have to be turned"
                " by the singular vectors of the K by K matrix"
            ] = product
        exam.same(product, W_V @ W_O, "your U diag(s) Vh", unless=unless, tolerance=1e-3)


def _factor(exam: Exam, D: int, K: int) -> Tensor:
    """Return a matrix, [D, K], whose singular values are well apart."""
    left, right = torch.linalg.qr(exam.normal(D, K)).Q, torch.linalg.qr(exam.normal(K, K)).Q
    return left * (2.5 * torch.cumprod(exam.uniform(K, low=0.65, high=0.8), 0)) @ right


def _orthonormal(exam: Exam, gram: Tensor, what: str, named: str) -> None:
    off = (gram - torch.eye(len(gram))).abs()
    i, j = divmod(int(off.argmax()), len(gram))
    exam.ask(
        bool(off.max() < 1e-3),
        f"{what} are not orthonormal: {named} is {shown(gram[i, j])} at [{i}, {j}], and should be {int(i == j)}",
    )


def _mistakes(W_V: Tensor, W_O: Tensor, right: Tensor) -> dict[str, Tensor]:
    """Return what known mistakes give for the singular values, by what is said of them."""
    values = [torch.linalg.svdvals(each) for each in (W_V, W_O)]
    R_V, R_O = torch.linalg.qr(W_V).R, torch.linalg.qr(W_O.T).R
    return {
        "the singular values stand in another order: the greatest comes first": right.flip(0),
        "these are the squares of the singular values, eigenvalues of the circuit times its transpose": right**2,
        "these are the singular values of W_V times those of W_O: those of a product depend on how the two lie to each"
        " other": values[0] * values[1],
        "these are the singular values of W_V alone": values[0],
        "these are the singular values of W_O alone": values[1],
        "the K by K matrix is R_V R_O: from W_O^T = Q_O R_O follows W_O = R_O^T Q_O^T, so R_O is to stand in it"
        " transposed": (torch.linalg.svdvals(R_V @ R_O)),
        "the K by K matrix is W_O W_V: it has the eigenvalues of the circuit, but not its singular values": (
            torch.linalg.svdvals(W_O @ W_V)
        ),
    }
