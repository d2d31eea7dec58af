"""The numbers and the page of the translation study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run, read_rows
from etude.evals.bleu import Counts, difference
from etude.evals.recipes import Parity, Score
from etude.evals.statistics import Estimate
from etude.report.blocks import Block, Finding, Findings, Heatmap, Report, Section, Table, Value, text
from etude.report.charts import Axis, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.findings import plain

if TYPE_CHECKING:
    from etude.studies.translation import Translation


def numbers(study: Translation, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return BLEU by way of writing, its differences, the losses and the findings."""
    train, greedy = done[study.train], done[study.greedy]
    rows = {"greedy": study.greedy, "beam search": study.beam, "untrained": study.before}
    return {
        "bleu": {name: {"run": done[r].id, **done[r].result["bleu"]} for name, r in rows.items()},
        "copied": greedy.result["copied"],
        "signature": greedy.result["signature"],
        "beam over greedy": apart(done[study.beam], greedy).to_json(),
        "greedy over copying": apart(greedy, greedy, copied=True).to_json(),
        "validation": train.result["validation"],
        "test": {key: done[Score(study.train)].result[key] for key in ("loss", "accuracy", "tokens")},
        "parameters": train.result["parameters"],
        "flops": train.result["flops"],
        "epochs": train.result["epochs"],
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done)],
    }


def apart(one: Run, other: Run, copied: bool = False) -> Estimate:
    """Return the BLEU of one run of translations over that of another, or over that of its sources as they are."""
    return difference(_counts(one), _counts(other, "copied-" if copied else ""))


def _counts(run: Run, prefix: str = "") -> Counts:
    held = run.tensors(f"{prefix}counts.safetensors")
    return Counts(*(held[name] for name in Counts._fields))


def page(study: Translation, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole report."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    return Report(
        title="Translation",
        question="How well does an encoder-decoder that learned from some thousand pairs translate, and where does it"
        " look?",
        abstract=(Findings(tuple(findings(study, done))),),
        sections=(
            _bleu(study, done),
            _learning(study, done),
            _texts(study, done),
            _looking(study, done),
            _method(study, done),
        ),
        runs=cards(behind.values()),
    )


def findings(study: Translation, done: Mapping[Recipe, Run]) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    greedy, beam = done[study.greedy], done[study.beam]
    sides = study.pairs.sides
    over_copies, over_greedy = apart(greedy, greedy, copied=True), apart(beam, greedy)
    sentences = Value(beam.result["sentences"], run=beam.id)
    best = text(
        f"From {sides[0]} to {sides[1]}, beam search reaches BLEU ",
        bleu(beam),
        " on ",
        sentences,
        " sentences that it never read.",
    )
    copies = text(
        "Greedy translations score ", _points(over_copies, (greedy.id,)), " BLEU over the sources copied as they are."
    )
    found = [Finding(best, "clear"), Finding(copies, "clear" if over_copies.above(0) else "uncertain")]
    gain = _points(over_greedy, (beam.id, greedy.id))
    if over_greedy.excludes_zero:
        verb = "better" if over_greedy.mean > 0 else "worse"
        words = text(f"Beam search of {study.beams} is {verb} than greedy writing: the difference is ", gain, " BLEU.")
    else:
        words = text(
            f"Beam search of {study.beams} and greedy writing cannot be told apart: the difference is ", gain, " BLEU."
        )
    return [*found, Finding(words, "clear" if over_greedy.excludes_zero else "uncertain")]


def bleu(run: Run, key: str = "bleu") -> Value:
    """Return a run's BLEU with its interval."""
    return measured(run.result[key], run, digits=1)


def _points(estimate: Estimate, runs: tuple[str, ...]) -> Value:
    return Value(estimate.mean, estimate.low, estimate.high, run=runs, digits=1)


def _bleu(study: Translation, done: Mapping[Recipe, Run]) -> Section:
    greedy, beam, before = done[study.greedy], done[study.beam], done[study.before]
    rows: list[tuple[Any, ...]] = [("the source, copied", bleu(greedy, "copied"), *_counted(greedy)[:1], None, None)]
    for name, run in (
        ("untrained, greedy", before),
        ("trained, greedy", greedy),
        (f"trained, beam search of {study.beams}", beam),
    ):
        rows.append((name, bleu(run), *_counted(run)))
    columns = ("translation", "BLEU", "sentences", "not ended", "source cut")
    return Section(
        "BLEU",
        (
            Table(
                columns,
                tuple(rows),
                caption=f"On the test split, with 95% intervals over resampled sentences. {greedy.result['signature']}."
                " Not ended: written to the longest length without an end. One model, trained once.",
                highest=columns[1:2],
            ),
        ),
        intro="BLEU is the share of a translation's words, pairs, triples and quadruples of words that stand in the"
        " reference too, as a geometric mean, with a penalty for what is too short. One reference a sentence.",
    )


def _counted(run: Run) -> tuple[Value, Value, Value]:
    found = (Value(run.result[key], run=run.id) for key in ("sentences", "unended", "cut"))
    return tuple(found)  # type: ignore[return-value]


