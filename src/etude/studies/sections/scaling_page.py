"""What a page says of fitted laws, whether the points were trained by a study or came as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Block, Cell, Findings, Prose, Report, Section, Table, Value, text
from etude.report.charts import Axis, Rule, scatter
from etude.scaling.advice import KAPLAN, TWENTY
from etude.scaling.gathered import points_of
from etude.scaling.law import CHINCHILLA, Law, Spending
from etude.scaling.points import Points
from etude.studies.sections.cards import cards
from etude.studies.sections.scaling_findings import findings, value

if TYPE_CHECKING:
    from etude.studies.fit_scaling import FitScaling

APPROACHES = {
    "approach_1": "approach 1 (learning curves)",
    "approach_2": "approach 2 (isoFLOP)",
    "approach_3": "approach 3 (parametric)",
}

SHORT = {"approach_1": "approach 1", "approach_2": "approach 2", "approach_3": "approach 3"}

PAPERS = {
    "Kaplan et al. 2020": "Kaplan 2020",
    "Hoffmann et al. 2022, 20 tokens a parameter": "20 tokens a parameter",
    "Hoffmann et al. 2022, approach 3": "Chinchilla's law",
}

PUBLISHED: dict[str, Callable[[float], float]] = {
    "Kaplan 2020": KAPLAN.params,
    "20 tokens a parameter": TWENTY.params,
    "Chinchilla's law": lambda flops: CHINCHILLA.optimum(flops).params,
}

PARAMS = Axis("params", "parameters", log=True)
LOSS = Axis("loss", "loss (nats per token)")


def page_of_table(study: FitScaling, done: Mapping[Recipe, Run]) -> Report:
    """Return the page of a person's own table."""
    run = done[study.fit]
    return Report(
        title="Scaling laws of a table",
        question="What do these trained models say of the best size and number of tokens for a budget of FLOPs?",
        abstract=(Findings(tuple(findings(run))), *notices(run)),
        sections=(*of_fits(run), method(run)),
        runs=cards([done[study.table], run]),
    )


def of_fits(run: Run) -> list[Section]:
    """Return the sections that any fit has."""
    points, _ = points_of(run)
    return [
        _valleys(run, points),
        _frontier(run, points),
        exponents(run),
        _advice(run),
        *_law(run, points),
        *_held_out(run),
        *_bins(run),
    ]


def sized(number: float, run: Run, told: Mapping[str, Any] | None = None) -> Value:
    """Return a count as a person says it, in thousands, millions or billions, with its interval where it has one."""
    scale, unit = next((pair for pair in _UNITS if number >= pair[0]), _UNITS[-1])
    low, high = (told or {}).get("interval") or (None, None)
    ends = (None, None) if low is None or high is None else (low / scale, high / scale)
    digits = max(0, 2 - math.floor(math.log10(number / scale)))
    return Value(number / scale, *ends, run=run.id, digits=digits, unit=unit)


_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def plainly(number: float) -> str:
    """Return a count in thousands, millions or billions as text."""
    scale, unit = next((pair for pair in _UNITS if number >= pair[0]), _UNITS[-1])
    return f"{number / scale:.3g} {unit}".strip()


def notices(run: Run) -> list[Block]:
    """Return what a reader has to be warned of."""
    warned = run.result["notices"]
    return [Table(("to keep in mind",), tuple((words,) for words in warned))] if warned else []


def _valleys(run: Run, points: Points) -> Section:
    """Loss over size at each budget, with the parabolas."""
    budgets = {int(budget): _flops(points.within(int(budget)).flops) for budget in points.budgets}
    if not budgets:
        words = "No points share a budget of FLOPs with others of different size, so there are no isoFLOP curves."
        return Section("Loss over size, budget by budget", (text(words),))
    rows = [
        {"params": N, "loss": L, "budget": budgets[int(budget)]}
        for N, L, budget in zip(points.params, points.loss, points.budget, strict=True)
        if budget >= 0
    ]
    valleys = run.result["valleys"]
    fitted = list(_parabolas(valleys, budgets, points)) if valleys else []
    chart = scatter(
        rows,
        PARAMS,
        LOSS,
        colour="budget",
        colour_title="FLOPs",
        fitted=fitted,
        caption="Each point is a trained model"
        + (
            "; the curves are parabolas of loss over the logarithm of parameters, one a budget, whose bottoms approach"
            " 2 goes through."
            if fitted
            else "."
        ),
    )
    blocks: list[Block] = [chart]
    if valleys:
        blocks.append(_bottoms(valleys, run))
    return Section("Loss over size, budget by budget", tuple(blocks))


