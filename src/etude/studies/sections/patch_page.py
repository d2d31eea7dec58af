"""The numbers and the page of a patching study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Block, Code, Finding, Findings, Heatmap, Report, Section, Table, Value, text
from etude.report.charts import Axis, Rule, scatter
from etude.studies.sections.cards import cards
from etude.studies.sections.findings import plain
from etude.studies.sections.look_page import visible

if TYPE_CHECKING:
    from etude.studies.patch import Patch

TOLD = {
    "resid": "The residual stream before each layer, and behind the last, at one position.",
    "attn": "What the attention of each layer writes, at one position.",
    "mlp": "What the feed-forward network of each layer writes, at one position.",
    "head": "What each head found, at all positions.",
}


def numbers(study: Patch, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return the prompts, the strongest cells of each map, and the findings."""
    first = done[study.map("resid")].result
    maps: dict[str, Recipe] = {kind: study.map(kind) for kind in study.kinds(done)}
    maps |= {"head, noising": study.needed, **{f"paths to {name}": study.paths(name) for name in study.receivers}}
    return {
        "prompts": {key: first[key] for key in _OF_PROMPTS},
        "maps": {name: {"run": done[recipe].id, "strongest": strongest(done[recipe])} for name, recipe in maps.items()},
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done)],
    }


_OF_PROMPTS = ("clean", "corrupted", "changed", "right", "wrong", "clean_value", "corrupted_value")

ROUNDING = 1e-4
"""A share of the way that says nothing."""


def strongest(run: Run, count: int = 5) -> list[dict[str, Any]]:
    """Return the cells of a map that change most, either way, with their names."""
    return sorted(_cells(run), key=lambda cell: -abs(cell["recovered"]))[:count]


def furthest(run: Run) -> dict[str, Any] | None:
    """Return the cell that goes furthest of the way; None where none goes any of it, beyond rounding."""
    most = max(_cells(run), key=lambda cell: cell["recovered"])
    return most if most["recovered"] > ROUNDING else None


def _cells(run: Run) -> list[dict[str, Any]]:
    recovered, labels = run.tensors("patches.safetensors")["recovered"], list(run.result["axes"].values())
    return [
        {"cell": [labels[axis][place] for axis, place in enumerate(at)], "recovered": float(recovered[at])}
        for at in np.ndindex(recovered.shape)
    ]


