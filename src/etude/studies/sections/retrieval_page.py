"""The page of what a library brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.blocks import Block, Cell, Finding, Findings, Report, Section, Table, Value, text
from etude.report.charts import Axis, Rule, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.retrieval_numbers import curve, differences, flops, matching

if TYPE_CHECKING:
    from etude.studies.retrieval import Retrieval


def page(study: Retrieval, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole report."""
    return Report(
        title="A model with a library",
        question="What does a library bring a language model: trained with it, or fitted out with it later, and against"
        " a model that is larger instead?",
        abstract=(Findings(tuple(_findings(study, done))),),
        sections=(
            _scores(study, done),
            _over_k(study, done),
            _differences(study, done),
            *_sizes(study, done),
            *_knn(study, done),
            *_found(study, done),
            _method(study),
        ),
        runs=cards(_runs(study, done)),
    )


def _runs(study: Retrieval, done: Mapping[Recipe, Run]) -> list[Run]:
    recipes: list[Recipe] = [study.train.data, study.neighbours]
    for score in study.scores.values():
        recipes += [score.of, score, *([study.answers(score)] if study.asks else [])]
    recipes += [study.remembering] if study.knn else []
    return list({done[recipe].id: done[recipe] for recipe in recipes}.values())


def _told(gap: Estimate, runs: tuple[str, ...]) -> Value:
    """Return a difference in the direction that the words say."""
    shown = gap if gap.mean > 0 else gap.scaled(-1)
    return Value(shown.mean, shown.low, shown.high, run=runs, unit="bits per byte", digits=4)


def _findings(study: Retrieval, done: Mapping[Recipe, Run]) -> Iterator[Finding]:
    """Say what retrieval brings, and what the library is worth in parameters."""
    found = differences(study, done)
    near = f"{study.k} neighbours" if study.k > 1 else "a neighbour"
    words = {
        "on against off": (f"Given {near}, the model trained with retrieval comes to ", " than without them"),
        "on against plain": (f"Given {near}, it comes to ", " than the decoder trained without retrieval"),
        "off against plain": ("With retrieval off, it comes to ", " than the decoder trained without"),
        "fitted out against plain": (
            f"The plain decoder, frozen and fitted out in {study.retrofit:,} steps, comes to ",
            " than without",
        ),
        "on against as many parameters": ("Against a plain decoder of as many parameters it comes to ", ""),
        "on against as many FLOPs": ("Against a plain decoder of as many FLOPs a token it comes to ", ""),
    }
    if study.asks:
        yield _answers(study, done)
    for name, (before, after) in words.items():
        if name in found:
            yield _finding(study, done, found[name], before, after)
    if study.knn:
        yield _of_knn(study, done)
    if study.sizes:
        yield _worth(study, done)


def _finding(
    study: Retrieval, done: Mapping[Recipe, Run], found: tuple[str, str, Estimate], before: str, after: str
) -> Finding:
    one, other, gap = found
    ids = tuple(done[study.scores[name]].id for name in (one, other))
    side = "fewer" if gap.mean < 0 else "more"
    words = text(before, _told(gap, ids), f" {side}{after}.")
    return Finding(words, "clear" if gap.excludes_zero else "none")


def _answers(study: Retrieval, done: Mapping[Recipe, Run]) -> Finding:
    """Say how many planted facts are known, with the library and without."""
    names = [f"retrieval, k = {study.k}", "retrieval, off"]
    on, off = (done[study.answers(study.scores[name])] for name in names)
    words = text(
        "Of the planted facts, each stated once in the library, ",
        measured(on.result["right"], on, digits=2),
        " are answered with it and ",
        measured(off.result["right"], off, digits=2),
        f" without; an answer costs {on.result['bits']['mean']:.2f} and {off.result['bits']['mean']:.2f} bits, and"
        f" {on.result['entropy']:.2f} whoever guesses evenly.",
    )
    apart = on.result["right"]["low"] > off.result["right"]["high"]
    return Finding(words, "clear" if apart else "uncertain")


def _of_knn(study: Retrieval, done: Mapping[Recipe, Run]) -> Finding:
    run = done[study.remembering]
    gap = Estimate.from_json(run.result["difference"])
    side = "fewer" if gap.mean < 0 else "more"
    words = text(
        "A kNN-LM on the plain decoder comes to ",
        _told(gap, (run.id,)),
        f" {side} than the decoder alone.",
    )
    return Finding(words, "clear" if gap.excludes_zero else "none")


def _worth(study: Retrieval, done: Mapping[Recipe, Run]) -> Finding:
    params = matching(study, done)
    own = int(done[study.retrieving].result["parameters"])
    if params is None:
        words = text("No size of the plain decoder that was trained comes to the same bits per byte.")
        return Finding(words, "none")
    about = float(f"{params:.2g}")  # a straight line between two sizes is no more exact
    words = text(
        f"A plain decoder comes to the same bits per byte at about {about:,.0f} parameters, where the model with its"
        f" library has {own:,}."
    )
    return Finding(words, "uncertain")