def _flops(flops: np.ndarray) -> str:
    return f"{math.exp(np.log(flops).mean()):.3g}"


def _parabolas(valleys: list[dict[str, Any]], budgets: dict[int, str], points: Points) -> Iterator[dict[str, Any]]:
    for valley, (budget, name) in zip(valleys, budgets.items(), strict=True):
        best = valley["optimum"]
        if best is None:
            continue
        sizes = points.within(budget).params
        for N in np.geomspace(min(sizes.min(), best["params"]), max(sizes.max(), best["params"]), 40):
            loss = best["loss"] + valley["curvature"] / 2 * math.log(N / best["params"]) ** 2
            yield {"params": float(N), "loss": loss, "budget": name}


def _bottoms(valleys: list[dict[str, Any]], run: Run) -> Table:
    head = ("FLOPs", "sizes", "best parameters", "best tokens", "tokens a parameter", "least loss", "remark")
    rows: list[tuple[Cell, ...]] = []
    for valley in valleys:
        best = valley["optimum"]
        remark = valley["left_out"] or (f"at the edge: {valley['edge']} size" if valley["edge"] else "")
        bottom: tuple[Cell, ...] = (None,) * 4
        if best:
            each = Value(best["tokens"] / best["params"], run=run.id, digits=1)
            bottom = (sized(best["params"], run), sized(best["tokens"], run), each, Value(best["loss"], run=run.id))
        rows.append((f"{valley['flops']:.3g}", valley["sizes"], *bottom, remark))
    return Table(head, tuple(rows), caption="The bottom of each parabola.")


def _frontier(run: Run, points: Points) -> Section:
    """The best size over FLOPs: what was measured, the fitted lines, and the published ones."""
    result = run.result
    low, high = float(points.flops.min()), 100 * float(points.flops.max())
    at = np.geomspace(low, high, 30).tolist()
    drawn = [
        {"flops": C, "params": _best(result, name, C), "by": SHORT[name]} for name in SHORT if result[name] for C in at
    ]
    drawn += [{"flops": C, "params": f(C), "by": name} for name, f in PUBLISHED.items() for C in at]
    bottoms = [(valley["flops"], valley["optimum"]) for valley in result["valleys"] if valley["optimum"]]
    rows = [{"flops": C, "params": best["params"], "by": "bottoms of parabolas"} for C, best in bottoms]
    ends = [row for row in drawn if row["flops"] in (at[0], at[-1])]  # so that the plot reaches as far as the lines
    chart = scatter(
        [*rows, *ends],
        _flops_axis(low, high),
        PARAMS,
        colour="by",
        colour_title="",
        fitted=drawn,
        caption="The best number of parameters for a budget, from the least FLOPs of the points to a hundred times"
        " their greatest: beyond the points every line is an extrapolation. The published ones are for other text,"
        " another tokenizer and far larger models; Kaplan et al. count parameters without embeddings.",
    )
    return Section("The best size for a budget", (chart,))


