"""Advantage actor-critic, whole: a few steps, and a critic that says what the rest is worth (Mnih et al. 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from etude.culture.learners.environments import Environments, Happened
from etude.culture.learners.learner import Learner
from etude.culture.learners.networks import drawn, network
from etude.culture.learners.rollout import Rollout
from etude.culture.returns import advantages
from etude.culture.surrogates import entropy, of_actions, policy_gradient_loss

if TYPE_CHECKING:
    from etude.culture.algorithms.a2c import A2c


class A2cLearner(Learner):
    """A policy, a critic, and the steps since they last changed."""

    def __init__(self, spec: A2c, environments: Environments, steps: int, seed: int) -> None:
        self.spec, self.rollout = spec, Rollout()
        width, actions = environments.width, environments.actions
        self.policy = network(width, spec.width, actions, seed, scale=0.01, part="policy")
        self.critic = network(width, spec.width, 1, seed, scale=1.0, part="critic")
        both = nn.ModuleList([self.policy, self.critic])
        networks = {"policy": self.policy, "critic": self.critic}
        super().__init__(
            environments, networks, learned=both, rate=spec.rate, steps=steps, seed=seed, memory=self.rollout
        )

    def choose(self, seen: Float[Tensor, "B D"], number: int) -> Int[Tensor, " B"]:
        return drawn(self.policy(seen), self.draw)

    def value(self, seen: Float[Tensor, "*N D"]) -> Float[Tensor, "*N"]:
        """Return what the critic expects."""
        return self.critic(seen)[..., 0]

    def learn(
        self, seen: Float[Tensor, "B D"], actions: Int[Tensor, " B"], happened: Happened, number: int
    ) -> float | None:
        rewards = happened.rewards
        if happened.truncated.any():  # what would have come is the critic's to say
            with torch.no_grad():
                rewards = rewards + self.spec.discount * happened.truncated * self.value(happened.after)
        self.rollout.add(seen, actions, rewards, happened.over)
        if len(self.rollout) < self.spec.horizon:
            return None
        played = self.rollout.take()
        values = self.value(played.seen)
        with torch.no_grad():
            after = self.value(self.environments.observations)
            gains = advantages(played.rewards, values, played.ended, after, self.spec.discount, self.spec.decay)
        log_p = self.policy(played.seen).log_softmax(-1)
        loss = (
            policy_gradient_loss(of_actions(log_p, played.actions), gains)
            + 0.5 * (values - (values + gains).detach()).square().mean()
            - self.spec.curiosity * entropy(log_p).mean()
        )
        return self.descend(loss, most=0.5)

    def greedy(self, seen: Float[Tensor, "B D"]) -> Int[Tensor, " B"]:
        return self.policy(seen).argmax(-1)
