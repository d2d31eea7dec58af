"""The learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from etude.core.errors import UsageError
from etude.core.spec import Spec


@dataclass(frozen=True)
class Schedule(Spec):
    """How the learning rate rises and falls.

    Attributes:
        shape: `cosine` warms up linearly to the peak and falls to `floor` times it along half a cosine; `noam` is the
            inverse square root of Vaswani et al. 2017, section 5.3, where `peak` is the factor in front (1 in the
            paper); `constant` warms up and stays.
        peak: highest learning rate; for `noam`, the factor.
        warmup: steps of warm-up.
        floor: last learning rate of `cosine`, as a fraction of the peak.
    """

    shape: Literal["cosine", "noam", "constant"] = "cosine"
    peak: float = 1e-3
    warmup: int = 100
    floor: float = 0.1

    def check(self) -> None:
        if self.peak <= 0 or self.warmup < 0 or not 0 <= self.floor <= 1:
            raise UsageError(
                f"schedule peak {self.peak}, warmup {self.warmup}, floor {self.floor}: the peak must be over 0, the"
                " warm-up 0 or more, the floor between 0 and 1"
            )
        if self.shape == "noam" and self.warmup == 0:
            raise UsageError("schedule noam needs a warm-up of at least 1 step; the paper has 4000")

    def rate(self, step: int, steps: int, width: int) -> float:
        """Return the learning rate of a step.

        Args:
            step: the step about to be taken, from 0.
            steps: how many there are in all.
            width: the model's width, which `noam` scales by.
        """
        number = step + 1
        if self.shape == "noam":
            return self.peak * width**-0.5 * min(number**-0.5, number * self.warmup**-1.5)
        if number < self.warmup:
            return self.peak * number / self.warmup
        if self.shape == "constant":
            return self.peak
        through = (number - self.warmup) / max(1, steps - self.warmup)
        return self.peak * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, through))))
