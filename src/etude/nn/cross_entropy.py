"""The loss over a large vocabulary, straight from hidden vectors: the scores of all positions never exist at once.

With a vocabulary of 50,257 the scores of 2,048 positions are 412 MB in fp32, and the usual way holds them several
times: as scores, as log-probabilities and as their gradient. Here a chunk of rows is scored, and while its scores are
at hand they are turned, in place, into their own gradient (softmax minus target), which is multiplied into the
gradients of the hidden vectors and of the unembedding at once. The backward pass is left with scaling these. The work
is that of the usual way, three matrix products; what is saved is memory, and the time that goes into filling it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from etude.core.errors import UsageError
from etude.text.batches import IGNORE

CHUNK_BYTES = 1 << 28
"""Scores held at once: 2,670 rows of 50,257 in bf16. A chunk is as large as memory bears, since adding its part of the
unembedding's gradient to the others' costs as much as a quarter of the product of 1,000 rows."""

ALIGNED, STRIP = 64, 1024
"""Columns that scores are filled up to a multiple of; columns of W copied at a time, so that what is read stays in a
core's own cache until its neighbours are."""

BLOCK = 3 << 16
"""Numbers that one thread of a CPU takes through the fp32 softmax at a time, in whole rows: 768 KB, which stay in a
core's own cache from pass to pass. Twice as fast as a whole chunk at once."""


def chunked_cross_entropy(
    x: Float[Tensor, "N D"],
    W: Float[Tensor, "D V"],
    b: Float[Tensor, " V"] | None,
    targets: Int[Tensor, " N"],
    smoothing: float = 0.0,
    chunk: int | None = None,
    counted: bool = False,
) -> tuple[Float[Tensor, ""], Int[Tensor, ""] | None]:
    """Return the cross-entropy of x W + b summed over the rows that have a target, and how many rows are right.

    Rows without a target are left out before anything is multiplied. Under autocast the products have its precision and
    the softmax is fp32. Gradients reach x, W (also where it is a view of tied embeddings) and b; a second derivative is
    not defined. While torch.compile traces it, every row is multiplied and those without a target count for nothing,
    since how many there are would decide a shape; on a CPU and with a large vocabulary the compiled softmax is slower.

    Args:
        x: hidden vectors, as the unembedding reads them.
        W: the unembedding.
        b: its bias, if any.
        targets: token ids, IGNORE where there is nothing to predict.
        smoothing: share of the target that is spread evenly over the vocabulary (Vaswani et al. 2017, section 5.4).
        chunk: rows scored at once; None makes as few chunks of equal size as fit `CHUNK_BYTES`.
        counted: whether to count the rows whose highest score is their target's; otherwise the second result is None.

    Raises:
        UsageError: a share or a chunk that is none, or a target outside the vocabulary. The last is not looked for in
            compiled code, nor on an accelerator, where it would make every step wait.
    """
    if not 0 <= smoothing < 1:
        raise UsageError(f"label smoothing {smoothing} is not a share from 0 to below 1; the paper has 0.1")
    if chunk is not None and chunk < 1:
        raise UsageError(f"a chunk of {chunk} rows holds nothing: it is 1 or more, or None to let the size decide")
    there, kept = targets != IGNORE, None
    if torch.compiler.is_compiling():
        kept, targets = there, targets.where(there, 0)
    else:
        if not bool(there.all()):
            x, targets = x[there], targets[there]
        _check(targets, W.shape[1])
    if chunk is None:
        chunk = _rows_that_fit(x.shape[0], W.shape[1] * _precision(x).itemsize)
    learning = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, W, b))
    loss, right = _CrossEntropy.apply(x, W, b, targets, kept, smoothing, chunk, learning, counted)
    return loss, right if counted else None


def _check(targets: Int[Tensor, " N"], vocabulary: int) -> None:
    wrong = (targets < 0) | (targets >= vocabulary)
    if targets.device.type == "cpu" and bool(wrong.any()):
        raise UsageError(
            f"target {int(targets[wrong][0])} is outside the vocabulary of {vocabulary} (0 to {vocabulary - 1}):"
            f" use the tokenizer that the model was trained with, and {IGNORE} where there is nothing to predict"
        )


def _precision(x: Tensor) -> torch.dtype:
    """Return the precision that matrix products have here."""
    on = torch.is_autocast_enabled(x.device.type)
    return torch.get_autocast_dtype(x.device.type) if on else x.dtype


