"""The page of a search for leakage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Block, Code, Findings, Report, Section, Strong, Table, Text, Value, text
from etude.report.charts import Axis, bars, lines
from etude.studies.sections.cards import cards
from etude.studies.sections.leakage_numbers import estimated, findings, told

if TYPE_CHECKING:
    from etude.studies.leakage import Leakage

LIMITS = (
    "A run is one of tokens, letter for letter: a paraphrase, another spelling or other spaces end it. Where a copy"
    " begins or ends inside a word, its outermost tokens may be cut otherwise than in the training text, so that a run"
    " can be a token shorter at each end than what was copied. And not every run is a leak: phrases that many texts"
    " have, such as names, titles and lists, are found too. What r says of a chunk is how much of it could have been"
    " recited; the worst stand side by side above, to be judged."
)


def page(study: Leakage, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    found = told(study, done)
    sections = [_shared(study, found)]
    if "model" in found:
        sections.append(_model(study, found))
    shown = done[study.overlap].result["shown"]
    if shown:
        sections.append(_worst(found, shown))
    return Report(
        title="Leakage",
        question="How much of the evaluation text stands word for word in the training text"
        + (", and what does that make of a model's score?" if study.of else "?"),
        abstract=(Findings(tuple(findings(study, done, found))),),
        sections=(*sections, _method(study, found)),
        runs=cards(behind.values()),
    )


def _shared(study: Leakage, found: dict[str, Any]) -> Section:
    run = found["run"]
    rows = [
        {"r": f"{_range(row)} ({row['chunks']:,})", "chunks": row["chunks"], "run": run} for row in found["histogram"]
    ]
    drawn = bars(
        rows,
        Axis("r", "r (chunks)"),
        Axis("chunks", "chunks"),
        caption="Chunks by r: the longest run of tokens that they share with the training text, over their length. Runs"
        f" of fewer than {study.least} tokens count as none. A range has its upper end in it; in brackets stands how"
        " many chunks there are.",
        run="run",
        step=26,
    )
    blocks: list[Block] = [drawn]
    if "model" not in found:
        blocks.append(_curve_of_shares(found))
    return Section("How much is shared", tuple(blocks))


def _range(row: dict[str, Any]) -> str:
    if row["above"] is None:
        return "0"
    if row["above"] == row["to"]:
        return "1, all of it"
    last = "below 1" if row["to"] == 1 else f"{row['to']:g}"
    return f"{row['above']:g} to {last}" if row["above"] else f"up to {last}"


def _curve_of_shares(found: dict[str, Any]) -> Block:
    rows = [
        {
            "alpha": row["alpha"],
            "share": 100 * row["share"]["mean"],
            "low": 100 * row["share"]["low"],
            "high": 100 * row["share"]["high"],
            "run": found["run"],
        }
        for row in found["curve"]
    ]
    return lines(
        rows,
        Axis("alpha", "alpha, the greatest r"),
        Axis("share", "chunks with r at most alpha (%)"),
        caption=f"The share of chunks whose longest run is at most alpha of their length; bands are 95% intervals over"
        f" {found['units']}.",
        low="low",
        high="high",
        run="run",
    )


def _model(study: Leakage, found: dict[str, Any]) -> Section:
    runs = (found["model"], found["run"])
    told = [row for row in found["curve"] if row["bits_per_byte"]]
    drawn = lines(
        [
            {
                "alpha": row["alpha"],
                "bits": row["bits_per_byte"]["mean"],
                "low": row["bits_per_byte"]["low"],
                "high": row["bits_per_byte"]["high"],
                "run": found["model"],
            }
            for row in told
        ],
        Axis("alpha", "alpha, the greatest r"),
        Axis("bits", "bits per byte"),
        caption=f"The model's bits per byte over the chunks that share at most alpha of their tokens with the training"
        f" text; bands are 95% intervals over {found['units']}. The last point is the score on all.",
        low="low",
        high="high",
        run="run",
    )
    rows = tuple(
        (
            f"{row['alpha']:g}",
            Value(row["chunks"], run=found["run"]),
            estimated({name: 100 * row["share"][name] for name in ("mean", "low", "high")}, runs[1:], digits=1),
            *(estimated(row[name], runs) if row[name] else None for name in ("bits_per_byte", "accuracy")),
        )
        for row in found["curve"]
    )
    return Section(
        "The model on chunks by what they share",
        (drawn, Table(("alpha", "chunks", "of all (%)", "bits per byte", "accuracy"), rows)),
        intro="Chunks that share long runs with other text are also the formulaic ones, which any model predicts well:"
        " part of a fall along alpha would be there had nothing leaked. A model that never saw the training text tells"
        " how much." + _asked(study),
    )


def _asked(study: Leakage) -> str:
    """Say whether the model retrieved, where it can."""
    shape = None if study.of is None else study.of.shape
    if shape is None or not hasattr(shape, "chunk"):
        return ""
    return f" It was given {study.k} neighbours of each chunk." if study.k else " It was given no neighbours."


def _worst(found: dict[str, Any], shown: list[dict[str, Any]]) -> Section:
    leaked = {row["chunk"]: row for row in found["leaked"]}
    rows = tuple(_side_by_side(leaked[row["chunk"]], row, found["run"]) for row in shown)
    caption = text(
        "Chunks that share most, in bold what both have. Documents are counted from 0, and tokens from the separator"
        " that opens a document; the training text names its document by its first words."
    )
    more = len(found["leaked"]) - len(shown)
    blocks: list[Block] = [Table(("r", "tokens", "evaluation text", "training text"), rows, caption)]
    if more:
        count = Value(more, run=found["run"])
        blocks.append(
            text(count, " more chunks leaked; every one is listed under ", Strong("leaked"), " in the result.")
        )
    return Section("The worst, side by side", tuple(blocks))


def _side_by_side(leaked: dict[str, Any], words: dict[str, Any], run: str) -> tuple[Any, ...]:
    here = f"chunk {leaked['chunk']} in document {leaked['of']}"
    there = f"document {leaked['document']}, token {leaked['offset']}: {words['opening'].strip()} …"
    return (
        Value(leaked["r"], run=run, digits=2),
        Value(leaked["tokens"], run=run),
        _marked(here, words["evaluation"]),
        _marked(there, words["training"]),
    )


def _marked(where: str, parts: list[str]) -> Text:
    before, shared, after = parts
    return text(Code(where), " ", before, Strong(shared), after)


def _method(study: Leakage, found: dict[str, Any]) -> Section:
    run = found["run"]
    return Section(
        "How it was searched",
        (
            text(
                "The evaluation text has ",
                Value(found["tokens"], run=run),
                " tokens in ",
                Value(found["documents"], run=run),
                f" documents, cut into chunks of {study.chunk} tokens, shorter at a document's end. For each chunk the"
                " longest run of consecutive tokens was sought at every position of the training text, ",
                Value(found["searched"]["tokens"], run=run),
                " tokens in ",
                Value(found["searched"]["documents"], run=run),
                " documents, unfiltered: r is that run over the chunk's length. A run lies within one chunk and one"
                " document, and it does not matter where in the training text it begins. Borgeaud et al. 2021, section"
                " 2.6, take the run in common with a chunk's nearest neighbours; searching everything can only find"
                " more.",
            ),
            text(LIMITS),
        ),
    )
