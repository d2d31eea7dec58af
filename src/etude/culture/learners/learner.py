"""What all learners share: a step in each environment, then, when it is due, learning from what happened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from etude.core.seeds import stream
from etude.culture.learners.environments import Environments, Happened
from etude.culture.learners.replay import Replay
from etude.culture.learners.rollout import Rollout
from etude.train.checkpoint import State

RECENT = 20
"""Episodes whose mean return is logged."""


class Learner(ABC):
    """A stepper of `etude.train.loop`. One step is one action in each environment.

    Args:
        environments: what is played.
        networks: what is learned, by name.
        learned: the network, or those, that the optimiser moves.
        memory: what was played and is still to be learned from.
        rate: Adam's learning rate at the first step; it falls to 0 along a straight line.
        steps: how many steps in all.
        seed: of what is drawn.
    """

    def __init__(
        self,
        environments: Environments,
        networks: Mapping[str, nn.Module],
        *,
        learned: nn.Module,
        memory: Rollout | Replay,
        rate: float,
        steps: int,
        seed: int,
    ) -> None:
        self.environments, self.networks, self.memory = environments, networks, memory
        self.optimiser = torch.optim.Adam(learned.parameters(), lr=rate, eps=1e-5, fused=True)
        self.rate, self.steps = rate, steps
        self.draw = torch.Generator().manual_seed(stream(seed, "draw"))
        self.loss: float | None = None

    @abstractmethod
    def choose(self, seen: Float[Tensor, "B D"], number: int) -> Int[Tensor, " B"]:
        """Return the actions to learn from at step `number`: what the algorithm thinks of, and some chance."""

    @abstractmethod
    def learn(
        self, seen: Float[Tensor, "B D"], actions: Int[Tensor, " B"], happened: Happened, number: int
    ) -> float | None:
        """Take in what happened, and learn where it is due. Return the loss of that, or None."""

    @abstractmethod
    def greedy(self, seen: Float[Tensor, "B D"]) -> Int[Tensor, " B"]:
        """Return the actions that are thought best."""

    def step(self, number: int) -> dict[str, Any]:
        seen = self.environments.observations
        with torch.no_grad():
            actions = self.choose(seen, number)
        happened = self.environments.step(actions)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * (1 - number / self.steps)
        loss = self.learn(seen, actions, happened, number)
        self.loss = self.loss if loss is None else loss
        return self.row()

    def row(self) -> dict[str, Any]:
        """Return what may be logged: steps in all environments, episodes, the last loss, the latest returns."""
        recent = self.environments.returns[-RECENT:]
        row: dict[str, Any] = {"environment_steps": self.environments.taken, "episodes": len(self.environments.returns)}
        row |= {} if self.loss is None else {"loss": self.loss}
        return row | ({"return": sum(recent) / len(recent)} if recent else {})

    def descend(self, loss: Float[Tensor, ""], most: float) -> float:
        """Take a step of the optimiser, with a gradient of norm `most` at most, and return the loss."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in self.optimiser.param_groups for p in group["params"]], most)
        self.optimiser.step()
        return loss.item()

    def state(self) -> State:
        state, played = State.of(self.optimiser, **self.networks), self.environments.state()
        state.tensors |= {f"played.{name}": value for name, value in played.tensors.items()}
        state.tensors |= {f"memory.{name}": value for name, value in self.memory.state().items()}
        state.tensors["draw"] = self.draw.get_state()
        state.values |= {"played": played.values, "loss": self.loss}
        return state

    def load(self, state: State) -> None:
        state.load_into(self.optimiser, **self.networks)
        self.environments.load(State(state.under("played."), state.values["played"]))
        self.memory.load(state.under("memory."))
        self.draw.set_state(state.tensors["draw"])
        self.loss = state.values["loss"]
