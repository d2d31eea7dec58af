"""Whether returns are the sums that their definition has."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

AXES = ("step", "environment")


def check(theirs: Any, exam: Exam) -> None:
    """Ask about one whole episode, about several in a column, about steps cut off, and at both ends of the discount."""
    steps, worlds = exam.sizes(2, least=4, most=7)
    never = torch.zeros(steps, worlds, dtype=torch.bool)
    whole = never.clone()
    whole[-1] = True
    broken = never.clone()
    broken[exam.random.randint(1, steps - 3)] = True
    broken[:, 1:] |= exam.uniform(steps, worlds - 1) < 0.25
    for ended in (broken, whole, never):
        for discount in (exam.random.uniform(0.5, 0.9), 1.0, 0.0):
            _ask(theirs, exam.normal(steps, worlds), ended, discount, exam.normal(worlds) + 3, exam)
    for last in (True, False):
        _ask(theirs, exam.normal(1, worlds), torch.full((1, worlds), last), 0.7, exam.normal(worlds) + 3, exam)
    exam.gradients(
        lambda rewards, after: theirs.discounted_returns(rewards, broken, 0.8, after),
        lambda rewards, after: _summed(rewards, broken, 0.8, after),
        {"rewards": exam.normal(steps, worlds), "after": exam.normal(worlds)},
        "your returns",
    )


def _summed(rewards: Tensor, ended: Tensor, discount: float, after: Tensor) -> Tensor:
    """Return each step's sum by going forwards from it until its episode ends."""
    steps, worlds = rewards.shape
    found = []
    for t in range(steps):
        for b in range(worlds):
            total, weight, going = torch.zeros(()), 1.0, True
            for s in range(t, steps):
                total = total + weight * rewards[s, b]
                weight *= discount
                if ended[s, b]:
                    going = False
                    break
            found.append(total + weight * after[b] if going else total)
    return torch.stack(found).reshape(steps, worlds)


def _backwards(rewards: Tensor, keep: Tensor, also: Tensor, discount: float, after: Tensor) -> Tensor:
    """Return a recursion with other masks: `keep` of what follows, `also` of the reward itself."""
    found, following = [], after
    for t in range(len(rewards) - 1, -1, -1):
        following = also[t] * rewards[t] + discount * keep[t] * following
        found.append(following)
    return torch.stack(found[::-1])


def _ask(theirs: Any, rewards: Tensor, ended: Tensor, discount: float, after: Tensor, exam: Exam) -> None:
    got = theirs.discounted_returns(rewards, ended, discount, after)
    what = "your returns"
    exam.shaped(got, rewards.shape, what, AXES)
    none, all_of_it = torch.zeros_like(rewards), torch.ones_like(rewards)
    keep = (~ended).float()
    before = torch.cat([all_of_it[:1], keep[:-1]])  # whether the step before ended no episode
    exam.same(
        got,
        _summed(rewards, ended, discount, after),
        f"{what} with gamma = {discount:.3g}",
        unless={
            "rewards flow back from the next episode: nothing that follows an end counts before it": (
                _backwards(rewards, all_of_it, all_of_it, discount, after)
            ),
            "the reward of the step that ends an episode is lost: the end cuts what follows it, not its own reward": (
                _backwards(rewards, keep, keep, discount, after)
            ),
            "the end is a step late or early: `ended[t]` says that nothing follows step t, whatever `ended[t + 1]`": (
                _backwards(rewards, torch.cat([keep[1:], all_of_it[:1]]), all_of_it, discount, after)
            ),
            "the end of an episode cuts a step too early: `ended[t]` parts step t from t + 1, not t - 1 from t": (
                _backwards(rewards, before, all_of_it, discount, after)
            ),
            "what follows the last step is left out: where the episode goes on, its value counts": (
                _summed(rewards, ended, discount, torch.zeros_like(after))
            ),
            "what follows the last step counts as it is: it comes one step later, and is discounted by gamma": (
                _summed(rewards, ended, discount, after / discount) if discount else none
            ),
            "the reward of the step itself is discounted: gamma begins with the reward after it": (
                _summed(discount * rewards, ended, discount, after)
            ),
            "later rewards count for as much as early ones: gamma is left out": _summed(rewards, ended, 1.0, after),
            "the rewards are summed from the beginning up to each step: a return is what comes from it on": (
                _so_far(rewards, ended, discount)
            ),
            "that is the reward of each step alone: a return sums all that follow": rewards,
        },
        axes=AXES,
    )


def _so_far(rewards: Tensor, ended: Tensor, discount: float) -> Tensor:
    """Return the discounted sums of the rewards before each step of its episode, with its own."""
    found, running = [], torch.zeros_like(rewards[0])
    for t in range(len(rewards)):
        running = rewards[t] + discount * running
        found.append(running)
        running = torch.where(ended[t], 0.0, running)
    return torch.stack(found)
