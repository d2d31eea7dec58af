"""How far each component compresses, by each method: charts and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from etude.compress.methods.base import Method
from etude.core.family import Family
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Block, Details, RunRef, Section, Table, Value, text
from etude.report.charts import Axis, Rule, lines
from etude.studies.sections.cards import measured
from etude.studies.sections.findings import called, capital, floor_of, kept_at
from etude.studies.sections.numbers import KEPT, Row

if TYPE_CHECKING:
    from etude.studies.progress_report import ProgressReport


def swept(counts: str, among: Iterable[str]) -> dict[str, str]:
    """Return the methods whose size counts dimensions, or codes, by name, with what a legend calls each."""
    kinds = (cast(type[Method], Family("compress/methods").member(name)) for name in among)
    return {kind.name: kind.label or kind.name for kind in kinds if kind.sized and kind.counts == counts}


def compression_section(study: ProgressReport, done: Mapping[Recipe, Run], rows: Mapping[str, list[Row]]) -> Section:
    """Return a part for each model; `rows` are the compressions of each."""
    sections = []
    for name, model in study.compressed(done).items():
        mine, sites = rows[name], list(study.sites(model))
        charts = [_squeeze_chart(study, site, [r for r in mine if r["component"] == site]) for site in sites]
        blocks = (_kept_table(study, mine, sites), *charts, Details("All compressions of this model", (_table(mine),)))
        sections.append(Section(capital(called(name)), blocks))
    return Section(
        "How far the components compress",
        tuple(sections),
        intro="A compressor stands in place of one component's output, the rest of the model as it was, and the loss is"
        " measured again on the same windows. SVD replaces the weight that writes the output by one of lower rank; the"
        " others replace the activation. Floors: the mean activation, zero, and a random subspace of the same size,"
        " drawn once for each: its interval is over windows, not over draws.",
    )


def _kept_table(study: ProgressReport, rows: list[Row], sites: list[str]) -> Table:
    """The smallest code of each method that keeps nine tenths of what each component does."""
    methods = swept("dimensions", study.compared)
    cells = []
    for site in sites:
        floor = floor_of(rows, site)
        kept = (_kept_cell(kept_at(rows, site, method)) for method in methods)
        cells.append((site, measured(floor["increase"], floor["run"]), *kept))
    return Table(
        ("component", "rise with its mean (nats)", *methods.values()),
        tuple(cells),
        caption=f"Fewest dimensions, of those tried, that keep {KEPT:.0%} of what the component does beyond its mean. A"
        " dash: none does, or the rise itself is not above zero. With ~, the interval reaches past the limit, whose own"
        " uncertainty is counted in.",
    )


def _kept_cell(kept: tuple[Row | None, bool]) -> Any:
    row, firm = kept
    if row is None:
        return None
    size = Value(row["size"], run=row["run"], label="dimensions")
    return size if firm else text("~ ", size)


def _squeeze_chart(study: ProgressReport, site: str, rows: list[Row]) -> Block:
    continuous, discrete = (swept(counts, study.compared) for counts in ("dimensions", "codes"))
    points = [
        {
            "size": r["size"],
            "rise": r["increase"]["mean"],
            "low": r["increase"]["low"],
            "high": r["increase"]["high"],
            "method": continuous[r["method"]],
            "run": r["run"],
        }
        for r in rows
        if r["method"] in continuous
    ]
    floors = [Rule(r["method"], r["increase"]["mean"], r["run"]) for r in rows if not r["size"]]
    for method, label in discrete.items():
        best = min((r for r in rows if r["method"] == method), key=lambda r: r["increase"]["mean"], default=None)
        if best:
            told = f"{label}, {best['size']} codes ({best['bits']:.1f} bits)"
            floors.append(Rule(told, best["increase"]["mean"], best["run"]))
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


def _table(rows: list[Row]) -> Table:
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
        caption=text(
            "Bits: 32 for each continuous number; for a codebook the entropy of its codes. KL: from the unharmed model."
            " Explained: share of the variance about the mean that is kept (for SVD, of the weight's squares)."
            " Intervals are over ",
            Value(rows[0]["increase"]["n"], run=rows[0]["run"], label="windows"),
            " windows; those of KL and accuracy stand in the runs' result.json. The random subspace is one draw.",
        ),
    )
