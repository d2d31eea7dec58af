"""Whether a distribution is cut as said, and inverted at a given number."""

import math
from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for each step alone, for their order, and for draws at the edges of the distribution function."""
    for _ in range(3):
        logits = _logits(exam, exam.random.randint(6, 12))
        _alone(theirs, exam, logits)
        _in_order(theirs, exam)
    _draws(theirs, exam)


def _logits(exam: Exam, count: int) -> Tensor:
    """Return logits that lie well apart, in a random order."""
    return (torch.arange(count) * 0.4 + exam.uniform(count, high=0.2))[exam.permutation(count)]


def _alone(theirs: Any, exam: Exam, logits: Tensor) -> None:
    count = len(logits)
    got = theirs.shares(logits)
    exam.shaped(got, (count,), "shares(logits)")
    exam.sums_to_one(got, "shares(logits)")
    exam.same(got, _shares(logits), "shares(logits)")
    for temperature in (0.5, 2.0):
        what = f"shares(logits, temperature={temperature})"
        unless = {"the logits are multiplied by the temperature: they are divided by it": _shares(logits * temperature)}
        exam.same(theirs.shares(logits, temperature), _shares(logits, temperature), what, unless=unless)
    for k in (1, 3, count + 3):
        what = f"shares(logits, top_k={k}) with V = {count}"
        got, want = theirs.shares(logits, 1.0, k), _shares(logits, 1.0, k)
        exam.shaped(got, (count,), what)
        exam.ask(
            bool(got.isfinite().all()) and float(got.sum()) > 1 - 1e-3,
            f"{what} sums to {float(got.sum()):.4g}: what is kept is made to sum to 1 again",
        )
        kept, wanted = int((got > 0).sum()), min(k, count)
        exam.ask(kept == wanted, f"{what} keeps {kept} of the likeliest tokens: it should keep {wanted}")
        exam.same(got, want, what, unless=_misplaced(want))
    sorted_shares = _shares(logits).sort(descending=True).values
    for n in (1, 3):
        together = float(sorted_shares[:n].sum() - 0.4 * sorted_shares[n - 1])
        what = f"shares(logits, top_p={together:.3f})"
        got, want = theirs.shares(logits, 1.0, 0, together), _shares(logits, 1.0, 0, together)
        exam.shaped(got, (count,), what)
        kept = int((got > 0).sum())
        exam.ask(
            kept != n - 1 and not (n == 1 and bool(got.isnan().any())),
            f"{what} keeps {kept} tokens, which have less than top_p: the one with which they reach it is kept too",
        )
        exam.ask(
            float(got.sum()) > 1 - 1e-3,
            f"{what} sums to {float(got.sum()):.4g}: what is kept is made to sum to 1 again",
        )
        exam.same(got, want, what, unless=_misplaced(want))


def _misplaced(want: Tensor) -> dict[str, Tensor]:
    down = want.sort(descending=True).values
    return {"the shares are in order of likelihood: each belongs at its own token's place": down}


def _in_order(theirs: Any, exam: Exam) -> None:
    """Ask with shares 0.4, 0.3, 0.2 and 0.1, for which the order of the steps decides what is kept."""
    order = exam.permutation(4)
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()[order] + float(exam.normal(1))
    for top_p in (0.55, 0.65):
        exam.same(
            theirs.shares(logits, 1.0, 2, top_p),
            _shares(logits, 1.0, 2, top_p),
            f"with shares of 0.4, 0.3, 0.2 and 0.1, shares(logits, top_k=2, top_p={top_p})",
            unless={
                "top-p counts the shares from before top-k: it works on what top-k gives, which sums to 1": _shares(
                    logits, 1.0, 2
                ),
                f"the likeliest has 0.4 of the 0.7 that top-k keeps, less than {top_p}: it is not enough for top-p": (
                    _shares(logits, 1.0, 1)
                ),
            },
        )
    exam.same(
        theirs.shares(logits, 0.25, 0, 0.6),
        _shares(logits, 0.25, 0, 0.6),
        "with shares of 0.4, 0.3, 0.2 and 0.1, shares(logits, temperature=0.25, top_p=0.6)",
        unless={
            "the temperature acts after top-p: it comes first, and changes how many tokens reach top_p": _late(
                logits, 0.25, 0.6
            )
        },
    )


def _draws(theirs: Any, exam: Exam) -> None:
    for _ in range(4):
        p = torch.softmax(exam.normal(exam.random.randint(3, 9)), dim=-1)
        sums = p.double().cumsum(0).tolist()
        middles = [(low + high) / 2 for low, high in zip([0.0, *sums[:-1]], sums, strict=True)]
        got = [theirs.draw(p, u) for u in middles]
        exam.ask(
            all(isinstance(each, int) for each in got), f"draw returns a {type(got[0]).__name__}: give a Python int"
        )
        one_before = [max(0, n - 1) for n in range(len(p))]
        one_on = [min(len(p) - 1, n + 1) for n in range(len(p))]
        most_likely = [int(p.argmax())] * len(p)
        exam.same(
            got,
            list(range(len(p))),
            "the tokens drawn by a number in the middle of each one's stretch of the distribution function",
            unless={
                "it gives the likeliest token whatever u is": most_likely,
                "it gives the token before the one at which the sum passes u": one_before,
                "it gives the token after the one at which the sum passes u": one_on,
                "likelier tokens come first: the sum runs over the tokens in the order of their numbers": (
                    [_by_likelihood(p, u) for u in middles]
                ),
            },
        )
    holed = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0])
    for u, want in ((0.0, 1), (0.5, 3)):
        exam.same(
            theirs.draw(holed, u),
            want,
            f"draw({holed.tolist()}, {u})",
            unless={
                f"with u = {u} it draws a token whose share is 0: the sum has to be above u, not equal to it": want - 1
            },
        )
    short = torch.tensor([0.3, 0.6999, 0.0])
    for u in (0.99995, 1 - 1e-12):
        got = theirs.draw(short, u)
        exam.ask(
            got == 1,
            f"with shares of 0.3, 0.6999 and 0, which sum to a little less than 1, u = {u} draws token {got}: where no"
            " sum passes u, it is the last token with a share above 0",
        )


def _by_likelihood(p: Tensor, u: float) -> int:
    down, order = p.double().sort(descending=True)
    return int(order[min(int((down.cumsum(0) <= u).sum()), len(p) - 1)])


def _late(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Cut first and take the temperature then."""
    kept = _shares(logits, 1.0, 0, top_p) > 0
    return torch.softmax((logits / temperature).masked_fill(~kept, -math.inf), dim=-1)


def _shares(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Keep tokens one after another, in plain Python."""
    chances = [math.exp((value - max(logits.tolist())) / temperature) for value in logits.tolist()]
    ranked = sorted(range(len(chances)), key=lambda n: -chances[n])
    if top_k:
        ranked = ranked[:top_k]
    whole, kept, together = sum(chances[n] for n in ranked), [], 0.0
    for n in ranked:
        if top_p < 1 and together >= top_p:
            break
        kept.append(n)
        together += chances[n] / whole
    rest = sum(chances[n] for n in kept)
    return torch.tensor([chances[n] / rest if n in kept else 0.0 for n in range(len(chances))])
