"""The numbers of a search for leakage, as data, and what they say in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.blocks import Finding, Value, text
from etude.retrieval.leakage_curves import Units, curve, flattered, share_curve, sums_within, units_of
from etude.studies.sections.findings import plain

if TYPE_CHECKING:
    from etude.studies.leakage import Leakage


def numbers(study: Leakage, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the chunks, the curve over alpha, every chunk that leaked, and the findings."""
    found = told(study, done)
    said = [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done, found)]
    return {**found, "findings": said}


def told(study: Leakage, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the numbers without the findings."""
    run = done[study.overlap]
    held = run.tensors("runs.safetensors")
    r, units = held["length"] / held["tokens"], units_of(held["of"])
    shares = share_curve(r, units, study.alphas)
    rows: list[dict[str, Any]] = [
        {"alpha": alpha, "chunks": int((r <= alpha).sum()), "share": share.to_json()}
        for alpha, share in zip(study.alphas, shares, strict=True)
    ]
    found = {
        **{key: run.result[key] for key in ("chunks", "documents", "tokens", "searched", "histogram", "leaked")},
        "curve": rows,
        "units": units.name,
        "leaked_share": leaked_share(r, units, study.threshold).to_json(),
        "whole": int((r == 1).sum()),
        "longest": int(held["length"].max(initial=0)),
        "run": run.id,
    }
    scored = study.losses
    return found | (_of_model(done[scored], held, r, units, study.threshold, rows) if scored is not None else {})


def leaked_share(r: np.ndarray, units: Units, threshold: float) -> Estimate:
    """Return the share of chunks with r at or above the threshold."""
    below = share_curve(r, units, [math.nextafter(threshold, 0.0)])[0]
    return Estimate(1 - below.mean, 1 - below.high, 1 - below.low, below.n)


def _of_model(
    run: Run,
    held: Mapping[str, np.ndarray],
    r: np.ndarray,
    units: Units,
    threshold: float,
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Put the model's bits per byte and accuracy into the rows, and return how far the bits per byte of the chunks that
    did not leak lie above those of all."""
    of_tokens = run.tensors("losses.safetensors")
    bits, right = (sums_within(of_tokens[name], held["first"], held["stop"]) for name in ("losses", "right"))
    bits, alphas = bits / math.log(2), [row["alpha"] for row in rows]
    measured = {"bits_per_byte": (bits, held["bytes"]), "accuracy": (right, held["stop"] - held["first"])}
    for name, (sums, counts) in measured.items():
        for row, value in zip(rows, curve(r, sums, counts, units, alphas), strict=True):
            row[name] = None if value is None else value.to_json()
    apart = flattered(r, bits, held["bytes"], units, math.nextafter(threshold, 0.0)) if (r >= threshold).any() else None
    return {"flattered": None if apart is None else apart.to_json(), "model": run.id}


def findings(study: Leakage, done: Mapping[Recipe, Run], found: dict[str, Any]) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    run, leaked, chunks = found["run"], len(found["leaked"]), found["chunks"]
    half = f"{study.threshold:.0%} of their tokens or more"
    every = Value(chunks, run=run)
    if not leaked:
        longest = Value(found["longest"], run=run)
        words = text("None of ", every, f" chunks shares a run of {half}; the longest run is ", longest, " tokens.")
        return [Finding(words, "none"), *_of_the_model(found)]
    share = {name: 100 * found["leaked_share"][name] for name in ("mean", "low", "high")}
    said = [
        Finding(
            text(
                Value(leaked, run=run),
                " of ",
                every,
                f" chunks share a run of {half} with the training text: ",
                estimated(share, (run,), unit="%", digits=2),
                ".",
            ),
            "clear",
        )
    ]
    if found["whole"]:
        stands = "chunk stands" if found["whole"] == 1 else "chunks stand"
        words = text(Value(found["whole"], run=run), f" {stands} there from the first token to the last.")
        said.append(Finding(words, "clear"))
    return [*said, *_of_the_model(found)]


def estimated(estimate: Mapping[str, Any], runs: tuple[str, ...], **more: Any) -> Value:
    """Return an estimate that rests on several runs as a value linked to them."""
    return Value(estimate["mean"], estimate["low"], estimate["high"], run=runs, **more)


def _of_the_model(found: dict[str, Any]) -> list[Finding]:
    """Say what the model's score would be without the chunks that leaked."""
    apart = found.get("flattered")
    if not apart:
        return []
    firm = Estimate.from_json(apart).excludes_zero
    rounded = {
        name: round(apart[name], 4) for name in ("mean", "low", "high")
    }  # far below its interval it has no digits
    difference = estimated(rounded, (found["model"], found["run"]), unit="bits per byte", digits=4)
    if firm:
        side = "worse" if apart["mean"] > 0 else "better"
        words = text(f"Without the chunks that leaked the model's score is {side}, by ", difference, ".")
    else:
        words = text(
            "Without the chunks that leaked the model's score cannot be told from that on all: the difference is ",
            difference,
            ".",
        )
    return [Finding(words, "clear" if firm else "uncertain")]
