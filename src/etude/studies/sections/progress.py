"""The page of the progress report, with the sections on what was learned, on latents and on the method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import (
    Block,
    Context,
    Contexts,
    Details,
    Findings,
    Report,
    Section,
    Table,
    Text,
    Value,
    text,
)
from etude.report.charts import Axis, Rule, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.compression import compression_section
from etude.studies.sections.findings import findings
from etude.studies.sections.heads import heads_section
from etude.studies.sections.numbers import compressions

if TYPE_CHECKING:
    from etude.studies.progress_report import ProgressReport


def page(study: ProgressReport, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole report."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    rows = compressions(study, done)
    return Report(
        title="Progress report",
        question="What do two small decoders learn from a text, in which components, and how far do these compress?",
        abstract=(Findings(tuple(findings(study, done, rows))),),
        sections=(
            _models(study, done),
            compression_section(study, done, rows),
            _latents(study, done),
            heads_section(study, done),
            _method(study, done),
        ),
        runs=cards(behind.values()),
    )


def _models(study: ProgressReport, done: Mapping[Recipe, Run]) -> Section:
    """What was trained, and what it has to beat."""
    base = done[study.baselines]
    rows: list[tuple[Any, ...]] = []
    for name, scores in base.result["baselines"].items():
        rows.append((f"{name} baseline", None, *_scores(scores, base)))
    for name, recipe in study.models(done).items():
        run = done[recipe]
        rows.append((f"{name}, untrained", None, *_scores(run.result["untrained"], run)))
        rows.append((name, Value(run.result["parameters"], run=run.id), *_scores(run.result["validation"], run)))
    columns = ("model", "parameters", "loss (nats per token)", "bits per byte", "accuracy")
    table = Table(
        columns,
        tuple(rows),
        caption=text(
            "On the same ",
            Value(base.result["baselines"]["unigram"]["loss"]["n"], run=base.id, label="windows"),
            " windows of the validation split, with 95% intervals over these. Bits per byte are the loss in another"
            " unit. Marked: the best, and what overlaps it.",
        ),
        lowest=columns[2:3],
        highest=columns[4:],
    )
    blocks: list[Block] = [table, _learning(study, done)]
    last = _last_position(study, done)
    return Section("What was learned", (*blocks, *last), intro=_shape(study, done))


def _shape(study: ProgressReport, done: Mapping[Recipe, Run]) -> Text:
    """What was trained on what, in a paragraph."""
    shape, data, context = study.train.model, study.train.data, study.train.context
    run = done[study.models(done)["with feed-forward"]]
    samples = (
        f"the first {context} tokens after the first paragraph mark of each document of the corpus {data.corpus.name}"
        if data.openings
        else f"windows of {context} consecutive tokens of the corpus {data.corpus.name}, cut wherever they fall"
    )
    return text(
        f"Decoders of {shape.layers} layers, width {shape.width} and {shape.heads} heads, one of them with feed-forward"
        f" layers of {shape.feedforward}, learned to predict the next token. Samples: {samples}; ",
        Value(run.result["tokens"], run=run.id),
        " tokens in all, ",
        Value(run.result["epochs"], run=run.id, digits=2),
        " passes. The one-layer model is attention-only, the control for circuits that take two layers. Each was"
        " trained once, from one seed: intervals are over text, not over trainings.",
    )


def _scores(scores: dict[str, Any], run: Run) -> tuple[Value, ...]:
    bits = Value(scores["bits_per_byte"]["mean"], run=run.id)  # the loss in another unit: its interval says nothing new
    return measured(scores["loss"], run), bits, measured(scores["accuracy"], run)


def _last_position(study: ProgressReport, done: Mapping[Recipe, Run]) -> list[Block]:
    """Loss and accuracy at the last position alone, where the samples are short openings."""
    if not study.train.data.openings:
        return []
    rows = []
    for name, recipe in study.models(done).items():
        at = done[recipe].result["validation"].get("last_position")
        if at:
            rows.append((name, measured(at["loss"], done[recipe]), measured(at["accuracy"], done[recipe])))
    columns = ("model", "loss (nats per token)", "accuracy")
    caption = f"At token {study.train.data.openings} of each sample alone, with 95% intervals over samples."
    return [Table(columns, tuple(rows), caption=caption)]


def _learning(study: ProgressReport, done: Mapping[Recipe, Run]) -> Block:
    rows = []
    for name, recipe in study.models(done).items():
        run = done[recipe]
        steps = [row for row in run.record if "val_loss" in row]
        per_step = recipe.batch * recipe.context
        rows += [{"tokens": r["step"] * per_step, "loss": r["val_loss"], "model": name, "run": run.id} for r in steps]
    base = done[study.baselines]
    rules = [Rule(n, base.result["baselines"][n]["loss"]["mean"], base.id) for n in ("unigram", "bigram")]
    return lines(
        rows,
        Axis("tokens", "tokens trained on"),
        Axis("loss", "validation loss (nats per token)"),
        colour="model",
        colour_title="model",
        rules=rules,
        run="run",
        caption="Validation loss over training; the lines across are the baselines.",
    )


def _latents(study: ProgressReport, done: Mapping[Recipe, Run]) -> Section:
    """What the latents of the InfoVAE respond to."""
    blocks: list[Block] = []
    for name, model in study.compressed(done).items():
        for recipe in study.latents(model):
            run = done[recipe]
            shown = [part for latent in run.result["latents"] for part in _latent(latent, run)]
            blocks.append(Details(f"{recipe.of.site}, {name}", (_foretold_table(run), *shown)))
    return Section(
        "What the latents respond to",
        tuple(blocks),
        intro=f"The InfoVAE of {study.shown} latents at each component: where in the validation split each latent is"
        " highest and lowest, at most once a window, and how much of it simple facts foretell.",
    )


def _foretold_table(run: Run) -> Table:
    rows = tuple(
        (
            f"latent {latent['latent']}",
            Value(latent["spread"], run=run.id),
            *(
                None
                if latent["foretold_by"][fact] is None
                else Value(latent["foretold_by"][fact], run=run.id, digits=2)
                for fact in ("token", "previous_token", "position")
            ),
        )
        for latent in run.result["latents"]
    )
    return Table(
        ("latent", "spread", "by the token", "by the one before", "by the position"),
        rows,
        caption="Share of each latent's variance that a fact foretells by its mean, learned on even windows and judged"
        " on odd ones; below zero it foretells nothing. These shares have no intervals.",
    )


def _latent(latent: dict[str, Any], run: Run) -> list[Block]:
    return [
        Contexts(
            tuple(
                Context(tuple(c["before"]), c["token"], tuple(c["after"]), Value(c["value"], run=run.id, digits=2))
                for c in latent[end]
            ),
            caption=f"Latent {latent['latent']}, {word}",
        )
        for end, word in (("top", "highest"), ("bottom", "lowest"))
    ]


def _method(study: ProgressReport, done: Mapping[Recipe, Run]) -> Section:
    recipe = study.train
    data = done[recipe.data]
    splits = [
        part
        for name, split in data.result["splits"].items()
        for part in (Value(split["tokens"], run=data.id), f" {name}, ")
    ]
    licence = data.result["licence"]
    replaced = data.result["replaced"]
    invalid = (" Invalid bytes that were replaced in the text: ", Value(replaced, run=data.id), ".") if replaced else ()
    harmed = done[study.compressions(study.models(done)["with feed-forward"])[0]]
    return Section(
        "How it was done",
        (
            text(
                f"Corpus {recipe.data.corpus.name} (licence: {licence}), tokenizer {recipe.data.tokenizer.name} of ",
                Value(data.result["vocabulary"], run=data.id),
                " tokens; in tokens: ",
                *splits[:-1],
                f" {[*data.result['splits']][-1]}. Optimiser {recipe.optimiser.name}, schedule {recipe.schedule.shape}"
                f" with peak {recipe.schedule.peak:g}, {study.steps(done):,} steps of {recipe.batch} samples,"
                f" {recipe.precision}, seed {recipe.seed}.",
                *invalid,
            ),
            text(
                f"Each compressor is fitted to {_amount(study.fit_tokens)} of the training split and judged on ",
                Value(harmed.result["harm"]["tokens"], run=harmed.id),
                " positions of the validation split, in ",
                Value(harmed.result["harm"]["increase"]["n"], run=harmed.id),
                " windows. 95% intervals are Student's t over windows,"
                " which are taken as independent; differences between models and between compressors are paired by"
                " window. No correction for the number of comparisons is made, and the strongest of a model's heads is"
                " chosen after looking; the control has fewer to choose from. The random subspace is one draw for each"
                " size. Compressors are judged in fp32.",
            ),
        ),
    )


def _amount(tokens: int) -> str:
    return f"{tokens:,} positions" if tokens else "all positions"
