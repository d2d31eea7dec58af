"""What the probes of the risk ledger found, in words with numbers that name their runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from etude.evals.statistics import Estimate
from etude.report.blocks import Finding, Text, Value, text
from etude.studies.sections.cards import measured

Probes = Mapping[str, Any]
Row = Mapping[str, Any]


def terms(probes: Probes) -> Iterator[tuple[str, Row]]:
    """Yield every group with the kind that it is of."""
    for kind, rows in probes["group-terms"]["kinds"].items():
        yield from ((kind, row) for row in rows)


def _apart(probes: Probes, what: str, means: Callable[[float], str], unit: str) -> Text | None:
    """Say for how many groups a difference from the others was found, and the clearest of them."""
    run = probes["group-terms"]["run"]
    rows = [(row["term"], row[what]) for _, row in terms(probes) if row[what] is not None]
    if not rows:
        return None
    clear = [(term, said) for term, said in rows if Estimate.from_json(said).excludes_zero]
    begun = ("of ", Value(len(rows), run=run), " groups stand apart from the others of their kind")
    by_chance = f" (chance alone would bring about {len(rows) / 20:.0f})"
    if not clear:
        return text("None ", *begun, by_chance)
    term, said = max(clear, key=lambda each: abs(each[1]["mean"]))
    parts = (Value(len(clear), run=run), " ", *begun, by_chance, "; most of all ", f"“{term}”, ")
    return text(*parts, f"behind which {means(said['mean'])}: ", measured(said, run, unit=unit))


def _leaning(probes: Probes) -> Text | None:
    def means(value: float) -> str:
        return f"unfavourable words are {'less likely' if value > 0 else 'likelier'}"

    return _apart(probes, "leaning", means, "bits")


def _cost(probes: Probes) -> Text | None:
    return _apart(probes, "cost", lambda value: f"the same words cost {'more' if value > 0 else 'less'}", "bits a byte")


def _pronouns(probes: Probes, name: str) -> Text | None:
    held = probes.get(name)
    if not held or not held["n"]:
        return None
    runs = tuple(held["runs"])
    changed, difference = held["changed"], held["difference"]
    return text(
        _several(_percent(changed), runs, unit="%", digits=1),
        " of ",
        Value(held["n"], run=runs),
        " answers change with the pronoun; the right answer's share with he, less that with she, is ",
        _several(difference, runs),
    )


def _several(said: Row, runs: tuple[str, ...], **more: Any) -> Value:
    return Value(said["mean"], said["low"], said["high"], run=runs, **more)


def _percent(said: Row) -> dict[str, float]:
    return {name: 100 * said[name] for name in ("mean", "low", "high")}


def _exposure(probes: Probes) -> Text | None:
    held = probes.get("exposure")
    if held is None:
        return None
    run = held["run"]
    controls, *planted = held["groups"]
    parts: list[str | Value] = ["Secrets that were never planted have an exposure of "]
    parts.append(measured(controls["exposure"], run, unit="bits", digits=1))
    for group in dict.fromkeys((0, len(planted) - 1)):
        parts += [f", those planted {times(planted[group]['repeats'])} "]
        parts.append(measured(planted[group]["exposure"], run, digits=1))
    parts += ["; ", Value(held["expected"], run=run, digits=1), " is expected of one that is not known, and "]
    return text(*parts, Value(held["most"], run=run, digits=1), " is the most that can be seen")


def times(repeats: int) -> str:
    """Return how often, in words."""
    return {0: "never", 1: "once", 2: "twice"}.get(repeats, f"{repeats} times")


def _extracted(probes: Probes) -> Text | None:
    held = probes.get("exposure")
    if held is None:
        return None
    planted = [row for row in held["canaries"] if row["repeats"]]
    out = sum(row["extracted"] for row in planted)
    return text(
        Value(out, run=held["run"]), " of ", Value(len(planted), run=held["run"]), " planted secrets are recited"
    )


def _truth(probes: Probes, part: str) -> Text | None:
    held = probes.get("truthfulqa")
    if held is None or held[part] is None:
        return None
    said = held[part]
    return text(
        "The true answer is the likeliest in ",
        measured(_percent(said), held["run"], unit="%", digits=1),
        " of ",
        Value(said["n"], run=held["run"]),
        " questions, by chance in ",
        Value(100 * said["chance"], run=held["run"], unit="%", digits=1),
    )


def _languages(probes: Probes) -> Text | None:
    held = probes.get("languages")
    if held is None:
        return None
    first, *rest = held["languages"]
    parts: list[str | Value] = [f"{first['language']} ", measured(first["bits_per_byte"], held["run"]), " bits a byte"]
    for row in rest:
        parts += [f", {row['language']} ", measured(row["bits_per_byte"], held["run"]), "; the same text costs "]
        parts += [measured(row["more"], held["run"], unit="bits", digits=1), f" more in {row['language']}"]
    return text(*parts)


def _groups(probes: Probes) -> Text | None:
    held = probes.get("groups")
    if held is None:
        return None
    rows = sorted(held["groups"].items(), key=lambda each: each[1]["mean"])
    parts: list[str | Value] = []
    for name, said in (rows[0], rows[-1]) if len(rows) > 1 else rows:
        parts += [f", {name} " if parts else f"{name} ", measured(said, held["run"]), " bits a byte"]
    return text(*parts)


def _toxicity(probes: Probes) -> Text | None:
    held = probes.get("toxicity")
    if held is None:
        return None
    parts: list[str | Value] = []
    for row in held["conditions"]:
        parts += [
            "; " if parts else "",
            "What it writes has a mean toxicity of " if not parts else "",
        ]
        parts += [measured(row["toxicity"], held["run"]), f" ({row['condition']})"]
    return text(*parts, ", by a judge's score from 0 to 1")


def _compute(probes: Probes) -> Text:
    held = probes["compute"]
    parts: list[str | Value] = [Value(float(held["flops_per_token"]), run=held["run"], digits=0)]
    parts += [" FLOPs for every token that is read or written, counted from the model's shape with its context full"]
    if "flops" in held:
        parts += ["; ", Value(float(held["flops"]), run=held["run"], digits=2), " to train it"]
    return text(*parts)


FIGURES: dict[str, Callable[[Probes], Text | None]] = {
    "leaning": _leaning,
    "cost": _cost,
    "pronouns": lambda probes: _pronouns(probes, "pronouns"),
    "winogender": lambda probes: _pronouns(probes, "winogender"),
    "toxicity": _toxicity,
    "languages": _languages,
    "groups": _groups,
    "exposure": _exposure,
    "extracted": _extracted,
    "truth": lambda probes: _truth(probes, "all"),
    "advice": lambda probes: _truth(probes, "advice"),
    "compute": _compute,
}
"""Each figure of the ledger in words, or None where it was not measured."""


def findings(found: Mapping[str, Any]) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    counts, probes = found["counts"], found["probes"]
    said = (
        f"Of 21 risks {_are(counts['measured'])} measured in some part, {_are(counts['not measured'])} not measured,"
        f" and {counts['not measurable here']} cannot be measured here. No figure says that a risk is absent."
    )
    every = [Finding(text(said), "clear")]
    for name, strength in (("exposure", _known), ("pronouns", _moves), ("winogender", _moves), ("truth", _beyond)):
        words = FIGURES[name](probes)
        if words is not None:
            every.append(Finding(text(*words.parts, "."), strength(probes, name)))
    return every


def _are(count: int) -> str:
    return f"{count or 'none'} {'are' if count > 1 else 'is'}"


def _known(probes: Probes, name: str) -> str:
    """Return how firmly it stands that the secrets planted most often are known better than the controls."""
    most, controls = (Estimate.from_json(probes["exposure"]["groups"][n]["exposure"]) for n in (-1, 0))
    return "clear" if most.above(controls.high) else "uncertain"


def _moves(probes: Probes, name: str) -> str:
    return "clear" if Estimate.from_json(probes[name]["difference"]).excludes_zero else "uncertain"


def _beyond(probes: Probes, name: str) -> str:
    said = probes["truthfulqa"]["all"]
    held = Estimate.from_json(said)
    return "clear" if held.above(said["chance"]) or held.below(said["chance"]) else "uncertain"
