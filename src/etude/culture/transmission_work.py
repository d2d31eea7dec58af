"""The work of measuring cultural transmission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.core.work import using_threads
from etude.culture.measuring import Measured, measure
from etude.culture.recipes import Transmission
from etude.culture.transmission import transmission
from etude.culture.work import load_agent
from etude.evals.statistics import Estimate, mean

SCORES, CURVES, EPISODE = "scores.safetensors", "curves.safetensors", "episode.safetensors"
"""Scores by world; mean score by step; and one world as it was played, for a picture."""

DRAWS = 2000
"""Draws of worlds for the interval of a ratio."""


def transmission_of(recipe: Transmission, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Play the worlds with each presence of the expert, all at once, and save the scores by world."""
    with using_threads(1):
        agent, played = load_agent(inputs[recipe.of], recipe.update), recipe.played
        draw = np.random.default_rng(stream(recipe.seed, "transmission"))
        layout = played.expert.layouts()
        if layout is None:
            layout = played.setting.draw(recipe.worlds, draw)
        else:
            layout = layout.in_colours(played.setting.width)
        again = np.repeat(np.arange(len(layout)), recipe.episodes)
        found = measure(agent, played, layout[again], draw)
    run.save(CURVES, found.curves)
    run.save(EPISODE, found.shown)
    found = by_world(found, recipe.episodes)
    run.save(SCORES, found.arrays)
    scores = {name: mean(values).to_json() for name, values in found.arrays.items()}
    return {
        **scores,
        "transmission": interval(found, np.random.default_rng(0)).to_json(),
        "kept": mean(found.recalled - found.forgot).to_json(),
        "beyond_solo": mean(found.recalled - found.solo_late).to_json(),
        "worlds": len(layout),
        "episodes": recipe.episodes,
    }


def by_world(found: Measured, episodes: int) -> Measured:
    """Return the mean of each world's scores over its episodes, which follow each other, so that a world counts
    once."""
    means = {name: values.reshape(-1, episodes).mean(1) for name, values in found.arrays.items()}
    return replace(found, **means)


def interval(found: Measured, draw: np.random.Generator) -> Estimate:
    """Return cultural transmission with its 95% interval over worlds, by bootstrap (percentiles)."""
    worlds = len(found.full)
    weights = draw.multinomial(worlds, np.full(worlds, 1 / worlds), size=DRAWS) / worlds

    def means(values: Float[np.ndarray, " B"]) -> Float[np.ndarray, " N"]:
        return weights @ values

    drawn = transmission(means(found.full), means(found.half), means(found.solo), means(found.expert))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(found.parts.transmission, float(low), float(high), worlds)
