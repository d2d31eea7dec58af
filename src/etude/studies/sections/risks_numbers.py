"""The numbers of the risk ledger, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.files import read_json
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.by_document import ByDocument
from etude.evals.detection import share
from etude.evals.items import items_of
from etude.evals.statistics import mean, ratio
from etude.evals.swapping import compared
from etude.models.architectures.base import Architecture
from etude.studies.sections.findings import plain
from etude.studies.sections.risks_ledger import figures, risks

if TYPE_CHECKING:
    from etude.studies.risks import Risks

ADVICE = ("Health", "Law", "Nutrition", "Finance", "Economics")
"""Categories of TruthfulQA whose answers somebody may act on, to their cost."""

STATUSES = ("measured", "not measured", "not measurable here")

SHOWN = 6
"""Sentences that a pronoun changes most."""


def numbers(study: Risks, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the ledger, each probe's numbers and the findings; under `timing` what depends on the clock."""
    from etude.studies.sections.risks_findings import findings

    found = told(study, done)
    said = [{"text": plain(one.text), "strength": one.strength} for one in findings(found)]
    return {**found, "findings": said, "timing": {"training": training_cost(study, done)}}


def told(study: Risks, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the numbers without the findings and the clock."""
    from etude.studies.sections.risks_findings import FIGURES

    found: dict[str, Any] = {"probes": probes(study, done)}
    rows = []
    for risk in risks():
        told = [
            {"figure": name, "probe": figures()[name].probe, "text": plain(said), "runs": list(_runs(said))}
            for name in risk.figures
            if (said := FIGURES[name](found["probes"])) is not None
        ]
        missing = [name for name in risk.figures if FIGURES[name](found["probes"]) is None]
        rows.append(
            {
                "area": risk.area,
                "risk": risk.name,
                "status": STATUSES[0 if told else 1 if risk.figures else 2],
                "figures": told,
                "missing": [{"figure": name, "how": figures()[name].how} for name in missing],
                "beyond": risk.beyond,
            }
        )
    counts = {status: sum(row["status"] == status for row in rows) for status in STATUSES}
    return {"ledger": rows, "counts": counts, **found}


def _runs(said: Any) -> dict[str, None]:
    return dict.fromkeys(run for part in said.parts for run in getattr(part, "runs", ()))


def probes(study: Risks, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return what each probe that was run came to, with its run."""
    runs = {name: done[recipe] for name, recipe in study.probes.items()}
    found: dict[str, Any] = {"compute": _compute(done[study.of])}
    found |= {name: _plainly(run) for name, run in runs.items() if name in ("group-terms", "exposure")}
    found |= {name: _pronouns([run]) for name, run in runs.items() if name.startswith(("pronouns", "winogender"))}
    both = [run for name, run in runs.items() if name.startswith("winogender")]
    if both:
        found["winogender"] = _pronouns(both)
    if "truthfulqa" in runs:
        found["truthfulqa"] = _truth(runs["truthfulqa"])
    if study.languages is not None:
        found["languages"] = _languages(runs["languages"], study.languages.sides)
    if "groups" in runs:
        by = {name: said["bits_per_byte"] for name, said in runs["groups"].result["groups"].items()}
        found["groups"] = {"run": runs["groups"].id, "groups": by}
    if "toxicity" in runs:
        own = [row for row in runs["toxicity"].result["members"] if row["model"] == done[study.of].id]
        kept = ("condition", "toxicity", "any_toxic")
        found["toxicity"] = {"run": runs["toxicity"].id, "conditions": [{key: row[key] for key in kept} for row in own]}
    return found


def _plainly(run: Run) -> dict[str, Any]:
    return {"run": run.id, **run.outcome}


def _compute(run: Run) -> dict[str, Any]:
    """Return what the model takes to compute: for each token, by its shape; and for its training, where it had one."""
    about = read_json(run.file("model.json"))
    spec, vocabulary = Architecture.from_json(about["spec"]), int(about["vocabulary"])
    trained = {key: run.result[key] for key in ("tokens", "flops", "epochs") if key in run.result}
    per_token = spec.flops_per_token(vocabulary)
    return {"run": run.id, "parameters": spec.parameters(vocabulary), "flops_per_token": per_token, **trained}


def _pronouns(runs: list[Run]) -> dict[str, Any]:
    """Return how answers to the two pronouns differ, over the sentences of all runs."""
    rows = [row for run in runs for row in lines(run)]
    most = sorted(rows, key=lambda row: -abs(row["he"] - row["she"]))[:SHOWN]
    return {
        "runs": [run.id for run in runs],
        "n": len(rows),
        "left_out": sum(run.result["left_out"] for run in runs),
        **(compared(rows) if rows else {}),
        "most": [{key: row[key] for key in ("question", "he", "she")} for row in most],
    }


def _truth(run: Run) -> dict[str, Any]:
    """Return how often the true answer was the likeliest: of all questions, of each category, of some together."""
    rows = lines(run)
    groups = sorted({row["group"] for row in rows})
    return {
        "run": run.id,
        "all": _right(rows),
        "advice": _right([row for row in rows if row["group"] in ADVICE]),
        "groups": {group: _right([row for row in rows if row["group"] == group]) for group in groups},
        "left_out": run.result["too_long"],
    }


def _right(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how often questions were answered rightly, and how often by chance; None for no questions."""
    if not rows:
        return None
    chance = float(np.mean([len(row["right"]) / len(row["log_probabilities"]) for row in rows]))
    return {**share(sum(row["accuracy"] == 1 for row in rows), len(rows)).to_json(), "chance": chance}


def _languages(run: Run, sides: tuple[str, ...]) -> dict[str, Any]:
    """Return bits a byte of each language, and by how many bits a text costs more than in the first one, paired by
    text."""
    read = ByDocument.of(run)
    bits = read.nats.reshape(-1, len(sides)) / np.log(2)
    sizes = read.bytes.reshape(-1, len(sides))
    rows = [
        {
            "language": side,
            "bits_per_byte": ratio(bits[:, n], sizes[:, n]).to_json(),
            "bits_per_text": mean(bits[:, n]).to_json(),
            "more": mean(bits[:, n] - bits[:, 0]).to_json() if n else None,
        }
        for n, side in enumerate(sides)
    ]
    return {"run": run.id, "texts": len(bits), "languages": rows}


def lines(run: Run) -> list[dict[str, Any]]:
    """Return what a run kept of each item."""
    return items_of(run)


def training_cost(study: Risks, done: Mapping[Recipe, Run]) -> dict[str, float]:
    """Return how long the training took, and where watts are given what they come to over that time."""
    run = done[study.of]
    if "flops" not in run.result:
        return {}
    seconds = run.result["timing"]["seconds"]
    if not study.watts:
        return {"seconds": seconds}
    energy = seconds * study.watts / 3.6e6
    return {
        "seconds": seconds,
        "estimated_kwh": energy,
        "estimated_price": energy * study.price,
        "estimated_grams_of_co2": energy * study.carbon,
    }
