"""Scores of an agent in given worlds: with its expert, with it for half of the time, alone, robbed of its memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from etude.culture.agent import Agent
from etude.culture.episodes import Episodes, play
from etude.culture.layout import Layout
from etude.culture.presence import FULL, HALF, NONE, Presence
from etude.culture.recipes import Raise
from etude.culture.transmission import Parts


@dataclass(frozen=True)
class Measured:
    """Scores of one episode in each of B worlds.

    Attributes:
        full: with the expert all the time.
        half: with it in the first half.
        solo: without it.
        expert: of the expert.
        recalled: of the second half of `half`.
        forgot: the same from the same state, the agent's memory emptied at half-time.
        solo_late: of the second half of `solo`.
        full_late: of the second half of `full`.
        near: mean distance to the expert in steps of `full`, by rows and columns.
        curves: score a step [T], the mean over worlds, by way of playing.
        shown: arrays of the first world as it was played with the expert leaving at half-time.
    """

    full: Float[np.ndarray, " B"]
    half: Float[np.ndarray, " B"]
    solo: Float[np.ndarray, " B"]
    expert: Float[np.ndarray, " B"]
    recalled: Float[np.ndarray, " B"]
    forgot: Float[np.ndarray, " B"]
    solo_late: Float[np.ndarray, " B"]
    full_late: Float[np.ndarray, " B"]
    near: Float[np.ndarray, " B"]
    curves: dict[str, Float[np.ndarray, " T"]]
    shown: dict[str, np.ndarray]

    @property
    def arrays(self) -> dict[str, Float[np.ndarray, " B"]]:
        """The scores by world, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    @property
    def parts(self) -> Parts:
        """The means of which cultural transmission is made."""
        return Parts(*(float(each.mean()) for each in (self.full, self.half, self.solo, self.expert)))


def scores(episodes: Episodes, player: int = 0, since: int = 0) -> Float[np.ndarray, " B"]:
    """Return what each episode counted for a player from a step on."""
    return episodes.entered[:, since:, player].sum(1, dtype=np.float64)


def measure(agent: Agent, recipe: Raise, layout: Layout, draw: np.random.Generator) -> Measured:
    """Play the same worlds with each presence of the expert.

    The two halves with and without memory share their first half exactly: the same draws, so the same state at
    half-time.
    """
    steps, worlds = recipe.setting.steps, len(layout)
    half = steps // 2
    seed = int(draw.integers(2**62))

    def played(presence: Presence, forget_at: int | None = None) -> Episodes:
        again = np.random.default_rng(seed)
        present = presence.mask(steps, worlds, again)
        return play(agent, layout, recipe.expert, recipe.view, present, again, forget_at=forget_at)

    full, halved, alone = played(FULL), played(HALF), played(NONE)
    robbed = played(HALF, forget_at=half)
    plays = {"full": full, "half": halved, "solo": alone, "forgot": robbed}
    return Measured(
        full=scores(full),
        half=scores(halved),
        solo=scores(alone),
        expert=scores(full, player=1),
        recalled=scores(halved, since=half),
        forgot=scores(robbed, since=half),
        solo_late=scores(alone, since=half),
        full_late=scores(full, since=half),
        near=distance(full),
        curves={name: each.entered[:, :, 0].mean(0) for name, each in plays.items()},
        shown=shown(halved),
    )


def parts(agent: Agent, recipe: Raise, layout: Layout, draw: np.random.Generator) -> Parts:
    """Play the same worlds with the expert all the time, for half of it and never, and return the mean scores alone."""
    steps, seed = recipe.setting.steps, int(draw.integers(2**62))
    found = []
    for presence in (FULL, HALF, NONE):
        again = np.random.default_rng(seed)
        present = presence.mask(steps, len(layout), again)
        found.append(play(agent, layout, recipe.expert, recipe.view, present, again))
    full, half, solo = (float(scores(each).mean()) for each in found)
    return Parts(full, half, solo, float(scores(found[0], player=1).mean()))


def distance(episodes: Episodes) -> Float[np.ndarray, " B"]:
    """Return how far the agent was from its expert, in rows and columns, as a mean over the episode."""
    rows, columns = np.divmod(episodes.cells, episodes.layout.size)
    apart = np.abs(rows[..., 0] - rows[..., 1]) + np.abs(columns[..., 0] - columns[..., 1])
    return apart[:, 1:].mean(1, dtype=np.float64)


def shown(episodes: Episodes) -> dict[str, np.ndarray]:
    """Return the first world and what happened in it, as arrays that can be drawn again."""
    layout = episodes.layout
    return {
        "size": np.array([layout.size]),
        **{name: getattr(layout, name)[0] for name in ("walls", "slow", "goals", "following", "starts")},
        "cells": episodes.cells[0],
        "entered": episodes.entered[0],
        "present": episodes.present[:, 0],
    }
