"""Whether advantages are the sums that their definition has."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

AXES = ("step", "environment")


def check(theirs: Any, exam: Exam) -> None:
    """Ask about columns of several episodes and steps cut off, first with a lambda between 0 and 1, then at both."""
    steps, worlds = exam.sizes(2, least=4, most=7)
    never = torch.zeros(steps, worlds, dtype=torch.bool)
    broken = never.clone()
    broken[exam.random.randint(1, steps - 3), 0] = True
    broken[:, 1:] |= exam.uniform(steps, worlds - 1) < 0.25
    broken[0, 0] = broken[-1, 0] = False
    for ended in (broken, never):
        for decay in (exam.random.uniform(0.4, 0.8), 0.0, 1.0):
            rewards, values = exam.normal(steps, worlds), exam.normal(steps, worlds) + 2
            discount = exam.random.uniform(0.5, 0.9)
            _ask(theirs, rewards, values, ended, exam.normal(worlds) + 3, discount, decay, exam)
            _returns(theirs, rewards, values, ended, exam.normal(worlds) + 3, discount, exam)
    for last in (True, False):
        one = torch.full((1, worlds), last)
        _ask(theirs, exam.normal(1, worlds), exam.normal(1, worlds), one, exam.normal(worlds), 0.7, 0.6, exam)


def _summed(
    rewards: Tensor, values: Tensor, ended: Tensor, after: Tensor, discount: float, weight: float, across: bool = False
) -> Tensor:
    """Return, by going forwards from each step until its episode ends, the sum of its deltas.

    `across` lets the value of the next episode into the delta of a last step.
    """
    steps, worlds = rewards.shape
    found = [[0.0] * worlds for _ in range(steps)]
    R, V, last = rewards.tolist(), [*values.tolist(), after.tolist()], ended.tolist()
    for t in range(steps):
        for b in range(worlds):
            for s in range(t, steps):
                later = 0.0 if last[s][b] and not across else V[s + 1][b]
                found[t][b] += weight ** (s - t) * (R[s][b] + discount * later - V[s][b])
                if last[s][b]:
                    break
    return torch.tensor(found)


def _ask(
    theirs: Any,
    rewards: Tensor,
    values: Tensor,
    ended: Tensor,
    after: Tensor,
    discount: float,
    decay: float,
    exam: Exam,
) -> None:
    got = theirs.advantages(rewards, values, ended, after, discount, decay)
    exam.shaped(got, rewards.shape, "your advantages", AXES)
    weight, never, none = discount * decay, torch.zeros_like(ended), torch.zeros_like(after)
    right = _summed(rewards, values, ended, after, discount, weight)
    goes_on = (~ended).float()
    expected = torch.cat([values[1:], after[None]])
    delta = rewards + discount * goes_on * expected - values
    unsubtracted = _recursed(delta + values, goes_on, weight)
    earlier = rewards + discount * goes_on * values - values
    exam.same(
        got,
        right,
        f"your advantages with gamma = {discount:.3g} and lambda = {decay:.3g}",
        unless={
            "values and deltas of the next episode flow back across an end: both have to be cut there": (
                _summed(rewards, values, never, after, discount, weight)
            ),
            "the value after the last step of an episode counts in its delta: it is that of another episode": (
                _summed(rewards, values, ended, after, discount, weight, across=True)
            ),
            "the deltas of the next episode flow back across an end: the running sum has to be cut there": (
                _recursed(delta, torch.ones_like(goes_on), weight)
            ),
            "lambda is left out: the weights of later deltas are powers of gamma lambda": (
                _summed(rewards, values, ended, after, discount, discount)
            ),
            "later deltas are weighed by lambda alone: the weights are powers of gamma lambda": (
                _summed(rewards, values, ended, after, discount, decay)
            ),
            "the value after the last recorded step is taken to be 0: it is `after`, where the episode goes on": (
                _summed(rewards, values, ended, none, discount, weight)
            ),
            "the values are never taken away: an advantage is what came beyond V_t": unsubtracted,
            "the delta of step t has the value before it twice: what follows it is V_{t+1}": (
                _recursed(earlier, goes_on, weight)
            ),
            "the sign is wrong: an advantage is above 0 where more came than was expected": -right,
            "the value that follows is not discounted: a delta has gamma V_{t+1}": (
                _recursed(rewards + goes_on * expected - values, goes_on, weight)
            ),
            "the sums of the deltas are over what came before: an advantage is of what follows": (
                _recursed(delta.flip(0), torch.cat([goes_on[:-1].flip(0), goes_on[:1]]), weight).flip(0)
            ),
            "that is delta alone: an advantage adds those that follow, by powers of gamma lambda": delta,
        },
        axes=AXES,
    )


def _recursed(delta: Tensor, goes_on: Tensor, weight: float) -> Tensor:
    found, running = [], torch.zeros_like(delta[0])
    for t in range(len(delta) - 1, -1, -1):
        running = delta[t] + weight * goes_on[t] * running
        found.append(running)
    return torch.stack(found[::-1])


def _returns(
    theirs: Any, rewards: Tensor, values: Tensor, ended: Tensor, after: Tensor, discount: float, exam: Exam
) -> None:
    """Ask that with lambda = 1 an advantage and its value are the discounted return, whatever the values are."""
    for_one = theirs.advantages(rewards, values, ended, after, discount, 1.0) + values
    others = values + exam.normal(*values.shape)
    for_other = theirs.advantages(rewards, others, ended, after, discount, 1.0) + others
    exam.same(
        for_one,
        for_other,
        "with lambda = 1, your advantages plus the values, which are returns and should not depend on the values,",
        axes=AXES,
        tolerance=1e-3,
    )
