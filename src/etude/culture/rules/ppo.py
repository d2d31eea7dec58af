"""Proximal policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.culture.rules.base import Rule

if TYPE_CHECKING:
    from etude.culture.improving import Improving


@dataclass(frozen=True)
class Ppo(Rule):
    """Raise the chance of what brought more than expected, as far as a clip lets it (Schulman et al. 2017, arXiv
    1707.06347, equation 7), and keep some entropy.

    Attributes:
        clip: how far the ratio of the new chance to the old may pull.
        entropy: weight of the policy's entropy in nats.
    """

    clip: float = 0.2
    entropy: float = 0.02

    def check(self) -> None:
        super().check()
        if not 0 < self.clip < 1 or self.entropy < 0:
            raise UsageError(f"clip = {self.clip:g}, entropy = {self.entropy:g}: give a share, and a weight from 0")

    def build(self) -> Improving:
        from etude.culture.improving import Clipped

        return Clipped(self.clip, self.entropy)
