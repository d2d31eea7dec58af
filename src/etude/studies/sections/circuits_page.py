"""The numbers and the page of a model's circuits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.statistics import Estimate
from etude.report.blocks import (
    Block,
    Code,
    Details,
    Finding,
    Findings,
    Heatmap,
    Report,
    Section,
    Table,
    Value,
    text,
)
from etude.report.charts import Axis, bars
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.findings import changed, plain, strongest
from etude.studies.sections.induction_numbers import even, stands_out
from etude.studies.sections.look_page import head_scores, visible

if TYPE_CHECKING:
    from etude.studies.circuits import Circuits

READS = {"Q": "queries", "K": "keys", "V": "values"}

ROUNDING = 1e-4
"""A share that says nothing: where heads are as wide as the stream, each can read all that is written."""

LEAST = 0.01
"""The share of the loss that it has to rise by without a head for the head to be needed."""

OF_WEIGHTS = ("copying", "matching", "ov_norm", "qk_norm")
"""What is read off each head's weights."""


def numbers(study: Circuits, done: Mapping[Recipe, Run]) -> dict[str, Any]:
    """Return scores, composition, ablation and paths as JSON data, with the runs that they are of."""
    found = {
        "circuits": _of(done[study.circuits], "heads", "baseline", "chance"),
        "composition": [
            {"kind": kind, "from": pair[0], "to": pair[1], "excess": excess, "projected": projected}
            for kind in READS
            for pair, excess, projected in strongest_pairs(done[study.circuits], kind)[:10]
        ],
        "heads": _of(done[study.heads], "heads", "chance", "repeated_loss", "fresh_loss"),
        "ablation": _of(done[study.ablation], "loss", "heads"),
        "findings": [{"text": plain(f.text), "strength": f.strength} for f in findings(study, done)],
    }
    if study.counts_paths(done):
        found["paths"] = _of(done[study.paths], "orders", "gains", "paths", "count")
    return found


def _of(run: Run, *keys: str) -> dict[str, Any]:
    return {"run": run.id, **{key: run.result[key] for key in keys}}


