"""The page of a sweep over sizes and budgets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.blocks import Cell, Finding, Findings, Report, Section, Table, Value, lasted, text
from etude.scaling.advice import preferred
from etude.studies.sections.cards import cards
from etude.studies.sections.isoflop_numbers import Planned, Tested, counted, oversized_gap, planned, tested
from etude.studies.sections.scaling_findings import findings, value
from etude.studies.sections.scaling_page import SHORT, method, notices, of_fits

if TYPE_CHECKING:
    from etude.studies.isoflop import Isoflop

QUESTION = "Given a text, an architecture and a budget of FLOPs, how many parameters and tokens are best?"


def page(study: Isoflop, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole report."""
    sweep = planned(study, done)
    if study.until == "planned":
        return Report(
            title="A sweep over sizes and budgets, planned",
            question=QUESTION,
            abstract=(Findings((_hours(study, sweep),)),),
            sections=(_plan(study, sweep, done), _how(study)),
            runs=cards([done[study.data], *(done[each] for each in study.calibrations.values())]),
        )
    fit, tests = done[study.fit], tested(study, done)
    said = [*findings(fit), *_entropy(study, done), *_predictions(study, done, tests), *_repeated(sweep)]
    return Report(
        title="Compute-optimal scaling",
        question=QUESTION,
        abstract=(Findings(tuple(said)), *notices(fit)),
        sections=(
            *of_fits(fit),
            *_tested(study, done, tests),
            *_sensitivity(study, done),
            _plan(study, sweep, done),
            method(fit),
            _how(study),
        ),
        runs=cards(_runs(study, done, sweep, tests)),
    )


def _runs(study: Isoflop, done: Mapping[Recipe, Run], sweep: list[Planned], tests: Mapping[str, Tested]) -> list[Run]:
    """Return every run that a number comes from, once."""
    recipes: list[Recipe] = [study.data, *study.calibrations.values(), *(each.train for each in sweep), study.fit]
    recipes += [fit for fits in (study.recounted, study.refitted) for fit in fits.values()]
    recipes += [train for trains in study.variants.values() for train in trains]
    runs = {done[recipe].id: done[recipe] for recipe in recipes} | {each.run.id: each.run for each in tests.values()}
    return list(runs.values())


def _hours(study: Isoflop, sweep: list[Planned]) -> Finding:
    """Say how long the sweep takes, and which trainings are not in that."""
    seconds = sum(each.seconds for each in sweep)
    words = (
        f"{len(sweep)} trainings take about {lasted(seconds)} here, one after the other, by a few steps of each size."
    )
    more = [f"{1 + bool(study.oversized)} at {study.target:.3g} FLOPs that test the prediction"] if study.target else []
    more += [f"{2 * study.sensitive * study.sizes} with other schedules"] if study.sensitive else []
    words += f" Not counted: {' and '.join(more)}." if more else ""
    return Finding(text(words), "uncertain")


def _repeated(sweep: list[Planned]) -> Iterator[Finding]:
    """Say where a text was read more than once."""
    most = max(each.epochs for each in sweep)
    if most > 1.02:
        many = sum(each.epochs > 1.02 for each in sweep)
        words = (
            f"{many} of {len(sweep)} trainings read the text more than once, up to {most:.1f} times: tokens that repeat"
            " are worth less than new ones, and the fits count them alike."
        )
        yield Finding(text(words), "clear")


def _entropy(study: Isoflop, done: Mapping[Recipe, Run]) -> Iterator[Finding]:
    """Compare the law's E with the entropy of a text that is drawn from a known distribution."""
    tokens, told = done[study.data], done[study.fit].result["approach_3"]
    each = tokens.result["about"].get("bits_per_byte")
    if not told or each is None:
        return
    true = float(each) * math.log(2) / float(tokens.result["tokens_per_byte"])
    low, high = told["E"]["interval"] or (0.0, math.inf)
    off = told["E"]["estimate"] - true
    words = text(
        "The text is drawn from a known distribution, of ",
        Value(true, run=tokens.id),
        f" nats a token. E is {abs(off):.3f} {'above' if off > 0 else 'below'} that, ",
        "and its interval holds it."
        if low <= true <= high
        else "and its interval does not hold it: the law is a description of these sizes, not of the limit. (Some of it"
        f" is in the windows: the first of their {study.model.context} tokens are predicted from little.)",
    )
    yield Finding(words, "clear" if not low <= true <= high else "uncertain")


def _predictions(study: Isoflop, done: Mapping[Recipe, Run], tests: Mapping[str, Tested]) -> Iterator[Finding]:
    """How the prediction for a greater budget came out, and what an oversized model costs."""
    best, fit = tests.get("predicted"), done[study.fit]
    if best is not None and best.expected is not None and best.error is not None:
        where = {None: "", True: ", and the loss lies within its interval", False: ", and the loss lies outside of it"}
        words = text(
            f"At {study.target:.3g} FLOPs, {study.target / max(study.budgets):.3g} times the greatest budget of the"
            f" sweep, the predicted best model, of {best.size:,} parameters, was to come to ",
            value(best.expected.to_json(), fit),
            " nats a token and came to ",
            Value(best.loss.mean, run=best.run.id),
            f": the prediction is {abs(best.error):.2%} too {'high' if best.error > 0 else 'low'}{where[best.inside]}.",
        )
        yield Finding(words, "clear")
    gap = oversized_gap(tests)
    if gap is not None:
        over = tests["oversized"]
        harm = "is worse by" if gap.mean > 0 else "is better by"
        yield Finding(
            text(
                f"At the same FLOPs a model {over.size / tests['predicted'].size:.1f} times as large on"
                f" {over.tokens / tests['predicted'].tokens:.0%} of the tokens {harm} ",
                _size(gap, (over.run.id, tests["predicted"].run.id)),
                " nats a token.",
            ),
            "clear" if gap.excludes_zero else "none",
        )


