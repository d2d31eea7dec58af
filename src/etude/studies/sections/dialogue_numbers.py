"""The numbers of talking: likelihoods of replies and choices between them, paired by dialogue, and what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.items import items_of
from etude.evals.statistics import Estimate, mean, paired, ratio
from etude.report.blocks import Finding, Value, text
from etude.studies.sections.findings import plain

if TYPE_CHECKING:
    from etude.evals.task_recipes import Evaluate
    from etude.studies.dialogue import Dialogue

CALLED = {"vanilla": "the model as it is", "prompted": "the prompted model", "tuned": "the tuned model"}
METRICS = ("accuracy", "alone", "gained", "by_bytes", "unconditional")
"""How often the likeliest reply is the good one; how often without the dialogue, which its length alone may do; what
reading the dialogue gains; by likelihood per byte; and by the likelihood less that without the dialogue."""

Rows = dict[str, list[dict[str, Any]]]


def numbers(study: Dialogue, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the scores, their differences and the findings."""
    found = told(study, done)
    said = [{"text": plain(f.text), "strength": f.strength} for f in findings(found)]
    return {**found, "findings": said}


def told(study: Dialogue, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the numbers without the findings."""
    found: dict[str, Any] = {"replies": _replies(study.asked["replies"], done)}
    found["choices"] = {name: _choices(ways, done) for name, ways in study.asked.items() if name != "replies"}
    if study.paired is not None:
        run = done[study.paired]
        found["pairs"] = {"run": run.id, "pairs": run.result["pairs"]}
    return found


def common(ways: Mapping[str, Evaluate], done: Mapping[Recipe, Run]) -> Rows:
    """Return the items that fit all three, in one order.

    Raises:
        UsageError: none does.
    """
    held = {way: {row["number"]: row for row in items_of(done[asked])} for way, asked in ways.items()}
    kept = sorted(set.intersection(*(set(rows) for rows in held.values())))
    if not kept:
        raise UsageError("none of the dialogues fits the context of all three models: give a shorter prompt, or none")
    return {way: [rows[number] for number in kept] for way, rows in held.items()}


def _replies(ways: Mapping[str, Evaluate], done: Mapping[Recipe, Run]) -> dict[str, Any]:
    rows = common(ways, done)
    bits = {way: -np.array([row["log_probability"] for row in held]) / math.log(2) for way, held in rows.items()}
    bytes = np.array([row["bytes"] for row in rows["vanilla"]])
    return {
        **_counts(ways, done, len(bytes)),
        "bytes": int(bytes.sum()),
        "ways": {way: {"bits_per_byte": ratio(bits[way], bytes).to_json(), "run": done[ways[way]].id} for way in ways},
        "differences": [
            {"of": b, "less": a, **paired(bits[b], bits[a], bytes).to_json()} for a, b in combinations(ways, 2)
        ],
    }


def _choices(ways: Mapping[str, Evaluate], done: Mapping[Recipe, Run]) -> dict[str, Any]:
    rows = common(ways, done)
    right = {way: _right(held) for way, held in rows.items()}
    some = rows["vanilla"]
    return {
        **_counts(ways, done, len(some)),
        "chance": float(np.mean([1 / len(row["log_probabilities"]) for row in some])),
        "ways": {
            way: {**{m: mean(right[way][m]).to_json() for m in METRICS}, "run": done[ways[way]].id} for way in ways
        },
        "differences": [
            {"of": b, "less": a, **mean(right[b]["accuracy"] - right[a]["accuracy"]).to_json()}
            for a, b in combinations(ways, 2)
        ],
    }


def _right(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return by each metric whether the good reply was chosen, [N]."""
    found = {m: np.array([row[m] for row in rows]) for m in ("accuracy", "by_bytes", "unconditional")}
    alone = np.array([float(int(np.argmax(row["bare"])) in row["right"]) for row in rows])
    return {**found, "alone": alone, "gained": found["accuracy"] - alone}


def _counts(ways: Mapping[str, Evaluate], done: Mapping[Recipe, Run], kept: int) -> dict[str, int]:
    asked = max(done[one].result["n"] + done[one].result["too_long"] for one in ways.values())
    return {"n": kept, "too_long": asked - kept}


def findings(found: Mapping[str, Any]) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    replies = found["replies"]
    said = [_compared(row, replies["ways"]) for row in replies["differences"]]
    return said + [_chosen(name, choice) for name, choice in found["choices"].items()]


def _compared(row: Mapping[str, Any], ways: Mapping[str, Any]) -> Finding:
    one, other = CALLED[row["of"]], CALLED[row["less"]]
    runs = tuple(dict.fromkeys((ways[row["of"]]["run"], ways[row["less"]]["run"])))
    apart = Estimate.from_json(row)
    if not apart.excludes_zero:
        shown = Value(apart.mean, apart.low, apart.high, run=runs, unit="bits a byte")
        words = text(f"{_capital(one)} finds held-out replies as likely as {other}, within the interval: ", shown, ".")
        return Finding(words, "uncertain")
    size = apart.scaled(-1 if apart.mean < 0 else 1)
    than = "likelier" if apart.mean < 0 else "less likely"
    shown = Value(size.mean, size.low, size.high, run=runs, unit="bits a byte")
    return Finding(text(f"{_capital(one)} finds held-out replies {than} than {other} does, by ", shown, "."), "clear")


def _chosen(name: str, choice: Mapping[str, Any]) -> Finding:
    """Whether reading the dialogue helps to find the good reply."""
    ways = choice["ways"]
    helped = [way for way, row in ways.items() if Estimate.from_json(row["gained"]).above(0)]
    bad = "bad ones from other dialogues" if name == "random" else "bad ones that share its words"
    best = max(ways, key=lambda way: ways[way]["gained"]["mean"])
    row = ways[best]
    gained, reached = points(row["gained"], row["run"]), share(row["accuracy"], row["run"])
    if not helped:
        said = f"Reading the dialogue helps none of the three to find the good reply among {bad}: "
        return Finding(text(said, "the most that one gains is ", gained, ", ", CALLED[best], "."), "none")
    who = "all three" if len(helped) == 3 else " and ".join(CALLED[way] for way in helped)
    said = f"Reading the dialogue helps {who} to find the good reply among {bad}: {CALLED[best]} gains "
    chance = Value(100 * choice["chance"], run=row["run"], unit="%", digits=1)
    return Finding(text(said, gained, " and finds ", reached, ", chance ", chance, "."), "clear")


def points(estimate: Mapping[str, Any], run: str | tuple[str, ...]) -> Value:
    """Return a difference of shares, in points."""
    return replace(share(estimate, run), unit="points")


def share(estimate: Mapping[str, Any], run: str | tuple[str, ...]) -> Value:
    """Return a share in hundredths."""
    one = Estimate.from_json(estimate).scaled(100)
    return Value(one.mean, one.low, one.high, run=run, unit="%", digits=1)


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