def page(study: Patch, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    notices = {notice for run in behind.values() for notice in run.result.get("notices", ())}
    return Report(
        title="Patching",
        question="Which activations carry what tells the clean prompt from the corrupted one, through which heads, and"
        " to whom?",
        abstract=(
            Findings(tuple(findings(study, done))),
            text("These findings are of one pair of prompts: they hold of it exactly, and say nothing of others."),
            *(text(notice + ".") for notice in sorted(notices)),
        ),
        sections=(
            _prompts(study, done),
            _where(study, done),
            _heads(study, done),
            *((_paths(study, done),) if study.receivers else ()),
        ),
        runs=cards(behind.values()),
    )


def findings(study: Patch, done: Mapping[Recipe, Run]) -> list[Finding]:
    """Return what was found. It is of one pair of prompts: nothing here has an interval."""
    back, away = done[study.map("head")], done[study.needed]
    found = [
        *_answered(back),
        _gone(back, "Of single heads, {} brings the answer back furthest: ", "No single head brings the answer back."),
        _gone(away, "Of single heads, {} takes the answer away furthest: ", "No single head takes the answer away."),
    ]
    for name in study.receivers:
        carries = f"On the direct way to {name}, {{}} carries most: "
        found.append(_gone(done[study.paths(name)], carries, f"No head brings any of it on the direct way to {name}."))
    return found


def _answered(run: Run) -> list[Finding]:
    """Say so where the model does not answer the prompts as patching takes for granted."""
    clean, corrupted = run.result["clean_value"], run.result["corrupted_value"]
    if clean > 0 and clean > corrupted:
        return []
    words = text(
        f"The model does not answer the clean prompt with “{visible(run.result['right'])}” rather than"
        f" “{visible(run.result['wrong'])}”: its logit is higher by ",
        Value(clean, run=run.id),
        ", after the corrupted prompt by ",
        Value(corrupted, run=run.id),
        ". What follows is the way from one to the other, and no right answer.",
    )
    return [Finding(words, "none")]


def _gone(run: Run, words: str, none: str) -> Finding:
    """Say which head of a map goes furthest, and how far."""
    most = furthest(run)
    if most is None:
        return Finding(text(none), "none")
    share = Value(round(100 * most["recovered"], 1), run=run.id, unit="%", digits=1)
    said = text(words.format("".join(most["cell"])), share, " of the way.")
    return Finding(said, "clear" if most["recovered"] > 0.2 else "uncertain")


def _prompts(study: Patch, done: Mapping[Recipe, Run]) -> Section:
    run = done[study.map("resid")]
    result = run.result
    rows = tuple(
        (name, Code(given), Code(visible(result[answer])), Value(result[difference], run=run.id))
        for name, given, answer, difference in (
            ("clean", study.clean, "right", "clean_value"),
            ("corrupted", study.corrupted, "wrong", "corrupted_value"),
        )
    )
    changed = ", ".join(
        f"{place} ({visible(result['clean'][place])} / {visible(result['corrupted'][place])})"
        for place in result["changed"]
    )
    return Section(
        "The two prompts",
        (
            Table(
                ("prompt", "text", "answer", "logit of the clean answer over the other"),
                rows,
                f"They differ at position {changed}.",
            ),
        ),
        intro="One activation of the clean run is put into the corrupted run, and the difference of the two answers'"
        " logits is measured again. 0% is the corrupted run, 100% the clean one. This shows what suffices to bring the"
        " answer back; what the answer needs is asked the other way round.",
    )


def _where(study: Patch, done: Mapping[Recipe, Run]) -> Section:
    maps = tuple(_map(done[study.map(kind)], TOLD[kind]) for kind in study.kinds(done) if kind != "head")
    return Section("Where it is", maps)


def _map(run: Run, words: str, name: str = "recovered") -> Heatmap:
    held, axes = run.tensors("patches.safetensors")[name], run.result["axes"]
    (rows, columns) = axes.items()
    labels = tuple(columns[1])
    if columns[0] == "position":
        labels = tuple(f"{place} {visible(token)}" for place, token in enumerate(run.result["clean"]))
    return Heatmap(
        np.round(100 * held),
        tuple(rows[1]),
        labels,
        words,
        "% of the way to the clean run" if not run.recipe_data.get("noising") else "% of the way to the corrupted run",
        rows[0],
        columns[0],
        digits=0,
        signed=True,
        runs=(run.id,),
    )


def _heads(study: Patch, done: Mapping[Recipe, Run]) -> Section:
    back, away = done[study.map("head")], done[study.needed]
    held = back.tensors("patches.safetensors")
    rows = [
        {"exact": 100 * float(exact), "estimate": 100 * float(guess), "head": f"L{layer}H{head}", "run": back.id}
        for (layer, head), exact, guess in (
            (at, held["recovered"][at], held["estimate"][at]) for at in np.ndindex(held["recovered"].shape)
        )
    ]
    blocks: list[Block] = [
        _map(back, "Clean heads put into the corrupted run: what suffices. " + TOLD["head"]),
        _map(away, "Corrupted heads put into the clean run: what the answer needs."),
        scatter(
            rows,
            Axis("exact", "patched (% of the way)"),
            Axis("estimate", "estimated from one gradient (% of the way)"),
            run="run",
            rules=[Rule("nothing", 0.0)],
            caption="Each head of the first map: what patching did, and what attribution patching foretells from the"
            " gradient of the corrupted run, which a saturated pattern or a norm deceives.",
        ),
    ]
    return Section("Through which heads", tuple(blocks))


def _paths(study: Patch, done: Mapping[Recipe, Run]) -> Section:
    blocks = []
    for name in study.receivers:
        words = f"What each head wrote, put into the corrupted run for {name} alone to read; all else is held still."
        blocks.append(_map(done[study.paths(name)], words))
    return Section("And to whom", tuple(blocks))
