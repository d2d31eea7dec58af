"""On-policy maximum a posteriori policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.culture.rules.base import Rule

if TYPE_CHECKING:
    from etude.culture.improving import Improving


@dataclass(frozen=True)
class VMpo(Rule):
    """Imitate the better half of what one did, more where it brought more, within a trust region (Song et al. 2019,
    arXiv 1909.12238, equations 2 to 5).

    The paper's agents learn by MPO (Abdolmaleki et al. 2018), which replays old steps and learns the value of each
    action. V-MPO learns a value of states from fresh episodes in its place; the two share the weights exp(A / eta), the
    temperature's dual and the bound on the divergence from the policy that acted.

    Attributes:
        temperature: epsilon_eta, the bound on how far the weights may lean towards the best actions.
        trust: epsilon_alpha, the bound on the divergence, in nats.
        first_temperature: eta at the start.
        first_price: alpha, the price of the divergence, at the start.
    """

    temperature: float = 0.1
    trust: float = 0.01
    first_temperature: float = 1.0
    first_price: float = 5.0

    def check(self) -> None:
        super().check()
        if min(self.temperature, self.trust, self.first_temperature, self.first_price) <= 0:
            raise UsageError("the bounds, the first temperature and the first price of V-MPO are above 0")

    def build(self) -> Improving:
        from etude.culture.improving import BetterHalf

        return BetterHalf(self.temperature, self.trust, self.first_temperature, self.first_price)
