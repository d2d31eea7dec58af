"""Codecs that are trained on activations: one stepper, whatever they are trained for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from etude.core.run import Draft
from etude.core.seeds import stream
from etude.train.checkpoint import State
from etude.train.loop import advance

WARM = 50
"""Steps over which the learning rate rises."""

JUDGED = 8192
"""Most rows that are enough to say how a fitted codec does."""


def some(x: Float[Tensor, "N M"]) -> Float[Tensor, "_ M"]:
    """Return rows drawn at random, at most `JUDGED`, the same of all that has as many. The first would be of few texts,
    and every nth may be of one position in each."""
    if len(x) <= JUDGED:
        return x
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:JUDGED]]


class Steps(NamedTuple):
    """How a codec is trained.

    Attributes:
        total: how many there are.
        batch: rows in each.
        rate: peak learning rate.
        fall: share of the steps, the last ones, in which the rate falls.
        beta2: of Adam, over how many steps the squares of the gradients are averaged.
    """

    total: int
    batch: int
    rate: float
    fall: float = 1.0
    beta2: float = 0.999


class Objective(nn.Module, ABC):
    """What is trained, and for what. Its parameters are those of the codec and of whatever is trained beside it; its
    buffers, what has to be known to go on.
    """

    @abstractmethod
    def forward(self, x: Float[Tensor, "N M"], y: Float[Tensor, "N D"], draw: torch.Generator) -> dict[str, Tensor]:
        """Return `loss`, and what else is to be logged, of what is read and what is to be written, in the units that
        the codec is trained in. Whatever is random comes from `draw`.
        """

    @abstractmethod
    def found(self, x: Float[Tensor, "N M"], y: Float[Tensor, "N D"]) -> dict[str, float]:
        """Return what a reader should know of the fitted codec, on what it was fitted to, or some of it (`some`)."""

    def before_update(self) -> None:
        """Change the gradients before they are used."""

    def after_update(self) -> None:
        """Put the parameters back where they have to lie."""


class FitStepper:
    """Trains an objective on rows held in memory.

    Args:
        objective: what is trained.
        steps: how.
        x: [N, M] what the codec reads, in the units that it is trained in.
        y: [N, D] what it is to write.
        seed: of the batches.
    """

    def __init__(
        self, objective: Objective, steps: Steps, x: Float[Tensor, "N M"], y: Float[Tensor, "N D"], seed: int
    ) -> None:
        self.objective, self.steps, self.x, self.y, self.seed = objective, steps, x, y, seed
        self.optimiser = torch.optim.Adam(objective.parameters(), lr=0.0, betas=(0.9, steps.beta2), fused=True)
        self.draw = torch.Generator()

    def step(self, number: int) -> dict[str, float]:
        """Take one step on a batch drawn for this step alone, so that a resumed run draws the same."""
        n = len(self.x)
        self.draw.manual_seed(stream(self.seed, "batch", number))
        rows = torch.randint(n, (min(self.steps.batch, n),), generator=self.draw)
        x = self.x.index_select(0, rows)
        y = x if self.y is self.x else self.y.index_select(0, rows)
        losses = self.objective(x, y, self.draw)
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self.objective.before_update()
        self._set_rate(number)
        self.optimiser.step()
        self.objective.after_update()
        return {name: value.item() for name, value in losses.items()}

    def _set_rate(self, number: int) -> None:
        """Warm up, stay, and fall along half a cosine."""
        total, fall = max(1, self.steps.total), self.steps.fall
        through = max(0.0, number - (1 - fall) * total) / (fall * total)
        rate = self.steps.rate * min(1.0, (number + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * through))
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def state(self) -> State:
        return State.of(self.optimiser, objective=self.objective)

    def load(self, state: State) -> None:
        state.load_into(self.optimiser, objective=self.objective)


def fit(
    objective: Objective, steps: Steps, x: Float[Tensor, "N M"], y: Float[Tensor, "N D"], seed: int, run: Draft
) -> None:
    """Train an objective to its last step. The last row of the record also has what was found of it."""
    stepper = FitStepper(objective, steps, x, y, seed)

    @torch.no_grad()
    def judge(taken: int) -> dict[str, float]:
        return objective.found(x, y) if taken == steps.total else {}

    every = max(1, steps.total // 20)
    advance(stepper, run, steps=steps.total, log_every=every, evaluate=judge, per_step=steps.batch)
