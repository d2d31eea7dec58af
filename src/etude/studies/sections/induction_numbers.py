"""What the studies call an induction head, and a phase change; and the numbers of the induction study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.studies.sections.findings import strongest

if TYPE_CHECKING:
    from etude.studies.induction import Induction

Row = dict[str, Any]

ENOUGH = 0.6
"""The share of all that is gained which has to come within one stretch of the training for a phase change."""

SHORT = 0.2
"""The longest such a stretch can be, as a share of the training."""

LEAST = 0.5
"""Nats per token that repeats have to be easier by in the end, for there to be anything that changed."""


def even(head: dict[str, Any], chance: float) -> float:
    """Return what even attention gives in a head's layer; `chance` in runs from before heads had their own."""
    return head.get("chance", chance)


def stands_out(head: dict[str, Any], kind: str, chance: float) -> bool:
    """Return whether a head does what it is scored for: more than twice what even attention gives, and of induction
    also more than twice what looking back by another period gives, intervals apart: a head that attends alike to all
    likely distances comes to more than even attention, and with one layer that is all there is. One sequence says
    nothing of its spread, and no head then stands out."""
    score, off = Estimate.from_json(head[kind]), head["off_period"] if kind == "induction" else None
    return score.above(2 * max(even(head, chance), off["high"] if off else 0.0))


def induction_heads(run: Run) -> list[str]:
    """Return the heads that do induction: they stand out, and score at least half of what the strongest does."""
    chance = run.result["chance"]
    found = [head for head in run.result["heads"] if stands_out(head, "induction", chance)]
    most = max((head["induction"]["mean"] for head in found), default=0.0)
    return [head["head"] for head in found if head["induction"]["mean"] >= most / 2]


BEFORE = 0.3
"""The most of all that is gained that may have come before that stretch: a plateau first. A curve that starts steep and
flattens out, as most losses do, is no phase change however quick it is."""


class Rise(NamedTuple):
    """The shortest stretch of a training in which `ENOUGH` of a rise comes.

    Attributes:
        start: the step where it begins.
        end: the step where it ends.
        share: of the whole training.
        gained: share of the whole rise that comes within it.
        total: the whole rise, from the first value to the last.
        before: share of the whole rise that comes before it.
    """

    start: int
    end: int
    share: float
    gained: float
    total: float
    before: float

    @property
    def sudden(self) -> bool:
        """Whether it is short, little came before it, and there was something to gain. From the first step on nothing
        can be seen to have come before."""
        late = self.start > 0 and self.before <= BEFORE
        return late and self.share <= SHORT and self.total >= LEAST


def steepest(steps: Sequence[int], values: Sequence[float]) -> Rise | None:
    """Return the shortest stretch with `ENOUGH` of the rise, the steepest of several as short; None where nothing rose.

    Args:
        steps: rising from 0, the last of the training at their end.
        values: what rises, at each step.
    """
    total = values[-1] - values[0]
    if total <= 0:
        return None
    shares = [(value - values[0]) / total for value in values]
    pairs = [
        Rise(steps[a], steps[b], (steps[b] - steps[a]) / steps[-1], (values[b] - values[a]) / total, total, shares[a])
        for a in range(len(steps))
        for b in range(a + 1, len(steps))
    ]
    return min((rise for rise in pairs if rise.gained >= ENOUGH), key=lambda rise: (rise.share, -rise.gained))


def named(study: Induction, layers: int) -> str:
    """Return what a model is called on the page."""
    return "one layer" if layers == 1 else f"{'two' if layers == 2 else layers} layers"


def curve(study: Induction, done: Mapping[Recipe, Run], layers: int) -> list[Row]:
    """Return what each checkpoint of the first training scored."""
    rows = []
    for step in study.at_steps:
        heads, context = (done[recipe] for recipe in study.of_checkpoint(study.train(layers, 0), step))
        best = {kind: strongest(heads.result, kind)[kind] for kind in ("previous", "induction")}
        rows.append(
            {
                "step": step,
                "model": named(study, layers),
                "repeated": heads.result["repeated_loss"],
                "fresh": heads.result["fresh_loss"],
                "gain": heads.result["gain"],
                **best,
                "in_context": context.result["score"],
                "run": heads.id,
                "context_run": context.id,
            }
        )
    return rows


def rise(study: Induction, done: Mapping[Recipe, Run], layers: int) -> Rise | None:
    """Return the stretch of the training in which repeats became easy."""
    rows = curve(study, done, layers)
    return steepest([row["step"] for row in rows], [row["gain"]["mean"] for row in rows])


def losses(study: Induction, done: Mapping[Recipe, Run]) -> dict[str, list[dict[str, Any]]]:
    """Return the loss on repeats of every training, by model."""
    return {
        named(study, layers): [
            {"run": run.id, **run.result["repeated_loss"]}
            for run in (done[study.heads(study.train(layers, n))] for n in range(study.seeds))
        ]
        for layers in study.depths
    }


def times_lower(study: Induction, done: Mapping[Recipe, Run]) -> float:
    """Return the control's loss on repeats over the deeper model's, of the first trainings."""
    deep, control = (rows[0]["mean"] for rows in losses(study, done).values())
    return control / deep
