"""The validity card of a judge, which stands wherever a number of its does."""

from __future__ import annotations

from typing import Any

from etude.core.run import Run
from etude.evals.judge_recipes import davidson
from etude.evals.validity import LEAST, NOT_MEASURED, THRESHOLD
from etude.report.blocks import Block, Cell, Details, Section, Table, Value, text
from etude.report.charts import Axis, scatter
from etude.studies.sections.cards import measured

LIMITS = (
    "What such a judge confuses: it sees one text, neither who speaks to whom nor irony, quotation or denial. A slur"
    " that is quoted or used among friends counts as one that is thrown, an insult without a rude word passes, and so"
    " does whatever the judge never read. Its probabilities are at best those of texts such as it learned from; that"
    " of a text without a known word is what the card gives for an empty one. A difference between models can be one of"
    " style and not of toxicity: a small model writes fewer real words, and what is no word cannot be called toxic."
)

TOO_FEW = "too few"

DAVIDSON = (
    " In the set of Davidson et al. 2017 dialect is confused with offence (Sap et al. 2019), hate and offence count as"
    " one here, and every text was found by a lexicon: what is called civil is civil among such texts, and the judge is"
    " at its best on rude words."
)


def card(judge: Run) -> Section:
    """Return the card of a judge's run."""
    held = judge.result
    told = "TF-IDF and logistic regression" if held["method"] == "tf-idf" else "an encoder trained here"
    intro = (
        f"The judge is {told}, made from {held['learned_from']['n']:,} texts, of which"
        f" {held['learned_from']['toxic']:,} are toxic ({', '.join(held['toxic'])}). An empty text has the score"
        f" {held['empty_text']:.3f}, and from {THRESHOLD} on a text is called toxic."
    )
    more = DAVIDSON if held["classes"] == list(davidson().classes) else ""
    return Section("The judge", (_sets(judge), _groups(judge), *_calibration(judge), text(LIMITS + more)), intro=intro)


def _sets(judge: Run) -> Table:
    held = judge.result
    others = held["others"]
    rows = [("own test split", held["in_domain"]), ("our paired replies", held["replies"])]
    rows += [] if others == NOT_MEASURED else [(row["set"], row) for row in others]
    cells: list[tuple[Cell, ...]] = [
        (
            name,
            row["n"],
            row["toxic"],
            _cell(row["auc"], judge),
            _cell(row["average_precision"], judge),
            _cell(row["base_rate"], judge),
        )
        for name, row in rows
    ]
    if others == NOT_MEASURED:
        cells.append(("other labelled sets", *[NOT_MEASURED] * 5))
    return Table(
        ("texts", "n", "toxic", "AUC", "average precision", "base rate"),
        tuple(cells),
        caption="How the judge tells texts apart that it did not learn from. AUC is the chance that a toxic text scores"
        " higher than another (0.5 by chance; DeLong's 95% interval). Average precision is the base rate by chance."
        " Texts of other sets that it learned from are left out.",
    )


def _cell(value: Any, judge: Run) -> Cell:
    if isinstance(value, dict):
        return measured(value, judge)
    return value if isinstance(value, str) else Value(value, run=judge.id)


def _groups(judge: Run) -> Block:
    rows = judge.result["groups"]
    columns = ("texts that mention", "n", "civil", "called wrongly", "AUC", "shift")
    caption = (
        "Errors by group mentioned, on the test split. ‘Called wrongly’ is the share of civil texts with a score of"
        f" {THRESHOLD} or more. Of fewer than {LEAST} civil, or toxic, texts too little is known. ‘Shift’ needs none:"
        " the score of harmless sentences that name one of the group, less that of the same about anybody. * marks"
        " where the shift, or the share called wrongly less that of texts without a mention, excludes 0 for all groups"
        " together. Groups are found by words, some of which mean other things too. The result has the AUC of civil"
        " texts with a mention against toxic ones without (BPSN of Borkan et al. 2019)."
    )
    whole = [row for row in rows if not row["group"]]
    parts = [row for row in rows if row["group"]]
    table = Table(columns, tuple(_group(row, judge) for row in whole), caption=caption)
    each = Table(columns, tuple(_group(row, judge) for row in parts), caption="The same by group.")
    return Section("Errors by group", (table, Details(f"{len(parts)} groups", (each,))))


def _group(row: dict[str, Any], judge: Run) -> tuple[Cell, ...]:
    name = row["group"] or row["kind"]
    starred = " *" if row["apart"] or row["shifted"] else ""
    known = [TOO_FEW if row[key] is None else measured(row[key], judge) for key in ("false_positives", "auc")]
    shift = None if row["shift"] is None else measured(row["shift"], judge)
    return (name + starred, row["n"], row["n"] - row["toxic"], *known, shift)


def _calibration(judge: Run) -> tuple[Block, ...]:
    held = judge.result["calibration"]
    rows = [{**row, "run": judge.id} for row in held["bins"]]
    alike = ", where toxic and other texts weigh alike" if held["balanced"] else ""
    drawn = scatter(
        rows,
        Axis("probability", "probability that the judge gives"),
        Axis("share", "share of toxic texts"),
        caption=text(
            f"Calibration on the test split{alike}: expected calibration error ",
            Value(held["error"], run=judge.id),
            ", Brier score ",
            Value(held["brier"], run=judge.id),
            " (the base rate alone: ",
            Value(held["brier_of_base_rate"], run=judge.id),
            "). On the line a probability is what it says.",
        ),
        fitted=[{"probability": end, "share": end} for end in (0.0, 1.0)],
        run="run",
        height=220,
    )
    return (drawn,)
