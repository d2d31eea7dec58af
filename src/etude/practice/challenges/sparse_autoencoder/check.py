"""Whether a sparse autoencoder encodes, decodes and pays as it should, and can be rescaled without a change."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close, shown
from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for encoding and decoding of several shapes, for the loss and its gradient, and for the rescaling."""
    N, D, F = exam.sizes(3, least=3)
    for shape in ((N,), (2, N), ()):
        W_enc, b_enc, _, b_dec = _weights(exam, D, F)
        x = exam.normal(*shape, D, scale=1.5)
        f = theirs.encode(x, W_enc, b_enc, b_dec)
        exam.shaped(f, (*shape, F), "your encoding")
        before = (x - b_dec) @ W_enc + b_enc
        exam.same(f, before.clamp_min(0), "your encoding", unless=_encodings(x, W_enc, b_enc, b_dec), tolerance=1e-3)
    _, _, W_dec, b_dec = _weights(exam, D, F)
    for shape in ((N,), ()):
        f = exam.uniform(*shape, F, high=2.0)
        back = theirs.decode(f, W_dec, b_dec)
        exam.shaped(back, (*shape, D), "your reconstruction")
        exam.same(
            back,
            torch.nn.functional.linear(f, W_dec.T, b_dec),
            "your reconstruction",
            unless={"b_dec is not added: the encoder has taken it away": f @ W_dec},
            tolerance=1e-3,
        )
    penalty = exam.random.uniform(0.3, 0.6)
    for rows in (N, 1):
        W_enc, b_enc, W_dec, b_dec = weights = _weights(exam, D, F)
        x = exam.normal(rows, D, scale=1.5)
        got = theirs.loss(x, *weights, penalty)
        exam.same(got, _loss(x, *weights, penalty), "your loss", unless=_losses(x, *weights, penalty), tolerance=1e-3)
    fixed = W_dec.clone().requires_grad_()
    if isinstance(got := theirs.loss(x, W_enc, b_enc, fixed, b_dec, penalty), Tensor) and got.requires_grad:
        (slope,) = torch.autograd.grad(got, fixed, allow_unused=True)
        held = W_dec.clone().requires_grad_()
        f, back = _read(x, W_enc, b_enc, held, b_dec)
        (unpaid,) = torch.autograd.grad((x - back).square().sum(-1).mean() + 0 * f.sum(), held)
        exam.ask(
            slope is None or not close(slope, unpaid, 1e-3),
            "the price sends no gradient to W_dec: the norms of its rows are part of the loss, and training has to feel"
            " them",
        )
    exam.gradients(
        lambda *given: theirs.loss(*given, penalty),
        lambda *given: _loss(*given, penalty=penalty),
        dict(zip(("x", "W_enc", "b_enc", "W_dec", "b_dec"), (exam.normal(N, D), *weights), strict=True)),
        "your loss",
    )
    _rescaled(exam, theirs, exam.normal(N, D, scale=1.5), W_enc, b_enc, W_dec, b_dec)


