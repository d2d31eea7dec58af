"""The work of finding social neurons: what each unit of a memory tells of the expert, and what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.core.work import using_threads
from etude.culture.agent import Agent
from etude.culture.episodes import Episodes, play
from etude.culture.layout import Layout
from etude.culture.measuring import scores
from etude.culture.presence import FULL, HALF, Presence
from etude.culture.raising import trial_of
from etude.culture.recipes import Raise, SocialNeurons
from etude.culture.social import Told, of_others, rank, rank_correlation, told
from etude.culture.work import load_agent
from etude.evals.probes import Labelled, probe
from etude.evals.statistics import Estimate, mean
from etude.nn.taps import Edit

SITE = "memory.out"
"""Where units are read and ablated: what the agent acts by. What the memory keeps for later steps is left alone."""

FLICKERS = Presence(full=0, flicker=1, on=10, off=10)
"""An expert that comes and goes, so that no step is likelier to have it than another."""

UNITS, ABLATED = "units.safetensors", "ablated.safetensors"
"""What each unit tells; and the score of each world without each unit."""

ENDS = ("accuracy", "low", "high")


def social_neurons(recipe: SocialNeurons, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Read every unit's presence of the expert, beside controls, and ablate the units one by one."""
    with using_threads(1):
        agent, of = load_agent(inputs[recipe.of], recipe.update), recipe.of
        layout = trial_of(of, recipe.worlds, f"social neurons {recipe.seed}")
        seed = stream(recipe.seed, "social neurons")
        flickers, means, spreads = read(agent, of, layout, FLICKERS, seed)
        leaves, _, _ = read(agent, of, layout, HALF, seed)
        before, _, _ = read(load_agent(inputs[recipe.untrained]), of, layout, FLICKERS, seed)
        readings = {"flickers": flickers, "leaves_at_half_time": leaves, "untrained": before}
        run.save(UNITS, {**_arrays(readings), "mean": means, "deviation": spreads})
        others = trial_of(of, recipe.worlds, f"social neurons, ablated {recipe.seed}")
        ablated = ablate(agent, of, others, means, stream(recipe.seed, "ablated"), run)
    run.save(ABLATED, ablated)
    unit = flickers["units"].best
    return {
        "units": len(means),
        "worlds": len(layout),
        "unit": unit,
        **{name: _in_short(reading) for name, reading in readings.items()},
        "unit_of_half_time": _elsewhere(leaves["units"].best, flickers["units"]),
        "ablation": {
            name: effect(ablated[f"{name}.whole"], ablated[name], unit, flickers["units"], spreads)
            for name in ("full", "recalled")
        },
    }


Reading = dict[str, Any]
"""What the units of an agent tell under one presence of the expert, and what is told without them."""


def activations(agent: Agent, episodes: Episodes) -> Float[np.ndarray, "B T D"]:
    """Return what the memory gave before each step, by reading the whole episodes."""
    seen: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        seen.append(value.clone())
        return value

    with torch.no_grad(), agent.tapped({SITE: keep}):
        agent(episodes.seen)
    return seen[0].numpy()


def fixed(unit: int, value: float) -> Edit:
    """Return a function that gives one unit the same value at every step."""

    def edit(x: Tensor) -> Tensor:
        new = x.clone()
        new[..., unit] = value
        return new

    return edit


def _played(agent: Agent, of: Raise, layout: Layout, presence: Presence, seed: int) -> Episodes:
    draw = np.random.default_rng(seed)
    present = presence.mask(of.setting.steps, len(layout), draw)
    return play(agent, layout, of.expert, of.view, present, draw)