def _learning(study: Translation, done: Mapping[Recipe, Run]) -> Section:
    run, test = done[study.train], done[Score(study.train)]
    each = run.result["epochs"] / max(1, run.result["steps"])
    rows = []
    for row in run.record:
        for column, name in (("loss", "training, smoothed labels"), ("val_loss", "validation")):
            if column in row and (column == "val_loss" or row["step"] % study.evaluate_every == 0):
                rows.append({"epoch": row["step"] * each, "loss": row[column], "split": name, "run": run.id})
    seconds = run.result["timing"]["training_seconds"]
    threads = run.provenance["threads"]
    return Section(
        "What it learned, and what that took",
        (
            lines(
                rows,
                Axis("epoch", "passes over the training split"),
                Axis("loss", "loss (nats per token)"),
                colour="split",
                colour_title="split",
                run="run",
                caption="Loss over the training. Training smooths the labels, which keeps its loss up, and drops"
                " numbers; validation does neither.",
            ),
            text(
                "On the test split the loss is ",
                measured(test.result["loss"], test),
                " nats per token and ",
                Value(100 * test.result["accuracy"]["mean"], run=test.id, unit="%", digits=1),
                " of the next tokens are the likeliest, given the reference so far. ",
                Value(run.result["parameters"], run=run.id),
                " parameters, ",
                Value(run.result["epochs"], run=run.id, digits=1),
                " passes, ",
                Value(run.result["flops"] / 1e12, run=run.id, digits=1, unit="TFLOP"),
                f", in {seconds / 60:.1f} minutes on {threads} thread{'s' if threads > 1 else ''} of the machine that"
                " its card names, with whatever else ran there.",
            ),
        ),
    )


def _texts(study: Translation, done: Mapping[Recipe, Run]) -> Section:
    greedy, beam = done[study.greedy], done[study.beam]
    one, other = rows_of(greedy), rows_of(beam)
    chosen = np.linspace(0, len(one) - 1, min(study.shown, len(one))).round().astype(int)
    rows = tuple((one[n]["source"], one[n]["reference"], one[n]["written"], other[n]["written"]) for n in chosen)
    return Section(
        "Some translations",
        (
            Table(
                ("source", "reference", "greedy", "beam search"),
                rows,
                caption=text(
                    "Spread evenly over the test split, not chosen. All of them are in the runs' folders, in ",
                    "texts.jsonl.",
                ),
            ),
        )
        if rows
        else (),
    )


def rows_of(run: Run) -> list[dict[str, str]]:
    """Return source, reference and translation of every sentence of a run of translations."""
    return list(read_rows(run.file("texts.jsonl")))


def _looking(study: Translation, done: Mapping[Recipe, Run]) -> Section:
    blocks: list[Block] = []
    for source, words in study.texts():
        run = done[study.patterns(source, words)]
        cross = run.tensors("patterns.safetensors")["cross"]
        tokens, read = run.result["tokens"], run.result["source_tokens"]
        layer = len(cross) - 1
        written = (*tokens[1:], "end")
        mean = (cross[layer].mean(0), f"the mean over the heads of layer {layer}")
        for values, what in (mean, _sharpest(cross)):
            blocks.append(
                Heatmap(
                    np.round(values, 2),
                    _named(written),
                    _named(read),
                    text(f"Cross-attention: {what}."),
                    "share of attention",
                    "token that is written",
                    "token of the source",
                    runs=(run.id,),
                )
            )
    return Section(
        "Where it looks",
        tuple(blocks),
        intro="Each row is a token that is written next, each column a token of the source that the decoder looks at"
        " for it. The translation is given, not the model's own, so that what is drawn stays the same from training to"
        " training. A row sums to 1, but for rounding.",
    )


def _sharpest(cross: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the head whose rows have the highest greatest share, on average, and its name."""
    sharp = cross.max(-1).mean(-1)
    layer, head = np.unravel_index(int(sharp.argmax()), sharp.shape)
    return cross[layer, head], f"head {head} of layer {layer}, the sharpest, chosen after looking"


def _named(tokens: Any) -> tuple[str, ...]:
    """Return tokens as labels: a space before a word is not shown, and the end token is called so."""
    return tuple("end" if token.startswith("<|end") else token.strip() or "space" for token in tokens)


def _method(study: Translation, done: Mapping[Recipe, Run]) -> Section:
    recipe, data, same = study.train, done[study.train.data], done[Parity()]
    splits, model = data.result["splits"], recipe.model
    counts: list[Any] = []
    for split in ("train", "valid", "test"):
        counts += [Value(splits[split]["documents"] // len(study.pairs.sides), run=data.id), f" {split}, "]
    step = same.result["rungs"]["encoder-decoder"]["fp64"]
    return Section(
        "How it was done",
        (
            text(
                f"Corpus {study.pairs.name} (licence: {data.result['licence']}), in pairs ",
                *counts[:-1],
                " test. One byte-pair tokenizer for both languages, ",
                Value(data.result["vocabulary"], run=data.id),
                f" tokens, learned from the training split. Pairs longer than {model.context} tokens are left out"
                f" of the training. Encoder and decoder of {model.layers} blocks, width {model.width}, {model.heads}"
                f" heads; optimiser {recipe.optimiser.name}, schedule {recipe.schedule.shape} with peak"
                f" {recipe.schedule.peak:g}, {recipe.steps:,} steps of {recipe.batch} pairs, label smoothing"
                f" {study.smoothing:g}, {recipe.precision}, seed {recipe.seed}.",
            ),
            text(
                "The model computes what PyTorch's nn.Transformer does on the same weights: outputs differ by at most ",
                Value(step["output"], run=same.id),
                " and gradients by ",
                Value(step["gradient"], run=same.id),
                " in double precision. The test split was translated once by each way of writing; nothing was chosen by"
                " it.",
            ),
        ),
    )
