"""Findings in words, generated from the numbers. A difference whose interval contains zero is said to be undecided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Heads
from etude.evals.statistics import Estimate
from etude.report.blocks import Finding, Text, Value, text
from etude.studies.sections.cards import measured
from etude.studies.sections.numbers import comparisons, compression, versus

if TYPE_CHECKING:
    from etude.compress.recipes import Compress
    from etude.studies.progress_report import ProgressReport

KEPT = 0.9
"""The share of what a component does, beyond its mean, that counts as keeping it."""


def findings(study: ProgressReport, done: Mapping[Recipe, Run]) -> list[Finding]:
    """Return what the study found, each with how firmly it stands."""
    found = [_compared(study, row, done) for row in comparisons(study, done)]
    found += [_squeezed(study, name, model, done) for name, model in study.compressed(done).items()]
    found.append(_methods(study, done))
    found += [_induction(study, name, done) for name in study.compressed(done)]
    return [*found, *_foretold(study, done)]


def plain(words: Text) -> str:
    """Return a text without its links, for data and for terminals."""
    return "".join(_plain(part) for part in words.parts)


def _plain(part: Any) -> str:
    if isinstance(part, Value):
        return f"{part.shown}{part.measure}" + (f" {part.interval}" if part.interval else "")
    return part if isinstance(part, str) else part.text


def _compared(study: ProgressReport, row: dict[str, Any], done: Mapping[Recipe, Run]) -> Finding:
    """A model against another, or against a baseline."""
    models = study.models(done)
    runs = tuple(done[models[n]].id if n in models else done[study.baselines].id for n in (row["of"], row["against"]))
    one, other = called(row["of"]), called(row["against"])
    size = Value(
        abs(row["mean"]),
        *sorted((abs(row["low"]), abs(row["high"]))) if row["low"] * row["high"] > 0 else (row["low"], row["high"]),
        run=runs,
        unit="nats per token",
    )
    if row["low"] <= 0 <= row["high"]:
        difference = Value(row["mean"], row["low"], row["high"], run=runs, unit="nats per token")
        words = text(f"{capital(one)} and {other} cannot be told apart: their losses differ by ", difference, ".")
        return Finding(words, "uncertain")
    verb = "predicts better than" if row["mean"] < 0 else "predicts worse than"
    return Finding(text(f"{capital(one)} {verb} {other}, by ", size, "."), "clear")


def called(name: str) -> str:
    """Return how prose calls a model or baseline."""
    return {
        "attention-only": "the attention-only model",
        "with feed-forward": "the model with feed-forward layers",
        "one layer": "the one-layer attention-only model",
    }.get(name, f"the {name} baseline")


def capital(words: str) -> str:
    """Return words with the first letter large."""
    return words[0].upper() + words[1:]


def kept_at(
    study: ProgressReport, name: str, model: Any, site: str, method: str, done: Mapping[Recipe, Run]
) -> tuple[dict[str, Any] | None, bool]:
    """Return the row of the smallest code that keeps `KEPT` of what a component does beyond its mean.

    What it does is the rise in loss when its mean stands in its place. Where the interval of that rise contains zero
    the share has no meaning, and None is returned.

    Returns:
        The row, and whether its interval too lies within the limit.
    """
    rows = [r for r in compression(study, name, model, done) if r["component"] == site]
    floor = next(r for r in rows if r["method"] == "mean")["increase"]
    if floor["low"] <= 0:
        return None, False
    limit = (1 - KEPT) * floor["mean"]
    within = [r for r in rows if r["method"] == method and r["increase"]["mean"] <= limit]
    best = min(within, key=lambda r: r["size"], default=None)
    return best, best is not None and best["increase"]["high"] <= limit


def _squeezed(study: ProgressReport, name: str, model: Any, done: Mapping[Recipe, Run]) -> Finding:
    """Which component of a model takes the fewest numbers."""
    width = model.model.width
    kept = {site: kept_at(study, name, model, site, "infovae", done) for site in study.sites(model)}
    reached = {site: (row, firm) for site, (row, firm) in kept.items() if row is not None}
    rows = compression(study, name, model, done)
    floors = [r for r in rows if r["method"] == "mean"]
    if all(r["increase"]["low"] <= 0 for r in floors):
        runs = tuple(r["run"] for r in floors)
        most = Value(max(r["increase"]["mean"] for r in floors), run=runs, unit="nats per token")
        words = f"In {called(name)} no component is seen to do anything beyond its mean: in its place, the mean"
        return Finding(text(words, " raises the loss by at most ", most, ", and no interval is above zero."), "none")
    if not reached:
        least = min((r for r in rows if r["method"] == "infovae"), key=lambda r: r["increase"]["mean"])
        words = text(
            f"In {called(name)} no component keeps nine tenths of what it does at any size that was tried; the InfoVAE"
            f" that harms least, of {least['size']} at {least['component']}, changes the loss by ",
            changed(least["increase"], least["run"]),
            ".",
        )
        return Finding(words, "none")
    site, (row, firm) = min(reached.items(), key=lambda item: (item[1][0]["size"], item[1][0]["increase"]["mean"]))
    every = max(r["size"] for r, _ in reached.values())
    rest = (
        f" All {len(kept)} components do so with {every} or fewer."
        if len(reached) == len(kept)
        else f" {len(reached)} of its {len(kept)} components do so at some size that was tried."
    )
    words = text(
        f"In {called(name)}, {site} keeps nine tenths of what it does with an InfoVAE of "
        f"{_count(row['size'], 'number')} in place of {width}: the loss changes by ",
        changed(row["increase"], row["run"]),
        f".{rest}",
    )
    return Finding(words, "clear" if firm else "uncertain")


def changed(estimate: dict[str, Any], run: str, sign: int = 1) -> Value:
    """Return a change in loss with its sign, in nats per token; `sign` -1 turns a gain into a change of the loss."""
    low, high = sorted((sign * estimate["low"], sign * estimate["high"]))
    return Value(sign * estimate["mean"], low, high, run=run, unit="nats per token")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def pairs_of_methods(
    study: ProgressReport, done: Mapping[Recipe, Run], one: str, other: str
) -> list[tuple[Compress, Compress, Estimate]]:
    """Return two methods' compressions of the same component and size, with their difference in loss."""
    found = []
    for model in study.compressed(done).values():
        by = {(c.site, c.method.name, c.method.size): c for c in study.compressions(model)}
        for (site, method, size), a in by.items():
            b = by.get((site, other, size))
            if method == one and b is not None:
                found.append((a, b, versus(done, a, b)))
    return found


