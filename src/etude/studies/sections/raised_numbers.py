"""What several seeds of one agent come to: its scores, cultural transmission with its parts, and its phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.core.run import Run
from etude.evals.statistics import Estimate, mean

PARTS = ("full", "half", "solo", "expert")
"""The scores of which cultural transmission is made."""

RECALL = ("recalled", "forgot", "solo_late", "full_late")
"""Scores of the second half of an episode."""


@dataclass(frozen=True)
class Raised:
    """Several seeds of one agent.

    Attributes:
        name: what the page calls it.
        goals: in its worlds.
        agents: the runs that raised it, by seed.
        measured: the runs that measured its cultural transmission, by seed.
    """

    name: str
    goals: int
    agents: tuple[Run, ...]
    measured: tuple[Run, ...]

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of what measured it."""
        return tuple(run.id for run in self.measured)

    def by_seed(self, key: str) -> np.ndarray:
        """Return a mean of each seed [N]."""
        return np.array([run.result[key]["mean"] for run in self.measured])

    def over_seeds(self, key: str) -> Estimate:
        """Return the mean over seeds with its interval, which is of seeds: what another training would come to."""
        return mean(self.by_seed(key))

    def to_json(self) -> dict[str, Any]:
        keys = (*PARTS, "transmission", *RECALL, "kept", "beyond_solo", "near")
        return {
            "name": self.name,
            "goals": self.goals,
            "seeds": len(self.agents),
            **{key: self.over_seeds(key).to_json() for key in keys},
            "by_seed": {key: self.by_seed(key).tolist() for key in keys},
            "phases": [phases(run) for run in self.agents],
            "runs": list(self.runs),
        }


def differs(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> Estimate:
    """Return the mean of one group of trainings less that of another with Welch's interval (1947): their spreads may
    differ, and their seeds do not pair. One training tells no spread, and the interval is then the estimate alone."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    found, n = float(a.mean() - b.mean()), min(len(a), len(b))
    if n < 2:
        return Estimate(found, found, found, n)
    from scipy.special import stdtrit

    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    total = float(parts.sum())
    if not total:
        return Estimate(found, found, found, n)
    freedom = total**2 / float((parts**2 / (np.array([len(a), len(b)]) - 1)).sum())
    reach = float(stdtrit(freedom, 0.975)) * total**0.5
    return Estimate(found, found - reach, found + reach, n)


PHASES = ("before", "following", "remembering", "alone")
"""Where an agent stands: it does not yet follow; it follows, and forgets; it also remembers; it does well alone."""


def phase(row: dict[str, Any]) -> str:
    """Return the phase of an evaluation (after arXiv 2203.00715, figure 5).

    To follow is to score half of what the expert does in the same worlds, with it beside, a quarter of it for its being
    there. To remember is, besides, to score above 0 in the second half, the expert gone, and a twentieth of the
    expert's episode more than with an emptied memory. Half of the expert's score that owes less than a quarter to its
    being there, or half of it with no expert at all, is doing well alone, whatever else the agent does.
    """
    expert = row["of_expert"]
    if row["solo"] >= expert / 2:
        return "alone"
    if row["full"] < expert / 2:
        return "before"
    if row["full"] - row["solo"] < expert / 4:
        return "alone"
    kept = row["recalled"] - row["forgot"]
    return "remembering" if row["recalled"] > 0 and kept >= expert / 20 else "following"


def phases(run: Run) -> list[dict[str, Any]]:
    """Return the phases of an agent's growth: where each begins, in environment steps, and where the last ends."""
    recipe = run.recipe_data
    each = recipe["worlds"] * recipe["setting"]["steps"]
    found: list[dict[str, Any]] = []
    for row in run.record:
        if "full" in row:
            now = phase(row)
            if not found or found[-1]["phase"] != now:
                found.append({"phase": now, "from": row["step"] * each, "to": row["step"] * each})
            found[-1]["to"] = row["step"] * each
    return found


def growth(raised: Raised) -> list[dict[str, Any]]:
    """Return the evaluations of all seeds as rows: environment steps, and each score as the mean over seeds with its
    ends, the least and the greatest seed."""
    by_step: dict[int, list[dict[str, Any]]] = {}
    recipe = raised.agents[0].recipe_data
    each = recipe["worlds"] * recipe["setting"]["steps"]
    for run in raised.agents:
        for row in run.record:
            if "full" in row:
                by_step.setdefault(row["step"] * each, []).append(row)
    keys = ("full", "half", "solo", "of_expert", "transmission", "recalled", "forgot", "solo_late")
    rows = []
    for step, found in sorted(by_step.items()):
        row: dict[str, Any] = {"millions": step / 1e6, "agent": raised.name, "run": raised.agents[0].id}
        for key in keys:
            values = [one[key] for one in found]
            row |= {key: float(np.mean(values)), f"{key}_low": min(values), f"{key}_high": max(values)}
        rows.append(row)
    return rows


def within_episode(raised: Raised) -> list[dict[str, Any]]:
    """Return the score a step along an episode, the mean over seeds in stretches of a twentieth, by way of playing."""
    curves = [run.tensors("curves.safetensors") for run in raised.measured]
    steps = len(curves[0]["full"])
    width = max(1, steps // 20)
    rows = []
    for name in ("full", "half", "forgot", "solo"):
        values = np.mean([each[name] for each in curves], axis=0)
        for start in range(0, steps - width + 1, width):
            rows.append({
                "step": start + width / 2,
                "score": float(values[start : start + width].mean() * steps),
                "play": PLAYS[name],
                "run": raised.measured[0].id,
            })  # fmt: skip
    return rows


PLAYS = {
    "full": "expert there",
    "half": "expert leaves half-way",
    "forgot": "the same, memory emptied",
    "solo": "alone",
}
"""Ways of playing, as the page calls them."""
