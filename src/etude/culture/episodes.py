"""Episodes: an agent and its expert play the same worlds, and everything that happened is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.culture.agent import Agent
from etude.culture.experts.base import Expert
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout
from etude.culture.remembering import Kept
from etude.culture.routes import ACTIONS
from etude.culture.views.base import View


@dataclass(frozen=True)
class Episodes:
    """What happened in B worlds over T steps.

    Attributes:
        layout: the worlds.
        seen: what the agent saw before each step.
        actions: what it did.
        log_p: of every action, under the policy that acted.
        values: what it expected.
        after: what it expected after the last step.
        entered: what each step counted for each player.
        cells: where each player stood before each step, and after the last.
        present: whether the expert could be seen.
    """

    layout: Layout
    seen: Float[Tensor, "B T W"]
    actions: Int[Tensor, "B T"]
    log_p: Float[Tensor, "B T A"]
    values: Float[Tensor, "B T"]
    after: Float[Tensor, " B"]
    entered: Int[np.ndarray, "B T P"]
    cells: Int[np.ndarray, "B T+1 P"]
    present: Bool[np.ndarray, "T B"]

    @property
    def towards_expert(self) -> Float[Tensor, "B T 2"]:
        """Rows and columns from the agent to the expert before each step, as shares of the world's side."""
        places = np.stack(np.divmod(self.cells[:, :-1], self.layout.size), axis=-1) / (self.layout.size - 1)
        return torch.from_numpy((places[:, :, 1] - places[:, :, 0]).astype(np.float32))


@torch.no_grad()
def play(
    agent: Agent,
    layout: Layout,
    expert: Expert,
    view: View,
    present: Bool[np.ndarray, "T B"],
    draw: np.random.Generator,
    *,
    greedy: bool = False,
    forget_at: int | None = None,
) -> Episodes:
    """Play one episode in every world.

    Args:
        agent: the learner, player 0.
        layout: the worlds, of two players.
        expert: player 1. It moves on where it is not seen.
        view: of the learner.
        present: when the expert can be seen.
        draw: of actions.
        greedy: whether the likeliest action is taken, and not one drawn.
        forget_at: the step before which the agent's memory is emptied.

    Raises:
        UsageError: the agent was made to see another number of things than the view shows of these worlds.
    """
    steps, worlds = present.shape
    game = GoalCycle(layout, steps)
    width, sees = view.width(game.colours, game.players), len(agent.embed.W_seen)
    if width != sees:
        raise UsageError(
            f"the agent sees {sees} numbers and the view {view.name} shows {width} of {game.colours} colours: give it"
            " the view and as many colours as it was raised with"
        )
    seen = torch.empty(worlds, steps, width)
    actions = torch.empty(worlds, steps, dtype=torch.int64)
    log_p, values = torch.empty(worlds, steps, ACTIONS), torch.empty(worlds, steps)
    entered = np.empty((worlds, steps, game.players), np.int8)
    cells = np.empty((worlds, steps + 1, game.players), np.int16)
    chances = draw.random((steps, worlds), dtype=np.float32)
    kept: Kept = None
    shown = np.ones((worlds, game.players), bool)
    both = np.empty((worlds, game.players), np.int64)

    def look(t: int) -> Tensor:
        shown[:, 1] = present[min(t, steps - 1)]
        return torch.from_numpy(view.see(game, 0, shown))

    for t in range(steps):
        cells[:, t] = game.cells
        now = look(t)
        if t == forget_at:
            kept = None
        thought = agent(now[:, None], kept)
        kept = thought.kept
        chosen = thought.log_p[:, 0].numpy()
        if greedy:
            action = chosen.argmax(1)
        else:
            action = np.minimum((np.exp(chosen).cumsum(1) < chances[t][:, None]).sum(1), ACTIONS - 1)
        both[:, 0], both[:, 1] = action, expert.act(game, 1, draw)
        seen[:, t], values[:, t] = now, thought.value[:, 0]
        actions[:, t] = torch.from_numpy(action)
        log_p[:, t] = thought.log_p[:, 0]
        entered[:, t] = game.step(both)
    cells[:, steps] = game.cells
    after = agent(look(steps)[:, None], kept).value[:, 0]
    return Episodes(layout, seen, actions, log_p, values, after, entered, cells, present)