def _flops_axis(low: float, high: float) -> Axis:
    """Return an axis of FLOPs with a mark at each power of ten, or, over less than two, at one, two and five."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) < 2 else (1,)
    marks = (step * 10.0**n for n in powers for step in steps)
    return Axis("flops", "FLOPs of training", log=True, ticks=tuple(m for m in marks if low / 2 <= m <= high * 2))


def _best(result: Mapping[str, Any], name: str, flops: float) -> float:
    """Return the best parameters for a budget by the fit."""
    told = result[name]
    if name != "approach_3":
        return told["k_N"]["estimate"] * flops ** told["a"]["estimate"]
    law = Law(*(told[key]["estimate"] for key in ("E", "A", "B", "alpha", "beta")))
    return law.optimum(flops, Spending(**result["points"]["spending"])).params


def exponents(run: Run, title: str = "The exponents") -> Section:
    """The three approaches side by side with what was published."""
    head = ("by", "a, of parameters", "b, of tokens")
    rows: list[tuple[Cell, ...]] = []
    for name, words in APPROACHES.items():
        told = run.result[name]
        if told:
            rows.append((words, value(told["a"], run), value(told["b"], run)))
    rows.append(("Kaplan et al. 2020, equation 6.7", "0.74", "0.26"))
    rows.append(("Hoffmann et al. 2022, approaches 1, 2 and 3", "0.50, 0.49, 0.46", "0.50, 0.51, 0.54"))
    caption = (
        "How the best parameters and tokens grow with the FLOPs C: N ∝ Cᵃ and D ∝ Cᵇ. The 95% intervals hold what"
        " another seed would change of the losses, and not what another schedule, architecture or text would."
    )
    return Section(title, (Table(head, tuple(rows), caption=caption),))


def _advice(run: Run) -> Section:
    """What each would buy for a budget, in the form of table 3 of Hoffmann et al. 2022."""
    head = ("FLOPs", "by", "parameters", "tokens", "tokens a parameter", "expected loss")
    rows: list[tuple[Cell, ...]] = []
    least, most = run.result["points"]["flops"]
    for row in sorted(run.result["advice"], key=lambda row: row["flops"]):
        if 1.02 * least < row["flops"] < 0.98 * most and row["flops"] not in run.recipe_data["budgets"]:
            continue  # between, the parabolas' own table tells
        first = f"{row['flops']:.3g}" + (", extrapolated" if row["flops"] > 1.02 * most else "")
        for name, words in SHORT.items():
            told = row[name]
            if told:
                params, tokens = told["params"], told["tokens"]
                each = Value(tokens["estimate"] / params["estimate"], run=run.id, digits=1)
                cells = (sized(told["estimate"], run, told) for told in (params, tokens))
                rows.append((first, words, *cells, each, value(told["loss"], run, 2)))
                first = ""
        for told in row["published"]:
            each = told["tokens"] / told["params"]
            rows.append(
                ("", PAPERS[told["source"]], plainly(told["params"]), plainly(told["tokens"]), f"{each:,.1f}", None)
            )
    caption = (
        "Parameters and tokens for the ends of the sweep, for budgets that were asked for, and for ten and a hundred"
        " times the greatest. An approach's intervals are of its own bootstrap: where approaches disagree by more than"
        " these, it is their assumptions that differ."
    )
    return Section("What to train for a budget", (Table(head, tuple(rows), caption=caption),))


def _law(run: Run, points: Points) -> Iterator[Section]:
    """The parametric law, and what it leaves."""
    told, law = run.result["approach_3"], run.result["law"]
    if not told:
        return
    head = ("", "estimate")
    names = {"E": "E, loss of the true distribution (nats a token)", "A": "A", "B": "B", "alpha": "α", "beta": "β"}
    rows = tuple((words, value(told[name], run, _digits(told[name]["estimate"]))) for name, words in names.items())
    left = run.tensors("law.safetensors")["residuals"]
    drawn = [
        {"flops": C, "left": 100 * r, "kind": "outlier" if n in law["outliers"] else "point"}
        for n, (C, r) in enumerate(zip(points.flops, left, strict=True))
    ]
    chart = scatter(
        drawn,
        _flops_axis(float(points.flops.min()), float(points.flops.max())),
        Axis("left", "measured over fitted loss (% above)"),
        colour="kind" if law["outliers"] else "",
        rules=[Rule("the law", 0.0)],
        caption=text(
            "What the law leaves of each point. Its root mean square is ",
            Value(100 * law["residual"], run=run.id, digits=2, unit="%"),
            ". A slope or a bend here says that the law has the wrong form for these points.",
        ),
        height=220,
    )
    caption = (
        f"L(N, D) = E + A / N^α + B / D^β by the Huber loss on log L, the best of {law['starts']:,} starts, of which"
        f" {law['reached']:.0%} end there. A and B move far with α and β and are not to be read by themselves."
    )
    yield Section("The parametric law", (Table(head, rows, caption=caption), chart, *_outliers(run)))


def _digits(number: float) -> int:
    """Return figures after the point for four in all, three of them at most."""
    return max(0, min(3, 3 - math.floor(math.log10(number)))) if number > 0 else 3


def _outliers(run: Run) -> Iterator[Block]:
    told, law = run.result["approach_3"], run.result["law"]
    if not law["outliers"]:
        yield text("No point is an outlier, so that leaving outliers out changes nothing.")
        return
    if not law["without_outliers"]:
        yield text(f"Without the {len(law['outliers'])} outliers too few points are left to fit the law to.")
        return
    rest = law["without_outliers"]
    rows = tuple(
        (name, value(told[name], run), Value(rest[name], run=run.id)) for name in ("E", "alpha", "beta", "a", "b")
    )
    yield Table(("", "all points", f"without {len(law['outliers'])} outliers"), rows)


def _held_out(run: Run) -> Iterator[Section]:
    """How well budgets are predicted by the others."""
    told = run.result["held_out"]
    rows: list[tuple[Cell, ...]] = []
    for name in ("approach_2", "approach_3"):
        for row in told[name]:
            where = "within the others" if row["where"] == "within" else f"{row['where']} the others"
            errors = (row["params_error"], row["loss_error"])
            shown = (Value(100 * error, run=run.id, digits=1) for error in errors)
            rows.append((APPROACHES[name], f"{row['flops']:.3g}", where, *shown))
    if not rows:
        return
    caption = (
        "Each budget predicted by fits to the others, against the bottom of its own parabola (which has an error of its"
        " own). Budgets above the others are what a prediction is for."
    )
    head = ("by", "budget left out (FLOPs)", "lies", "error of the best size (%)", "error of the least loss (%)")
    blocks: list[Block] = [Table(head, tuple(rows), caption=caption)]
    if told["losses"]:
        head = ("budget left out (FLOPs)", "points", "mean distance of log loss (%)", "mean bias (%)")
        rows = [
            (
                f"{row['flops']:.3g}",
                row["points"],
                Value(100 * row["error"], run=run.id, digits=2),
                Value(100 * row["bias"], run=run.id, digits=2),
            )
            for row in told["losses"]
        ]
        words = (
            "All points of a budget predicted by approach 3 from the other budgets; a bias above 0 expects too much."
        )
        blocks.append(Table(head, tuple(rows), caption=words))
    yield Section("One budget left out", tuple(blocks))


def _bins(run: Run) -> Iterator[Section]:
    """How the width of a budget moves approach 2, where budgets were read off FLOPs."""
    if not run.result["bins"]:
        return
    rows = tuple(
        (
            f"{row['width']:g}",
            row["budgets"],
            row["used"],
            *(None if row[k] is None else Value(row[k], run=run.id) for k in "ab"),
        )
        for row in run.result["bins"]
    )
    caption = (
        "The table names no budgets, so points whose FLOPs are near each other were taken for one. How wide a budget"
        " may be is a choice, and moves the exponents of approach 2."
    )
    head = ("greatest over least FLOPs of a budget", "budgets", "with a parabola", "a", "b")
    yield Section("How budgets were read off", (Table(head, rows, caption=caption),))


def method(run: Run, *more: Prose) -> Section:
    """How the fits were made."""
    told, recipe = run.result["points"], run.recipe_data
    spent = f"{told['spending']['k']:.3g} N^{told['spending']['gamma']:.2f} D"
    words = (
        f"{told['points']} trained models of {told['sizes']} sizes"
        + (f" at {told['budgets']} budgets" if told["budgets"] else "")
        + f", from {told['flops'][0]:.3g} to {told['flops'][1]:.3g} FLOPs, which go as {spent}. Intervals are from"
        f" {recipe['draws']:,} bootstrap samples: of trainings"
        " for approaches 1 and 3, of the residuals about the parabolas for approach 2. Approach 1 is fitted to"
        + (" whole learning curves." if told["curves"] else " the last losses of several horizons.")
    )
    return Section("How it was done", (text(words), *(m if isinstance(m, Block) else text(m) for m in more)))
