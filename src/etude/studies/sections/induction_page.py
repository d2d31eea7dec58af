"""The numbers and the page of the induction study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Block, Findings, Report, Section, Table, text
from etude.report.charts import Axis, Rule, bars, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.circuits_page import composed
from etude.studies.sections.findings import plain, strongest
from etude.studies.sections.induction_findings import findings
from etude.studies.sections.induction_numbers import (
    BEFORE,
    ENOUGH,
    SHORT,
    Row,
    curve,
    induction_heads,
    losses,
    named,
    rise,
    times_lower,
)
from etude.studies.sections.look_page import head_table

if TYPE_CHECKING:
    from etude.studies.induction import Induction


def numbers(study: Induction, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the curves, the rise, the heads found, what is lost without them, and the findings."""
    ablation = done[study.ablation(done)]
    two = done[study.heads(study.train(study.model.layers, 0))]
    rises = {named(study, layers): rise(study, done, layers) for layers in study.depths}
    return {
        "curves": {named(study, layers): curve(study, done, layers) for layers in study.depths},
        "rise": {name: None if found is None else found._asdict() for name, found in rises.items()},
        "induction_heads": induction_heads(two),
        "heads": two.result["heads"],
        "loss": losses(study, done),
        "times_lower": times_lower(study, done),
        "ablation": {
            key: ablation.result[key] for key in ("loss", "heads", "group", "placebo") if key in ablation.result
        },
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done)],
    }