def _methods(study: ProgressReport, done: Mapping[Recipe, Run]) -> Finding:
    """The InfoVAE against principal components at the same size."""
    pairs = pairs_of_methods(study, done, "infovae", "pca")
    better = sum(e.high < 0 for *_, e in pairs)
    worse = sum(e.low > 0 for *_, e in pairs)
    open_ = len(pairs) - better - worse
    runs = tuple(done[c].id for a, b, _ in pairs for c in (a, b))
    words = text(
        "At the same number of dimensions the InfoVAE harms less than principal components in ",
        Value(better, run=runs[:1], label="components and sizes"),
        f" of {len(pairs)} comparisons, more in {worse}, and in {open_} the two cannot be told apart (95% intervals,"
        " each comparison by itself). It also holds more parameters.",
    )
    one_sided = len(pairs) and max(better, worse) >= 0.8 * len(pairs)
    return Finding(words, "clear" if one_sided else "uncertain")


def strongest(result: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the head with the highest score of a kind."""
    return max(result["heads"], key=lambda head: head[kind]["mean"])


def _induction(study: ProgressReport, name: str, done: Mapping[Recipe, Run]) -> Finding:
    """The strongest induction head against the one-layer control and against even attention."""
    models = study.models(done)
    ours, control = done[Heads(models[name])], done[Heads(models["one layer"])]
    head, other = strongest(ours.result, "induction"), strongest(control.result, "induction")
    score, baseline, chance = head["induction"], other["induction"], ours.result["chance"]
    gain, control_gain = ours.result["gain"], control.result["gain"]
    words = text(
        f"In {called(name)} the head {head['head']} gives ",
        measured(score, ours),
        " of its attention to the token after the last occurrence of the present one; the strongest of the one-layer"
        " control gives ",
        measured(baseline, control),
        ", even attention ",
        Value(chance, run=ours.id),
        ". Where random tokens repeat, its loss changes by ",
        changed(gain, ours.id, sign=-1),
        " (control: ",
        changed(control_gain, control.id, sign=-1),
        "). ",
        _verdict(score, baseline, chance, gain, control_gain),
    )
    return Finding(words, _strength(score, baseline, chance, gain, control_gain))


def _strength(score: Any, baseline: Any, chance: float, gain: Any, control_gain: Any) -> str:
    attends = score["low"] > max(baseline["high"], 3 * chance)
    uses = gain["low"] > max(control_gain["high"], 0.0)
    return "clear" if attends and uses else "uncertain" if attends or uses else "none"


def _verdict(score: Any, baseline: Any, chance: float, gain: Any, control_gain: Any) -> str:
    return {
        "clear": "It has learned induction.",
        "uncertain": "Attention and loss do not both exceed the control's: induction is not established.",
        "none": "There is no sign of induction.",
    }[_strength(score, baseline, chance, gain, control_gain)]


def _foretold(study: ProgressReport, done: Mapping[Recipe, Run]) -> list[Finding]:
    """How much of the latents is the present token alone."""
    shares, runs = [], []
    for model in study.compressed(done).values():
        for recipe in study.latents(model):
            runs.append(done[recipe].id)
            told = [latent["foretold_by"]["token"] for latent in done[recipe].result["latents"]]
            shares += [share for share in told if share is not None]
    if not shares:
        return []
    mostly = sum(share > 0.5 for share in shares)
    words = text(
        "Of the latents of the InfoVAEs of size ",
        Value(study.shown),
        ", ",
        Value(mostly, run=tuple(runs)),
        f" of {len(shares)} are mostly the present token: it alone foretells more than half of their variance on"
        " windows that it was not learned from.",
    )
    return [Finding(words, "clear" if mostly in (0, len(shares)) or mostly >= 0.8 * len(shares) else "uncertain")]
