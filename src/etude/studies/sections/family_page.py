"""The page of a family of sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.blocks import Block, Finding, Findings, Report, Section, Table, Value, text
from etude.report.charts import Axis, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.family_numbers import RARE, Kind, helped, kinds

if TYPE_CHECKING:
    from etude.studies.scale_family import ScaleFamily


def page(study: ScaleFamily, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole report."""
    found = kinds(study, done)
    runs = [done[recipe] for train in study.trainings for recipe in (train, study.breakdown(train), study.read(train))]
    return Report(
        title="A family of sizes",
        question="What do models of more parameters predict better after the same text, and what does scale help"
        " least?",
        abstract=(Findings(tuple(_findings(study, done, found))),),
        sections=(_members(study, done), _kinds(study, done, found), _method(study)),
        runs=cards([done[study.train.data], *runs]),
    )


def _ids(study: ScaleFamily, done: Mapping[Recipe, Run]) -> tuple[str, ...]:
    """Return the runs that the losses of the smallest and the greatest member come from."""
    return tuple(done[study.breakdown(train)].id for train in (study.trainings[0], study.trainings[-1]))


def _told(estimate: Estimate, run: tuple[str, ...], digits: int = 3, unit: str = "", scale: float = 1.0) -> Value:
    shown = estimate.scaled(scale)
    return Value(shown.mean, shown.low, shown.high, run=run, digits=digits, unit=unit)


def _findings(study: ScaleFamily, done: Mapping[Recipe, Run], found: list[Kind]) -> list[Finding]:
    ends, whole = _ids(study, done), found[0]
    sizes = [int(done[train].result["parameters"]) for train in study.trainings]
    said = [
        Finding(
            text(
                f"From {sizes[0]:,} to {sizes[-1]:,} parameters on the same tokens the loss falls by ",
                _told(whole.gain, ends, unit="nats a token"),
                ", and each doubling is worth ",
                _told(whole.per_doubling.scaled(-1), ends, unit="nats"),
                ".",
            ),
            "clear" if whole.gain.excludes_zero else "none",
        )
    ]
    order = helped(found)
    if len(order) < 2:
        return said
    for kind, word in ((order[0], "least"), (order[-1], "most")):
        apart = kind.relative.below(whole.relative.low) or kind.relative.above(whole.relative.high)
        words = text(
            f"Scale helps {word} where the token is of the kind ‘{kind.name}’ ({kind.division}): ",
            _told(kind.relative, ends, 1, "%", 100),
            " of the smallest model's loss goes, against ",
            _told(whole.relative, ends, 1, "%", 100),
            " over all tokens.",
        )
        said.append(Finding(words, "clear" if apart else "uncertain"))
    worse = [kind for kind in order if kind.gain.below(0)]
    if worse:
        named = ", ".join(f"‘{kind.name}’" for kind in worse)
        said.append(Finding(text(f"More parameters predict worse: {named}."), "clear"))
    return said


def _members(study: ScaleFamily, done: Mapping[Recipe, Run]) -> Section:
    rows = []
    for train in study.trainings:
        run, parted, read = done[train], done[study.breakdown(train)], done[study.read(train)]
        rows.append(
            (
                run.result["parameters"],
                train.model.layers,
                train.model.width,
                run.result["tokens"],
                Value(run.result["flops"], run=run.id),
                measured(parted.result["loss"], parted),
                measured(read.result["score"], read),
            )
        )
    head = ("parameters", "layers", "width", "tokens", "FLOPs", "loss (nats a token)", "in-context score (nats)")
    caption = (
        "The members. All read the same tokens in the same order. The in-context score is the loss late in the context"
        " less that early in it: below 0, the model makes use of what stands between."
    )
    return Section("The family", (Table(head, tuple(rows), caption=caption, lowest=("loss (nats a token)",)),))


def _kinds(study: ScaleFamily, done: Mapping[Recipe, Run], found: list[Kind]) -> Section:
    ends = _ids(study, done)
    rows = tuple(
        (
            kind.name + (f" ({kind.division})" if kind is not found[0] else ""),
            f"{100 * kind.share:.1f}",
            *(Value(loss.mean, loss.low, loss.high, run=ends, digits=2) for loss in (kind.losses[0], kind.losses[-1])),
            _told(kind.relative, ends, 1, "%", 100),
            _told(kind.per_doubling, ends),
        )
        for kind in (found[0], *sorted(found[1:], key=lambda k: k.relative.mean))
    )
    table = Table(
        ("kind of token", "share (%)", "loss, smallest", "loss, greatest", "loss that went", "a doubling"),
        rows,
        caption="Least helped first. The last two columns are paired by window: the part of the smallest model's loss"
        " that the greatest one does not have, and the slope of the loss over the logarithm of parameters to base 2"
        f" (nats a token). Kinds under {RARE:.0%} of the predictions are not named in the findings.",
    )
    charts: list[Block] = []
    sizes = [int(done[train].result["parameters"]) for train in study.trainings]
    ids = [done[study.breakdown(train)].id for train in study.trainings]
    for division in dict.fromkeys(kind.division for kind in found[1:]):
        points = [
            {"size": size, "loss": loss.mean, "low": loss.low, "high": loss.high, "kind": kind.name, "run": run}
            for kind in found
            if kind.division == division and kind.share >= RARE
            for size, loss, run in zip(sizes, kind.losses, ids, strict=True)
        ]
        charts.append(
            lines(
                points,
                Axis("size", "parameters", log=True),
                Axis("loss", "loss (nats per token)"),
                caption=f"Loss over size, by {division}, with 95% intervals over windows.",
                colour="kind",
                colour_title=division,
                low="low",
                high="high",
                run="run",
                height=220,
            )
        )
    return Section("What scale helps", (table, *charts))


def _method(study: ScaleFamily) -> Section:
    train = study.train
    words = text(
        f"Each member takes {train.steps:,} steps of {train.batch} windows of {train.context} tokens of"
        f" {train.data.corpus.name}, from one seed: the intervals are over windows of the validation split and do not"
        " hold what another seed would change. Quarters of the training text by commonness: its tokens in order from"
        " the commonest to the rarest, cut so that each quarter makes up a quarter of the text."
    )
    return Section("How it was done", (words,))
