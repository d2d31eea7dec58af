"""The numbers and the page of the compression map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.report.blocks import Block, Details, Findings, Report, RunRef, Section, Table, Value, text
from etude.report.charts import Axis, Rule, lines
from etude.studies.compress_map import FOLLOWED
from etude.studies.sections.cards import cards
from etude.studies.sections.findings import plain
from etude.studies.sections.map_allocation import Allocation, allocations
from etude.studies.sections.map_findings import Points, explained, findings
from etude.studies.sections.map_numbers import (
    STEADY,
    Point,
    floor,
    points,
    row,
    share_kept,
    smallest_that_keeps,
    survives,
)
from etude.studies.sections.map_regimes import regime_rows, regime_section
from etude.studies.sections.numbers import KEPT
from etude.studies.sections.trained_on import trained_on

if TYPE_CHECKING:
    from etude.studies.compress_map import CompressMap

GROUPS = {
    "linear": "linear",
    "bottleneck": "bottlenecks",
    "discrete": "discrete codes",
    "sparse": "sparse codes",
    "experts": "experts",
    "pruning": "pruning",
}


def numbers(study: CompressMap, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return every point, the allocations, the checkpoints and the findings."""
    found, spent = points(study, done), allocations(study, done)
    said = findings(study, done, found, spent)
    return {
        "model": done[study.of].id,
        "points": [row(p, floor(mine)) for mine in found.values() for p in mine],
        "allocations": [_spent(a, done) for a in spent],
        "regimes": regime_rows(study, done),
        "checkpoints": _followed(study, done),
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in said],
    }