def page(study: Induction, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    notices = {notice for run in behind.values() for notice in run.result.get("notices", ())}
    sections = [_learning(study, done), _heads(study, done), _ablation(study, done), _where(study, done)]
    return Report(
        title="Induction heads",
        question="When do induction heads form, does the loss fall with them, and can one layer do the same?",
        abstract=(Findings(tuple(findings(study, done))), *(text(notice + ".") for notice in sorted(notices))),
        sections=(*sections, _method(study, done)),
        runs=cards(behind.values()),
    )


def _learning(study: Induction, done: Mapping[Recipe, Run]) -> Section:
    rows = [row for layers in study.depths for row in curve(study, done, layers)]
    first = done[study.heads(study.train(study.model.layers, 0))]
    rules = [Rule("even guessing", first.result["uniform_loss"])]
    steps = Axis("step", "training step")

    def flat(kind: str, run: str = "run") -> list[Row]:
        return [{"step": row["step"], "model": row["model"], "run": row[run], **row[kind]} for row in rows]

    common: dict[str, Any] = {"low": "low", "high": "high", "run": "run", "colour": "model", "colour_title": "model"}
    return Section(
        "What was learned when",
        (
            lines(
                flat("repeated"),
                steps,
                Axis("mean", "loss where the answer has been seen (nats per token)"),
                caption="On random tokens that repeat with a period drawn for each sequence, from the second period on."
                " 95% intervals over sequences.",
                rules=rules,
                **common,
            ),
            lines(
                flat("in_context", "context_run"),
                steps,
                Axis("mean", "in-context learning score (nats per token)"),
                caption="On held-out text: the loss late in the window less the loss early in it. Below 0, what was"
                " read helps. 95% intervals over windows.",
                **common,
            ),
            _positions(study, done),
        ),
        intro=f"A phase change is said where {ENOUGH:.0%} of all that repeats gain over fresh tokens comes within"
        f" {SHORT:.0%} of the training or less, after a plateau: at most {BEFORE:.0%} of it before that stretch, which"
        " does not begin with the training. The checkpoints limit how finely the stretch is known.",
    )


def _positions(study: Induction, done: Mapping[Recipe, Run]) -> Block:
    """Return the loss at each position, before, between and after."""
    steps = study.at_steps
    rows = []
    for step in (steps[0], steps[len(steps) // 3], steps[-1]):
        run = done[study.of_checkpoint(study.train(study.model.layers, 0), step)[1]]
        held = run.tensors("curve.safetensors")
        known = np.flatnonzero(np.isfinite(held["mean"]))
        ends = {"loss": "mean", "low": "low", "high": "high"}
        rows += [
            {"read": int(t) + 1, **{key: float(held[name][t]) for key, name in ends.items()},
             "step": f"step {step:,}", "run": run.id}
            for t in known
        ]  # fmt: skip
    return lines(
        rows,
        Axis("read", "tokens read in the window"),
        Axis("loss", "loss (nats per token)"),
        colour="step",
        colour_title="checkpoint",
        low="low",
        high="high",
        run="run",
        points=False,
        caption=f"The loss by position on held-out text, {named(study, study.model.layers)}.",
    )


def _heads(study: Induction, done: Mapping[Recipe, Run]) -> Section:
    rows: list[Row] = []
    for step in study.at_steps:
        run = done[study.of_checkpoint(study.train(study.model.layers, 0), step)[0]]
        for kind, what in (("previous", "previous-token"), ("induction", "induction")):
            head = strongest(run.result, kind)
            rows.append({"step": step, "kind": what, "head": head["head"], "run": run.id, **head[kind]})
    final = done[study.heads(study.train(study.model.layers, 0))]
    spread = [
        (named(study, layers), study.seed + n, measured(run.result["repeated_loss"], run),
         strongest(run.result, "induction")["head"],
         measured(strongest(run.result, "induction")["induction"], run),
         measured(strongest(run.result, "previous")["previous"], run))
        for layers in study.depths for n in range(study.seeds)
        for run in (done[study.heads(study.train(layers, n))],)
    ]  # fmt: skip
    return Section(
        "What the heads do",
        (
            lines(
                rows,
                Axis("step", "training step"),
                Axis("mean", "share of attention"),
                colour="kind",
                colour_title="strongest head's score",
                low="low",
                high="high",
                run="run",
                rules=[Rule("even attention", final.result["chance"], final.id)],
                caption="The strongest head's attention to the token before, and to the token after the last"
                f" occurrence of the present one, {named(study, study.model.layers)}. It need not be the same head"
                " throughout.",
            ),
            head_table(final),
            Table(
                ("model", "seed", "loss on repeats", "strongest induction head", "induction", "previous"),
                tuple(spread),
                "Every training at its end. 95% intervals are over sequences, within one training.",
                lowest=("loss on repeats",),
            ),
        ),
    )


def _ablation(study: Induction, done: Mapping[Recipe, Run]) -> Section:
    run = done[study.ablation(done)]
    rows = [{"head": one["head"], "run": run.id, **one["increase"]} for one in run.result["heads"]]
    return Section(
        "What is lost without them",
        (
            bars(
                rows,
                Axis("head", "head"),
                Axis("mean", "rise of the loss on repeats (nats per token)"),
                low="low",
                high="high",
                run="run",
                caption="Each head in turn, its mean over texts and positions in its place. 95% intervals over"
                " sequences, paired.",
            ),
        ),
    )


def _where(study: Induction, done: Mapping[Recipe, Run]) -> Section:
    pictures = [composed(done[study.circuits], kind, "projected") for kind in ("K", "Q", "V")]
    return Section(
        "How they are joined",
        tuple(pictures),
        intro="An induction head finds the last occurrence of the present token by keys that say which token stood"
        " before: its keys read what a previous-token head of an earlier layer wrote.",
    )


def _method(study: Induction, done: Mapping[Recipe, Run]) -> Section:
    recipe = study.train(study.model.layers, 0)
    shape = recipe.model
    corpus = recipe.data.corpus
    words = text(
        f"Attention-only decoders of width {shape.width} with {shape.heads} heads and {shape.positions} positions,"
        f" context {shape.context}; text: {corpus.name}; optimiser {recipe.optimiser.name}, constant rate"
        f" {study.peak:g} after {study.warmup} steps, {study.steps:,} steps of {study.batch} windows,"
        f" {recipe.precision}. Starting weights have a deviation of {shape.spread:g}. Heads are scored on"
        f" {study.sequences} sequences of random tokens"
        f" {'that the text has' if study.drawn == 'text' else 'of the vocabulary'}.",
    )
    return Section("How it was done", (words,))
