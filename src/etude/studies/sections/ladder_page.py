"""The page of the ladder from attention to BERT and GPT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Score
from etude.evals.statistics import Estimate
from etude.report.blocks import Attention, Block, Findings, Report, Section, Table, Text, Value, text
from etude.report.charts import Axis, Rule, bars, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.ladder_findings import called, findings, percent
from etude.studies.sections.ladder_numbers import chosen_head

if TYPE_CHECKING:
    from etude.studies.build_up import BuildUp


def page(study: BuildUp, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole report."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    return Report(
        title="From attention to GPT",
        question="What does each part add on the way from attention to a classifier, BERT and GPT, and is each part"
        " what PyTorch has?",
        abstract=(Findings(tuple(findings(study, done))),),
        sections=(
            _parity(study, done),
            _reviews(study, done),
            _news(study, done),
            _language(study, done),
            _heads(study, done),
            _method(study, done),
        ),
        runs=cards(behind.values()),
    )


def _parity(study: BuildUp, done: Mapping[Recipe, Run]) -> Section:
    run = done[study.parity]
    rows = [
        (
            name,
            row["against"],
            *(Value(row[p][what], run=run.id) for p in ("fp32", "fp64") for what in ("output", "gradient")),
        )
        for name, row in run.result["rungs"].items()
    ]
    columns = ("step", "PyTorch's", "output fp32", "gradient fp32", "output fp64", "gradient fp64")
    shape = study.parity
    return Section(
        "Each step beside PyTorch's own",
        (
            Table(
                columns,
                tuple(rows),
                caption=f"The greatest difference in any number, on the same random weights (width {shape.width},"
                f" {shape.heads} heads, texts of {shape.length} tokens and fewer, padded). Gradients are of a random"
                f" weighting of the output, by the input or the embedding. PyTorch {run.result['torch']}.",
            ),
        ),
        intro="Two programs that were written apart and agree to rounding, in single precision to about six digits and"
        " in double to about thirteen, compute the same formula. Dropout is off: its random numbers differ.",
    )


COLUMNS = ("model", "parameters", "steps", "accuracy", "loss (nats per text)")


def _reviews(study: BuildUp, done: Mapping[Recipe, Run]) -> Section:
    names = study.of_reviews()
    rows = _floor_rows(study, "classifier", done)
    for name in names:
        rows += _class_rows(study, name, done)
    drawn = []
    for name in names:
        run = done[Score(study.models[name])]
        shown = Estimate.from_json(run.result["accuracy"]).scaled(100)
        drawn.append({"rung": name, "accuracy": shown.mean, "low": shown.low, "high": shown.high, "run": run.id})
    floor = done[study.floor("classifier")]
    chance = 100 * floor.result["baselines"]["chance"]["accuracy"]["mean"]
    samples = done[Score(study.models["classifier"])]
    return Section(
        "Reviews: from attention to a classifier",
        (
            Table(
                COLUMNS,
                tuple(rows),
                caption=text(
                    "On the ",
                    Value(samples.result["samples"], run=samples.id),
                    " texts of the test split, which was read once, after the choice of the weights by the validation"
                    " split. 95% intervals are over texts; each model was trained once, from one seed. Steps are those"
                    " taken before it stopped.",
                ),
                highest=COLUMNS[3:4],
            ),
            bars(
                drawn,
                Axis("rung", "rung"),
                Axis("accuracy", "test accuracy (%)"),
                low="low",
                high="high",
                rules=[Rule("chance", chance, floor.id)],
                run="run",
                caption="Test accuracy of each rung with its 95% interval.",
            ),
            _curves(
                study,
                names,
                done,
                "val_accuracy",
                "validation accuracy (share)",
                "Accuracy on the validation split while"
                " each rung learns. The weights of the least validation loss are kept.",
            ),
        ),
        intro="Attention alone reads a review between an embedding and a linear map of the mean vector: no positions,"
        " no norm, no bias. Then come, one after the other: learned positions and biases; several heads; norms (after"
        " each addition, as in 2017) and a feed-forward network; the classifier is wider and leaves the norms out"
        " again: a text's vector is the mean of its tokens', and norms make these all of one length.",
    )


def _news(study: BuildUp, done: Mapping[Recipe, Run]) -> Section:
    name = "classifier of news"
    run = done[Score(study.models[name])]
    rows = _floor_rows(study, name, done) + _class_rows(study, name, done)
    return Section(
        "News: the same classifier",
        (
            Table(
                COLUMNS,
                tuple(rows),
                caption=text(
                    "On the ",
                    Value(run.result["samples"], run=run.id),
                    " texts of the test split, with 95% intervals over texts.",
                ),
            ),
        ),
        intro=f"The classifier of reviews with as many classes as the news have topics:"
        f" {', '.join(study.news.classes)}.",
    )


def _floor_rows(study: BuildUp, name: str, done: Mapping[Recipe, Run]) -> list[tuple[Any, ...]]:
    floor = done[study.floor(name)]
    rows = []
    for label, key in (("chance", "chance"), ("most frequent class", "majority")):
        scores = floor.result["baselines"][key]
        rows.append((label, None, None, percent(scores["accuracy"], floor.id), measured(scores["loss"], floor)))
    return rows


def _class_rows(study: BuildUp, name: str, done: Mapping[Recipe, Run]) -> list[tuple[Any, ...]]:
    trained, test, before = done[study.models[name]], done[Score(study.models[name])], done[study.untrained(name)]
    held = (Value(trained.result["parameters"], run=trained.id), Value(trained.result["steps"], run=trained.id))
    return [
        (f"{name}, untrained", None, None, *reversed(_scored(before))),
        (name, *held, *reversed(_scored(test))),
    ]


def _scored(run: Run) -> tuple[Value, Value]:
    """Return loss and accuracy."""
    return measured(run.result["loss"], run), percent(run.result["accuracy"], run.id)


def _language(study: BuildUp, done: Mapping[Recipe, Run]) -> Section:
    columns = ("model", "parameters", "loss (nats per token)", "accuracy")
    blocks: list[Block] = []
    for name in study.of_language():
        trained, test, floor = done[study.models[name]], done[Score(study.models[name])], done[study.floor(name)]
        before = done[study.untrained(name)]
        rows: list[tuple[Any, ...]] = [
            (key, None, measured(scores["loss"], floor), percent(scores["accuracy"], floor.id))
            for key, scores in floor.result["baselines"].items()
        ]
        rows.append((f"{name}, untrained", None, *_scored(before)))
        rows.append((name, Value(trained.result["parameters"], run=trained.id), *_scored(test)))
        blocks.append(Table(columns, tuple(rows), _asked(name, test), lowest=columns[2:3], highest=columns[3:]))
    blocks.append(
        _curves(
            study,
            study.of_language(),
            done,
            "val_loss",
            "validation loss (nats per token)",
            "Validation loss while each learns, at the positions that each is asked about: the two lines measure"
            " different things.",
        )
    )
    return Section(
        "Language models of the news: BERT and GPT",
        tuple(blocks),
        intro="BERT reads an item with some of its tokens hidden and is asked for these; GPT reads from left to right"
        " and is asked for each next token. The two losses are not comparable: BERT sees both sides, and is asked about"
        " other tokens.",
    )


def _asked(name: str, run: Run) -> Text:
    """Say where the loss is taken."""
    tokens = Value(run.result["tokens"], run=run.id)
    where = {
        "BERT": " hidden tokens of the test split (15% of each text; of these 80% are replaced by the mask, 10% by"
        " another token, 10% left), and nowhere else: not at tokens that are seen, not at padding. The bigram sees the"
        " token to the left, where it is not hidden.",
        "GPT": " tokens of the test split, each once.",
    }[name]
    return text(f"{name}: loss and accuracy at the ", tokens, where, " 95% intervals are over texts.")


def _curves(
    study: BuildUp, names: list[str], done: Mapping[Recipe, Run], column: str, title: str, caption: str
) -> Block:
    rows = [
        {"step": row["step"], "score": row[column], "rung": name, "run": done[study.models[name]].id}
        for name in names
        for row in done[study.models[name]].record
        if column in row
    ]
    return lines(
        rows,
        Axis("step", "steps"),
        Axis("score", title),
        colour="rung",
        colour_title="rung",
        points=False,
        run="run",
        caption=caption,
    )


def _heads(study: BuildUp, done: Mapping[Recipe, Run]) -> Section:
    blocks: list[Block] = []
    for name in study.models:
        run = done[study.patterns(name)]
        layer, head, far = chosen_head(study, name, done)
        patterns = run.tensors("patterns.safetensors")["patterns"]
        caption = text(
            f"{called(name)}. Farthest from even is L{layer} H{head}: ",
            Value(100 * far, run=run.id, unit="%", digits=0),
            " of its attention would have to move to make it even.",
        )
        blocks.append(Attention(tuple(run.result["tokens"]), patterns, caption, runs=(run.id,)))
    return Section(
        "Where they look",
        tuple(blocks),
        intro="Every head on a sample text, each layer a row. The caption names the head whose attention is farthest"
        " from even, chosen after looking. Where every head is near even, a model reads much as the mean of its words"
        " does.",
    )


def _method(study: BuildUp, done: Mapping[Recipe, Run]) -> Section:
    parts: list[Block] = []
    for label, name in (("Reviews", "classifier"), ("News", "BERT")):
        model = study.models[name]
        data = done[model.data]
        splits = data.result["splits"]
        counts: list[Any] = []
        for split in ("train", "valid", "test"):
            counts += [Value(splits[split]["documents"], run=data.id), f" {split}, "]
        parts.append(
            text(
                f"{label}: {model.data.corpus.name} (licence: {data.result['licence']}), in texts ",
                *counts[:-1],
                " test; byte-pair tokens, ",
                Value(data.result["vocabulary"], run=data.id),
                " of them, learned from the training split.",
            )
        )
    one = study.models["classifier"]
    parts.append(
        text(
            f"Classifiers: width {study.width}, the last of width {study.classifier_width} with blocks: {study.layers};"
            f" dropout {study.dropout:g} in embeddings, patterns and what each part writes,"
            f" {one.optimiser.name} with peak {one.schedule.peak:g}, batches of {one.batch}, at most"
            f" {one.steps:,} steps, stopped after {one.patience} evaluations without a new least validation loss; the"
            f" running mean of the weights is evaluated and kept. No pretraining, no other text. BERT and GPT:"
            f" width {study.language_width}, {study.language_layers} blocks, {study.language_steps:,} steps of"
            f" {study.batch} samples. Seed {study.seed}. Differences are paired by text; no correction for the number"
            " of comparisons is made."
        )
    )
    return Section("How it was done", tuple(parts))
