"""Worlds: environment steps per second, batched, against Minigrid.

Ours is `GoalCycleVectorEnv` as a learner has it: a view of every world at every step, an expert that moves, the
reward, and new worlds drawn at the end of every episode. The peer is Gymnasium's `SyncVectorEnv` of 16 Minigrid worlds
of about the size, the image alone as what is seen (`ImgObsWrapper`, which spares it the text); it has one player. Both
are played at random. The sides alternate within a round, and what is measured is the processor's time of this process,
so that a busy machine tells the same; each round gives one ratio (our steps per second over the peer's), and the median
is printed with the least and the most. One thread, no PyTorch on either side.

    PYTHONPATH=src python benchmarks/culture.py [--rounds 7] [--seconds 1.0]

Minigrid is no dependency of Etude: `pip install minigrid`. Without it the script says so and ends.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

WORLDS = (256, 1024, 4096)
PEERS = ("MiniGrid-Empty-5x5-v0", "MiniGrid-GoToObject-6x6-N2-v0")
STEPS = 100
"""Of an episode on our side; the peer's end after 100 (5x5) and 180 (6x6), or at a goal."""


def ours(worlds: int, view: str) -> Any:
    from etude.core.family import member
    from etude.culture.gym import GoalCycleVectorEnv
    from etude.culture.setting import Setting

    seen: Any = member("culture/views", view)
    return GoalCycleVectorEnv(worlds, setting=Setting(goals=4, steps=STEPS), view=seen)


def peer(name: str) -> Any:
    gymnasium = import_module("gymnasium")
    image = import_module("minigrid.wrappers").ImgObsWrapper
    return gymnasium.make_vec(name, num_envs=16, vectorization_mode="sync", wrappers=[image])


class Side:
    """Environments under way, with the actions that are to come."""

    def __init__(self, name: str, envs: Any) -> None:
        self.name, self.envs = name, envs
        draw = np.random.default_rng(0)
        self.actions = draw.integers(0, envs.single_action_space.n, (101, envs.num_envs))
        self.taken = 0
        envs.reset(seed=0)

    def rate(self, seconds: float) -> float:
        """Return steps per second of the processor's time, all worlds counted."""
        began, before = time.process_time(), self.taken
        while (spent := time.process_time() - began) < seconds:
            for _ in range(20):
                self.envs.step(self.actions[self.taken % len(self.actions)])
                self.taken += 1
        return (self.taken - before) * self.envs.num_envs / spent


def compare(sides: list[Side], peers: list[Side], rounds: int, seconds: float) -> None:
    rates: dict[str, list[float]] = {side.name: [] for side in [*sides, *peers]}
    for number in range(rounds + 1):
        for side in [*sides, *peers] if number % 2 else [*peers, *sides]:
            rates[side.name].append(side.rate(seconds))
    found = {name: values[1:] for name, values in rates.items()}  # the first round warms up
    for name, values in found.items():
        print(f"{name}: {statistics.median(values):,.0f} steps/s")
    for side in sides:
        for other in peers:
            ratios = [a / b for a, b in zip(found[side.name], found[other.name], strict=True)]
            told = f"{statistics.median(ratios):.0f} times ({min(ratios):.0f} to {max(ratios):.0f})"
            print(f"{side.name} over {other.name}: {told}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    chosen = parser.parse_args()
    try:
        import_module("minigrid")
    except ModuleNotFoundError:
        sys.exit("the peer is not installed: pip install minigrid")
    told = ", ".join(f"{name} {version(name)}" for name in ("minigrid", "gymnasium", "numpy"))
    print(f"{told}, {chosen.rounds} rounds of {chosen.seconds:g} s a side")
    sides = [Side(f"{view}, {worlds} worlds", ours(worlds, view)) for view in ("compact", "local") for worlds in WORLDS]
    compare(sides, [Side(name, peer(name)) for name in PEERS], chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
