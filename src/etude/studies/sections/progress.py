"""The page of the progress report: one function a section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Heads
from etude.interp.recipes import Patterns
from etude.report.blocks import (
    Attention,
    Block,
    Context,
    Contexts,
    Details,
    Findings,
    Report,
    RunRef,
    Section,
    Table,
    Text,
    Value,
    text,
)
from etude.report.charts import Axis, Rule, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.findings import KEPT, called, capital, findings, kept_at
from etude.studies.sections.numbers import compression

if TYPE_CHECKING:
    from etude.studies.progress_report import ProgressReport

CONTINUOUS = {"infovae": "InfoVAE", "pca": "PCA", "svd": "SVD of the weight", "random": "random subspace"}
"""Methods whose code is a number of dimensions, as a legend names them."""


def page(study: ProgressReport, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole report."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    return Report(
        title="Progress report",
        question="What do two small decoders learn from a text, in which components, and how far do these compress?",
        abstract=(Findings(tuple(findings(study, done))),),
        sections=(
            _models(study, done),
            _compression(study, done),
            _latents(study, done),
            _attention(study, done),
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
        caption="On the same windows of the validation split, with 95% intervals over windows. Marked: the best, and"
        " what overlaps it.",
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
    return [Table(columns, tuple(rows), caption=f"At token {study.train.data.openings} of each sample alone.")]


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


def _compression(study: ProgressReport, done: Mapping[Recipe, Run]) -> Section:
    """How far each component compresses, by each method."""
    sections = []
    for name, model in study.compressed(done).items():
        rows = compression(study, name, model, done)
        charts = [_squeeze_chart(site, [r for r in rows if r["component"] == site]) for site in study.sites(model)]
        blocks = (
            _kept_table(study, name, model, done),
            *charts,
            Details("All compressions of this model", (_table(rows),)),
        )
        sections.append(Section(capital(called(name)), blocks))
    return Section(
        "How far the components compress",
        tuple(sections),
        intro="A compressor stands in place of one component's output, the rest of the model as it was, and the loss is"
        " measured again on the same windows. SVD replaces the weight that writes the output by one of lower rank; the"
        " others replace the activation. Floors: the mean activation, zero, and a random subspace of the same size.",
    )


def _kept_table(study: ProgressReport, name: str, model: Any, done: Mapping[Recipe, Run]) -> Table:
    """The smallest code of each method that keeps nine tenths of what each component does."""
    rows = []
    for site in study.sites(model):
        every = [r for r in compression(study, name, model, done) if r["component"] == site]
        floor = next(r for r in every if r["method"] == "mean")
        cells = [_kept_cell(kept_at(study, name, model, site, method, done)) for method in CONTINUOUS]
        rows.append((site, measured(floor["increase"], floor["run"]), *cells))
    return Table(
        ("component", "rise with its mean (nats)", *CONTINUOUS.values()),
        tuple(rows),
        caption=f"Fewest dimensions, of those tried, that keep {KEPT:.0%} of what the component does beyond its mean. A"
        " dash: none does, or the rise itself is not above zero. With ~, the interval reaches past the limit.",
    )


def _kept_cell(kept: tuple[dict[str, Any] | None, bool]) -> Any:
    row, firm = kept
    if row is None:
        return None
    size = Value(row["size"], run=row["run"], label="dimensions")
    return size if firm else text("~ ", size)


def _squeeze_chart(site: str, rows: list[dict[str, Any]]) -> Block:
    points = [
        {
            "size": r["size"],
            "rise": r["increase"]["mean"],
            "low": r["increase"]["low"],
            "high": r["increase"]["high"],
            "method": CONTINUOUS[r["method"]],
            "run": r["run"],
        }
        for r in rows
        if r["method"] in CONTINUOUS
    ]
    floors = [Rule(r["method"], r["increase"]["mean"], r["run"]) for r in rows if r["method"] in ("mean", "zero")]
    codes = [r for r in rows if r["method"] == "kmeans"]
    best = min(codes, key=lambda r: r["increase"]["mean"], default=None)
    if best:
        label = f"k-means, {best['size']} codes ({best['bits']:.1f} bits)"
        floors.append(Rule(label, best["increase"]["mean"], best["run"]))
    return lines(
        points,
        Axis("size", "dimensions kept", log=True, ticks=tuple(sorted({float(p["size"]) for p in points}))),
        Axis("rise", "rise in validation loss (nats per token)"),
        colour="method",
        colour_title="method",
        low="low",
        high="high",
        rules=floors,
        run="run",
        caption=f"{site}: rise in loss against the number of dimensions kept, with 95% intervals over windows.",
    )


def _table(rows: list[dict[str, Any]]) -> Table:
    cells = tuple(
        (
            RunRef(r["run"], r["site"]),  # the whole row is of this run
            r["method"],
            r["size"] or None,
            round(r["bits"], 1),
            r["parameters"],
            Value(r["increase"]["mean"], r["increase"]["low"], r["increase"]["high"], digits=4),
            round(r["kl"]["mean"], 4),
            round(r["accuracy"]["mean"], 3),
            None if r["explained"] is None else round(r["explained"], 3),
        )
        for r in rows
    )
    columns = (
        "site",
        "method",
        "size",
        "bits a token",
        "parameters",
        "rise (nats)",
        "KL (nats)",
        "accuracy",
        "explained",
    )
    return Table(
        columns,
        cells,
        caption="Bits: 32 for each continuous number; for k-means the entropy of its codes. KL: from the unharmed"
        " model. Explained: share of the variance about the mean that is kept (for SVD, of the weight's squares).",
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
        " on odd ones; below zero it foretells nothing.",
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


def _attention(study: ProgressReport, done: Mapping[Recipe, Run]) -> Section:
    """Attention on a sample, and what each head does on repeated random tokens."""
    blocks: list[Block] = [_heads_table(study, done)]
    for name, model in study.compressed(done).items():
        run = done[Patterns(model, study.sample)]
        patterns = run.tensors("patterns.safetensors")["patterns"]
        caption = f"{capital(called(name))} reading a sample."
        blocks.append(Attention(tuple(run.result["tokens"]), patterns, caption, runs=(run.id,)))
    return Section(
        "What the heads do",
        tuple(blocks),
        intro="Random tokens repeat with a period drawn anew for each sequence, so that position alone does not tell"
        " where the last occurrence was. A head's score is the share of its attention on the token before"
        " (previous), on the token after the last occurrence of the present one (induction), and on the first token.",
    )


def _heads_table(study: ProgressReport, done: Mapping[Recipe, Run]) -> Table:
    rows = []
    for name, recipe in study.models(done).items():
        run = done[Heads(recipe)]
        for head in run.result["heads"]:
            scores = (measured(head[kind], run) for kind in ("previous", "induction", "first"))
            rows.append((name, head["head"], *scores))
    chance = done[Heads(study.models(done)["attention-only"])]
    return Table(
        ("model", "head", "previous", "induction", "first"),
        tuple(rows),
        caption=text(
            "Means over sequences with 95% intervals. Attention spread evenly would score ",
            Value(chance.result["chance"], run=chance.id),
            " for each.",
        ),
        highest=("previous", "induction"),
    )


def _method(study: ProgressReport, done: Mapping[Recipe, Run]) -> Section:
    recipe = study.train
    data = done[recipe.data]
    splits = [
        part
        for name, split in data.result["splits"].items()
        for part in (Value(split["tokens"], run=data.id), f" {name}, ")
    ]
    licence = data.result["licence"]
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
            ),
            text(
                f"Each compressor is fitted to {study.fit_tokens:,} positions of the training split and judged on"
                f" {study.harm_tokens:,} of the validation split. 95% intervals are Student's t over windows,"
                " which are taken as independent; differences between models and between compressors are paired by"
                " window. No correction for the number of comparisons is made, and the strongest of a model's heads is"
                " chosen after looking; the control has fewer to choose from. Compressors are judged in fp32."
            ),
        ),
    )
