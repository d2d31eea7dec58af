"""What a rule is: a loss over whole sequences of what an agent did and what it brought."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.core.family import Member

if TYPE_CHECKING:
    from etude.culture.improving import Improving


@dataclass(frozen=True)
class Rule(Member):
    """Base of the family: what every rule has.

    Attributes:
        rate: learning rate of Adam.
        fall: share of the updates, the last ones, in which it falls to 0 in a straight line.
        discount: gamma, of rewards a step later.
        decay: lambda, of generalised advantage estimation.
        epochs: how often the episodes of an update are gone through.
        minibatches: parts in which that is done, each of whole episodes.
        norm: greatest norm of the gradient.
    """

    rate: float = 2e-3
    fall: float = 0.3
    discount: float = 0.9
    decay: float = 0.8
    epochs: int = 1
    minibatches: int = 8
    norm: float = 0.5

    def check(self) -> None:
        if not 0 <= self.discount < 1 or not 0 <= self.decay <= 1:
            raise UsageError(f"discount = {self.discount:g}, decay = {self.decay:g}: give shares, the discount below 1")
        if self.rate <= 0 or not 0 <= self.fall <= 1:
            raise UsageError(f"rate = {self.rate:g}, fall = {self.fall:g}: give a rate above 0 and a share")
        if self.epochs < 1 or self.minibatches < 1:
            raise UsageError(f"epochs = {self.epochs}, minibatches = {self.minibatches}: give 1 or more of each")

    def rate_at(self, update: int, updates: int) -> float:
        """Return the learning rate of an update, counted from 0, of so many."""
        falling = self.fall * updates
        return self.rate * min(1.0, (updates - update) / falling) if falling else self.rate

    @abstractmethod
    def build(self) -> Improving:
        """Return the loss, with what it learns beside the agent."""
