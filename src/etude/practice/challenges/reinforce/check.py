"""Whether the gradient of the loss is that of REINFORCE."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical

from etude.practice.exam import Exam

FINE = 1e-5
"""Tolerance of a loss, so that no two mistakes come to the same by chance."""


def check(theirs: Any, exam: Exam) -> None:
    """Ask for values, for large logits, for what must have no gradient, and for the gradient in closed form."""
    for steps in (*exam.sizes(2, least=4), 1):
        _value(theirs, *_given(exam, steps), exam)
    _large(theirs, exam)
    _constants(theirs, exam)
    _gradient(theirs, exam)


def _given(exam: Exam, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    choices = exam.random.randint(3, 6)
    logits, actions = exam.normal(steps, choices), exam.integers(choices, steps)
    return logits, actions, exam.normal(steps, scale=2.0) + 3, exam.normal(steps) + 1


def _value(theirs: Any, logits: Tensor, actions: Tensor, G: Tensor, b: Tensor, exam: Exam) -> None:
    got = theirs.reinforce_loss(logits, actions, G, b)
    policy = Categorical(logits=logits)
    log_p, gain = policy.log_prob(actions), G - b
    right = -(gain * log_p).mean()
    raw = logits[torch.arange(len(actions)), actions]
    across = torch.log_softmax(logits, 0)[torch.arange(len(actions)), actions]
    exam.same(
        got,
        right.item(),
        "your loss",
        unless={
            "the sign is wrong: the loss is small where actions that paid are likely": -right,
            "that is the sum over the steps; the mean is asked for": right * len(actions),
            "the gain is multiplied by the probability: the policy gradient has its logarithm": -(
                gain * log_p.exp()
            ).mean(),
            "the log-probabilities of all actions are summed: only the action that was taken is made more likely": -(
                gain * policy.logits.sum(-1)
            ).mean(),
            "the log-probabilities of all actions count: only that of the action that was taken is meant": -(
                gain[:, None] * policy.logits
            ).mean(),
            "the baseline is left out": -(G * log_p).mean(),
            "the baseline is added: it is what was expected, and the gain is what came beyond it, G - b": -(
                (G + b) * log_p
            ).mean(),
            "the returns and the baseline are exchanged: the gain is G - b": (gain * log_p).mean(),
            "these are logits, not log-probabilities: the logarithm of the sum of exponentials is to be taken away": -(
                gain * raw
            ).mean(),
            "the softmax runs over the steps: it is over the actions, the last axis": -(gain * across).mean(),
            "every gain meets the log-probability of every step: the shapes [N, 1] and [N] broadcast to [N, N]": -(
                gain.mean() * log_p.mean()
            ),
            "the gains are standardised here: they count as they are": -(
                (gain - gain.mean()) / (gain.std(correction=0) + 1e-8) * log_p
            ).mean(),
        },
        tolerance=FINE,
    )


def _large(theirs: Any, exam: Exam) -> None:
    logits, actions, G, b = _given(exam, 6)
    logits[:, 0], actions[:3] = 1000.0, 1
    got = theirs.reinforce_loss(logits, actions, G, b)
    exam.ask(
        bool(torch.as_tensor(got).isfinite()),
        "with logits near 1000 the loss is not finite: exp(-1000) is 0 in float32, and log 0 is infinite. Take the"
        " logarithm of the softmax as one step",
    )
    right = -((G - b) * Categorical(logits=logits).log_prob(actions)).mean()
    exam.same(got, right.item(), "your loss of logits near 1000")


def _constants(theirs: Any, exam: Exam) -> None:
    logits, actions, G, b = _given(exam, 5)
    given = {"returns": G.requires_grad_(), "baseline": b.requires_grad_()}
    loss = theirs.reinforce_loss(logits.requires_grad_(), actions, G, b)
    exam.ask(
        getattr(loss, "requires_grad", False),
        "no gradient can flow through your loss to the logits: only the gain G - b is a constant",
    )
    flows = torch.autograd.grad(loss, list(given.values()), allow_unused=True)
    for name, gradient in zip(given, flows, strict=True):
        exam.ask(
            gradient is None or not bool(gradient.any()),
            f"a gradient flows to {name}: G - b is a constant here, so that the loss falls by another policy alone, and"
            " not by other gains",
        )


def _gradient(theirs: Any, exam: Exam) -> None:
    """Compare with (G - b) (pi - one-hot of the action) / N."""
    logits, actions, G, b = _given(exam, 5)
    logits.requires_grad_()
    loss = theirs.reinforce_loss(logits, actions, G, b)
    flows = torch.autograd.grad(loss, [logits], allow_unused=True) if loss.requires_grad else (None,)
    exam.ask(flows[0] is not None, "no gradient can flow through your loss to the logits: only G - b is a constant")
    policy = torch.softmax(logits.detach(), -1)
    taken = torch.nn.functional.one_hot(actions, logits.shape[1])
    exam.same(
        flows[0],
        (G - b)[:, None] * (policy - taken) / len(actions),
        "the gradient of your loss with respect to the logits, (G - b) (pi - one-hot of the action) / N,",
        axes=("step", "action"),
    )
