"""A matrix that is the product of two thin ones, and is not formed unless it is asked for.

The circuits of a head are such matrices: D x D or V x V with a rank of at most K, the head width.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from etude.core.errors import UsageError


class SVD(NamedTuple):
    """A singular value decomposition U diag(S) Vh.

    Attributes:
        U: [*N m r], its columns orthonormal.
        S: [*N r], falling.
        Vh: [*N r n], its rows orthonormal.
    """

    U: Float[Tensor, "*N m r"]
    S: Float[Tensor, "*N r"]
    Vh: Float[Tensor, "*N r n"]


class Factored:
    """The matrix `left` @ `right` [*N m n], kept as its factors, and what can be said of it from these alone.

    Nothing is made that is larger than a factor, but by `product`. A factor is not to be changed afterwards, since what
    was computed of it is kept. Factors of less precision than fp32, for which no decomposition is there, are widened.

    Attributes:
        left: [*N m r].
        right: [*N r n].
    """

    def __init__(self, left: Float[Tensor, "... m r"], right: Float[Tensor, "... s n"]) -> None:
        """
        Args:
            left: [*N m r].
            right: [*N r n]. Leading axes are broadcast.

        Raises:
            UsageError: the factors do not fit each other.
        """
        if left.shape[-1] != right.shape[-2]:
            raise UsageError(
                f"factors of {list(left.shape)} and {list(right.shape)} have no product: the last axis of the left is"
                " the last but one of the right"
            )
        try:
            leading = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        except RuntimeError:
            raise UsageError(
                f"factors of {list(left.shape)} and {list(right.shape)} have leading axes that do not broadcast"
            ) from None
        self.left = _widened(left).expand(*leading, -1, -1)
        self.right = _widened(right).expand(*leading, -1, -1)

    @property
    def shape(self) -> torch.Size:
        """Sizes of the product."""
        return torch.Size((*self.left.shape[:-1], self.right.shape[-1]))

    @property
    def rank(self) -> int:
        """The inner size r: the product's rank is no more."""
        return self.left.shape[-1]

    @property
    def T(self) -> Factored:  # noqa: N802 - as tensors have it
        """The transpose, of the last two axes."""
        return Factored(self.right.mT, self.left.mT)

    def __repr__(self) -> str:
        return f"Factored({list(self.shape)}, rank {self.rank})"

    def __getitem__(self, index: Any) -> Factored:
        """Return a part of it along leading axes.

        Raises:
            UsageError: the index reaches the matrix's own axes, or beyond an axis.
        """
        whole = (*(index if isinstance(index, tuple) else (index,)), ..., slice(None), slice(None))
        try:
            return Factored(self.left[whole], self.right[whole])
        except IndexError as error:
            raise UsageError(f"{self!r} has no [{index}] among its leading axes ({error})") from None

    def __matmul__(self, other: Tensor | Factored) -> Factored:
        """Return the product with a matrix [*N n p], factored still. Of two inner sizes the smaller stays."""
        if isinstance(other, Tensor):
            return Factored(self.left, self.right @ _widened(other))
        between = self.right @ other.left
        if self.rank <= other.rank:
            return Factored(self.left, between @ other.right)
        return Factored(self.left @ between, other.right)

    def __rmatmul__(self, other: Tensor) -> Factored:
        return Factored(_widened(other) @ self.left, self.right)

    def product(self) -> Float[Tensor, "*N m n"]:
        """Return the matrix itself."""
        return self.left @ self.right

    def gist(self) -> Float[Tensor, "*N k n"]:
        """Return the matrix turned from the left so that k = min(m, r) rows say all: whatever is multiplied from the
        right, the Frobenius norm of the result is that of the whole matrix's."""
        return torch.linalg.qr(self.left, mode="r").R @ self.right

    def norm(self) -> Float[Tensor, "*N"]:
        """Return the Frobenius norm.

        It is that of the gist. The Gram matrices of the factors would do as well and cost less, but they hold squares,
        which leaves half the digits where the product is much smaller than its factors.
        """
        return torch.linalg.matrix_norm(self.gist())

    def svd(self) -> SVD:
        """Return the singular value decomposition, of as many values as the smallest of m, r and n. It is made once."""
        return self._svd

    def eigenvalues(self) -> Complex[Tensor, "*N r"]:
        """Return the eigenvalues of a square matrix, those of right @ left; all others are 0. They are computed once,
        and come in no order.

        Raises:
            UsageError: it is not square.
        """
        if self.shape[-1] != self.shape[-2]:
            raise UsageError(f"a matrix of {list(self.shape)} has no eigenvalues: it is not square")
        return self._eigenvalues

    @cached_property
    def _svd(self) -> SVD:
        left, right = torch.linalg.qr(self.left), torch.linalg.qr(self.right.mT)
        U, S, Vh = torch.linalg.svd(left.R @ right.R.mT, full_matrices=False)
        return SVD(left.Q @ U, S, Vh @ right.Q.mT)

    @cached_property
    def _eigenvalues(self) -> Tensor:
        return torch.linalg.eigvals(self.right @ self.left)


def _widened(x: Float[Tensor, "*N m n"]) -> Float[Tensor, "*N m n"]:
    """Return a matrix in fp32 where it has less, and as it is where not."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
