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
    maps: dict[str, Recipe] = {kind: study.map(kind) for kind in study.kinds()}
    maps |= {"head, noising": study.needed, **{f"paths to {name}": study.paths(name) for name in study.receivers}}
    return {
        "prompts": {key: first[key] for key in _OF_PROMPTS},
        "maps": {name: {"run": done[recipe].id, "strongest": strongest(done[recipe])} for name, recipe in maps.items()},
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done)],
    }


_OF_PROMPTS = ("clean", "corrupted", "changed", "right", "wrong", "clean_difference", "corrupted_difference")


def strongest(run: Run, count: int = 5) -> list[dict[str, Any]]:
    """Return the cells of a map that go furthest, with their names."""
    recovered = run.tensors("patches.safetensors")["recovered"]
    labels = list(run.result["axes"].values())
    order = np.argsort(-np.abs(recovered), axis=None)[:count]
    found = []
    for flat in order:
        at = np.unravel_index(int(flat), recovered.shape)
        names = [labels[axis][int(place)] for axis, place in enumerate(at)]
        found.append({"cell": names, "recovered": float(recovered[at])})
    return found


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
    found = []
    for recipe, verb in ((study.map("head"), "brings the answer back"), (study.needed, "takes the answer away")):
        run = done[recipe]
        cells = strongest(run)
        if not cells:
            continue
        best = cells[0]
        words = text(
            f"Of single heads, {''.join(best['cell'])} {verb} furthest: ",
            Value(round(100 * best["recovered"]), run=run.id, unit="%"),
            " of the way.",
        )
        found.append(Finding(words, "clear" if abs(best["recovered"]) > 0.2 else "uncertain"))
    for name in study.receivers:
        run = done[study.paths(name)]
        cells = strongest(run)
        if cells and abs(cells[0]["recovered"]) > 1e-6:
            best = cells[0]
            words = text(
                f"On the direct way to {name}, {''.join(best['cell'])} carries most: ",
                Value(round(100 * best["recovered"]), run=run.id, unit="%"),
                " of the way.",
            )
            found.append(Finding(words, "clear" if abs(best["recovered"]) > 0.2 else "uncertain"))
        elif cells:
            found.append(Finding(text(f"No head carries anything on the direct way to {name}."), "none"))
    return found


def _prompts(study: Patch, done: Mapping[Recipe, Run]) -> Section:
    run = done[study.map("resid")]
    result = run.result
    rows = tuple(
        (name, Code(given), Code(visible(result[answer])), Value(result[difference], run=run.id))
        for name, given, answer, difference in (
            ("clean", study.clean, "right", "clean_difference"),
            ("corrupted", study.corrupted, "wrong", "corrupted_difference"),
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
    maps = tuple(_map(done[study.map(kind)], TOLD[kind]) for kind in study.kinds() if kind != "head")
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
