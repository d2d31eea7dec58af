"""The numbers of a library: each model's bits per byte, with and without it, and what they differ by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.by_document import ByDocument, compared
from etude.evals.statistics import Estimate

if TYPE_CHECKING:
    from etude.studies.retrieval import Retrieval


def differences(study: Retrieval, done: Mapping[Recipe, Run]) -> dict[str, tuple[str, str, Estimate]]:
    """Return what is compared, by name: the two scores, and the bits per byte of the first less those of the second,
    paired by document."""
    scores = study.scores
    best = f"k = {study.k}"
    pairs = {
        "on against off": (f"retrieval, {best}", "retrieval, off"),
        "on against plain": (f"retrieval, {best}", "plain"),
        "off against plain": ("retrieval, off", "plain"),
        "fitted out against plain": (f"fitted out, {best}", "plain"),
        "fitted out against from scratch": (f"fitted out, {best}", f"retrieval, {best}"),
    }
    pairs |= {f"on against {name.removeprefix('plain, ')}": (f"retrieval, {best}", name) for name in _larger(study)}
    pairs |= {f"{name} against whole": (name, f"retrieval, {best}") for name in study.ablated}
    found = {}
    for name, (one, other) in pairs.items():
        if one in scores and other in scores:
            sums = (ByDocument.of(done[scores[which]]) for which in (one, other))
            found[name] = (one, other, compared(*sums))
    return found


def _larger(study: Retrieval) -> list[str]:
    return [f"plain, {name}" for name in study.larger]


def flops(study: Retrieval, name: str) -> int:
    """Return the FLOPs of one position's forward pass of what a score is of."""
    score = study.scores[name]
    model, vocabulary = score.of.shape, study.train.data.tokenizer.expected_vocabulary()
    assert model is not None
    read = study.model.retrieval_flops(score.k) if score.k else 0
    return model.flops_per_token(vocabulary, model.context) + read


def matching(study: Retrieval, done: Mapping[Recipe, Run]) -> float | None:
    """Return how many parameters a plain decoder has that comes to the bits per byte of the model with its library, by
    a straight line through the two nearest sizes (bits per byte over the logarithm of parameters); None where no two
    sizes hold it between them."""
    names = ["plain", *_larger(study)]
    points = sorted((int(done[study.scores[n].of].result["parameters"]), _bits(done[study.scores[n]])) for n in names)
    wanted = _bits(done[study.scores[f"retrieval, k = {study.k}"]])
    for (small, worse), (large, better) in pairwise(points):
        if better <= wanted <= worse and small < large and better < worse:
            share = (worse - wanted) / (worse - better)
            return math.exp(math.log(small) + share * math.log(large / small))
    return None


def _bits(run: Run) -> float:
    return float(run.result["bits_per_byte"]["mean"])


def numbers(study: Retrieval, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the study's numbers."""
    near = done[study.neighbours].result
    found: dict[str, Any] = {
        "scores": {
            name: {
                "id": done[score].id,
                "parameters": done[score.of].result["parameters"],
                "flops_per_token": flops(study, name),
                "bits_per_byte": done[score].result["bits_per_byte"],
                **({"answers": _answers(done[study.answers(score)])} if study.asks else {}),
            }
            for name, score in study.scores.items()
        },
        "differences": {
            name: {"of": [one, other], "bits_per_byte": gap.to_json()}
            for name, (one, other, gap) in differences(study, done).items()
        },
        "matching_parameters": matching(study, done),
        "neighbours": {key: near[key] for key in ("splits",) if key in near},
    }
    if study.knn:
        found["knn_lm"] = done[study.remembering].outcome
    return found


def _answers(run: Run) -> dict[str, Any]:
    return {name: run.result[name] for name in ("right", "bits", "entropy", "n")}


def curve(study: Retrieval, done: Mapping[Recipe, Run], kind: str) -> list[dict[str, Any]]:
    """Return bits per byte over k for models trained with retrieval (`retrieval`) or given it later (`fitted out`)."""
    rows = []
    for k in (0, *study.given):
        name = f"{kind}, k = {k}" if k else f"{kind}, off"
        if name in study.scores:
            run = done[study.scores[name]]
            told = run.result["bits_per_byte"]
            rows.append({"k": k, "bits": told["mean"], "low": told["low"], "high": told["high"], "run": run.id})
    return rows