def page(study: Circuits, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    notices = {notice for run in behind.values() for notice in run.result.get("notices", ())}
    sections = [_behaviour(study, done), _weights(study, done)]
    if done[study.circuits].result["layers"] > 1:
        sections.append(_composition(study, done))
    if study.counts_paths(done):
        sections.append(_paths(done[study.paths]))
    elif study.windows and study.path_count(done):
        notices.add(f"The model is a sum over {study.path_count(done):,} paths, too many to be counted one by one")
    return Report(
        title="Circuits",
        question="Which heads copy, which read what others write, and which does the model need to go on with what it"
        " has read?",
        abstract=(Findings(tuple(findings(study, done))), *(text(notice + ".") for notice in sorted(notices))),
        sections=tuple(sections),
        runs=cards(behind.values()),
    )


def findings(study: Circuits, done: Mapping[Recipe, Run]) -> list[Finding]:
    """Return what was found, each with how firmly it stands."""
    circuits = done[study.circuits]
    found = [_repeats(done[study.heads]), _needed(done[study.ablation]), *_copies(circuits)]
    found += [finding for kind in ("K", "Q", "V") for finding in _composed(circuits, kind)]
    return [*found, *_orders(done[study.paths])] if study.counts_paths(done) else found


def _copies(run: Run) -> list[Finding]:
    """Say which head copies most by its weights, of those that write anything."""
    known = [head for head in run.result["heads"] if head["copying"] is not None]
    if not known:
        return []
    most = max(known, key=lambda head: head["copying"])
    chance = run.result["chance"]["copying"]
    words = text(
        f"{most['head']} copies most by its weights: score ",
        Value(most["copying"], run=run.id),
        ", where the greatest of as many random heads may come to ",
        Value(chance, run=run.id),
        ".",
    )
    beyond = min(most["copying"], 1.0) > chance
    return [Finding(words, "clear" if beyond else "uncertain" if most["copying"] > 0 else "none")]


def _composed(run: Run, kind: str) -> list[Finding]:
    """Say which head reads what another writes, by the pair that does so most."""
    pairs = strongest_pairs(run, kind)
    if not pairs:
        return []
    (first, second), excess, projected = pairs[0]
    chance = run.result["chance"][kind]
    if projected <= 0:
        words = text(f"No head's {READS[kind]} can read more of what another writes than those of a random head could.")
        return [Finding(words, "none")]
    said: list[Any] = [
        f"Of all pairs, the {READS[kind]} of {second} can read the largest share of what {first} writes, beyond that of"
        " a random head by ",
        Value(projected, run=run.id),
        " (composition over chance ",
        Value(excess, run=run.id),
        "), where the greatest of as many random pairs may come to ",
        Value(chance, run=run.id),
    ]
    if len(pairs) > 1:
        said += ["; the median pair by ", Value(float(np.median([p for _, _, p in pairs])), run=run.id)]
    return [Finding(text(*said, "."), "clear" if projected > chance + ROUNDING else "uncertain")]


def _repeats(run: Run) -> Finding:
    result = run.result
    gain = result["gain"]
    head = strongest(result, "induction")
    off = head["off_period"]
    words = text(
        "Where random tokens repeat, the loss changes by ",
        changed(gain, run.id, sign=-1),
        f"; {head['head']} gives most attention to the token after the last occurrence, ",
        measured(head["induction"], run),
        *((", and ", measured(off, run), " to where that would be had the period been another") if off else ()),
        ", where even attention would give ",
        Value(even(head, result["chance"]), run=run.id),
        ".",
    )
    seen = stands_out(head, "induction", result["chance"])
    return Finding(words, "clear" if seen and Estimate.from_json(gain).above(0) else "none")


def _needed(run: Run) -> Finding:
    head = max(run.result["heads"], key=lambda one: one["increase"]["mean"])
    rise = head["increase"]
    if rise["mean"] <= 0:
        return Finding(text("The loss on repeats rises without none of the heads."), "none")
    words = text(
        f"Without {head['head']} the loss on repeats rises most, by ",
        measured(rise, run),
        " from ",
        measured(run.result["loss"], run),
        " nats per token.",
    )
    enough = rise["mean"] >= LEAST * run.result["loss"]["mean"]
    return Finding(words, "clear" if enough and rises(rise, len(run.result["heads"])) else "none")


def rises(increase: Mapping[str, Any], heads: int) -> bool:
    """Return whether the greatest of the increases of so many heads is above 0: its interval made as wide as to miss
    any of them in one of 20 models at most (Bonferroni)."""
    one = Estimate.from_json(increase)
    if one.n < 2:
        return False
    from scipy.special import stdtrit  # here, because studies import this module to plan, and plans are quick

    wider = float(stdtrit(one.n - 1, 1 - 0.025 / heads) / stdtrit(one.n - 1, 0.975))
    return one.mean > (one.mean - one.low) * wider


def _orders(run: Run) -> list[Finding]:
    found = []
    for order, gain in enumerate(run.result["gains"], 1):
        name = "Single heads" if order == 1 else f"Virtual heads of {order}"
        if not gain["mean"]:
            found.append(Finding(text(f"{name} leave the loss of the paths before them as it is."), "none"))
            continue
        verb = "lower" if gain["mean"] > 0 else "raise"
        size = {**gain, "mean": abs(gain["mean"])}
        size |= (
            {"low": gain["low"], "high": gain["high"]}
            if gain["mean"] > 0
            else {"low": -gain["high"], "high": -gain["low"]}
        )
        words = text(f"{name} {verb} the loss of the paths before them by ", measured(size, run), " nats per token.")
        found.append(Finding(words, "clear" if gain["low"] > 0 or gain["high"] < 0 else "uncertain"))
    return found


def strongest_pairs(run: Run, kind: str) -> list[tuple[tuple[str, str], float, float]]:
    """Return pairs of heads with composition over chance and projected, the most read first."""
    if run.result["layers"] < 2:
        return []
    held = run.tensors("circuits.safetensors")
    projected, excess = held[f"{kind}.projected"], held[f"{kind}.excess"]
    places = [tuple(int(i) for i in at) for at in np.argwhere(np.isfinite(projected))]
    places.sort(key=lambda at: -projected[at])
    return [
        ((f"L{a}H{b}", f"L{c}H{d}"), float(excess[a, b, c, d]), float(projected[a, b, c, d])) for a, b, c, d in places
    ]


def _behaviour(study: Circuits, done: Mapping[Recipe, Run]) -> Section:
    heads, ablation = done[study.heads], done[study.ablation]
    blocks: list[Block] = [*head_scores(heads)]
    rows = [
        {"head": one["head"], **one["increase"], "run": ablation.id}
        for one in sorted(ablation.result["heads"], key=lambda one: -one["increase"]["mean"])[:16]
    ]
    told = {"zero": "zeros", "mean": "its mean over texts and positions", "resample": "what it did on another text"}
    if rows:
        blocks.append(
            bars(
                rows,
                Axis("head", "head"),
                Axis("mean", "rise of the loss on repeats (nats per token)"),
                low="low",
                high="high",
                run="run",
                caption=f"The loss where the answer has been seen, with {told[study.how]} in place of the head: those"
                " that matter most, with 95% intervals over sequences, paired.",
            )
        )
    return Section(
        "What the heads do on repeated tokens",
        tuple(blocks),
        intro="Random tokens repeat with a period drawn for each sequence. The share of a head's attention on the token"
        " before (previous), on the last occurrence of the present token (duplicate), on the one after that"
        " (induction), on where that would be had the period been another (off-period), and on the first token.",
    )


def _weights(study: Circuits, done: Mapping[Recipe, Run]) -> Section:
    run = done[study.circuits]
    rows = tuple(
        (one["head"], *(None if one[key] is None else Value(one[key], run=run.id) for key in OF_WEIGHTS))
        for one in run.result["heads"]
    )
    columns = ("head", "copying (OV)", "matching (QK)", "size of OV", "size of QK")
    blocks: list[Block] = [
        Table(
            columns,
            rows,
            "Copying: the sum of the eigenvalues of the circuit from token to token over the sum of their sizes; 1"
            " where a token raises itself or tokens that raise it in turn, as with a head that copies, −1 where it"
            " lowers them. Matching: the same of QK. A circuit that is 0 has neither. Sizes are Frobenius norms, with"
            " the weights of norms folded in where that can be done.",
            highest=columns[1:3],
        )
    ]
    for one in run.result["heads"]:
        pairs = [
            (
                Code(visible(ov["from"])), Code(visible(ov["to"])), Value(ov["value"], run=run.id, digits=2),
                Code(visible(qk["from"])), Code(visible(qk["to"])), Value(qk["value"], run=run.id, digits=2),
            )
            for ov, qk in zip(one["ov"], one["qk"], strict=False)
        ]  # fmt: skip
        headings = ("looking at", "raises", "OV", "query", "looks for", "QK")
        blocks.append(Details(f"{one['head']}: the token pairs it joins most", (Table(headings, tuple(pairs)),)))
    return Section(
        "What the weights say",
        tuple(blocks),
        intro="The two circuits of each head, from token to token through embedding and unembedding, without position"
        " vectors and earlier layers: of later layers it is the direct path alone.",
    )


MEASURES = {
    "projected": "the share of what the first head writes that the second can read, less that of a random head",
    "excess": "composition of the whole circuits over that of random heads",
}
"""How composition is measured, of the arrays that `head-circuits` keeps."""


def composed(run: Run, kind: str, measure: str) -> Heatmap:
    """Return how much later heads read of what earlier ones write, as a picture."""
    layers, heads = run.result["layers"], run.result["heads_per_layer"]
    names = tuple(f"L{layer}H{head}" for layer in range(layers) for head in range(heads))
    values = run.tensors("circuits.safetensors")[f"{kind}.{measure}"].reshape(len(names), len(names))
    words = f"{kind}-composition, {READS[kind]}: {MEASURES[measure]}."
    return Heatmap(
        values[:-heads, heads:], names[:-heads], names[heads:], words,
        "over chance", "writes", f"reads ({READS[kind]})", signed=True, runs=(run.id,),
    )  # fmt: skip


def _composition(study: Circuits, done: Mapping[Recipe, Run]) -> Section:
    run = done[study.circuits]
    blocks: list[Block] = []
    for kind in READS:
        whole = Details(f"{kind}-composition, whole circuits", (composed(run, kind, "excess"),))
        blocks += [composed(run, kind, "projected"), whole]
    base = run.result["baseline"]
    return Section(
        "Which heads read what others write",
        tuple(blocks),
        intro=text(
            "A head's queries, keys or values may read what an earlier head wrote. Composition of whole circuits is"
            " ‖OV·R‖ over ‖OV‖‖R‖; of random heads it is ",
            Value(base["K"], run=run.id),
            " here, about one over the root of the width, and that is subtracted.",
        ),
    )


def _paths(run: Run) -> Section:
    result = run.result
    names = ["direct path", "and single heads", *(f"and virtual heads of {n}" for n in range(2, len(result["orders"])))]
    rows = tuple((name, measured(loss, run)) for name, loss in zip(names, result["orders"], strict=True))
    strong = tuple((one["path"], Value(one["value"], run=run.id)) for one in result["paths"])
    return Section(
        "Path by path",
        (
            Table(
                ("paths so far", "loss (nats per token)"),
                rows,
                text(
                    "The logits of ",
                    Value(result["windows"], run=run.id),
                    " held-out windows, cut off after so many kinds of paths, biases always counted. The whole sum is"
                    " the model's logits, within ",
                    Value(result["difference"], run=run.id),
                    ".",
                ),
            ),
            Table(
                ("path", "logit of the true token over the mean"),
                strong,
                text(
                    "The paths, of ",
                    Value(result["count"], run=run.id),
                    ", that add most to the logit of the token that does come next, either way: means over positions.",
                ),
            ),
        ),
        intro="With attention and the divisors of norms held at what each text gives, an attention-only model is a sum"
        " over paths: the direct one from embedding to unembedding, one through each head, and virtual heads of which"
        " one reads what another wrote.",
    )
