"""The numbers of the ladder from attention to BERT and GPT, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Score
from etude.evals.statistics import Estimate, paired

if TYPE_CHECKING:
    from etude.studies.build_up import BuildUp


def numbers(study: BuildUp, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the parity, each rung's scores beside what it has to beat, the comparisons and the findings."""
    from etude.studies.sections.findings import plain
    from etude.studies.sections.ladder_findings import findings

    return {
        "parity": done[study.parity].result["rungs"],
        "rungs": {name: rung(study, name, done) for name in study.models},
        "comparisons": comparisons(study, done),
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done)],
    }


def rung(study: BuildUp, name: str, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the figures of one rung on the test split."""
    model = study.models[name]
    trained = done[model]
    layer, head, _ = chosen_head(study, name, done)
    return {
        "run": trained.id,
        "parameters": trained.result["parameters"],
        "steps": trained.result["steps"],
        "test": scores(done[Score(model)]),
        "untrained": scores(done[study.untrained(name)]),
        "floor": done[study.floor(name)].result["baselines"],
        "head": f"L{layer}H{head}",
    }


def scores(run: Run) -> dict[str, Any]:
    """Return loss and accuracy of a run of scores."""
    return {key: run.result[key] for key in ("loss", "accuracy", "samples")}


def to_beat(study: BuildUp, name: str) -> tuple[str, ...]:
    """Return the baselines that a rung is held against."""
    return ("unigram", "bigram") if name in study.of_language() else ("majority",)


def measure(study: BuildUp, name: str) -> str:
    """Return what a rung is compared by: classes by the share that is right, tokens by the loss."""
    return "loss" if name in study.of_language() else "accuracy"


def comparisons(study: BuildUp, done: Mapping[Recipe, Run]) -> list[dict[str, Any]]:
    """Return differences on the same samples of the test split: in accuracy for classifiers, in nats per token for
    language models. Each rung is compared with its untrained self and its baselines, and a classifier of reviews with
    the rung before it."""
    rows = []
    for name in study.models:
        test, floor = done[Score(study.models[name])], done[study.floor(name)]
        own, what = _sums(test, "scores"), measure(study, name)
        others = {"its untrained self": (done[study.untrained(name)], "scores")}
        others |= {baseline: (floor, baseline) for baseline in to_beat(study, name)}
        if name in study.of_reviews()[1:]:
            before = study.of_reviews()[study.of_reviews().index(name) - 1]
            others[before] = (done[Score(study.models[before])], "scores")
        for other, (run, file) in others.items():
            rows.append(
                {
                    "of": name,
                    "against": other,
                    "measure": what,
                    **_apart(own, _sums(run, file), what).to_json(),
                    "runs": [test.id, run.id],
                }
            )
    return rows


def _sums(run: Run, file: str) -> dict[str, np.ndarray]:
    return run.tensors(f"{file}.safetensors")


def _apart(own: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], what: str) -> Estimate:
    column = {"accuracy": "right", "loss": "loss"}[what]
    return paired(own[column], other[column], own["count"])


def chosen_head(study: BuildUp, name: str, done: Mapping[Recipe, Run]) -> tuple[int, int, float]:
    """Return layer and number of the head whose attention is farthest from even on the sample, and how far: the share
    of its attention that would have to move."""
    patterns = done[study.patterns(name)].tensors("patterns.safetensors")["patterns"]
    far = from_even(patterns, causal=name == "GPT")
    layer, head = np.unravel_index(int(far.argmax()), far.shape)
    return int(layer), int(head), float(far.max())


def from_even(patterns: np.ndarray, causal: bool) -> np.ndarray:
    """Return how far each head's attention is from even, on average over positions: 0 even, near 1 all on one.

    Args:
        patterns: [L, H, T, T].
        causal: whether a position sees itself and those before it alone.
    """
    length = patterns.shape[-1]
    even = np.tril(np.ones((length, length))) if causal else np.ones((length, length))
    even /= even.sum(-1, keepdims=True)
    return 0.5 * np.abs(patterns - even).sum(-1).mean(-1)
