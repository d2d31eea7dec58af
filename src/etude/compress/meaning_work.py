"""The work of judging whether a code is easier to understand, and whether other seeds find the same code."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from etude.compress.latents_work import Studied, studied
from etude.compress.matching import agreement
from etude.compress.predictors import FACTS, NOTHING, facts_of
from etude.compress.recipes import Compress, Meaning, SeedMatch
from etude.compress.units import Units, passed, units_of
from etude.compress.verdict import AGAINST, UnitSet, compare, holm, unit_sets, verdict
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.evals.loss import chosen_windows
from etude.evals.token_classes import token_classes


def meaning(recipe: Meaning, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Compare how far plain facts foretell the units of a code with how far they foretell what it codes."""
    subject = studied(recipe.of, inputs)
    windows = chosen_windows(subject.examples, recipe.evaluate_tokens)
    seen = passed(subject.model, subject.site, subject.part, subject.examples, windows)
    units = units_of(seen.code, seen.real, recipe.of.method.counts)
    classes = token_classes(subject.tokenizer, subject.model.vocabulary)
    facts = {name: fact[seen.real] for name, fact in facts_of(seen.tokens, classes).items()}
    sets = unit_sets(
        units.values[seen.real],
        seen.values.numpy()[seen.real],
        facts,
        seen.window,
        turned=not units.discrete,
        draws=recipe.draws,
        seed=stream(recipe.seed, "meaning"),
    )
    pairs = {name: compare(sets["units"], sets[name]) for name in sets if name not in ("units", "shuffled")}
    firm = holm(np.array([pairs[name].chance for name in AGAINST]))
    gaps = [pairs[name].difference.mean for name in AGAINST]
    return {
        "sets": {name: each.to_json() for name, each in sets.items()},
        "comparisons": {name: pair.to_json() for name, pair in pairs.items()},
        "verdict": verdict([None if gap != gap else gap for gap in gaps], list(firm)),
        "units": _units(sets["units"], units),
        "windows": len(windows),
        "tokens": int(seen.real.sum()),
    }


def _units(scored: UnitSet, units: Units) -> list[dict[str, Any]]:
    """Return the score of each unit of a code, with its p corrected for their number, where it varies."""
    (one,) = scored.draws
    scores, known = one.scores, np.flatnonzero(np.isfinite(one.scores))
    chances = dict(zip(known.tolist(), holm(one.chances()[known]).tolist(), strict=True))
    names = (*FACTS, NOTHING)
    return [
        {"unit": n, "name": units.names[n], "score": float(scores[n]), "by": names[one.by[n]], "p": chances[n]}
        for n in chances
    ]


def seed_match(recipe: SeedMatch, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Match the codes that different seeds found, on the same held-out text."""
    coded = [_coded(one, inputs, recipe.evaluate_tokens) for one in recipe.fits]
    turned = not any(units.discrete for _, units in coded)
    pairs = []
    for (a, (_, one)), (b, (real, other)) in combinations(enumerate(coded), 2):
        draws = {"draws": recipe.draws, "seed": stream(recipe.seed, "match", a, b)}
        told = agreement(one.values[real], other.values[real], turned=turned, **draws)
        pairs.append({"seeds": [recipe.fits[a].seed, recipe.fits[b].seed], **told})
        run.progress(len(pairs), recipe.seeds * (recipe.seeds - 1) // 2, unit="pairs")
    return {"pairs": pairs, **{name: _spread(pairs, name) for name in ("matched", "overlap", "shuffled", "rotated")}}


def _coded(squeezed: Compress, inputs: Mapping[Recipe, Run], tokens: int) -> tuple[np.ndarray, Units]:
    subject: Studied = studied(squeezed, inputs)
    windows = chosen_windows(subject.examples, tokens)
    seen = passed(subject.model, subject.site, subject.part, subject.examples, windows)
    if not seen.real.any():
        raise UsageError(f"evaluate_tokens = {tokens} leaves no token to match on; raise it")
    return seen.real, units_of(seen.code, seen.real, squeezed.method.counts)


def _spread(pairs: list[dict[str, Any]], name: str) -> dict[str, float] | None:
    """Return the mean over pairs of seeds with the lowest and the highest, which are no interval: pairs share seeds."""
    values = [pair[name] for pair in pairs if pair[name] is not None]
    return {"mean": float(np.mean(values)), "least": min(values), "most": max(values)} if values else None
