"""Whether targets are rewards and the best that may follow, and the loss is of the actions taken."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from etude.practice.exam import Exam

FINE = 1e-5
"""Tolerance of a loss, so that no two mistakes come to the same by chance."""


def check(theirs: Any, exam: Exam) -> None:
    """Ask for targets of episodes that end and go on, for losses small and large, and for what has a gradient."""
    for _ in range(2):
        _targets(theirs, exam)
    for _ in range(2):
        _loss(theirs, exam)
    _gradient(theirs, exam)


def _targets(theirs: Any, exam: Exam) -> None:
    steps, choices = exam.sizes(2, least=4)
    ended = torch.zeros(steps, dtype=torch.bool)
    ended[exam.permutation(steps)[: exam.random.randint(1, steps - 2)]] = True
    rewards, q = exam.normal(steps), exam.normal(steps, choices) + 2
    bad = int((~ended).nonzero()[0])
    q[bad] = -q[bad].abs() - 0.5  # a state from which all is loss
    discount = exam.random.uniform(0.6, 0.95)
    on = (~ended).float()
    best = q.max(-1).values
    got = theirs.dqn_targets(rewards, ended, q, discount)
    exam.same(
        got,
        torch.stack([rewards[n] + (0 if ended[n] else discount * max(q[n].tolist())) for n in range(steps)]),
        f"your targets with gamma = {discount:.3g}",
        unless={
            "the value of what follows counts after an end too: where the episode is over, y is the reward alone": (
                rewards + discount * best
            ),
            "the ends are the wrong way round: what follows counts where the episode goes on": (
                rewards + discount * ended.float() * best
            ),
            "gamma is left out: what follows is one step later, and is discounted": rewards + on * best,
            "the reward is discounted: only what follows it is": discount * (rewards + on * best),
            "the reward is cut where the episode ends: the last reward counts": on * (rewards + discount * best),
            "the maximum runs over the steps as well: each step has its own best action": (
                rewards + discount * on * q.max()
            ),
            "what follows is taken for 0 where all actions are worth less: the best of them may be below 0": (
                rewards + discount * on * best.clamp(min=0)
            ),
            "the mean over the actions is taken: y has the best of them": rewards + discount * on * q.mean(-1),
            "the worst action is taken: y has the best of them": rewards + discount * on * q.min(-1).values,
            "the number of the best action stands for what it is worth": rewards + discount * on * q.argmax(-1),
        },
        axes=("step",),
    )
    with_grad = theirs.dqn_targets(rewards, ended, q.clone().requires_grad_(), discount)
    exam.ask(
        not with_grad.requires_grad,
        "a gradient flows through your targets to next_q: a target is a constant, so that what was thought moves to it"
        " and it does not move to what was thought",
    )


def _given(exam: Exam) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, actions, and targets that are off by less than 1 and by more, above and below."""
    steps, choices = exam.random.randint(6, 9), exam.random.randint(3, 5)
    q, actions = exam.normal(steps, choices, scale=2.0), exam.integers(choices, steps)
    off = exam.uniform(steps, low=0.2, high=0.8)
    off[: steps // 2] += 1.0
    off[::2] *= -1
    return q, actions, q[torch.arange(steps), actions] - off[exam.permutation(steps)]


def _loss(theirs: Any, exam: Exam) -> None:
    q, actions, y = _given(exam)
    taken = q[torch.arange(len(y)), actions]
    off = taken - y
    right = F.huber_loss(taken, y)
    exam.same(
        theirs.dqn_loss(q, actions, y),
        right.item(),
        "your loss",
        unless={
            "that is the sum over the steps; the mean is asked for": right * len(y),
            "the best action of each step is judged: the loss is of the action that was taken": F.huber_loss(
                q.max(-1).values, y
            ),
            "all actions are judged: the loss is of the action that was taken": F.huber_loss(
                q, y[:, None].expand(q.shape)
            ),
            "every value meets every target: the shapes [N, 1] and [N] broadcast to [N, N]": F.huber_loss(
                taken[:, None].expand(-1, len(y)), y.expand(len(y), -1)
            ),
            "errors are squared however large: beyond 1 the Huber loss grows as |r|": (off**2 / 2).mean(),
            "errors are squared however large, without the half: beyond 1 the Huber loss grows as |r|": (
                (off**2).mean()
            ),
            "errors count as |r| however small: within 1 the Huber loss is r^2 / 2": off.abs().mean(),
            "beyond 1 the line is too high: at |r| = 1 it meets the parabola, which there is 1/2": torch.where(
                off.abs() <= 1, off**2 / 2, off.abs()
            ).mean(),
            "within 1 the Huber loss is r^2 / 2: the half is missing": torch.where(
                off.abs() <= 1, off**2, off.abs() - 0.5
            ).mean(),
            "beyond 1 the Huber loss depends on |r|: for negative errors the absolute value is missing": torch.where(
                off <= 1, off**2 / 2, off - 0.5
            ).mean(),
        },
        tolerance=FINE,
    )


def _gradient(theirs: Any, exam: Exam) -> None:
    """Compare with the error cut off at -1 and 1, over N, at the actions taken, and 0 elsewhere."""
    q, actions, y = _given(exam)
    q.requires_grad_()
    loss = theirs.dqn_loss(q, actions, y)
    flows = torch.autograd.grad(loss, [q], allow_unused=True) if getattr(loss, "requires_grad", False) else (None,)
    exam.ask(
        flows[0] is not None,
        "no gradient can flow through your loss to q: it does not depend on it any more (did it pass through .item(),"
        " .detach() or torch.tensor?)",
    )
    rows = torch.arange(len(y))
    want = torch.zeros_like(q)
    want[rows, actions] = (q.detach()[rows, actions] - y).clamp(-1, 1) / len(y)
    exam.same(flows[0], want, "the gradient of your loss with respect to q", axes=("step", "action"))
