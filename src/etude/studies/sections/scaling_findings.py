"""What fitted laws say in words, generated from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etude.core.run import Run
from etude.report.blocks import Finding, Value, text

NAMES = {"approach_1": "approach 1", "approach_2": "approach 2", "approach_3": "approach 3"}


NOTHING = 1e-6
"""Lower ends that are so small a share of their number are shown as 0, which a law's E may come to in a sample."""


def value(told: Mapping[str, Any], run: Run, digits: int = 3, unit: str = "") -> Value:
    """Return a number of a fit's result with its interval."""
    low, high = told["interval"] or (None, None)
    if low is not None and 0 < low < NOTHING * told["estimate"]:
        low = 0.0
    return Value(told["estimate"], low, high, run=run.id, digits=digits, unit=unit)


def findings(run: Run) -> list[Finding]:
    """Return what the fits say, each with how firmly it stands."""
    return [*(_exponent(run, name) for name in NAMES if run.result[name]), *_agreement(run), *_floor(run)]


def _exponent(run: Run, name: str) -> Finding:
    """How the best size grows with the budget, by one approach, and whether tokens should grow as fast."""
    told = run.result[name]
    low, high = told["a"]["interval"] or (0.0, 1.0)
    b_low, b_high = told["b"]["interval"] or (0.0, 1.0)
    if low > b_high:
        words, strength = "parameters should grow faster than tokens", "clear"
    elif high < b_low:
        words, strength = "tokens should grow faster than parameters", "clear"
    else:
        words, strength = "which of them should grow faster is not clear", "uncertain"
    return Finding(
        text(
            f"By {NAMES[name]} the best number of parameters grows as Cᵃ with a = ",
            value(told["a"], run, 2),
            ", and that of tokens as Cᵇ with b = ",
            value(told["b"], run, 2),
            f": {words}.",
        ),
        strength,
    )


def _agreement(run: Run) -> list[Finding]:
    """Whether the approaches agree on a."""
    held = {name: run.result[name]["a"]["interval"] for name in NAMES if run.result[name]}
    known = {name: ends for name, ends in held.items() if ends}
    if len(known) < 2:
        return []
    apart = [
        f"{NAMES[one]} and {NAMES[other].removeprefix('approach ')}"
        for n, one in enumerate(known)
        for other in list(known)[n + 1 :]
        if known[one][0] > known[other][1] or known[other][0] > known[one][1]
    ]
    if apart:
        words = f"The intervals of a do not overlap between {' and between '.join(apart)}: their assumptions differ."
        return [Finding(text(words), "clear")]
    those = "all approaches" if len(known) == len(NAMES) else " and ".join(NAMES[name] for name in known)
    return [Finding(text(f"The intervals of a overlap between {those}."), "uncertain")]


def _floor(run: Run) -> list[Finding]:
    """What the law says would be left of the loss."""
    told = run.result["approach_3"]
    if not told:
        return []
    words = text(
        "The parametric law puts the loss of an unbounded model on unbounded text at ",
        value(told["E"], run, 3, "nats a token"),
        ".",
    )
    return [Finding(words, "uncertain")]