def read(
    agent: Agent, of: Raise, layout: Layout, presence: Presence, seed: int
) -> tuple[Reading, Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """Return what units tell in a play of the worlds, with the mean and the deviation of each over all steps."""
    episodes = _played(agent, of, layout, presence, seed)
    x, there = activations(agent, episodes), np.ascontiguousarray(episodes.present.T)
    clock = np.broadcast_to(np.arange(there.shape[1], dtype=np.float32), there.shape)[..., None]
    reading = {
        "units": told(x, there),
        "of_other_worlds": told(x, of_others(there)),
        "clock": told(clock, there),
        "probe": _probed(x, there, seed),
        "present": float(there.mean()),
    }
    return reading, x.mean((0, 1)), x.std((0, 1))


def _probed(x: Float[np.ndarray, "B T D"], there: Bool[np.ndarray, "B T"], seed: int) -> dict[str, Any]:
    """Return how well all units together tell presence by a linear map, on the same halves of worlds.

    The labels of the control are drawn for each step of an episode, so that a memory that tells the time can learn
    them by heart.
    """
    worlds, steps = there.shape
    rows = Labelled(
        x=x.reshape(worlds * steps, -1).astype(np.float64),
        y=there.ravel(),
        tokens=np.tile(np.arange(steps), worlds),
        windows=np.repeat(np.arange(worlds), steps),
    )

    def side(chosen: Bool[np.ndarray, " N"]) -> Labelled:
        return Labelled(*(each[chosen] for each in vars(rows).values()))

    first = rows.windows < worlds // 2
    found = probe(side(first), side(~first), seed=seed)._asdict()
    return {name: each.to_json() if isinstance(each, Estimate) else each for name, each in found.items()}


def ablate(
    agent: Agent, of: Raise, layout: Layout, means: Float[np.ndarray, " D"], seed: int, run: Draft
) -> dict[str, np.ndarray]:
    """Return the score of each world with every unit [B], and with one fixed at its mean [D B], on the same draws:
    with the expert all the time, and in the second half after it has left."""
    half = of.setting.steps // 2

    def scored() -> tuple[np.ndarray, np.ndarray]:
        full, halved = (_played(agent, of, layout, presence, seed) for presence in (FULL, HALF))
        return scores(full), scores(halved, since=half)

    whole = scored()
    without = []
    for unit, value in enumerate(means.tolist()):
        with agent.tapped({SITE: fixed(unit, value)}):
            without.append(scored())
        run.progress(unit + 1, len(means), unit="units")
    full, recalled = (np.stack(each) for each in zip(*without, strict=True))
    return {"full.whole": whole[0], "recalled.whole": whole[1], "full": full, "recalled": recalled}


def effect(
    whole: Float[np.ndarray, " B"],
    without: Float[np.ndarray, "D B"],
    unit: int,
    units: Told,
    spreads: Float[np.ndarray, " D"],
) -> dict[str, Any]:
    """Return what the most social unit brings to a score, among what the others do."""
    lost = whole - without
    effects, others = lost.mean(1), np.delete(lost, unit, axis=0)
    return {
        "score": mean(whole).to_json(),
        "lost": mean(lost[unit]).to_json(),
        "more_than_others": mean(lost[unit] - others.mean(0)).to_json() if len(others) else None,
        "rank": rank(effects, unit),
        "with_accuracy": rank_correlation(units.right.mean(0), effects).to_json(),
        "with_deviation": rank_correlation(spreads, effects).to_json(),
    }


def _in_short(reading: Reading) -> dict[str, Any]:
    units, shuffled, clock = reading["units"], reading["of_other_worlds"], reading["clock"]
    return {
        "present": reading["present"],
        "base": mean(units.base).as_share().to_json(),
        "best": _elsewhere(units.best, units),
        "above_base": _above(units),
        "of_other_worlds": {**_elsewhere(shuffled.best, shuffled), "above_base": _above(shuffled)},
        "clock": clock.accuracy[0].to_json(),
        "probe": reading["probe"],
    }


def _elsewhere(unit: int, units: Told) -> dict[str, Any]:
    """Return what one unit tells."""
    return {"unit": unit, "accuracy": units.accuracy[unit].to_json(), "gain": units.gain[unit].to_json()}


def _above(units: Told) -> int:
    """Return how many units tell more than the base rate, by intervals of 95%; by chance one in 40 does."""
    return sum(each.above(0) for each in units.gain)


def _arrays(readings: dict[str, Reading]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, reading in readings.items():
        for of in ("units", "of_other_worlds"):
            units: Told = reading[of]
            where = name if of == "units" else f"{name}.{of}"
            ends = np.array([(each.mean, each.low, each.high) for each in units.accuracy])
            found |= {f"{where}.{end}": np.ascontiguousarray(ends[:, n]) for n, end in enumerate(ENDS)}
            found |= {f"{where}.threshold": units.cuts.at, f"{where}.above": units.cuts.above.astype(np.uint8)}
    return found
