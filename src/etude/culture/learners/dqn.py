"""Deep Q-learning, whole: remember every step, and learn from some drawn out of the memory (Mnih et al. 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from etude.culture.learners.environments import Environments, Happened
from etude.culture.learners.learner import Learner
from etude.culture.learners.networks import network
from etude.culture.learners.replay import Remembered, Replay
from etude.culture.surrogates import of_actions

if TYPE_CHECKING:
    from etude.culture.algorithms.dqn import Dqn


class DqnLearner(Learner):
    """A network that says what each action is worth, a copy that lags behind, and a memory."""

    def __init__(self, spec: Dqn, environments: Environments, steps: int, seed: int) -> None:
        self.spec, self.replay = spec, Replay(spec.memory, environments.width)
        width, actions = environments.width, environments.actions
        self.worth, self.lagging = (
            network(width, spec.width, actions, seed, scale=1.0, part="worth") for _ in range(2)
        )
        networks = {"worth": self.worth, "lagging": self.lagging}
        super().__init__(
            environments, networks, learned=self.worth, rate=spec.rate, steps=steps, seed=seed, memory=self.replay
        )

    def explored(self, number: int) -> float:
        """Return the share of actions that is drawn at random at a step."""
        through = min(1.0, number / max(1.0, self.spec.exploring * self.steps))
        return 1 - (1 - self.spec.explored) * through

    def choose(self, seen: Float[Tensor, "B D"], number: int) -> Int[Tensor, " B"]:
        if torch.rand((), generator=self.draw).item() < self.explored(number):
            return torch.randint(self.environments.actions, (len(seen),), generator=self.draw)
        return self.greedy(seen)

    def learn(
        self, seen: Float[Tensor, "B D"], actions: Int[Tensor, " B"], happened: Happened, number: int
    ) -> float | None:
        self.replay.add(Remembered(seen, actions, happened.rewards, happened.terminated, happened.after))
        loss = None
        if number >= self.spec.start and number % self.spec.every == 0:
            some = self.replay.draw(self.spec.batch, self.draw)
            loss = self.descend(
                smooth_l1_loss(of_actions(self.worth(some.seen), some.actions), self.wanted(some)), 10.0
            )
        if (number + 1) % self.spec.lag == 0:
            self.lagging.load_state_dict(self.worth.state_dict())
        return loss

    @torch.no_grad()
    def wanted(self, some: Remembered) -> Float[Tensor, " N"]:
        """Return what the actions are found to be worth: their reward, and the best that the lagging copy expects after
        it, where anything comes after."""
        best = self.lagging(some.after).max(-1).values
        return some.rewards + self.spec.discount * torch.where(some.terminated, 0.0, best)

    def greedy(self, seen: Float[Tensor, "B D"]) -> Int[Tensor, " B"]:
        return self.worth(seen).argmax(-1)
