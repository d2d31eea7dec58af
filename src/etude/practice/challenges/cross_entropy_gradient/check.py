"""Whether a gradient is that of the mean cross-entropy over the positions that have a target."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from etude.practice.exam import Exam

AXES = ("position", "token")


def check(theirs: Any, exam: Exam) -> None:
    """Ask with a target everywhere, with some and with none, with another number for no target, and large logits."""
    B, T, V = exam.sizes(3, least=3)
    for shape, ignored in (((T,), False), ((B, T), True), ((T,), True), ((1,), False)):
        logits, targets = exam.normal(*shape, V, scale=2.0), exam.integers(V, *shape)
        if ignored:
            targets = _with_ignored(exam, targets)
        got = theirs.cross_entropy_gradient(logits, targets)
        exam.shaped(got, logits.shape, "your gradient")
        exam.same(
            got,
            _automatic(logits, targets),
            "your gradient",
            axes=AXES,
            unless=_mistakes(logits, targets) | _properties(got, targets),
        )
    logits, targets = exam.normal(T, V), torch.full((T,), -100)
    got = theirs.cross_entropy_gradient(logits, targets)
    exam.ask(
        bool(got.isfinite().all()),
        "your gradient is not finite where no position has a target: there it is 0 everywhere, and not 0 / 0",
    )
    exam.same(got, torch.zeros(T, V), "your gradient where no position has a target")
    pad, targets = int(exam.integers(V)), exam.permutation(T) % V
    targets[0], targets[1] = pad, (pad + 1) % V
    exam.same(
        theirs.cross_entropy_gradient(logits, targets, pad),
        _automatic(logits, targets, pad),
        f"your gradient where ignore is {pad}",
        axes=AXES,
        unless={"no target is -100 for you, whatever `ignore` says": _automatic(logits, targets)},
    )
    large = exam.normal(T, V) + 1000.0
    exam.same(
        theirs.cross_entropy_gradient(large, targets),
        _automatic(large, targets),
        "your gradient with logits near 1000",
        axes=AXES,
    )


def _with_ignored(exam: Exam, targets: Tensor) -> Tensor:
    """Return targets of which one at least is missing and two at least are there."""
    flat = targets.flatten().clone()
    order = exam.permutation(len(flat))
    flat[order[: exam.random.randint(1, len(flat) - 2)]] = -100
    return flat.view_as(targets)


def _automatic(logits: Tensor, targets: Tensor, ignore: int = -100) -> Tensor:
    """Return the gradient by automatic differentiation of PyTorch's cross-entropy, in double precision."""
    leaf = logits.double().reshape(-1, logits.shape[-1]).requires_grad_()
    loss = F.cross_entropy(leaf, targets.flatten(), ignore_index=ignore)
    return torch.autograd.grad(loss, leaf)[0].view_as(logits).float()


def _mistakes(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return what the usual mistakes give."""
    right, kept = _automatic(logits, targets), targets != -100
    n, positions, V = int(kept.sum()), targets.numel(), logits.shape[-1]
    one_hot = F.one_hot(targets.where(kept, 0), V) * kept[..., None]
    return {
        "this is the gradient of the sum over positions: L is their mean, so all is divided by n": right * n,
        "your gradient is divided by all positions, with those that have no target: n counts those that have one": (
            right * n / positions
        ),
        "your gradient is divided by every entry, V for each position: L is a mean over positions alone": right / V,
        "your gradient has the wrong sign: a step against it has to raise the target's share": -right,
        "your gradient is the logits less one-hot: it is their softmax less one-hot": (
            (logits * kept[..., None] - one_hot) / n
        ),
        "your gradient is the shares alone: the target's entry is smaller by 1": (
            logits.softmax(-1) * kept[..., None] / n
        ),
        "your gradient is less one-hot alone: the logarithm of the denominator has a gradient, too": -one_hot / n,
        "your gradient is at the target alone: all logits are in softmax's denominator": right * one_hot,
        "your shares are not those of a row: softmax runs over the last axis, the tokens": (
            (logits.softmax(0) * kept[..., None] - one_hot) / n
        ),
    }


def _properties(got: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return what is to be said of a gradient by what every such gradient has."""
    if float(got[targets == -100].abs().sum()) > 1e-6:
        return {"positions without a target have a gradient in yours: they are no part of L, and theirs is 0": got}
    if float(got.sum(-1).abs().max()) > 1e-4:
        return {"the entries of a position do not sum to 0: adding the same to all its logits does not change L": got}
    return {}
