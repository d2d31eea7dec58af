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
from etude.studies.sections.numbers import Row, comparisons, versus
from etude.train.recipes import Train

if TYPE_CHECKING:
    from etude.compress.recipes import Compress
    from etude.studies.progress_report import ProgressReport


def findings(study: ProgressReport, done: Mapping[Recipe, Run], rows: Mapping[str, list[Row]]) -> list[Finding]:
    """Return what the study found, each with how firmly it stands; `rows` are the compressions of each model."""
    found = [_compared(study, row, done) for row in comparisons(study, done)]
    found += [_squeezed(name, model, rows[name]) for name, model in study.compressed(done).items()]
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
    difference = Estimate.from_json(row)
    if not difference.excludes_zero:
        words = text(f"{capital(one)} and {other} cannot be told apart: their losses differ by ")
        return Finding(text(*words.parts, changed(difference.to_json(), runs), "."), "uncertain")
    verb = "predicts better than" if difference.mean < 0 else "predicts worse than"
    by = difference.scaled(-1 if difference.mean < 0 else 1)
    return Finding(text(f"{capital(one)} {verb} {other}, by ", changed(by.to_json(), runs), "."), "clear")


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


def kept_at(rows: list[Row], site: str, method: str) -> tuple[Row | None, bool]:
    """Return the row of the smallest code that keeps `KEPT` of what a component does beyond its mean.

    What it does is the rise in loss when its mean stands in its place. Where the interval of that rise contains zero
    the share has no meaning, and None is returned.

    Args:
        rows: of one model's compressions.
        site: the component.
        method: by name.

    Returns:
        The row, and whether its whole interval says so, that of the limit included.
    """
    if not _does_something(rows, site):
        return None, False
    mine = [row for row in rows if (row["component"], row["method"]) == (site, method)]
    best = min((row for row in mine if row["beyond"]["mean"] <= 0), key=lambda row: row["size"], default=None)
    return best, best is not None and best["beyond"]["n"] > 1 and best["beyond"]["high"] <= 0


def floor_of(rows: list[Row], site: str) -> Row:
    """Return the row of a component with its mean in its place."""
    return next(row for row in rows if (row["component"], row["method"]) == (site, "mean"))


def _does_something(rows: list[Row], site: str) -> bool:
    """Return whether a component is seen to do anything beyond its mean."""
    return Estimate.from_json(floor_of(rows, site)["increase"]).above(0)


def _squeezed(name: str, model: Train, rows: list[Row]) -> Finding:
    """Which component of a model takes the fewest numbers."""
    sites = list(dict.fromkeys(row["component"] for row in rows))
    doing = [site for site in sites if _does_something(rows, site)]
    if not doing:
        return _nothing_is_done(name, [floor_of(rows, site) for site in sites])
    kept = {site: kept_at(rows, site, "infovae") for site in doing}
    reached = {site: (row, firm) for site, (row, firm) in kept.items() if row is not None}
    idle = len(sites) - len(doing)
    rest = f" Left out: {_count(idle, 'component')} not seen to do anything beyond the mean." if idle else ""
    if not reached:
        tried = (row for row in rows if row["method"] == "infovae" and row["component"] in doing)
        least = min(tried, key=lambda row: row["increase"]["mean"])
        words = text(
            f"In {called(name)} no component keeps nine tenths of what it does at any size that was tried; the InfoVAE"
            f" that harms least, of {least['size']} at {least['component']}, changes the loss by ",
            changed(least["increase"], least["run"]),
            f".{rest}",
        )
        return Finding(words, "none")
    site, (row, firm) = min(reached.items(), key=lambda item: (item[1][0]["size"], item[1][0]["increase"]["mean"]))
    words = text(
        f"In {called(name)}, {site} keeps nine tenths of what it does with an InfoVAE of "
        f"{_count(row['size'], 'number')} in place of {model.model.width}: the loss changes by ",
        changed(row["increase"], row["run"]),
        f".{_how_many(len(doing), [r for r, _ in reached.values()], idle)}",
        rest,
    )
    return Finding(words, "clear" if firm else "uncertain")


