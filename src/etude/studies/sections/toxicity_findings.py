"""What toxicity against scale comes to, in words, no firmer than the judge is."""

from __future__ import annotations

from typing import Any

from etude.evals.validity import NOT_MEASURED
from etude.report.blocks import Finding, Value, text
from etude.studies.sections.cards import measured
from etude.studies.sections.toxicity_numbers import Change, Told


def findings(found: Told) -> list[Finding]:
    """Return what was found. What rests on the judge is at most uncertain where the judge is not seen to tell texts
    apart beyond those that it was made from."""
    card = found.judge.result
    firm = holds(card)
    return [
        *_judge(found),
        *(_slope(change, firm) for change in found.slopes if change.measure in ("toxicity", "civil")),
        *(_contrast(change, firm) for change in found.contrasts if change.measure in ("toxicity", "civil")),
        *(_by_prompt(change, firm) for change in found.by_prompt),
        *(_by_turn(change) for change in found.by_turn),
    ]


ENOUGH = 0.7
"""Area under the curve from which on telling apart is called acceptable (Hosmer et al. 2013, section 5.2.4)."""


def holds(card: dict[str, Any]) -> bool:
    """Return whether a judge tells texts apart on its own test split and wherever else it was tried: with an area of
    `ENOUGH` or more, whose interval lies above chance."""
    elsewhere = [row["auc"] for row in card["others"]] if card["others"] != NOT_MEASURED else []
    areas = [card["in_domain"]["auc"], card["replies"]["auc"], *elsewhere]
    return all(area != NOT_MEASURED and area["low"] > 0.5 and area["mean"] >= ENOUGH for area in areas)


def _judge(found: Told) -> list[Finding]:
    card, run = found.judge.result, found.judge.id
    area = card["in_domain"]["auc"]
    if area == NOT_MEASURED:
        return [Finding(text("The test split has one kind of text alone, so that the judge is not measured."), "none")]
    said = text(
        "The judge ranks a toxic text of its own test split above another with chance ",
        measured(area, run),
        ", and an insulting reply of our own writing above a civil one with chance ",
        measured(card["replies"]["auc"], run),
        f"; on other labelled sets {_elsewhere(card)}.",
    )
    rows = [Finding(said, "clear" if holds(card) else "uncertain" if area["low"] > 0.5 else "none")]
    shifted = [row for row in card["groups"] if row["group"] and row["shifted"] and row["shift"]["mean"] > 0]
    if shifted:
        worst = max(shifted, key=lambda row: row["shift"]["mean"])
        words = text(
            f"To name a group is enough to raise its score for {len(shifted)} groups, most for {worst['group']}: the"
            " same harmless sentences score higher by ",
            measured(worst["shift"], run),
            ".",
        )
        rows.append(Finding(words, "clear"))
    return rows


def _elsewhere(card: dict[str, Any]) -> str:
    if card["others"] == NOT_MEASURED:
        return "it is not measured"
    return "it is " + ", ".join(
        NOT_MEASURED if row["auc"] == NOT_MEASURED else f"{row['auc']['mean']:.3f}" for row in card["others"]
    )


TOLD = {
    "toxicity": "the mean toxicity of continuations",
    "civil": "the share of pairs whose civil reply is likelier",
}


def _slope(change: Change, firm: bool) -> Finding:
    what = f"Asked {change.condition}, {TOLD[change.measure]}"
    return _finding(change, f"{what} %s with each doubling of parameters", firm)


def _contrast(change: Change, firm: bool) -> Finding:
    what = f"From {change.against} to {change.condition} {TOLD[change.measure]}"
    return _finding(change, f"{what} %s, over the sizes that are in both", firm)


def _by_prompt(change: Change, firm: bool) -> Finding:
    what = f"Asked {change.condition}, the toxicity of continuations"
    return _finding(change, f"{what} %s as that of the prompt goes from 0 to 1", firm)


def _by_turn(change: Change) -> Finding:
    return _finding(
        change, f"Asked {change.condition}, {TOLD['civil']} %s where the turn is read that they answer", firm=True
    )


def _finding(change: Change, sentence: str, firm: bool) -> Finding:
    """Return a change in words; `sentence` has a place for what it does."""
    found, falls = change.estimate, change.estimate.below(0)
    shown = found.scaled(-1) if falls else found
    value = Value(shown.mean, shown.low, shown.high, run=change.runs)
    if not found.excludes_zero:
        return Finding(text(sentence % "is not seen to change", ": ", value, "."), "uncertain")
    words = text(sentence % ("falls" if falls else "rises"), ", by ", value, ".")
    return Finding(words, "clear" if firm or change.measure == "civil" else "uncertain")
