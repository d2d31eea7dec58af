"""What the induction study says in words, generated from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.blocks import Finding, Value, text
from etude.studies.sections.cards import measured
from etude.studies.sections.circuits_page import strongest_pairs
from etude.studies.sections.findings import strongest
from etude.studies.sections.induction_numbers import (
    SHORT,
    curve,
    induction_heads,
    losses,
    named,
    rise,
    stands_out,
    times_lower,
)

if TYPE_CHECKING:
    from etude.studies.induction import Induction


def findings(study: Induction, done: Mapping[Recipe, Run]) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    found = [_difference(study, done), *_phase(study, done), _formed(study, done)]
    return [*found, *_lost(study, done), *_composed(study, done)]


def _difference(study: Induction, done: Mapping[Recipe, Run]) -> Finding:
    every = list(losses(study, done).values())
    deep, control = (rows[0] for rows in every)
    ratio = times_lower(study, done)
    words = text(
        f"Where the answer has been seen, {named(study, study.model.layers)} come to ",
        measured(deep, deep["run"]),
        " nats per token and one layer to ",
        measured(control, control["run"]),
        ": ",
        Value(ratio, run=(deep["run"], control["run"]), digits=1),
        " times as much.",
    )
    lower = [few["high"] < many["low"] for few, many in zip(*every, strict=True)]  # seed by seed
    return Finding(words, "clear" if all(lower) else "uncertain" if any(lower) else "none")


def _phase(study: Induction, done: Mapping[Recipe, Run]) -> list[Finding]:
    found = []
    for layers in study.depths:
        name, rows, quick = named(study, layers), curve(study, done, layers), rise(study, done, layers)
        last = rows[-1]
        if not Estimate.from_json(last["gain"]).above(0):
            gained = measured(last["gain"], last["run"])
            none = text(
                f"With {name}, repeats are in the end not seen to be easier than fresh tokens: they gain ", gained
            )
            found.append(Finding(text(*none.parts, " nats per token."), "none"))
            continue
        if quick is None:
            none = text(f"With {name}, repeats are in the end no easier, beside fresh tokens, than before training.")
            found.append(Finding(none, "none"))
            continue
        before = next(row for row in rows if row["step"] == quick.start)
        after = next(row for row in rows if row["step"] == quick.end)
        words: list[Any] = [
            f"With {name}, ",
            Value(round(100 * quick.gained), run=(before["run"], after["run"]), unit="%"),
            " of what repeats come to gain over fresh tokens, ",
            measured(last["gain"], last["run"]),
            f" nats per token in the end, comes between steps {quick.start:,} and {quick.end:,}: ",
            Value(round(100 * quick.share), run=(before["run"], after["run"]), unit="%"),
            " of the training",
        ]
        if quick.sudden:
            words += [
                "; a phase change, and the strongest induction score goes from ",
                measured(before["induction"], before["run"]),
                " to ",
                measured(after["induction"], after["run"]),
                " in the same stretch.",
            ]
        elif study.checkpoints * SHORT < 1:
            words += ["; there are too few checkpoints to tell whether it is a phase change."]
        else:
            words += ["; no phase change."]
        found.append(Finding(text(*words), "clear" if quick.sudden else "none"))
    return found


def _formed(study: Induction, done: Mapping[Recipe, Run]) -> Finding:
    runs = [done[study.heads(study.train(study.model.layers, n))] for n in range(study.seeds)]
    control = [done[study.heads(study.train(1, n))] for n in range(study.seeds)]
    with_heads, without = (sum(bool(induction_heads(run)) for run in group) for group in (runs, control))
    best = strongest(runs[0].result, "induction")
    words = text(
        "Induction heads formed in ",
        Value(with_heads, run=tuple(run.id for run in runs)),
        f" of {study.seeds} trainings with {named(study, study.model.layers)} and in ",
        Value(without, run=tuple(run.id for run in control)),
        f" of {study.seeds} with one; the highest induction score of the first training is that of {best['head']}, ",
        measured(best["induction"], runs[0]),
        ".",
    )
    if not with_heads:
        return Finding(words, "none")
    return Finding(words, "clear" if with_heads == study.seeds and not without else "uncertain")


def _lost(study: Induction, done: Mapping[Recipe, Run]) -> list[Finding]:
    run = done[study.ablation(done)]
    group, placebo = run.result.get("group"), run.result.get("placebo")
    if not group:
        return [Finding(text("No head does induction, so there is none to take out."), "none")]
    words: list[Any] = [
        f"Without {', '.join(group['heads'])} the loss on repeats goes from ",
        measured(run.result["loss"], run),
        " to ",
        measured(group["loss"], run),
        " nats per token",
    ]
    if placebo:
        count = "as many others" if len(placebo["heads"]) == len(group["heads"]) else "the others there are beside them"
        words += [f"; without {', '.join(placebo['heads'])}, {count}, to ", measured(placebo["loss"], run)]
    else:
        words.append("; their layers have no other heads to compare with")
    guessing = done[study.heads(study.train(study.model.layers, 0))].result["uniform_loss"]
    half = (guessing - run.result["loss"]["mean"]) / 2  # what counts as much where there is nothing beside it
    bound = placebo["increase"]["high"] if placebo else half
    return [Finding(text(*words, "."), "clear" if group["increase"]["low"] > max(0.0, bound) else "uncertain")]


def _composed(study: Induction, done: Mapping[Recipe, Run]) -> list[Finding]:
    pairs = strongest_pairs(done[study.circuits], "K")
    if not pairs:
        return []
    (first, second), _, projected = pairs[0]
    heads = done[study.heads(study.train(study.model.layers, 0))]
    score = {head["head"]: head for head in heads.result["heads"]}
    words = text(
        f"By the weights, the keys of {second} can read the largest share of what {first} writes (K-composition ",
        Value(projected, run=done[study.circuits].id),
        f" over a random head); {first} gives ",
        measured(score[first]["previous"], heads),
        f" of its attention to the token before, {second} ",
        measured(score[second]["induction"], heads),
        " to the token after the last occurrence.",
    )
    related = stands_out(score[first], "previous", heads.result["chance"]) and second in induction_heads(heads)
    return [Finding(words, "clear" if related else "none" if projected <= 0 else "uncertain")]
