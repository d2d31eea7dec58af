"""Whether a divergence is one: against SciPy's, and by what has to hold of it."""

import math
from typing import Any

import torch
from scipy.special import rel_entr
from torch import Tensor

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for values, the divergence from itself, probabilities of 0, logits far apart, and gradients."""
    batch, rows, columns = exam.sizes(3)
    for shape in ((columns,), (rows, columns), (batch, rows, columns)):
        p, q = exam.normal(*shape, scale=1.5), exam.normal(*shape, scale=1.5)
        got = theirs.kl_divergence(p, q)
        exam.ask(
            not isinstance(got, Tensor) or got.ndim > 0 or len(shape) == 1,
            f"for logits of shape {list(shape)} yours is one number: each row has a divergence of its own",
        )
        want = _divergence(p, q)
        entropy = -(p.softmax(-1) * p.log_softmax(-1)).sum(-1)
        exam.same(
            got,
            want,
            "your divergence",
            unless={
                "the two are exchanged: this is KL(q || p), which weights by q": _divergence(q, p),
                "this is the mean over the outcomes: the divergence is their sum, weighted by p": want / columns,
                "this is in bits: nats have natural logarithms": want / math.log(2),
                "this is the cross-entropy -sum_i p_i ln q_i: ln p_i is not in it": want + entropy,
                "the sign is wrong: p_i is multiplied by ln p_i - ln q_i": -want,
                "this is the mean of both directions: KL(p || q) has p alone before the bracket": (
                    (want + _divergence(q, p)) / 2
                ),
                "the logits themselves are subtracted: ln p_i is a logit less the logarithm of its row's sum": (
                    (p.softmax(-1) * (p - q)).sum(-1)
                ),
                "the differences of logarithms are not weighted by p": (p.log_softmax(-1) - q.log_softmax(-1)).sum(-1),
            },
        )
    exam.same(theirs.kl_divergence(p, p.clone()), torch.zeros(shape[:-1]), "the divergence of p from itself")
    _zeros(theirs, exam, columns + 2)
    far_p, far_q = exam.normal(rows, columns), exam.normal(rows, columns)
    far_q[:, 0] += 1000.0
    got = theirs.kl_divergence(far_p, far_q)
    exam.ask(
        bool(got.isfinite().all()),
        "with logits of q that lie 1,000 apart it is not finite: a softmax rounds the small probabilities to 0, and"
        " their logarithm is lost. Which function goes from logits to logarithms directly?",
    )
    exam.same(got / 1000, _divergence(far_p, far_q) / 1000, "a thousandth of the divergence with logits 1,000 apart")
    exam.gradients(
        theirs.kl_divergence,
        lambda p, q: torch.distributions.kl_divergence(
            torch.distributions.Categorical(logits=p), torch.distributions.Categorical(logits=q)
        ),
        {"p_logits": exam.normal(rows, columns), "q_logits": exam.normal(rows, columns)},
        "your divergence",
    )


def _zeros(theirs: Any, exam: Exam, columns: int) -> None:
    """Ask with probabilities of 0 in p, in both, and in q alone."""
    p, q = exam.normal(3, columns), exam.normal(3, columns)
    p[:, 1] = -math.inf
    q[1, 1] = -math.inf
    got = theirs.kl_divergence(p, q)
    exam.ask(
        not bool(got[0].isnan()),
        "where p_i = 0 it is not a number: 0 times minus infinity. Such an outcome adds 0, the limit of t ln t",
    )
    exam.ask(not bool(got[1].isnan()), "where p_i and q_i are both 0 it is not a number: such an outcome adds 0")
    exam.same(got, _divergence(p, q), "your divergence where a probability in p is 0")
    q[2, 0] = -math.inf
    exam.ask(
        bool(theirs.kl_divergence(p, q)[2].isposinf()),
        "where q_i = 0 and p_i > 0 the divergence is infinite: q holds impossible what p says happens. Yours is finite",
    )


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Sum SciPy's elementwise relative entropy; where q is 1,000 apart, by logarithms in double precision."""
    log_q = q.double().log_softmax(-1)
    log_p = p.double().log_softmax(-1)
    if bool(log_q.isfinite().all()) and float(log_q.min()) < -700:
        return (log_p.exp() * (log_p - log_q)).sum(-1).float()
    return torch.as_tensor(rel_entr(log_p.exp().numpy(), log_q.exp().numpy())).sum(-1).float()