def _weights(exam: Exam, D: int, F: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return W_enc, b_enc, W_dec and b_dec; rows of W_dec have norms of their own, and the first feature fires."""
    W_dec = exam.normal(F, D)
    W_dec = W_dec / W_dec.norm(dim=-1, keepdim=True) * torch.linspace(0.5, 2.5, F)[exam.permutation(F), None]
    b_enc = exam.normal(F)
    b_enc[0] = 4.0
    return exam.normal(D, F, scale=0.7), b_enc, W_dec, exam.normal(D) + 1.0


def _encodings(x: Tensor, W_enc: Tensor, b_enc: Tensor, b_dec: Tensor) -> dict[str, Tensor]:
    before = (x - b_dec) @ W_enc + b_enc
    return {
        "features fire negatively: the rectifier, max(., 0), is missing": before,
        "b_dec is not taken away before the encoder": (x @ W_enc + b_enc).clamp_min(0),
        "b_dec is added before the encoder: it is taken away there, and added after the decoder": (
            (x + b_dec) @ W_enc + b_enc
        ).clamp_min(0),
        "b_enc is missing": ((x - b_dec) @ W_enc).clamp_min(0),
        "b_enc is added behind the rectifier: it decides what fires, so it stands before": (
            ((x - b_dec) @ W_enc).clamp_min(0) + b_enc
        ),
        "absolute values are taken in place of the rectifier: what is below 0 does not fire": before.abs(),
    }


def _loss(x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, penalty: float) -> Tensor:
    """Return the loss, row by row and feature by feature."""
    total = x.new_zeros(())
    for row in x:
        before = W_enc.T @ (row - b_dec) + b_enc
        f = torch.where(before > 0, before, 0.0)
        back = b_dec
        for strength, direction in zip(f, W_dec, strict=True):
            back = back + strength * direction
            total = total + penalty * strength * direction.square().sum().sqrt()
        total = total + (row - back).square().sum()
    return total / len(x)


def _losses(x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, penalty: float) -> dict[str, Tensor]:
    """Return what known mistakes give for the loss, by what is said of them."""
    f = ((x - b_dec) @ W_enc + b_enc).clamp_min(0)
    error = (x - f @ W_dec - b_dec).square().sum(-1).mean()
    norms = W_dec.norm(dim=-1)
    price = (f @ norms).mean()
    D, F = W_enc.shape
    said = {
        "the price is of f alone, not of f times the norm of the row that it writes: small f and long rows would go"
        " unpaid": error + penalty * f.sum(-1).mean(),
        "the price has squared norms of the rows": error + penalty * (f @ norms**2).mean(),
        "the price has the sums of absolute values of the rows: |W_dec[i]| is the Euclidean norm": (
            error + penalty * (f @ W_dec.abs().sum(-1)).mean()
        ),
        "the price has squares of f: these shrink what is large and leave what is small, so little becomes 0": (
            error + penalty * (f**2 @ norms).mean()
        ),
        "the price counts features that fire, through which no gradient flows: it sums how strongly they do": (
            error + penalty * ((f > 0).float() @ norms).mean()
        ),
        "the price is a mean over features: it is a sum": error + penalty * price / F,
        "the squared error is a mean over dimensions: |.|^2 is a sum over them": error / D + penalty * price,
        "the price has no penalty before it": error + price,
        "there is no price: nothing makes features rare": error,
        "the price is taken away: features would be paid for firing": error - penalty * price,
    }
    if len(x) > 1:
        said["the loss is a sum over rows: it is their mean"] = len(x) * (error + penalty * price)
        said["the price is a sum over rows: it is their mean"] = error + penalty * price * len(x)
        said["the squared error is a sum over rows: it is their mean"] = error * len(x) + penalty * price
    return said


def _rescaled(exam: Exam, theirs: Any, x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor) -> None:
    D, F = W_enc.shape
    new_enc, new_b, new_dec = theirs.normalise(W_enc, b_enc, W_dec)
    exam.shaped(new_enc, (D, F), "your new W_enc", axes=("D", "F"))
    exam.shaped(new_b, (F,), "your new b_enc", axes=("F",))
    exam.shaped(new_dec, (F, D), "your new W_dec", axes=("F", "D"))
    columns, rows, norms = new_dec.norm(dim=0), new_dec.norm(dim=1), W_dec.norm(dim=1)
    one = torch.ones(F)
    exam.ask(
        close(rows, one, 1e-3) or not close(columns, torch.ones(D), 1e-3),
        "the columns of the new W_dec have norm 1, not its rows: a feature is a row",
    )
    exam.ask(
        close(rows, one, 1e-3) or not close(new_dec, W_dec / norms.square()[:, None], 1e-3),
        "the rows are divided by their squared norms: the root is missing",
    )
    exam.ask(
        close(rows, one, 1e-3) or not close(new_dec.abs().sum(1), one, 1e-3),
        "the absolute values of each row sum to 1: the Euclidean norm is the root of the sum of squares",
    )
    exam.same(rows, one, "the norm of the rows of your new W_dec", tolerance=1e-3)
    exam.same(new_dec, W_dec / norms[:, None], "your new W_dec", axes=("feature", "d"), tolerance=1e-3)
    f, back = _read(x, W_enc, b_enc, W_dec, b_dec)
    g, after = _read(x, new_enc, new_b, new_dec, b_dec)
    apart = (after - back).abs().max()
    if apart > 1e-2:
        said = f"the new autoencoder reconstructs otherwise than the old one, by up to {shown(apart)}"
        why = {
            "W_dec alone is changed: a row that is shorter has to fire more strongly": (W_enc, b_enc),
            "b_enc is left as it was: the whole of what goes into the rectifier has to grow, the bias too": (
                W_enc * norms,
                b_enc,
            ),
            "W_enc is left as it was: the whole of what goes into the rectifier has to grow": (W_enc, b_enc * norms),
            "W_enc and b_enc are divided by the norms too: what is taken from the rows has to be given to the firing": (
                W_enc / norms,
                b_enc / norms,
            ),
        }
        for reason, (enc, bias) in why.items():
            exam.ask(not (close(new_enc, enc, 1e-3) and close(new_b, bias, 1e-3)), f"{said}: {reason}")
        exam.ask(False, said)
    exam.same(g, f * norms, "the firing of the new features", axes=("row", "feature"), tolerance=1e-3)


def _read(x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor) -> tuple[Tensor, Tensor]:
    f = ((x - b_dec) @ W_enc + b_enc).clamp_min(0)
    return f, f @ W_dec + b_dec
