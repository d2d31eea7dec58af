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
        shape: `cosine` warms up linearly to the peak and falls to `floor` times it along half a cosine; `linear` along
            a straight line; `wsd` warms up, stays at the peak and falls over the last `decay` of the steps (Hägele et
            al. 2024), so that a longer training shares all but that with a shorter one; `noam` is the inverse square
            root of Vaswani et al. 2017, section 5.3, where `peak` is the factor in front (1 in the paper); `constant`
            warms up and stays.
        peak: highest learning rate; for `noam`, the factor.
        warmup: steps of warm-up.
        floor: last learning rate of `cosine`, `linear` and `wsd`, as a fraction of the peak.
        decay: share of the steps over which `wsd` falls.
        fall: how `wsd` falls: `sqrt` by the root of how far through the fall is, which is steep at first and which the
            paper found better; or `linear`.
    """

    shape: Literal["cosine", "linear", "wsd", "noam", "constant"] = "cosine"
    peak: float = 1e-3
    warmup: int = 100
    floor: float = 0.1
    decay: float = 0.2
    fall: Literal["sqrt", "linear"] = "sqrt"

    def check(self) -> None:
        if self.peak <= 0 or self.warmup < 0 or not 0 <= self.floor <= 1:
            raise UsageError(
                f"schedule peak {self.peak}, warmup {self.warmup}, floor {self.floor}: the peak must be over 0, the"
                " warm-up 0 or more, the floor between 0 and 1"
            )
        if not 0 < self.decay <= 1:
            raise UsageError(f"schedule decay {self.decay} is not a share of the steps: it is over 0 and at most 1")
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
        start = self.warmup
        if self.shape == "wsd":
            start = max(start, steps - max(1, round(self.decay * steps)))
        through = min(1.0, (number - start) / max(1, steps - start))
        if self.shape == "cosine":
            return self.peak * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * through)))
        through = max(0.0, through)
        left = 1 - (math.sqrt(through) if self.shape == "wsd" and self.fall == "sqrt" else through)
        return self.peak * (self.floor + (1 - self.floor) * left)
