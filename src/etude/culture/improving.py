"""The losses of rules, live: what makes a policy better, given what it did."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from etude.culture.surrogates import better_half_loss, clipped_loss, divergence, entropy, of_actions, temperature_loss


class Improving(nn.Module):
    """A loss of a policy. Its parameters are what it learns beside the agent."""

    @abstractmethod
    def forward(
        self,
        log_p: Float[Tensor, "B T A"],
        before: Float[Tensor, "B T A"],
        actions: Int[Tensor, "B T"],
        gains: Float[Tensor, "B T"],
    ) -> dict[str, Tensor]:
        """Return `loss`, and what else is to be logged.

        Args:
            log_p: of every action, under the policy that is trained.
            before: the same under the policy that acted.
            actions: what it did.
            gains: advantages, standardised.
        """


class Clipped(Improving):
    """PPO's clipped ratio and an entropy bonus. It learns nothing beside the agent."""

    def __init__(self, clip: float, bonus: float) -> None:
        super().__init__()
        self.clip, self.bonus = clip, bonus

    def forward(
        self,
        log_p: Float[Tensor, "B T A"],
        before: Float[Tensor, "B T A"],
        actions: Int[Tensor, "B T"],
        gains: Float[Tensor, "B T"],
    ) -> dict[str, Tensor]:
        spread = entropy(log_p).mean()
        policy = clipped_loss(of_actions(log_p, actions), of_actions(before, actions), gains, self.clip)
        return {"loss": policy - self.bonus * spread, "entropy": spread}


class BetterHalf(Improving):
    """V-MPO's weighted likelihood, with its two multipliers, which are learned as exponentials so that they stay
    above 0."""

    def __init__(self, temperature: float, trust: float, first_temperature: float, first_price: float) -> None:
        super().__init__()
        self.bound, self.trust = temperature, trust
        self.log_temperature = nn.Parameter(torch.tensor(math.log(first_temperature)))
        self.log_price = nn.Parameter(torch.tensor(math.log(first_price)))

    def forward(
        self,
        log_p: Float[Tensor, "B T A"],
        before: Float[Tensor, "B T A"],
        actions: Int[Tensor, "B T"],
        gains: Float[Tensor, "B T"],
    ) -> dict[str, Tensor]:
        temperature, price = self.log_temperature.exp(), self.log_price.exp()
        best = gains.flatten().topk(max(1, gains.numel() // 2))
        chosen = of_actions(log_p, actions).flatten()[best.indices]
        away = divergence(before.detach(), log_p).mean()
        loss = better_half_loss(chosen, best.values, temperature.detach())
        loss = loss + temperature_loss(best.values, temperature, self.bound)
        loss = loss + price * (self.trust - away.detach()) + price.detach() * away
        return {
            "loss": loss,
            "entropy": entropy(log_p).mean(),
            "temperature": temperature.detach(),
            "price": price.detach(),
            "divergence": away,
        }
