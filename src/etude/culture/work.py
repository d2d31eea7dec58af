"""The work of raising an agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from etude.core.errors import DamagedError, UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.core.work import using_threads
from etude.culture.agent import Agent
from etude.culture.measuring import measure
from etude.culture.raising import Raising, new_agent, trial_of
from etude.culture.recipes import Raise
from etude.train.loop import advance
from etude.train.together import Together, together

AGENT = "agent.safetensors"
"""The weights of the agent, after the last update."""


def raise_agent(recipe: Raise, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Raise an agent, evaluated as it grows, and save it."""
    with using_threads(1), together(run, "cpu") as others:  # matrices so small that a second thread is in the way
        return _raised(recipe, run, others)


def _raised(recipe: Raise, run: Draft, others: Together) -> dict[str, Any]:
    if recipe.updates and recipe.ranks != others.size:
        raise UsageError(
            f"{recipe.id} draws its worlds in {recipe.ranks} processes and {others.size} were started: start it with"
            f" torchrun --nproc-per-node {recipe.ranks}, or set --ranks auto"
        )
    raising = Raising(recipe, others)
    layout = trial_of(recipe, recipe.evaluate_worlds, "while raised")

    def evaluate(taken: int) -> dict[str, Any]:
        found = measure(raising.agent, recipe, layout, np.random.default_rng(stream(0, "evaluation")))
        parts = found.parts
        return {
            "full": parts.full,
            "half": parts.half,
            "solo": parts.solo,
            "of_expert": parts.expert,
            "transmission": parts.transmission,
            "recalled": float(found.recalled.mean()),
            "forgot": float(found.forgot.mean()),
            "solo_late": float(found.solo_late.mean()),
        }

    def keep(taken: int) -> None:
        _save(raising.agent, run, kept_name(taken))

    taken = advance(
        raising,
        run,
        steps=recipe.updates,
        log_every=recipe.log_every,
        evaluate=evaluate,
        evaluate_every=recipe.evaluate_every,
        keep=keep,
        keep_every=recipe.keep_every,
        per_step=recipe.worlds * recipe.setting.steps,
        others=others,
    )
    _save(raising.agent, run, AGENT)
    last = [row for row in run.rows() if "full" in row][-1]
    names = ("full", "half", "solo", "of_expert", "transmission", "recalled", "forgot", "solo_late")
    boundaries = (
        {}
        if recipe.randomise is None
        else {"boundaries": dict(zip((r.field for r in recipe.randomise.ranges), raising.boundaries, strict=True))}
    )
    return {
        "updates": taken,
        "environment_steps": taken * recipe.worlds * recipe.setting.steps,
        "parameters": sum(p.numel() for p in raising.agent.parameters()),
        "evaluation": {name: last[name] for name in names},
        **boundaries,
    }


def _save(agent: Agent, run: Draft, name: str) -> None:
    run.save(name, {key: value.detach().numpy() for key, value in agent.state_dict().items()})


def kept_name(update: int) -> str:
    """Return the file of an agent that was kept after an update."""
    return f"agent-{update:06}.safetensors"


def load_agent(run: Run, update: int = 0) -> Agent:
    """Return the agent of a raising.

    Args:
        run: of the raising.
        update: after which it was kept; 0 is the last.

    Raises:
        UsageError: the run is no raising, or kept no agent then.
        DamagedError: its weights are those of another agent than its recipe makes.
    """
    recipe = run.recipe
    if not isinstance(recipe, Raise):
        raise UsageError(f"{run.id} is no agent that was raised: give a run of the kind raise")
    agent = new_agent(recipe)
    path = _file(run, recipe, update)
    weights = load_file(path)
    held = {name: value.shape for name, value in agent.state_dict().items()}
    found = {name: value.shape for name, value in weights.items()}
    wrong = next((name for name in {**held, **found} if held.get(name) != found.get(name)), None)
    if wrong is not None:
        raise DamagedError(
            f"{path} is no agent of its recipe: {wrong} is {_shape(found.get(wrong))} there and"
            f" {_shape(held.get(wrong))} here; read it with the release that wrote it, or raise it again"
        )
    agent.load_state_dict(weights)
    return agent.requires_grad_(False)


def _shape(of: torch.Size | None) -> str:
    return "missing" if of is None else f"[{', '.join(map(str, of))}]"


def _file(run: Run, recipe: Raise, update: int) -> Path:
    if not update or update == recipe.updates:
        return run.file(AGENT)
    recipe.require_kept(update)
    return run.file(kept_name(update))