def _scores(study: Retrieval, done: Mapping[Recipe, Run]) -> Section:
    head = ["model", "parameters", "FLOPs a token", "bits per byte"]
    head += ["facts answered", "bits an answer"] if study.asks else []
    rows: list[tuple[Cell, ...]] = []
    for name, score in study.scores.items():
        run, made = done[score], done[score.of]
        row: tuple[Cell, ...] = (name, made.result["parameters"], flops(study, name))
        row = (*row, measured(run.result["bits_per_byte"], run))
        if study.asks:
            told = done[study.answers(score)]
            row = (*row, measured(told.result["right"], told), measured(told.result["bits"], told, digits=2))
        rows.append(row)
    caption = (
        f"Bits per byte of the {study.split} split, in whole documents by a sliding window, with 95% intervals over"
        " documents. The FLOPs are those of a forward pass, retrieval itself not counted."
    )
    lowest = ("bits per byte",)
    return Section("Every model", (Table(tuple(head), tuple(rows), caption=caption, lowest=lowest),))


def _over_k(study: Retrieval, done: Mapping[Recipe, Run]) -> Section:
    rows: list[dict[str, Any]] = []
    for kind, words in (("retrieval", "trained with retrieval"), ("fitted out", "fitted out later")):
        rows += [{**row, "kind": words} for row in curve(study, done, kind)]
    plain = done[study.scores["plain"]].result["bits_per_byte"]["mean"]
    chart = lines(
        rows,
        Axis("k", "neighbours given"),
        Axis("bits", "bits per byte"),
        caption=f"Bits per byte over the number of neighbours that a model is given; it was trained with {study.k}.",
        colour="kind",
        colour_title="model",
        low="low",
        high="high",
        run="run",
        rules=[Rule("plain decoder", plain)],
    )
    return Section("How many neighbours", (chart,))


def _differences(study: Retrieval, done: Mapping[Recipe, Run]) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for name, (one, other, gap) in differences(study, done).items():
        ids = tuple(done[study.scores[each]].id for each in (one, other))
        rows.append((name, one, other, Value(gap.mean, gap.low, gap.high, run=ids, digits=4)))
    caption = "The first less the second, paired by document: below 0, the first is better."
    head = ("comparison", "the first", "the second", "difference (bits per byte)")
    return Section("What they differ by", (Table(head, tuple(rows), caption=caption),))


def _sizes(study: Retrieval, done: Mapping[Recipe, Run]) -> Iterator[Section]:
    if not study.larger:
        return
    names = ["plain", *(f"plain, {name}" for name in study.larger)]
    rows = []
    for name in names:
        score = done[study.scores[name]]
        told = score.result["bits_per_byte"]
        size = done[study.scores[name].of].result["parameters"]
        rows.append({"size": size, "bits": told["mean"], "low": told["low"], "high": told["high"], "run": score.id})
    on = done[study.scores[f"retrieval, k = {study.k}"]].result["bits_per_byte"]["mean"]
    chart = lines(
        sorted(rows, key=lambda row: row["size"]),
        Axis("size", "parameters", log=True),
        Axis("bits", "bits per byte"),
        caption="Plain decoders, all trained on the same windows.",
        low="low",
        high="high",
        run="run",
        rules=[Rule("with its library", on)],
    )
    yield Section("A larger model instead", (chart,))


def _knn(study: Retrieval, done: Mapping[Recipe, Run]) -> Iterator[Section]:
    if not study.knn:
        return
    run = done[study.remembering]
    words = text(
        f"Positions of the training text remembered: {run.result['positions']:,}. Chosen on the validation split:"
        f" a share of {run.result['share']:.2f} at temperature {run.result['temperature']:g}. Bits per byte: ",
        measured(run.result["bits_per_byte"], run),
        ".",
    )
    yield Section("A kNN-LM", (words,))


def _found(study: Retrieval, done: Mapping[Recipe, Run]) -> Iterator[Section]:
    run = done[study.neighbours]
    rows: list[tuple[Cell, ...]] = []
    for split, told in run.result["splits"].items():
        cells = (told[key] for key in ("chunks", "whole", "short", "empty"))
        away = (None if told[key] is None else Value(told[key], run=run.id) for key in ("nearest", "furthest"))
        rows.append((split, *cells, *away))
    head = ("split", "chunks", "whole", "with fewer", "with none", "distance, nearest", "distance, furthest")
    caption = (
        f"The neighbours that were found: {study.stored} of each whole chunk, never of its own document. Documents of"
        " the library that nearly repeat one of the validation or test split are never found."
    )
    blocks: list[Block] = [Table(head, tuple(rows), caption=caption)]
    blocks += [text(notice + ".") for notice in run.result["notices"]]
    yield Section("What was found", tuple(blocks))


def _method(study: Retrieval) -> Section:
    model, train = study.model, study.train
    words = (
        f"Chunks of {model.chunk} tokens; each neighbour is read with its continuation, by an encoder of"
        f" {model.encoder_layers} layers of {model.read_width}, in the decoder's layers"
        f" {', '.join(f'L{n}' for n in model.crossing)}. Every model reads the same windows of {train.context} tokens,"
        f" each within a document: {train.steps:,} steps of {train.batch}. Neighbours of a chunk reach its last"
        " position and what follows, and nothing before (Borgeaud et al. 2021, section 2.4)."
    )
    return Section("How it was done", (text(words),))
