"""The work of the ladder: an algorithm learns in an environment, and what it learned is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.culture.ladder_recipes import Climb
from etude.culture.learners.environments import Environments, threshold_of
from etude.culture.learners.learner import Learner
from etude.evals.statistics import mean
from etude.train.loop import advance

WEIGHTS, EPISODES = "weights.safetensors", "episodes.safetensors"
"""What is learned, by network; and of each training episode its return and the steps taken when it ended."""

Policy = Callable[[Float[Tensor, "B D"]], Int[Tensor, " B"]]


def climb(recipe: Climb, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Learn for so many steps, then play fresh episodes, and have a random policy play them too."""
    learner = learner_of(recipe)
    environments = learner.environments
    run.note(gymnasium=_version())
    advance(
        learner,
        run,
        steps=recipe.rounds,
        log_every=max(1, recipe.rounds // 100),
        per_step=recipe.algorithm.beside,
    )
    state = {f"{part}.{name}": v for part, net in learner.networks.items() for name, v in net.state_dict().items()}
    run.save(WEIGHTS, {name: value.numpy() for name, value in state.items()})
    run.save(
        EPISODES,
        {"return": np.array(environments.returns, np.float64), "ended": np.array(environments.ended, np.int64)},
    )
    found = evaluated(recipe, learner.greedy)
    draw = torch.Generator().manual_seed(stream(recipe.seed, "random policy"))
    random = evaluated(recipe, lambda seen: torch.randint(environments.actions, (len(seen),), generator=draw))
    return {
        "return": mean(found).to_json(),
        "random": mean(random).to_json(),
        "returns": found.tolist(),
        "threshold": threshold_of(recipe.environment),
        "environment_steps": environments.taken,
        "training_episodes": len(environments.returns),
        "parameters": sum(p.numel() for group in learner.optimiser.param_groups for p in group["params"]),
    }


def learner_of(recipe: Climb) -> Learner:
    """Return what learns, before its first step.

    Raises:
        UsageError: the environment is unknown, cannot be played here, or has other actions or observations.
    """
    environments = Environments(recipe.environment, recipe.algorithm.beside, stream(recipe.seed, "training"))
    return recipe.algorithm.learner(environments, recipe.rounds, recipe.seed)


@torch.no_grad()
def evaluated(recipe: Climb, policy: Policy) -> np.ndarray:
    """Return what each of the fresh episodes brings, [N]. All are begun, and each is played to its end: of many that
    are played side by side, those that end first are the short ones."""
    environments = Environments(recipe.environment, recipe.episodes, stream(recipe.seed, "evaluation"))
    gained, going = torch.zeros(recipe.episodes, dtype=torch.float64), torch.ones(recipe.episodes, dtype=torch.bool)
    while going.any():
        happened = environments.step(policy(environments.observations))
        gained += torch.where(going, happened.rewards.double(), 0.0)
        going &= ~happened.over
    return gained.numpy()


def policy_of(run: Run) -> Policy:
    """Return what a run learned: from observations [B D], the actions [B] that it thinks best."""
    learner, held = learner_of(cast(Climb, run.recipe)), run.tensors(WEIGHTS)
    for part, network in learner.networks.items():
        inside = {name.removeprefix(f"{part}."): v for name, v in held.items() if name.startswith(f"{part}.")}
        network.load_state_dict({name: torch.from_numpy(value) for name, value in inside.items()})
    return torch.no_grad()(learner.greedy)


def _version() -> str:
    import gymnasium

    return gymnasium.__version__
