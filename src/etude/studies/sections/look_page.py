"""The numbers and the page of a look at one text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import (
    Attention,
    Block,
    Code,
    Details,
    Finding,
    Findings,
    Heatmap,
    Report,
    Section,
    Strong,
    Table,
    Text,
    Value,
    text,
)
from etude.report.charts import Axis, bars
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.findings import plain, strongest
from etude.studies.sections.induction_numbers import even, stands_out

if TYPE_CHECKING:
    from etude.studies.look import Look

SHOWN = 48
"""Positions whose predictions are written out; of a longer text the last so many, and the pictures show all."""

KINDS = {
    "previous": "the token before",
    "duplicate": "the last occurrence of the present token",
    "induction": "the token after the last occurrence of the present one",
    "first": "the first token",
}
"""What heads are scored for."""


def numbers(study: Look, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return what was looked at and the findings, with the runs that hold the arrays."""
    runs = _runs(study, done)
    found: dict[str, Any] = {"text": study.text, "patterns": runs["patterns"].id}
    for name, keys in _KEPT.items():
        if name in runs:
            found[name] = {"run": runs[name].id, **{key: runs[name].result[key] for key in keys}}
    return {**found, "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(runs)]}


_KEPT = {
    "lens": ("rows", "loss", "entropy", "divergence"),
    "attribution": ("position", "token", "versus", "next", "logit", "total", "parts", "neurons", "change"),
    "heads": ("heads", "chance"),
}
"""What is kept of each run's result."""


def _runs(study: Look, done: Mapping[Recipe, Run]) -> dict[str, Run]:
    return {name: done[recipe] for name, recipe in study.asked(done).items()}


def page(study: Look, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    runs = _runs(study, done)
    abstract: tuple[Block, ...] = (text("The text: ", Code(study.text)),)
    found = findings(runs)
    if found:
        elsewhere = " Those of the heads are of random tokens." if "heads" in runs else ""
        limits = "These findings are of one text: they hold of it exactly, and say nothing of others."
        abstract = (*abstract, Findings(tuple(found)), text(limits + elsewhere))
    drawn = {"lens": _lens, "patterns": _attention, "attribution": _wrote, "heads": _heads}
    sections = [draw(runs[name]) for name, draw in drawn.items() if name in runs]
    notices = {notice for run in behind.values() for notice in run.result.get("notices", ())}
    return Report(
        title="A look inside",
        question="What does the model do with this text: where do its heads look, what would each layer predict, and"
        " what wrote the prediction?",
        abstract=(*abstract, *(text(notice + ".") for notice in sorted(notices))),
        sections=tuple(sections),
        runs=cards(behind.values()),
    )


def findings(runs: Mapping[str, Run]) -> list[Finding]:
    """Return what the page says in words. What is said of the text is of this one alone, without an interval."""
    said = {"attribution": _predicted, "lens": _settled, "heads": _named}
    return [finding for name, say in said.items() if name in runs for finding in say(runs[name])]


def _predicted(run: Run) -> list[Finding]:
    """Say what the prediction is and which part wrote most of it."""
    result = run.result
    over = f"over {_quoted(result['versus'])}" if result["versus"] else "over the mean of all tokens"
    where = f"After {_quoted(result['tokens'][result['position']])} at position {result['position']}"
    gap = Value(result["logit"], run=run.id, digits=2)
    said = [f"{where} the logit of {_quoted(result['token'])} is ", gap, f" {over}"]
    most = max(result["parts"], key=lambda part: part["value"])
    if result["logit"] > 0 and most["value"] > 0:
        said += [f"; the part that raises it most is {most['part']}, by ", Value(most["value"], run=run.id, digits=2)]
    return [Finding(text(*said, "."), "clear")]


def _settled(run: Run) -> list[Finding]:
    """Say from which layer on the lens agrees with the model about the likeliest token."""
    likeliest = run.tensors("lens.safetensors")["tokens"][..., 0]
    agrees = (likeliest == likeliest[-1]).mean(1)
    if len(agrees) < 2:
        return []
    last = len(agrees) - 2
    words: list[Any] = [
        f"The lens before layer {last} names the model's likeliest token at ",
        Value(round(100 * float(agrees[last])), run=run.id, unit="%"),
        " of the positions",
    ]
    if last:
        words += [", before layer 0 at ", Value(round(100 * float(agrees[0])), run=run.id, unit="%")]
    return [Finding(text(*words, "."), "clear")]


def _named(run: Run) -> list[Finding]:
    """Say which heads do what they are scored for, beyond even attention; of induction also beyond a fixed distance."""
    found = []
    for kind, what in KINDS.items() if run.result["heads"] else ():
        head = strongest(run.result, kind)
        score, chance = head[kind], even(head, run.result["chance"])
        off = head["off_period"] if kind == "induction" else None
        clear = stands_out(head, kind, chance)
        if clear:
            words: list[Any] = [f"{head['head']} attends most to {what}: ", measured(score, run)]
        else:
            words = [
                f"No head stands out in attending to {what}: the highest is {head['head']}, ",
                measured(score, run),
            ]
        words += [", where even attention would give ", Value(chance, run=run.id)]
        if off:
            words += [" and looking back by another period ", measured(off, run)]
        found.append(Finding(text(*words, "."), "clear" if clear else "none"))
    return found


def _lens(run: Run) -> Section:
    result, held = run.result, run.tensors("lens.safetensors")
    tokens = tuple(result["tokens"])
    rows = tuple(result["rows"])
    known = np.isfinite(held["log_probability"][0])
    answer = np.exp(np.where(known, held["log_probability"], np.nan))
    labels = tuple(f"{n} {visible(token)}" for n, token in enumerate(tokens))
    blocks: list[Block] = [
        Heatmap(
            answer[:, known],
            rows,
            tuple(label for label, there in zip(labels, known, strict=True) if there),
            "The chance that each layer's lens gives to the token that does come next.",
            "probability of the next token",
            "lens",
            "token that was just read",
            runs=(run.id,),
        )
        if known.any()
        else text("The text is one token long: nothing comes next."),
        Heatmap(
            held["entropy"],
            rows,
            labels,
            "How undecided each layer's lens is: the entropy of its prediction.",
            "entropy (nats)",
            "lens",
            "token that was just read",
            runs=(run.id,),
        ),
        *_written_out(run, held, tokens, rows),
        _means(run, rows),
    ]
    tuned = run.recipe_data.get("tuned")
    kind = "tuned lens: an affine map for each layer was trained so;" if tuned else "logit lens:"
    return Section(
        "What each layer would predict",
        tuple(blocks),
        intro=text(
            "The residual stream before each layer, read as if it were the last, by the final norm, where the model has"
            f" one, and the unembedding ({kind} ",
            Value(result["vocabulary"], run=run.id),
            " tokens compete). The last row is the model's own prediction. An early layer need not speak the"
            " unembedding's language: where its lens is wrong, the answer may be there all the same.",
        ),
    )


def _written_out(
    run: Run, held: Mapping[str, np.ndarray], tokens: tuple[str, ...], rows: tuple[str, ...]
) -> list[Block]:
    """Return the likeliest token of each layer at each position, with its chance and the rank of the true one."""
    start = max(0, len(tokens) - SHOWN)
    pieces = run.result["pieces"]
    table = []
    for at in range(start, len(tokens)):
        follows = tokens[at + 1] if at + 1 < len(tokens) else None
        cells = []
        for layer in range(len(rows)):
            best = visible(pieces[str(held["tokens"][layer, at, 0])])
            chance = f"{100 * held['probabilities'][layer, at, 0]:.0f}%"
            rank = int(held["rank"][layer, at])
            right = rank == 0
            cells.append(
                text(Strong(best) if right else best, f" {chance}", "" if rank <= 0 else f" (rank {rank + 1})")
            )
        table.append((at, Code(visible(tokens[at])), Code(visible(follows)) if follows is not None else None, *cells))
    caption = "The likeliest token and its chance; bold where it is the one that follows, else the rank of that one."
    if start:
        caption += f" The last {SHOWN} of {len(tokens)} positions."
    return [Details("Every prediction in words", (Table(("position", "read", "next", *rows), tuple(table), caption),))]


def _means(run: Run, rows: tuple[str, ...]) -> Table:
    result = run.result
    loss = result["loss"] or [None] * len(rows)
    cells = zip(rows, loss, result["entropy"], result["divergence"], strict=True)
    return Table(
        ("lens", "loss (nats per token)", "entropy (nats)", "divergence from the model (nats)"),
        tuple((name, *(None if v is None else Value(v, run=run.id) for v in values)) for name, *values in cells),
        caption="Means over the positions of this text. The divergence is Kullback and Leibler's, from the model's own"
        " prediction to the lens's.",
    )


def _attention(run: Run) -> Section:
    result, held = run.result, run.tensors("patterns.safetensors")
    blocks: list[Block] = []
    if held["patterns"].size:
        cut = result["cut"]
        caption = text("Rows attend to columns.")
        if cut:
            caption = text("Rows attend to columns. Tokens cut at the end, to fit: ", Value(cut, run=run.id), ".")
        blocks.append(Attention(tuple(result["tokens"]), held["patterns"], caption, runs=(run.id,)))
    if "encoder" in held:
        words = "The encoder, reading the source."
        blocks.append(Attention(tuple(result["source_tokens"]), held["encoder"], words, runs=(run.id,)))
    if "cross" in held:
        cross = held["cross"][-1].mean(0)
        written, read = tuple(map(visible, result["tokens"])), tuple(map(visible, result["source_tokens"]))
        caption = (
            f"Attention across, from the text to the source: mean over the heads of layer {len(held['cross']) - 1}."
        )
        blocks.append(Heatmap(cross, written, read, caption, "share of attention", "text", "source", runs=(run.id,)))
    if not blocks:
        blocks.append(text("The model has no layers, and so no attention."))
    return Section(
        "Where each head looks",
        tuple(blocks),
        intro="Every head as a small square: query downward, key to the right, and each row sums to 1. Choose one, then"
        " a token.",
    )


def _wrote(run: Run) -> Section:
    result, held = run.result, run.tensors("attribution.safetensors")
    over = f"over that of {_quoted(result['versus'])}" if result["versus"] else "over the mean logit"
    strong = sorted((part for part in result["parts"] if part["value"]), key=lambda part: -abs(part["value"]))[:16]
    what = text(
        f"The logit of {_quoted(result['token'])} after position {result['position']}, {over}, is ",
        Value(result["logit"], run=run.id),
        ". The parts sum to it: ",
        Value(result["total"], run=run.id),
        ". The scale of the final norm, where the model has one, is held at what it was.",
    )
    shown: list[dict[str, Any]] = [
        {**part, "run": run.id, "effect": "raises" if part["value"] > 0 else "lowers"} for part in strong
    ]
    blocks: list[Block] = [text("No part wrote anything in this direction.")]
    if shown:
        blocks = [
            bars(
                shown,
                Axis("part", "part of the model"),
                Axis("value", "written to the logit"),
                colour="effect",
                colour_title="effect",
                run="run",
                caption="What each part wrote in this direction: the strongest, either way.",
            )
        ]
    if held["heads"].size:
        layers, heads = held["heads"].shape
        names = tuple(f"L{n}" for n in range(layers)), tuple(f"H{n}" for n in range(heads))
        caption = "Each head's share, from all positions that it looked at."
        blocks.append(Heatmap(held["heads"], *names, caption, "logit", "layer", "head", signed=True, runs=(run.id,)))
    blocks += _by_position(run, held)
    if result["neurons"]:
        rows = tuple((row["neuron"], Value(row["value"], run=run.id)) for row in result["neurons"])
        caption = "Feed-forward neurons that wrote most, either way: L0N5 is the sixth of layer 0."
        blocks.append(Details("Neurons", (Table(("neuron", "logit"), rows, caption),)))
    return Section("What wrote the prediction", tuple(blocks), intro=what)


def _by_position(run: Run, held: Mapping[str, np.ndarray]) -> list[Block]:
    """Return what came from each position, by the exact sum and by integrated gradients."""
    at = run.result["position"]
    labels = tuple(f"{n} {visible(token)}" for n, token in enumerate(run.result["tokens"][: at + 1]))
    shown: dict[str, Any] = {"label": "logit", "column_title": "token", "signed": True, "runs": (run.id,)}
    blocks: list[Block] = []
    if held["by_source"].size:
        brought = held["by_source"].sum(axis=(0, 1))
        words = (
            "What all heads together brought from each position: a part of the sum above. A head brings whatever the"
        )
        words += " stream held there, not the token alone."
        blocks.append(Heatmap(brought[None], ("looked at",), labels, words, **shown))
    words = text(
        "How far each token moved it: integrated gradients from the mean token vector, which follow a token through"
        " every layer. They sum to the change of ",
        Value(run.result["change"], run=run.id),
        " that the text makes, within ",
        Value(run.result["completeness"], run=run.id),
        ".",
    )
    return [*blocks, Heatmap(held["gradients"][None], ("moved by",), labels, words, **shown)]


def _heads(run: Run) -> Section:
    return Section(
        "What the heads do elsewhere",
        head_scores(run),
        intro="On random tokens that repeat with a period drawn for each sequence, not on this text: the share of"
        " attention on the token before (previous), on the last occurrence of the present token (duplicate), on the one"
        " after that (induction), on where that would be had the period been another (off-period), and on the first"
        " token.",
    )


def head_scores(run: Run) -> tuple[Block, ...]:
    """Return the scores of every head, as pictures by layer where there are many."""
    heads = run.result["heads"]
    layers = 1 + max((int(head["head"][1:].partition("H")[0]) for head in heads), default=0)
    if len(heads) <= 12:
        return (head_table(run),)
    names = tuple(f"L{n}" for n in range(layers)), tuple(f"H{n}" for n in range(len(heads) // layers))
    pictures = [
        Heatmap(
            np.array([head[kind]["mean"] for head in heads]).reshape(layers, -1),
            *names,
            f"Attention to {KINDS[kind]} ({kind}).",
            "share of attention",
            "layer",
            "head",
            runs=(run.id,),
        )
        for kind in ("previous", "duplicate", "induction")
    ]
    return (*pictures, Details("Every score with its interval", (head_table(run),)))


def head_table(run: Run, caption: Text | str = "") -> Table:
    """Return the scores of every head, those apart from the rest marked."""
    kinds = ("previous", "duplicate", "induction", "off_period", "first")
    rows = tuple(
        (head["head"], *(None if head[kind] is None else measured(head[kind], run) for kind in kinds))
        for head in run.result["heads"]
    )
    told = caption or text(
        "Means over ",
        Value(run.result["gain"]["n"], run=run.id),
        " sequences with 95% intervals.",
        *_evenly(run),
    )
    columns = ("head", "previous", "duplicate", "induction", "off-period", "first")
    return Table(columns, rows, told, highest=("previous", "duplicate", "induction"))


def _evenly(run: Run) -> list[Any]:
    """Say what even attention would score, of layers that see differently far from the least to the most."""
    chances = sorted({even(head, run.result["chance"]) for head in run.result["heads"]})
    ends = [Value(chance, run=run.id) for chance in dict.fromkeys((*chances[:1], *chances[-1:]))]
    between = [ends[0], " to ", ends[-1], ", as far as its layer sees"] if len(ends) > 1 else ends
    return [" Attention spread evenly would score ", *between, "."] if ends else []


def _quoted(token: str) -> str:
    return f"“{visible(token)}”"


def visible(token: str) -> str:
    """Return a token so that a space in it can be seen."""
    return token.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥") or "∅"