def _how_many(doing: int, reached: list[Row], idle: int) -> str:
    """Say how many of the components that do something keep nine tenths of it."""
    whose = "that do something " if idle else ""
    if len(reached) < doing:
        keep = "keeps" if len(reached) == 1 else "keep"
        return f" {len(reached)} of its {doing} components {whose}{keep} as much at some size that was tried."
    if doing == 1:
        return ""
    most, every = max(row["size"] for row in reached), "Both" if doing == 2 else f"All {doing}"
    return f" {every} components {whose}keep as much with {most} or fewer."


def _nothing_is_done(name: str, floors: list[Row]) -> Finding:
    runs = tuple(row["run"] for row in floors)
    most = Value(max(row["increase"]["mean"] for row in floors), run=runs, unit="nats per token")
    words = f"In {called(name)} no component is seen to do anything beyond its mean: in its place, the mean"
    return Finding(text(words, " raises the loss by at most ", most, ", and no interval is above zero."), "none")


def changed(estimate: dict[str, Any], run: str | tuple[str, ...], sign: int = 1) -> Value:
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
    better = sum(e.below(0) for *_, e in pairs)
    worse = sum(e.above(0) for *_, e in pairs)
    runs = [done[c].id for a, b, _ in pairs for c in (a, b)]

    def count(n: int) -> Value:
        # One link stands for all, since a hundred would say no more: each run has its row in the tables.
        return Value(n, run=runs[0], label=f"counted over {len(runs)} runs, of which this is the first; see the tables")

    words = text(
        "At the same number of dimensions the InfoVAE harms less than principal components in ",
        count(better),
        " of ",
        count(len(pairs)),
        " comparisons, more in ",
        count(worse),
        ", and in ",
        count(len(pairs) - better - worse),
        " the two cannot be told apart (95% intervals, each comparison by itself; see the tables). It also holds more"
        " parameters.",
    )
    one_sided = max(better, worse) >= 0.8 * len(pairs)
    return Finding(words, "clear" if one_sided else "uncertain")


def strongest(result: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the head with the highest score of a kind."""
    return max(result["heads"], key=lambda head: head[kind]["mean"])


def _induction(study: ProgressReport, name: str, done: Mapping[Recipe, Run]) -> Finding:
    """The strongest induction head against the one-layer control and against even attention."""
    models = study.models(done)
    ours, control = done[Heads(models[name])], done[Heads(models["one layer"])]
    head, other = strongest(ours.result, "induction"), strongest(control.result, "induction")
    strength = _strength(ours.result, control.result)
    words = text(
        f"In {called(name)} the head {head['head']} gives ",
        measured(head["induction"], ours),
        " of its attention to the token after the last occurrence of the present one; the strongest of the one-layer"
        " control gives ",
        measured(other["induction"], control),
        ", even attention ",
        Value(ours.result["chance"], run=ours.id),
        ". Where random tokens repeat, its loss changes by ",
        changed(ours.result["gain"], ours.id, sign=-1),
        " (control: ",
        changed(control.result["gain"], control.id, sign=-1),
        f"). {VERDICTS[strength]}",
    )
    return Finding(words, strength)


VERDICTS = {
    "clear": "It has learned induction.",
    "uncertain": "Attention and loss do not both stand well clear of the control and of chance: induction is not"
    " established.",
    "none": "There is no sign of induction.",
}


def _strength(ours: dict[str, Any], control: dict[str, Any]) -> str:
    """Return how firmly induction stands: attention to the right place, and a loss that gains by it.

    A share of three times even attention is asked of a head that does it; any above it and the control is a sign.
    """
    score = Estimate.from_json(strongest(ours, "induction")["induction"])
    other, chance = strongest(control, "induction")["induction"]["high"], ours["chance"]
    uses = Estimate.from_json(ours["gain"]).above(max(control["gain"]["high"], 0.0))
    if uses and score.above(max(other, 3 * chance)):
        return "clear"
    return "uncertain" if uses or score.above(max(other, chance)) else "none"


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
        " of ",
        Value(len(shares), run=tuple(runs)),
        " are mostly the present token: it alone foretells more than half of their variance on"
        " windows that it was not learned from.",
    )
    return [Finding(words, "clear" if mostly in (0, len(shares)) or mostly >= 0.8 * len(shares) else "uncertain")]