def _size(gap: Estimate, runs: tuple[str, ...]) -> Value:
    """Return a difference in the direction that the words say."""
    told = gap if gap.mean > 0 else gap.scaled(-1)
    return Value(told.mean, told.low, told.high, run=runs)


def _plan(study: Isoflop, sweep: list[Planned], done: Mapping[Recipe, Run]) -> Section:
    """Sizes, tokens and time, as planned and as taken."""
    trained = study.until != "planned"
    head = ("FLOPs", "parameters", "layers × width", "tokens", "tokens a parameter", "epochs", "planned")
    rows: list[tuple[Cell, ...]] = []
    for n, each in enumerate(sweep):
        first = "" if n and sweep[n - 1].budget == each.budget else f"{each.budget:.3g}"
        spec = each.train.model
        row: tuple[Cell, ...] = (first, each.size, f"{spec.layers} × {spec.width}", each.train.tokens)
        row = (*row, f"{each.train.tokens / each.size:.1f}", f"{each.epochs:.2f}", lasted(each.seconds))
        if trained:
            run = done[each.train]
            loss = run.result["validation"]["loss"]
            shown = Value(loss["mean"], loss["low"], loss["high"], run=run.id)
            row = (*row, lasted(run.result["timing"]["seconds"]), shown)
        rows.append(row)
    caption = (
        f"The sweep. FLOPs are counted by the convention ‘{study.convention}’, parameters"
        f" {'all' if study.counted == 'all' else 'without embeddings'}. Time is of one training at a time on this"
        " machine, planned from a few steps of each size."
    )
    head = (*head, "taken", "loss (nats a token)") if trained else head
    return Section("The sweep", (Table(head, tuple(rows), caption=caption),))


def _tested(study: Isoflop, done: Mapping[Recipe, Run], tests: Mapping[str, Tested]) -> Iterator[Section]:
    """The budget that was held out."""
    if not tests:
        return
    rows: list[tuple[Cell, ...]] = []
    for name, each in tests.items():
        told = each.expected
        shown = None if told is None else value(told.to_json(), done[study.fit])
        loss = Value(each.loss.mean, each.loss.low, each.loss.high, run=each.run.id)
        error = None if each.error is None else f"{100 * each.error:+.2f}"
        rows.append((name, each.size, each.tokens, shown, loss, error))
    head = ("model", "parameters", "tokens", "expected loss", "measured loss", "error (%)")
    caption = (
        f"Trained at {study.target:.3g} FLOPs, which the fits have not seen: the size is advised by"
        f" {_advising(study, done)}, the loss expected by approach 3. The interval of what is expected holds the"
        " law's own and the scatter of single trainings about it; that of what was measured is over windows of the"
        " validation split."
    )
    yield Section("The prediction, trained", (Table(head, tuple(rows), caption=caption),))


def _advising(study: Isoflop, done: Mapping[Recipe, Run]) -> str:
    """Return the approach that the size at the held-out budget comes from."""
    return SHORT[preferred(next(row for row in done[study.fit].result["advice"] if row["flops"] == study.target))]


def _sensitivity(study: Isoflop, done: Mapping[Recipe, Run]) -> Iterator[Section]:
    """What the choices that are not the models' do to the exponents."""
    rows: list[tuple[Cell, ...]] = []
    for name, run in counted(study, done):
        rows.append((name, "all", *_row(run)))
    few = len(sorted(study.budgets)[: study.sensitive])
    for name, fit in study.refitted.items():
        rows.append((name, f"the {few} smallest", *_row(done[fit])))
    caption = (
        "The same sweep with sizes and FLOPs counted in other ways, and, where it was asked for, trained again with a"
        " warm-up as long as that of the longest training (at most half of the steps), or with a learning rate that"
        " does not fall. Porian et al. 2024 lay the difference between Kaplan et al. 2020 and Hoffmann et al. 2022 to"
        " the FLOPs of the unembedding, to the warm-up and to how the optimiser is tuned for each size."
    )
    head = ("counted or trained", "budgets", "a, approach 2", "b, approach 2", "a, approach 3", "b, approach 3")
    yield Section("What the exponents depend on", (Table(head, tuple(rows), caption=caption),))


def _row(run: Run) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    for name in ("approach_2", "approach_3"):
        told = run.result[name]
        cells += [None, None] if told is None else [value(told["a"], run, 2), value(told["b"], run, 2)]
    return tuple(cells)


def _how(study: Isoflop) -> Section:
    """How the models were trained."""
    schedule = study.schedule
    words = (
        f"Each training has a schedule of its own length: a warm-up over {study.warmup:.0%} of its steps to a peak of"
        f" {schedule.peak:g}, then {schedule.shape} to {schedule.floor:g} of it. Steps are of {study.batch} windows of"
        f" {study.model.context} tokens of {study.corpus.name}, for every size alike. "
        + (
            f"Learning rates carry over between widths by µP (base {study.model.mup_base}). "
            if study.model.mup_base
            else "The learning rate is the same for every width. "
        )
        + "One seed a training. The middle size of a budget is where a parameter gets"
        f" {study.ratio:g} tokens by 6 FLOPs for each parameter and token; sizes go to {study.spread:g} times above and"
        " below it."
    )
    return Section("How the models were trained", (text(words),))
