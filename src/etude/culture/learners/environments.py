"""Environments of Gymnasium as a learner plays them: side by side, observations as vectors, gone on with exactly."""

from __future__ import annotations

import difflib
import importlib.util
import json
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.seeds import stream
from etude.train.checkpoint import State


class Happened(NamedTuple):
    """What an action led to, in each of B environments.

    Attributes:
        rewards: what it brought.
        terminated: whether the episode is over by its own rules: nothing comes after it.
        truncated: whether it was cut off instead: something would have come.
        after: what is seen then, before another episode begins.
    """

    rewards: Float[Tensor, " B"]
    terminated: Bool[Tensor, " B"]
    truncated: Bool[Tensor, " B"]
    after: Float[Tensor, "B D"]

    @property
    def over(self) -> Bool[Tensor, " B"]:
        return self.terminated | self.truncated


class Environments:
    """B environments of one kind. Where an episode is over the next begins at once.

    Every episode is reset with a seed of its own, so that its state is known by what was done since: that is what a
    checkpoint holds, and what is done again to go on. An environment has to do the same for the same seed and actions.

    Args:
        name: Gymnasium's id, with options of its own behind colons (see `made`).
        count: how many.
        seed: of the episodes.

    Attributes:
        width: D, numbers in an observation. A discrete one is one-hot.
        actions: how many there are to choose from.
        observations: [B D] what is seen now.
        returns: sum of the rewards of each episode that is over.
        ended: steps that had been taken then, in all environments together.

    Raises:
        UsageError: there is no such environment, its actions or observations are of another kind, or its episodes have
            no end.
    """

    def __init__(self, name: str, count: int, seed: int) -> None:
        self.seed, self.taken = seed, 0
        self.live = [made(name) for _ in range(count)]
        actions: Any = self.live[0].action_space
        self.actions, self._first = int(actions.n), int(actions.start)
        self.width = width_of(self.live[0])
        self.episode = [0] * count
        self.done: list[list[int]] = [[] for _ in range(count)]
        self.gained = [0.0] * count
        self.returns: list[float] = []
        self.ended: list[int] = []
        self.observations = torch.from_numpy(np.stack([self._begin(slot) for slot in range(count)]))

    def step(self, actions: Int[Tensor, " B"]) -> Happened:
        """Take an action in each environment."""
        count, chosen = len(self.live), actions.tolist()
        rewards, terminated, truncated = np.zeros(count, np.float32), np.zeros(count, bool), np.zeros(count, bool)
        after, following = np.zeros((count, self.width), np.float32), np.zeros((count, self.width), np.float32)
        self.taken += count
        for slot, action in enumerate(chosen):
            seen, reward, terminated[slot], cut = self._act(slot, action)
            rewards[slot], truncated[slot] = reward, cut and not terminated[slot]
            after[slot] = following[slot] = seen
            if terminated[slot] or cut:
                self.returns.append(self.gained[slot])
                self.ended.append(self.taken)
                self.episode[slot] += 1
                following[slot] = self._begin(slot)
        self.observations = torch.from_numpy(following)
        return Happened(*(torch.from_numpy(x) for x in (rewards, terminated, truncated, after)))

    def _begin(self, slot: int) -> np.ndarray:
        """Begin the episode of a slot whose number says its seed."""
        self.done[slot], self.gained[slot] = [], 0.0
        seed = stream(self.seed, "episode", slot, self.episode[slot]) >> 32  # some environments take no more bits
        return self._seen(self.live[slot].reset(seed=seed)[0])

    def _act(self, slot: int, action: int) -> tuple[np.ndarray, float, bool, bool]:
        seen, reward, terminated, truncated, _ = self.live[slot].step(action + self._first)
        self.done[slot].append(action)
        self.gained[slot] += float(reward)
        return self._seen(seen), float(reward), bool(terminated), bool(truncated)

    def _seen(self, observation: Any) -> np.ndarray:
        """Return an observation as a vector of floats [D]."""
        space: Any = self.live[0].observation_space
        if hasattr(space, "n"):
            vector = np.zeros(self.width, np.float32)
            vector[int(observation) - int(space.start)] = 1.0
            return vector
        return np.asarray(observation, np.float32).reshape(-1)

    def state(self) -> State:
        """Return what decides the steps to come, and the episodes behind."""
        tensors = {"returns": torch.tensor(self.returns, dtype=torch.float64), "ended": torch.tensor(self.ended)}
        return State(
            tensors, {"episode": list(self.episode), "done": [list(d) for d in self.done], "taken": self.taken}
        )

    def load(self, state: State) -> None:
        """Go back to a state, by doing again what was done since each episode began."""
        self.returns = state.tensors["returns"].tolist()
        self.ended = [int(step) for step in state.tensors["ended"].tolist()]
        self.episode, self.taken = list(state.values["episode"]), int(state.values["taken"])
        self.observations = torch.from_numpy(np.stack([self._again(n, d) for n, d in enumerate(state.values["done"])]))

    def _again(self, slot: int, actions: list[int]) -> np.ndarray:
        """Do what was done in an episode, and return what is seen then."""
        seen = self._begin(slot)
        for action in actions:
            seen = self._act(slot, action)[0]
        return seen


