"""What the study of a squeezed component says in words, generated from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.blocks import Finding, Value, text
from etude.studies.sections.cards import measured
from etude.studies.sections.squeeze_numbers import Row, differences, most_harmed

if TYPE_CHECKING:
    from etude.studies.squeeze import Squeeze


def findings(study: Squeeze, done: Mapping[Recipe, Run], rows: list[Row]) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    return [*compared(study, done, rows), *(finding for row in rows for finding in of_method(row))]


def compared(study: Squeeze, done: Mapping[Recipe, Run], rows: list[Row]) -> list[Finding]:
    """Return what is said of the methods side by side: which harms least, and the verdict on each code."""
    return _least(rows, differences(study, done, rows)) + [said for row in rows for said in _understood(row)]


def of_method(row: Row) -> list[Finding]:
    """Return what is said of one method by itself."""
    return [_kept(row), _broken(row), *_again(row)]


def _least(rows: list[Row], gaps: list[Row]) -> list[Finding]:
    """Which method harms least, and by how much less than the next, over the seeds of each."""
    if not gaps:
        return []
    named = {row["name"]: row for row in rows}
    next_best, best = named[gaps[0]["of"]], named[gaps[0]["against"]]
    gap = Estimate.from_json(gaps[0])
    words = text(
        f"{best['title']}",
        *_costing(best),
        " raises the loss least of the methods, by ",
        jointly(gaps[0]["least"], tuple(rise["run"] for rise in best["rises"]), unit="nats"),
        f" per token; {next_best['title']}",
        *_costing(next_best),
        " raises it by ",
        jointly(gaps[0], tuple(gaps[0]["runs"])),
        " more.",
    )
    return [Finding(words, "clear" if gap.above(0) else "uncertain")]


def jointly(estimate: Mapping[str, Any], runs: tuple[str, ...], **more: Any) -> Value:
    """Return an estimate that rests on several runs as a value."""
    return Value(estimate["mean"], estimate["low"], estimate["high"], run=runs, **more)


def _costing(row: Row) -> tuple[Any, ...]:
    bits = row["cost"]["bits"]
    return () if bits is None else (" (", Value(bits, run=row["run"], digits=1, unit="bits"), " a token)")


def _kept(row: Row) -> Finding:
    """How much of what the component does beyond its mean passes."""
    told = row["kept"]["mean"]
    rise = Value(told["rise"]["mean"], told["rise"]["low"], told["rise"]["high"], run=told["floor"])
    if told["share"] is None:
        words = (
            "With its mean in the component's place the loss rises too little, or too unsurely, to tell what"
            f" {row['title']} keeps: by "
        )
        return Finding(text(words, rise, " nats per token."), "none")
    share = Estimate.from_json(told["share"])
    shown = jointly(share.scaled(100).to_json(), (row["run"], told["floor"]), unit="%", digits=0)
    if not share.above(0):
        words = text(
            f"{row['title']} is not seen to do better than the mean: it takes back ",
            shown,
            " of the rise with the mean, which is ",
            rise,
            " nats per token.",
        )
        return Finding(words, "none")
    words = text(
        f"{row['title']} takes back ", shown, " of the rise with the mean, which is ", rise, " nats per token."
    )
    return Finding(words, "clear")


def _broken(row: Row) -> Finding:
    """What of the text is harmed most."""
    most, apart = most_harmed(row)
    if most is None:
        return Finding(text(f"{row['title']} raises the loss in no part of the text beyond doubt."), "none")
    part = row["parts"][most]["rise"]
    words = text(
        f"What {row['title']} harms most is {called_part(most)}: the loss there rises by ",
        measured(part, row["run"]),
        " nats, over all tokens by ",
        measured(row["increase"], row["run"]),
        ".",
    )
    return Finding(words, "clear" if apart else "uncertain")


def called_part(name: str) -> str:
    """Return how prose calls a part of the text."""
    if name.startswith("positions"):
        return f"what is predicted at {name}"
    known = {"induction": "going on with random tokens that repeat", "in-context": "what is learned within a window"}
    return known.get(name, f"predicting tokens of the class “{name}”")


def _understood(row: Row) -> list[Finding]:
    """The verdict on the code."""
    if "meaning" not in row:
        return []
    first, *others = row["meaning"]
    sets, said = first["sets"], first["verdict"]
    medians = {name: sets[name]["median"] for name in ("units", "coordinates", "rotation")}
    if any(median["mean"] is None for median in medians.values()):
        return [Finding(text(f"No unit of {row['title']} varies on the windows that judge."), "none")]
    shown = {name: measured(median, first["run"], digits=2) for name, median in medians.items()}
    agree = sum(other["verdict"] == said for other in others)
    seeds = [f" {1 + agree} of {1 + len(others)} seeds come to this."] if others else []
    verdict = {
        "easier": "are easier to foretell than the component's own coordinates and than a random rotation of them",
        "harder": "are harder to foretell than the component's own coordinates and than a random rotation of them",
    }.get(said, "are not shown to be easier or harder to foretell than the component's own coordinates")
    words = text(
        f"The units of {row['title']} {verdict}: plain facts foretell ",
        shown["units"],
        " of the variance of the median unit, against ",
        shown["coordinates"],
        " and ",
        shown["rotation"],
        ".",
        *seeds,
    )
    if said == "no difference shown":
        return [Finding(words, "none")]
    return [Finding(words, "clear" if agree == len(others) else "uncertain")]


def _again(row: Row) -> list[Finding]:
    """Whether other seeds find the same units, beside what matching alone gives."""
    match = row.get("match")
    if not match or match["matched"] is None:
        return []
    chance, of_what = (match["rotated"], "turned by a random rotation") if match["rotated"] else (match["shuffled"], "")
    found = Value(match["matched"]["mean"], run=match["run"], digits=2)
    least, most = (Value(match["matched"][end], run=match["run"], digits=2) for end in ("least", "most"))
    by_chance = Value(chance["mean"], run=match["run"], digits=2)
    against = f"one code matched with itself {of_what}" if of_what else "a code in another order over the tokens"
    above = match["matched"]["least"] > chance["most"]
    words = text(
        f"Matched one to one, the units of {row['title']} from two seeds correlate by ",
        found,
        " (",
        least,
        " to ",
        most,
        f" over pairs of seeds), and {against} by ",
        by_chance,
        ": more than matching gives by itself." if above else ": no more than matching gives by itself.",
    )
    return [Finding(words, "clear" if above else "none")]
