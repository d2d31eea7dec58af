"""What the ladder from attention to BERT and GPT shows, in words that follow from its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Score
from etude.evals.statistics import Estimate
from etude.report.blocks import Finding, Value, text
from etude.studies.sections.ladder_numbers import comparisons, measure, to_beat

if TYPE_CHECKING:
    from etude.studies.build_up import BuildUp

CLOSE = 1e-10
"""Differences in double precision below this are rounding: a mistake in a formula makes them larger than 1e-4."""


def findings(study: BuildUp, done: Mapping[Recipe, Run]) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    rows = comparisons(study, done)
    found = [_same(study, done)]
    found += [_reached(study, name, done) for name in ("classifier", "classifier of news")]
    for name in study.models:
        found.append(_beats(study, name, [row for row in rows if row["of"] == name], done))
    return found + [_adds(row) for row in rows if row["against"] in study.models]


def _same(study: BuildUp, done: Mapping[Recipe, Run]) -> Finding:
    run = done[study.parity]
    rungs = run.result["rungs"]
    greatest = max(max(row["fp64"].values()) for row in rungs.values())
    count = Value(len(rungs), run=run.id)
    apart = Value(greatest, run=run.id, label="greatest difference in fp64")
    if greatest < CLOSE:
        words = (
            " steps compute what PyTorch's modules do on the same weights: in double precision outputs and gradients"
        )
        return Finding(text("All ", count, words, " differ by at most ", apart, "."), "clear")
    return Finding(
        text(
            "Not every step computes what PyTorch's module does: of ",
            count,
            " the outputs or gradients of one differ by ",
            apart,
            " in double precision.",
        ),
        "clear",
    )


def _reached(study: BuildUp, name: str, done: Mapping[Recipe, Run]) -> Finding:
    run, chance = done[Score(study.models[name])], done[study.floor(name)]
    corpus = study.models[name].data.corpus.name
    even = chance.result["baselines"]["chance"]["accuracy"]["mean"]
    return Finding(
        text(
            "Without pretraining, the classifier names the class of ",
            percent(run.result["accuracy"], run.id),
            f" of the test texts of {corpus}; chance is ",
            Value(100 * even, run=chance.id, unit="%", digits=0),
            ".",
        ),
        "clear" if Estimate.from_json(run.result["accuracy"]).above(even) else "uncertain",
    )


def _beats(study: BuildUp, name: str, rows: list[dict[str, Any]], done: Mapping[Recipe, Run]) -> Finding:
    """Say whether a rung beats its untrained self and its baselines."""
    by = {row["against"]: row for row in rows}
    parts: list[Any] = []
    firm = True
    sign = -1 if measure(study, name) == "loss" else 1
    others = ("its untrained self", *to_beat(study, name))
    for other in others:
        gain = Estimate.from_json(by[other]).scaled(sign)
        firm &= gain.excludes_zero
        verb = "beats" if gain.above(0) else "is worse than" if gain.below(0) else "cannot be told apart from"
        begun = (" and " if other == others[-1] else ", ") if parts else f"{called(name)} "
        if gain.excludes_zero:
            shown = _gain(gain.scaled(1 if gain.mean > 0 else -1), by[other])
            parts += [f"{begun}{verb} {against(other)} by ", shown]
        else:
            parts += [f"{begun}{verb} {against(other)} (the difference is ", _gain(gain, by[other]), ")"]
    return Finding(text(*parts, "."), "clear" if firm else "uncertain")


def _adds(row: dict[str, Any]) -> Finding:
    """Say what a rung has over the one before it."""
    gain = Estimate.from_json(row)
    value = _gain(gain, row)
    one, other = called(row["of"]), called(row["against"]).lower()
    if not gain.excludes_zero:
        return Finding(
            text(f"{one} and {other} cannot be told apart on the test texts: the difference is ", value, "."),
            "uncertain",
        )
    verb = "reads reviews better than" if gain.mean > 0 else "reads reviews worse than"
    return Finding(
        text(f"{one} {verb} {other}, by ", _gain(gain.scaled(1 if gain.mean > 0 else -1), row), "."), "clear"
    )


def _gain(gain: Estimate, row: dict[str, Any]) -> Value:
    runs = tuple(row["runs"])
    if row["measure"] == "loss":
        return Value(gain.mean, gain.low, gain.high, run=runs, unit="nats per token")
    shown = gain.scaled(100)
    return Value(shown.mean, shown.low, shown.high, run=runs, unit="points", digits=1)


def called(name: str) -> str:
    """Return how a sentence begins that is about a rung."""
    return {
        "attention": "Attention alone",
        "single head": "A single head",
        "multi-head": "Multi-head attention",
        "block": "One block",
        "classifier": "The classifier",
        "classifier of news": "The classifier of news",
    }.get(name, name)


def against(other: str) -> str:
    """Return how prose calls what a rung is held against."""
    models = {"unigram": "the unigram model", "bigram": "the bigram model"}
    return {"majority": "the most frequent class", **models}.get(other, other)


def percent(estimate: dict[str, Any], run: str) -> Value:
    """Return a share as a percentage with its interval."""
    shown = Estimate.from_json(estimate).scaled(100)
    return Value(shown.mean, shown.low, shown.high, run=run, unit="%", digits=1)