def _rows_that_fit(rows: int, row_bytes: int) -> int:
    chunks = -(-rows // max(1, CHUNK_BYTES // row_bytes))
    return max(1, -(-rows // max(1, chunks)))


class _CrossEntropy(torch.autograd.Function):
    """`chunked_cross_entropy` with its gradients, which the forward pass makes and the backward pass scales."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        W: Tensor,
        b: Tensor | None,
        targets: Tensor,
        kept: Tensor | None,
        smoothing: float,
        chunk: int,
        learning: bool,
        counted: bool,
    ) -> tuple[Tensor, Tensor]:
        precision = _precision(x)
        exact = torch.promote_types(precision, torch.float32)
        loss, right = x.new_zeros((), dtype=exact), targets.new_zeros(())
        needs_x, needs_W, needs_b = (learning and needed for needed in ctx.needs_input_grad[:3])
        with torch.autocast(x.device.type, enabled=False):
            low_x, V = x.to(precision), W.shape[1]
            down, up = _laid_out(W, precision, needs_x)
            low_b = None if b is None else pad(b.to(precision), (0, down.shape[1] - V))
            dx, dW, db = torch.empty_like(low_x) if needs_x else None, None, None
            for start in range(0, max(1, x.shape[0]), chunk):
                rows = slice(start, start + chunk)
                part, some = low_x[rows], None if kept is None else kept[rows]
                padded = part @ down if low_b is None else torch.addmm(low_b, part, down)
                scores = padded[:, :V]
                lost, hits = _score(scores, targets[rows], some, smoothing, learning, counted)
                loss, right = loss + lost, right + hits
                if dx is not None:
                    dx[rows] = scores @ up
                if needs_W:  # a transposed view in place of the copy takes 1.7 times as long
                    dW = _plus(dW, part.mT.contiguous(), padded, exact)
                if needs_b:  # a third of the time of summing rows
                    db = _plus(db, scores.new_ones(1, scores.shape[0]), scores, exact)
        ctx.save_for_backward(dx, None if dW is None else dW[:, :V], None if db is None else db.squeeze(0))
        ctx.precisions = [None if t is None else t.dtype for t in (x, W, b)]
        ctx.transposed = W.stride(0) == 1 < W.stride(1)
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        factor, gradients = grad_outputs[0], []
        for i, (gradient, precision) in enumerate(zip(ctx.saved_tensors, ctx.precisions, strict=True)):
            transposed = i == 1 and ctx.transposed
            gradients.append(None if gradient is None else _scaled(gradient, factor, precision, transposed))
        return (*gradients, None, None, None, None, None, None)


def _scaled(gradient: Tensor, factor: Tensor, precision: torch.dtype, transposed: bool) -> Tensor:
    """Return factor times a gradient, in memory of its own that lies as its parameter's does."""
    if transposed:
        return _scaled(gradient.mT, factor, precision, False).mT
    wide = gradient.new_empty(gradient.shape, dtype=precision).copy_(gradient)
    one = factor.device.type == "cpu" and not torch.compiler.is_compiling() and float(factor) == 1.0
    return wide if one else wide.mul_(factor)  # the backward pass of a sum begins with 1


def _laid_out(W: Tensor, precision: torch.dtype, needs_up: bool) -> tuple[Tensor, Tensor]:
    """Return W [D, V] in a precision, for scoring (the columns filled up with zeros) and, transposed, for going back.

    Products of bf16 on a CPU take twice as long where the second matrix lies transposed, as tied embeddings do, and a
    tenth longer where its rows begin at odd places, so that two copies cost less than one.
    """
    low = W.to(precision)
    if precision != torch.bfloat16 or W.device.type != "cpu" or torch.compiler.is_compiling():
        return low, low.mT
    D, V = W.shape
    down = low.new_empty(D, -(-V // ALIGNED) * ALIGNED)
    down[:, V:] = 0
    for start in range(0, V, STRIP):
        down[:, start : start + STRIP][:, : V - start] = low[:, start : start + STRIP]
    return down, low.mT.contiguous() if needs_up else low.mT


def _plus(total: Tensor | None, a: Tensor, b: Tensor, exact: torch.dtype) -> Tensor:
    """Return total + a b. One product alone keeps its precision; several are added up in the exact one."""
    if total is None:
        return a @ b
    return total.addmm_(a, b) if a.dtype == exact else total.to(exact).add_(a @ b)


def _score(
    scores: Tensor, targets: Tensor, kept: Tensor | None, smoothing: float, learning: bool, counted: bool
) -> tuple[Tensor, Tensor]:
    """Return the summed loss of some rows of scores [N, V] and how many are right; where learning, put the gradient of
    that loss in the scores' place.
    """
    n, V = scores.shape
    exact = torch.promote_types(scores.dtype, torch.float32)
    rows = max(1, n)
    if scores.device.type == "cpu" and not torch.compiler.is_compiling():
        rows = max(1, BLOCK // V) * torch.get_num_threads()
    loss, right = scores.new_zeros((), dtype=exact), targets.new_zeros(())
    for start in range(0, n, rows):
        here = slice(start, start + rows)
        target, weight = targets[here, None], None if kept is None else kept[here, None]
        block = scores[here].to(exact)
        if counted:
            right = right + _right(block, target, weight)
        block = torch.log_softmax(block, -1)
        logp = block.gather(-1, target)
        lost = -logp if not smoothing else -(1 - smoothing) * logp - smoothing * block.mean(-1, keepdim=True)
        loss = loss + (lost.sum() if weight is None else lost.where(weight, 0).sum())
        if not learning:
            continue
        block = block.exp_()
        gap = torch.expm1(logp)  # p - 1 at the target, exact also where p is nearly 1
        if smoothing:
            block, gap = block.sub_(smoothing / V), gap + (smoothing - smoothing / V)
        block = block.scatter_(-1, target, gap)
        if weight is not None:
            block = block.masked_fill_(~weight, 0)
        scores[here] = block
    return loss, right


def _right(block: Tensor, target: Tensor, weight: Bool[Tensor, "N 1"] | None) -> Tensor:
    """Return how many rows have their target as the first of their highest scores.

    Finding the first takes long, so where shapes may depend on data it is asked only of rows whose target is among the
    highest.
    """
    highest = block.gather(-1, target) == block.amax(-1, keepdim=True)
    if weight is not None:
        return (highest & weight & (block.argmax(-1, keepdim=True) == target)).sum()
    asked = highest.squeeze(-1).nonzero().squeeze(-1)
    return (block[asked].argmax(-1, keepdim=True) == target[asked]).sum()
