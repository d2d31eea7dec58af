"""REINFORCE, whole: play episodes, then make each action more likely by as much as followed it (Williams 1992)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.culture.learners.environments import Environments, Happened
from etude.culture.learners.learner import Learner
from etude.culture.learners.networks import drawn, network
from etude.culture.learners.rollout import Rollout
from etude.culture.returns import discounted, standardised
from etude.culture.surrogates import of_actions, policy_gradient_loss

if TYPE_CHECKING:
    from etude.culture.algorithms.reinforce import Reinforce


class ReinforceLearner(Learner):
    """A policy, and the episodes since it last changed. Having no critic, it takes an episode that was cut off for one
    that ended."""

    def __init__(self, spec: Reinforce, environments: Environments, steps: int, seed: int) -> None:
        self.spec, self.rollout = spec, Rollout()
        self.policy = network(environments.width, spec.width, environments.actions, seed, scale=0.01, part="policy")
        super().__init__(
            environments,
            {"policy": self.policy},
            learned=self.policy,
            rate=spec.rate,
            steps=steps,
            seed=seed,
            memory=self.rollout,
        )

    def choose(self, seen: Float[Tensor, "B D"], number: int) -> Int[Tensor, " B"]:
        return drawn(self.policy(seen), self.draw)

    def learn(
        self, seen: Float[Tensor, "B D"], actions: Int[Tensor, " B"], happened: Happened, number: int
    ) -> float | None:
        self.rollout.add(seen, actions, happened.rewards, happened.over)
        over = len(self.environments.returns)
        if not (happened.over.any() and over % self.spec.episodes == 0):
            return None
        played = self.rollout.take()
        gains = standardised(discounted(played.rewards, played.ended, self.spec.discount, torch.zeros(1)))
        log_p = self.policy(played.seen).log_softmax(-1)
        return self.descend(policy_gradient_loss(of_actions(log_p, played.actions), gains), most=0.5)

    def greedy(self, seen: Float[Tensor, "B D"]) -> Int[Tensor, " B"]:
        return self.policy(seen).argmax(-1)
