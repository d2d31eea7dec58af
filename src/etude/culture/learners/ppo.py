"""Proximal policy optimisation, whole: learn several times from what was played, not too far (Schulman et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from etude.culture.learners.environments import Environments, Happened
from etude.culture.learners.learner import Learner
from etude.culture.learners.networks import drawn, network
from etude.culture.learners.rollout import Rollout
from etude.culture.returns import advantages, standardised
from etude.culture.surrogates import clipped_loss, entropy, of_actions

if TYPE_CHECKING:
    from etude.culture.algorithms.ppo import Ppo


class PpoLearner(Learner):
    """A policy, a critic, and the steps since they last changed."""

    def __init__(self, spec: Ppo, environments: Environments, steps: int, seed: int) -> None:
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
        with torch.no_grad():
            values, after = self.value(played.seen), self.value(self.environments.observations)
            gains = advantages(played.rewards, values, played.ended, after, self.spec.discount, self.spec.decay)
            before = of_actions(self.policy(played.seen).log_softmax(-1), played.actions)
        rows = [x.flatten(0, 1) for x in (played.seen, played.actions, before, gains, gains + values)]
        losses: list[float] = []
        for _ in range(self.spec.epochs):
            order = torch.randperm(len(rows[0]), generator=self.draw)
            losses += [self._update(*(x[some] for x in rows)) for some in order.split(self.spec.batch)]
        return sum(losses) / len(losses)

    def _update(
        self,
        seen: Float[Tensor, "N D"],
        actions: Int[Tensor, " N"],
        before: Float[Tensor, " N"],
        gains: Float[Tensor, " N"],
        targets: Float[Tensor, " N"],
    ) -> float:
        """Take one step of the optimiser on some of what was played."""
        log_p = self.policy(seen).log_softmax(-1)
        loss = (
            clipped_loss(of_actions(log_p, actions), before, standardised(gains), self.spec.clip)
            + 0.5 * (self.value(seen) - targets).square().mean()
            - self.spec.curiosity * entropy(log_p).mean()
        )
        return self.descend(loss, most=0.5)

    def greedy(self, seen: Float[Tensor, "B D"]) -> Int[Tensor, " B"]:
        return self.policy(seen).argmax(-1)