def page(study: CompressMap, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    found, spent = points(study, done), allocations(study, done)
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    sections = [_floors(found), _kept(found), *(_component(site, mine) for site, mine in found.items())]
    sections += [_parts(found), _allocated(spent, done), *regime_section(study, done)]
    sections += [*_learned(study, done), _method(study, done)]
    return Report(
        title="How far the components compress",
        question="How far does each component of a model compress, by each method, and where should bits be spent?",
        abstract=(Findings(tuple(findings(study, done, found, spent))),),
        sections=tuple(sections),
        runs=cards(behind.values()),
    )


def _rise(p: Point) -> Value:
    rise = p.estimate()
    return Value(rise.mean, rise.low, rise.high, run=p.ids, digits=4)


def _floors(found: Points) -> Section:
    names = list(dict.fromkeys(p.method.name for mine in found.values() for p in mine if p.method.group == "floor"))
    alone = [
        name
        for name in names
        if not any(p.method.size for mine in found.values() for p in mine if p.method.name == name)
    ]
    cells = []
    for site, mine in found.items():
        here = [floor(mine, name) for name in alone]
        cells.append((str(site), *(None if p is None else _rise(p) for p in here)))
    table = Table(
        ("component", *alone),
        tuple(cells),
        "Rise of the loss (nats per token) with each floor in the component's place. What a component does is measured"
        " against its mean. 95% intervals over windows, and over seeds where the floor draws.",
    )
    return Section("What the components do", (table,))


def _kept(found: Points) -> Section:
    groups = {
        key: told for key, told in GROUPS.items() if any(p.method.group == key for m in found.values() for p in m)
    }
    cells = []
    for site, mine in found.items():
        mean = floor(mine)
        if mean is None:
            continue
        marks = [smallest_that_keeps([p for p in mine if p.method.group == group], mean) for group in groups]
        cells.append((str(site), _rise(mean), *(_mark(p, firm) for p, firm in marks)))
    table = Table(
        ("component", "rise with its mean", *groups.values()),
        tuple(cells),
        f"Fewest bits a token that keep {KEPT:.0%} of what the component does beyond its mean, in each kind of method,"
        " with the method and its size. A dash: none that was tried does, or the rise is not known well enough to"
        f" divide by (its interval has to stay above {STEADY:.0%} of it). With ~, the interval reaches past the limit."
        " The best of several is taken, so the winner is flattered a little.",
    )
    return Section("Fewest bits", (table,))


def _mark(p: Point | None, firm: bool) -> Any:
    if p is None:
        return None
    told = Value(p.cost["bits"], run=p.ids, digits=1, label=f"{p.label} of {p.method.size}")
    return text("" if firm else "~ ", told, f" ({p.label} {p.method.size})")


def _component(site: Site, mine: list[Point]) -> Section:
    coded = [p for p in mine if p.cost["bits"] and p.method.size]
    groups = [g for g in GROUPS if any(p.method.group == g for p in coded)]
    best = [
        {**_dot(p), "kind": GROUPS[g]} for g in groups for p in _frontier([p for p in coded if p.method.group == g])
    ]
    floors = [Rule(name, p.estimate().mean, p.ids[0]) for name in ("mean", "zero") if (p := floor(mine, name))]
    bits, rise = Axis("bits", "bits a token", log=True), Axis("rise", "rise in validation loss (nats per token)")
    common: dict[str, Any] = {"low": "low", "high": "high", "run": "run"}
    blocks: list[Block] = []
    if best:
        blocks.append(
            lines(
                best,
                bits,
                rise,
                colour="kind",
                colour_title="best of each kind",
                rules=floors,
                caption=f"{site}: rate and distortion. Of each kind of method only what no other of the kind beats in"
                " both. 95% intervals over windows and seeds.",
                **common,
            )
        )
    each = [{**_dot(p), "kind": p.label} for p in coded]
    if each:
        every = lines(
            each,
            bits,
            rise,
            colour="kind",
            colour_title="method",
            rules=floors,
            caption=f"{site}: every method.",
            **common,
        )
        blocks.append(Details(f"Every method at {site}", (every,)))
    stored = [p for p in mine if p.method.target == "weight" and p.method.size]
    if stored:
        blocks.append(Details(f"Weights of {site}, by what they take to store", (_stored(site, stored, floors),)))
    blocks.append(Details(f"All compressions of {site}", (_table(mine),)))
    return Section(str(site), tuple(blocks))


def _stored(site: Site, mine: list[Point], floors: list[Rule]) -> Block:
    """Return the chart of methods that compress the weight that writes a component's output."""
    rows = [{**_dot(p), "size": p.cost["storage"] / 8192, "kind": p.label} for p in mine]
    return lines(
        rows,
        Axis("size", "storage of the weight (KiB)", log=True),
        Axis("rise", "rise in validation loss (nats per token)"),
        colour="kind",
        colour_title="method",
        low="low",
        high="high",
        rules=floors,
        run="run",
        caption=f"{site}: the weight that writes it, in fewer numbers or fewer bits. As it is it takes"
        f" {mine[0].saved * 4 / 1024:.0f} KiB. 95% intervals over windows and seeds.",
    )


def _dot(p: Point) -> dict[str, Any]:
    rise = p.estimate()
    return {"bits": p.cost["bits"], "rise": rise.mean, "low": rise.low, "high": rise.high, "run": p.ids[0]}


def _frontier(mine: list[Point]) -> list[Point]:
    kept: list[Point] = []
    for p in sorted(mine, key=lambda p: (p.cost["bits"], p.estimate().mean)):
        if not kept or p.estimate().mean < kept[-1].estimate().mean:
            kept.append(p)
    return kept


def _table(mine: list[Point]) -> Table:
    mean = floor(mine)
    cells = tuple(
        (
            RunRef(p.ids[0], p.label),
            p.method.size or None,
            len(p.ids),
            _round(p.cost["dimensions"], 1),
            _round(p.cost["bits"], 1),
            p.cost["parameters"],
            p.saved or None,
            round(p.cost["storage"] / 8192, 1),
            round(p.cost["flops"]),
            _rise(p),
            None if mean is None else _round(share_kept(p, mean), 3),
            round(p.kl, 4),
            round(p.accuracy, 3),
            _round(p.explained, 3),
        )
        for p in mine
    )
    denominator = "" if mean is None else f" beyond its mean (which costs {mean.estimate().mean:.4f} nats)"
    return Table(
        ("method", "size", "seeds", "dimensions", "bits a token", "parameters", "saved", "KiB", "FLOPs a token",
         "rise (nats)", "kept", "KL (nats)", "accuracy", "explained"),
        cells,
        "Bits: the measured entropy of a discrete code, the stated precision of numbers. Parameters: that the"
        " compressor holds, in KiB of storage; saved: of the model, which it stands in place of. Kept: the share of"
        f" what the component does{denominator}; a dash where that is not steady. Explained: of the variance about the"
        " mean, or of a weight's squares. Means over seeds.",
    )  # fmt: skip


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _parts(found: Points) -> Section:
    sites = [site for site, mine in found.items() if floor(mine)]
    stands = {site: survives(found[site], mean, "pca") for site in sites if (mean := floor(found[site]))}
    names = list(dict.fromkeys(name for those in stands.values() for name in those))
    cells = []
    for name in names:
        here: list[Any] = [name]
        for site in sites:
            mean, size = floor(found[site]), stands[site].get(name)
            known = mean is not None and name in stands[site]
            told = "none" if size is None else Value(size, run=mean.ids if mean else ())
            here.append(told if known else None)
        cells.append(tuple(here))
    table = Table(
        ("part of the text", *map(str, sites)),
        tuple(cells),
        "The fewest principal components that were tried with which, and with every larger number, less than half of"
        " what the mean costs in that part is lost. The larger the number, the earlier that part breaks as the code"
        " narrows; none: no size that was tried does. A dash: the mean does not harm that part clearly.",
    )
    return Section("Which behaviour breaks first", (table,) if cells else (text("No part is clearly harmed."),))


def _allocated(spent: list[Allocation], done: Mapping[Recipe, Run]) -> Section:
    cells = []
    for a in spent:
        runs = (done[a.recipe].id,) if a.recipe else ()
        loss = a.measured(done)
        cells.append(
            (
                round(a.budget),
                a.way,
                Value(a.bits, digits=1),
                Value(a.predicted, digits=4),
                Value(loss.mean, loss.low, loss.high, run=runs, digits=4) if runs else None,
            )
        )
    where = [_where(a) for a in spent if a.way == "by price"]
    names = list(dict.fromkeys(name for a in spent for name in a.choice))
    return Section(
        "Where to spend bits",
        (
            Table(
                ("budget", "way", "spent", "sum of single rises", "measured together"),
                tuple(cells),
                "Bits a token over all components. Chosen on every other window, judged on those between: the sum of"
                " what each compressor does alone there, and the composed model. 95% intervals over windows.",
            ),
            Table(("budget", *names), tuple(where), "Bits that each component gets, by one price on bits."),
        ),
        intro="Each component has the codes that were tried, and to be left as it is at 32 bits a number. Even: each"
        " has the same share. Greedy: the best bits are bought one after the other. By price: each component chooses at"
        " the same price of a bit (the Lagrangian), and the rest is spent greedily.",
    )


def _where(a: Allocation) -> tuple[Any, ...]:
    return (round(a.budget), *(Value(option.bits, digits=1) for option in a.choice.values()))


def _spent(a: Allocation, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    methods = {name: f"{part.method.name} {part.method.size}".strip() for name, part in a.parts.items()}
    return {
        "budget": a.budget,
        "way": a.way,
        "bits": a.bits,
        "where": {name: option.bits for name, option in a.choice.items()},
        "methods": methods,
        "predicted": a.predicted,
        "measured": a.measured(done).to_json(),
        "run": done[a.recipe].id if a.recipe else None,
    }


def _followed(study: CompressMap, done: Mapping[Recipe, Run]) -> list[dict[str, Any]]:
    """Return, for each checkpoint and component, what its mean costs and what principal components keep."""
    found = []
    for model in study.models():
        for site in study.sites(done):
            mean = done[study.average(model, site)]
            for size in FOLLOWED:
                run = done[study.principal(model, site, size)]
                found.append(
                    {
                        "step": getattr(model, "step", getattr(model, "steps", 0)),
                        "component": str(site),
                        "dimensions": size,
                        "explained": explained(study, done, model, site, size),
                        "rise": run.result["harm"]["increase"],
                        "mean": mean.result["harm"]["increase"],
                        "run": run.id,
                    }
                )
    return found


def _learned(study: CompressMap, done: Mapping[Recipe, Run]) -> list[Section]:
    rows = _followed(study, done)
    if not rows:
        return []
    shown = [r for r in rows if r["explained"] is not None and r["dimensions"] == FOLLOWED[0]]
    lost = [
        {"step": r["step"], "component": r["component"], "run": r["run"], **r["rise"]}
        for r in rows
        if r["dimensions"] == FOLLOWED[0]
    ]
    steps = Axis("step", "training step")
    common: dict[str, Any] = {"colour": "component", "colour_title": "component", "run": "run"}
    return [
        Section(
            "As the model learns",
            (
                lines(
                    shown,
                    steps,
                    Axis("explained", f"share of variance that {FOLLOWED[0]} principal components explain"),
                    caption="At each checkpoint, fitted to that checkpoint's own activations.",
                    **common,
                ),
                lines(
                    lost,
                    steps,
                    Axis("mean", f"rise in loss with {FOLLOWED[0]} principal components (nats per token)"),
                    low="low",
                    high="high",
                    caption="What it costs. 95% intervals over windows.",
                    **common,
                ),
            ),
        )
    ]


def _method(study: CompressMap, done: Mapping[Recipe, Run]) -> Section:
    corpus = study.of.text.corpus.name
    known = trained_on(study.of) or " The model was trained on this text."
    words = text(
        "Model: ",
        RunRef(done[study.of].id, done[study.of].id),
        f". Text: {corpus}.{known} Compressors are fitted to {study.fit_tokens:,} positions of"
        f" the training split and judged on {study.evaluate_tokens:,} of the validation split, the same for all."
        f" Methods that draw have {study.seeds} seeds. Numbers of a code are held in"
        f" {study.precision} bits each, on a grid that reaches over the codes of the training split; those between the"
        " two factors of a weight are not rounded, and counted as 32 bits. They count whether they are needed or not; a"
        " discrete code counts as its entropy, as an ideal coder would send it. What a compressor holds (KiB) stands"
        " beside the bits and is no part of them.",
    )
    return Section("How it was done", (words,))
