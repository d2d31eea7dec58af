"""Raising an agent, update by update: play episodes beside the expert, learn from them whole."""

from __future__ import annotations

from dataclasses import asdict, astuple
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from etude.core.seeds import stream
from etude.core.within import changed
from etude.culture.agent import Agent
from etude.culture.curriculum import Progress, moved_on, rewards
from etude.culture.episodes import Episodes, play
from etude.culture.layout import Layout
from etude.culture.measuring import parts
from etude.culture.recipes import Raise
from etude.culture.returns import advantages
from etude.culture.transmission import Parts
from etude.train.checkpoint import State
from etude.train.together import Together


class Raising:
    """A `Stepper` (`etude.train.loop`) whose step is one update.

    All that is drawn in an update comes from the seed, the number of the update and the rank, so that a raising that
    was stopped goes on as it would have.
    """

    def __init__(self, recipe: Raise, others: Together | None = None) -> None:
        self.recipe, self.others = recipe, others or Together()
        self.agent = new_agent(recipe)
        self.improving = recipe.rule.build()
        parameters = [*self.agent.parameters(), *self.improving.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=recipe.rule.rate, eps=1e-5)
        self.progress = Progress()
        self.boundaries = recipe.randomise.begin() if recipe.randomise else ()

    def step(self, number: int) -> dict[str, Any]:
        row = self._try_boundary(number)
        episodes = self._play(number)
        row |= self._learn(episodes, number)
        return row | self._move_on(episodes)

    def state(self) -> State:
        state = State.of(self.optimiser, agent=self.agent, improving=self.improving)
        return State(state.tensors, {"progress": asdict(self.progress), "boundaries": list(self.boundaries)})

    def load(self, state: State) -> None:
        state.load_into(self.optimiser, agent=self.agent, improving=self.improving)
        self.progress = Progress(**state.values["progress"])
        self.boundaries = tuple(state.values["boundaries"])

    # One update

    def _draw(self, number: int, *names: str | int) -> np.random.Generator:
        return np.random.default_rng(stream(self.recipe.seed, *names, number, self.others.rank))

    def _try_boundary(self, number: int) -> dict[str, Any]:
        """Play at one boundary of what is randomised, where that is due, and move it."""
        plan = self.recipe.randomise
        which = plan.due(number) if plan and self.progress.alone else None
        if plan is None or which is None:
            return {}
        draw = self._draw(number, "trial")
        there = changed(self.recipe.bare(), plan.at_boundary(which, self.boundaries, draw))
        found = parts(self.agent, there, there.setting.draw(plan.worlds, draw), draw)
        sums = self.others.sums(*astuple(found))
        told = Parts(*(each / self.others.size for each in sums)).transmission
        self.boundaries = plan.after(which, self.boundaries, told)
        name = plan.ranges[which].field
        return {"tried": name, "transmission_there": told, "boundary": self.boundaries[which]}

    def _play(self, number: int) -> Episodes:
        draw = self._draw(number, "episodes")
        recipe = self.recipe
        if recipe.randomise:
            drawn = recipe.randomise.sample(self.boundaries, draw)
            recipe = changed(recipe.bare(), drawn)
        worlds = recipe.worlds // self.others.size
        layout = recipe.expert.layouts()
        if layout is None:
            layout = recipe.setting.draw(worlds, draw, beside=recipe.curriculum.beside)
        else:
            layout = layout.in_colours(recipe.setting.width)[draw.integers(0, len(layout), worlds)]
        absent = self.progress.alone or not recipe.curriculum.absent_from
        steps = recipe.setting.steps
        present = recipe.presence.mask(steps, worlds, draw) if absent else np.ones((steps, worlds), bool)
        return play(self.agent, layout, recipe.expert, recipe.view, present, draw)

    def _learn(self, episodes: Episodes, number: int) -> dict[str, Any]:
        rule, recipe = self.recipe.rule, self.recipe
        present = np.ascontiguousarray(episodes.present.T)
        paid = torch.from_numpy(rewards(episodes.entered[:, :, 0], present, recipe.curriculum, self.progress))
        never = torch.zeros(paid.T.shape, dtype=torch.bool)  # an episode is cut off, and is not told so
        gains = advantages(paid.T, episodes.values.T, never, episodes.after, rule.discount, rule.decay).T
        returns = gains + episodes.values
        gains = self._standardised(gains)
        seen = torch.from_numpy(present.astype(np.float32))
        towards = episodes.towards_expert
        draw = self._draw(number, "order")
        for group in self.optimiser.param_groups:
            group["lr"] = rule.rate_at(number, recipe.updates)
        sums: dict[str, float] = {}
        for _ in range(rule.epochs):
            for some in torch.from_numpy(draw.permutation(len(paid))).chunk(rule.minibatches):
                thought = self.agent(episodes.seen[some])
                told = self.improving(thought.log_p, episodes.log_p[some], episodes.actions[some], gains[some])
                told["value"] = 0.5 * (thought.value - returns[some]).square().mean()
                told["attention"] = attention_loss(thought.others, towards[some], seen[some])
                loss = told["loss"] + told["value"] + recipe.attention * told["attention"]
                self.optimiser.zero_grad()
                loss.backward()
                self.others.average([p.grad for p in self._parameters if p.grad is not None])
                torch.nn.utils.clip_grad_norm_(self._parameters, rule.norm)
                self.optimiser.step()
                for name, value in told.items():
                    sums[name] = sums.get(name, 0.0) + value.item()
        parts = rule.epochs * rule.minibatches
        return {name: value / parts for name, value in sums.items()}

    @property
    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def _standardised(self, gains: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Return advantages by the mean and the deviation of those of all processes."""
        total, squares, count = self.others.sums(
            float(gains.sum(dtype=torch.float64)), float(gains.double().square().sum()), float(gains.numel())
        )
        mean = total / count
        return (gains - mean) / (max(squares / count - mean**2, 0.0) ** 0.5 + 1e-8)

    def _move_on(self, episodes: Episodes) -> dict[str, Any]:
        """Note how far the learner is, over all processes."""
        mine, theirs = episodes.entered[:, :, 0].astype(int), episodes.entered[:, :, 1].astype(int)
        seen = episodes.present.T
        with_it, without, of_it, steps_with, steps = self.others.sums(
            *(float(x) for x in (mine[seen].sum(), mine[~seen].sum(), theirs.sum(), seen.sum(), seen.size))
        )
        before = self.progress
        self.progress = moved_on(
            before, self.recipe.curriculum, (with_it, without), (steps_with, steps - steps_with), of_it / steps
        )
        plan, worlds = self.recipe.curriculum, steps / self.recipe.setting.steps
        return {
            "score": (with_it + without) / worlds,
            "expert": of_it / worlds,
            "price_seen": plan.price(before.seen),
            "price_unseen": plan.price(before.unseen if plan.pace == "apart" else before.seen),
        }


def new_agent(recipe: Raise) -> Agent:
    """Return the agent of a recipe, untrained."""
    setting = recipe.setting
    agent = Agent(
        recipe.view.width(setting.width, players=2), recipe.width, recipe.memory, others=1, steps=setting.steps + 1
    )
    agent.begin(torch.Generator().manual_seed(stream(recipe.seed, "weights")))
    return agent


def attention_loss(
    thought: Float[Tensor, "B T O"], towards: Float[Tensor, "B T O"], seen: Float[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Return the L1 distance between where the agent thinks the expert is and where it is, relative to itself, over
    the steps at which it can be seen (arXiv 2203.00715, section 3.3); 0 where it never can."""
    return ((thought - towards).abs().sum(-1) * seen).sum() / seen.sum().clamp_min(1)


def trial_of(recipe: Raise, worlds: int, name: str) -> Layout:
    """Return worlds to try an agent in, the same for every agent of a setting, whatever its seed."""
    draw = np.random.default_rng(stream(0, "trial", name))
    own = recipe.expert.layouts()
    return recipe.setting.draw(worlds, draw) if own is None else own.in_colours(recipe.setting.width)
