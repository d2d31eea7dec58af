"""The page of a squeezed component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Block, Cell, Findings, Report, RunRef, Section, Table, Text, Value, text
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.map_numbers import STEADY
from etude.studies.sections.squeeze_codes import contexts_of, units_table
from etude.studies.sections.squeeze_findings import compared, jointly, of_method
from etude.studies.sections.squeeze_numbers import SMALL, Row, floor_rows, method_rows
from etude.studies.sections.trained_on import trained_on

if TYPE_CHECKING:
    from etude.studies.squeeze import Squeeze

AGAINST = ("coordinates", "rotation")

SETS = {
    "coordinates": "coordinates of {site}",
    "rotation": "{site}, turned at random",
    "units": "{code}",
    "turned": "{code}: turned at random",
    "shuffled": "{code}: shuffled over the tokens",
}
"""Sets of units as tables call them."""


def page(study: Squeeze, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    rows, floors = method_rows(study, done), floor_rows(study, done)
    side = [_harms(rows, floors), _parts(rows, floors)]
    side += [_verdict(rows)] if any("meaning" in row for row in rows) else []
    side += [_seeds(rows)] if any(row.get("match") for row in rows) else []
    return Report(
        title=f"{study.site}, squeezed",
        question=f"What does {study.site} come to when it passes through a small code: what does the code cost, what"
        " does it harm, and is it easier to understand?",
        abstract=(Findings(tuple(compared(study, done, rows))), _judged(study, done, rows[0])),
        sections=(
            Section("Side by side", tuple(side), intro="Every method at the same place, judged on the same windows."),
            *(_method(study, row, done) for row in rows),
        ),
        runs=cards({done[recipe].id: done[recipe] for recipe in study.plan(done)}.values()),
    )


def _judged(study: Squeeze, done: Mapping[Recipe, Run], row: Row) -> Text:
    """Say on which text all of this was found."""
    words: list[Any] = [
        f"Fitted on the training split of {study.of.text.corpus.name} and judged on ",
        Value(row["increase"]["n"], run=row["run"]),
        " windows of its validation split.",
    ]
    words.append(
        f"{trained_on(study.of)} Intervals are 95%, over windows; where methods are compared, over seeds too. What is"
        " said to be least or most was chosen after looking; the verdicts alone are corrected for how many there are."
        " Size, steps and the rest of each method are as given: others may do better."
    )
    return text(*words)


def _harms(rows: list[Row], floors: list[Row]) -> Section:
    measures = [floor["name"] for floor in floors if floor["name"] in rows[0]["kept"]]
    every = [(row, row["title"]) for row in rows] + [(floor, f"floor: {floor['name']}") for floor in floors]
    shares = tuple((row["title"], *(_share(row, name) for name in measures)) for row in rows)
    heads = {floor["name"]: floor["increase"] for floor in floors}
    told: list[Any] = ["Share of a floor's rise that each method takes back; the rises are "]
    for name in measures:
        told += [f"{name} ", Value(heads[name]["mean"], heads[name]["low"], heads[name]["high"]), ", "]
    told[-1] = (
        f" nats per token. A dash: the interval of the rise reaches below {STEADY:.0%} of it, or it is under"
        f" {SMALL} nats."
    )
    return Section(
        "Cost and harm",
        (
            Table(
                ("method", "dimensions", "bits a token", "parameters", "FLOPs a token", "explained"),
                tuple(_cost_cells(row, name) for row, name in every),
                "Bits: 32 for each number; entropy for what is discrete. FLOPs: to encode and decode. Explained: share"
                " of the variance about the mean (of a weight, of its squares).",
            ),
            Table(
                ("method", "rise (nats)", "KL (nats)", "accuracy"),
                tuple(_harm_cells(row, name) for row, name in every),
                "Rise in loss and divergence from the unharmed model, per token. The random subspace is one draw.",
            ),
            Table(("method", *(f"against {name}" for name in measures)), shares, text(*told)),
            *_seed_rises(rows),
        ),
    )


def _cost_cells(row: Row, name: str) -> tuple[Cell, ...]:
    run, cost = row["run"], row["cost"]
    dimensions, explained = cost["dimensions"], row["explained"]
    return (
        RunRef(run, name),
        None if dimensions is None else Value(dimensions, run=run, digits=1),
        None if cost["bits"] is None else Value(cost["bits"], run=run, digits=1),
        Value(cost["parameters"], run=run),
        Value(int(cost["flops"]), run=run),
        None if explained is None else Value(explained, run=run),
    )


def _harm_cells(row: Row, name: str) -> tuple[Cell, ...]:
    return (RunRef(row["run"], name), *(measured(row[kind], row["run"]) for kind in ("increase", "kl", "accuracy")))


def _share(row: Row, name: str) -> Cell:
    told = row["kept"][name]
    return None if told["share"] is None else jointly(told["share"], (row["run"], told["floor"]), digits=2)


def _seed_rises(rows: list[Row]) -> list[Block]:
    drawn = [row for row in rows if len(row["rises"]) > 1]
    if not drawn:
        return []
    cells = [(row["title"], *(Value(rise["rise"], run=rise["run"]) for rise in row["rises"])) for row in drawn]
    most = max(len(row["rises"]) for row in drawn)
    columns = ("method", *(f"seed {n}" for n in range(most)))
    words = (
        "Rise in loss (nats per token) of each fit. Which method harms least is told of all of them; all else on this"
        " page is of seed 0 where it names no other."
    )
    return [Table(columns, tuple(cells), words)]


def _parts(rows: list[Row], floors: list[Row]) -> Section:
    mean = [floor for floor in floors if floor["name"] == "mean"]
    told = [*rows, *({**floor, "title": "floor: mean"} for floor in mean)]
    names = list(dict.fromkeys(name for row in told for name in row["parts"]))
    able = {name: part["able"] for name, part in rows[0]["parts"].items()}
    cells = [
        (name, _clean(rows[0], name), *(_rise(row, name, able.get(name, False)) for row in told)) for name in names
    ]
    return Section(
        "What of the text is harmed",
        (
            Table(
                ("part", "unharmed loss", *(row["title"] for row in told)),
                tuple(cells),
                "Loss of the unharmed model and its rise with each code, nats per token, by what is predicted."
                " Positions are counted from 0; in-context is the loss in the last quarter of a window less that in its"
                " first tenth; induction is the loss on random tokens from their second period on. A dash: the unharmed"
                " model is not seen to do it, so that there is nothing to harm.",
            ),
        ),
    )


def _clean(row: Row, name: str) -> Cell:
    part = row["parts"].get(name)
    return None if part is None else Value(part["clean"]["mean"], run=row["run"])


def _rise(row: Row, name: str, able: bool) -> Cell:
    part = row["parts"].get(name)
    return None if part is None or not able else measured(part["rise"], row["run"])


def _verdict(rows: list[Row]) -> Section:
    from etude.compress.verdict import LEVEL, MARGIN

    told = [row for row in rows if "meaning" in row]
    comparisons = 2 * len(told)
    rule = (
        "The rule was fixed before looking. Facts: the token, the one before it, the position, the token's class. Each"
        " guesses a unit by its mean where the fact was the same, learned on half of the windows; the best fact of each"
        " unit is chosen on a quarter and judged on the last. A code is easier where the median share of its units'"
        f" variance that is foretold is above both that of the component's coordinates and that of a random rotation of"
        f" them by more than {MARGIN}, and both differences stand at {LEVEL} after Holm's correction for all"
        f" {comparisons} comparisons of one seed; harder where it is below both in the same way. Windows are resampled,"
        " the same for all."
    )
    cells = [cell for number, row in enumerate(told) for cell in _set_rows(row, told[:number])]
    columns = ("set", "units judged", "predictable at all", "median foretold", "of the whole set")
    limits = (
        "Units are those of all draws, where a set is drawn. Predictable at all: units whose gain over their mean"
        f" stands at {LEVEL} after Holm's correction over the units of the set (Student's t over windows). Of the whole"
        " set: share of its summed variance that is foretold, which a rotation alone cannot change. Few units of great"
        " variance and many of little are not alike: hence both columns. A unit that is seldom not 0 gives little to"
        " learn from, and scores less for that alone. A code turned at random keeps what it says and loses its axes."
        " What is foretold is not what is understood: a unit that follows a sentence scores 0 here."
    )
    return Section(
        "Is it easier to understand?",
        (_verdict_table(told), Table(columns, tuple(cells), limits)),
        intro=rule,
    )


def _verdict_table(rows: list[Row]) -> Table:
    cells = []
    for row in rows:
        first = row["meaning"][0]
        pairs = [
            first["comparisons"][name] for name in ("coordinates", "rotation", "turned") if name in first["comparisons"]
        ]
        shown = [None if pair["mean"] is None else measured(pair, first["run"], digits=2) for pair in pairs]
        agree = sum(meaning["verdict"] == first["verdict"] for meaning in row["meaning"])
        seeds = f"{agree} of {len(row['meaning'])}" if len(row["meaning"]) > 1 else None
        padded = (*shown, *([None] * (3 - len(shown))))
        cells.append((row["title"], *padded, first["verdict"], seeds))
    return Table(
        ("method", "above the coordinates", "above a rotation", "above itself turned", "verdict", "seeds"),
        tuple(cells),
        "How far the median unit of the code is above that of each set. The last difference says whether it is the axes"
        " that are easy, or the directions they span; it is no part of the rule. Seeds: how many come to the verdict.",
    )


def _set_rows(row: Row, before: list[Row]) -> list[tuple[Cell, ...]]:
    """Return a line for each set of units; those that are of the site alone stand with its first method."""
    first, found = row["meaning"][0], []
    shared = any(other["site"] == row["site"] for other in before)
    for name, words in SETS.items():
        if name not in first["sets"] or (shared and name in AGAINST):
            continue
        told, run = first["sets"][name], first["run"]
        shares = (None if told[k]["mean"] is None else measured(told[k], run, digits=2) for k in ("median", "weighted"))
        counts = (Value(told["judged"], run=run), Value(told["predictable"], run=run))
        found.append((words.format(code=row["title"], site=row["site"]), *counts, *shares))
    return found


def _seeds(rows: list[Row]) -> Section:
    cells = []
    for row in rows:
        match = row.get("match")
        if match:
            kinds = ("matched", "rotated", "shuffled", "overlap")
            cells.append((row["title"], *(_ranged(match[kind], match["run"]) for kind in kinds)))
    return Section(
        "Do other seeds find the same units?",
        (
            Table(
                ("method", "matched", "itself turned", "shuffled", "shared space"),
                tuple(cells),
                "Units of two seeds are paired so that their absolute correlations on held-out text are greatest: the"
                " mean of the pairs, and the range over pairs of seeds. Beside it what matching gives by itself: of the"
                " code with itself turned by a random rotation, and in another order over the tokens. Shared space:"
                " mean squared canonical correlation, 1 where one code can be read linearly from the other.",
            ),
        ),
    )


def _ranged(told: dict[str, float] | None, run: str) -> Cell:
    if told is None:
        return None
    ends = (Value(told[end], run=run, digits=2) for end in ("mean", "least", "most"))
    mean, least, most = ends
    return text(mean, " (", least, " to ", most, ")")


def _method(study: Squeeze, row: Row, done: Mapping[Recipe, Run]) -> Section:
    """What is told of one method alone."""
    run = done[study.fits(row["name"])[0]]
    recipe = run.recipe.to_json()["method"]
    fields = ", ".join(f"{name} {value}" for name, value in recipe.items() if name not in ("member", "version"))
    intro = text("Fitted as ", RunRef(run.id), f" at {row['site']}" + (f": {fields}." if fields else "."))
    said = Findings(tuple(of_method(row)))
    if not study.has_units(row["name"]):
        words = text("It has no code of each token whose units could be shown.")
        return Section(row["title"], (said, words), intro=intro)
    latents = done[study.latents(row["name"])]
    return Section(row["title"], (said, units_table(row, latents), *contexts_of(latents)), intro=intro)