def made(name: str) -> Any:
    """Return a live environment of Gymnasium's.

    Args:
        name: its id, and options of its own behind colons, as in `FrozenLake-v1:is_slippery=false`.

    Raises:
        UsageError: it cannot be played here, or Gymnasium is not installed.
    """
    if importlib.util.find_spec("gymnasium") is None:
        raise UsageError(f"the environment {name} needs what is not installed: pip install 'etude[rl]'")
    import gymnasium

    named, written = parts_of(name)
    options = dict(map(_option, written))
    try:
        live = gymnasium.make(named, disable_env_checker=True, **options)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise UsageError(f"the environment {named} needs what is not installed: {error}") from None
    except gymnasium.error.Error:
        near = difflib.get_close_matches(named, list(gymnasium.registry), n=3, cutoff=0.5)
        hint = f" the nearest are {', '.join(near)}." if near else ""
        raise UsageError(
            f"unknown environment {named!r}:{hint} Gymnasium has {len(gymnasium.registry)}, CartPole-v1 and"
            " FrozenLake-v1 among them. See: python -c 'import gymnasium; gymnasium.pprint_registry()'"
        ) from None
    except (TypeError, ValueError, KeyError, AssertionError) as error:  # whatever an environment makes of its options
        raise UsageError(f"the environment {named} does not take {', '.join(written)}: {error}") from None
    _check(live, named)
    return live


def parts_of(name: str) -> tuple[str, list[str]]:
    """Return Gymnasium's id, which may have a colon of its own, and the options behind it."""
    parts = name.split(":")
    return ":".join(part for part in parts if "=" not in part), [part for part in parts if "=" in part]


def _option(written: str) -> tuple[str, Any]:
    """Return an option's name and value, read as JSON where it is that."""
    name, _, value = written.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _check(live: Any, name: str) -> None:
    """Raise UsageError where an environment is of a kind that is not played here."""
    from gymnasium import spaces

    if not isinstance(live.action_space, spaces.Discrete):
        raise UsageError(
            f"the actions of {name} are {live.action_space}: the ladder chooses among actions that can be counted;"
            " take an environment with discrete ones, as CartPole-v1"
        )
    if not isinstance(live.observation_space, spaces.Discrete | spaces.Box):
        raise UsageError(
            f"the observations of {name} are {live.observation_space}: the ladder reads one box or one discrete"
            " number; take an environment with these, as CartPole-v1"
        )
    if not live.spec.max_episode_steps:
        raise UsageError(
            f"the episodes of {name} need have no end: cut them off, as in --environment {name}:max_episode_steps=200"
        )


def width_of(live: Any) -> int:
    """Return how many numbers an observation has."""
    space = live.observation_space
    return int(space.n) if hasattr(space, "n") else int(np.prod(space.shape))


def threshold_of(name: str) -> float | None:
    """Return the mean return from which Gymnasium's registry calls an environment solved, or None. The registry means
    the environment as it comes: with options of its own it has none."""
    import gymnasium

    return gymnasium.spec(name).reward_threshold if not parts_of(name)[1] else None
