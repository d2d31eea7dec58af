"""The page of toxicity against scale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run, read_rows
from etude.report.blocks import Block, Findings, Report, Section, Table, Value, text
from etude.report.charts import Axis, Rule, lines
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.toxicity_findings import findings
from etude.studies.sections.toxicity_numbers import MEASURES, Change, Member, Told, told
from etude.studies.sections.validity_card import card

if TYPE_CHECKING:
    from etude.studies.toxicity import Toxicity


def page(study: Toxicity, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    found = told(study, done)
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    sections = [_scale(study, found), _by_prompt(study, found), _replies(found)]
    if found.slopes or found.contrasts:
        sections.append(_changes(found))
    sections.append(card(found.judge))
    if study.examples:
        sections.append(_examples(study, found))
    return Report(
        title="Toxicity against scale",
        question="How does the toxicity of what models write depend on their size, on a dialogue prompt, on tuning, and"
        " on the toxicity of what they go on from; and what is the judge of it worth?",
        abstract=(Findings(tuple(findings(found))),),
        sections=(*sections, _method(study, found)),
        runs=cards(behind.values()),
    )


def _points(found: Told, measure: str) -> list[dict[str, Any]]:
    rows = []
    for one in found.members:
        held = one.to_json()[measure]
        rows.append(
            {"size": one.parameters, "value": held["mean"], "low": held["low"], "high": held["high"]}
            | {"asked": one.condition, "run": one.run_of(measure).id}
        )
    return rows


def _drawn(found: Told, measure: str, title: str, caption: str, rules: list[Rule]) -> Block:
    return lines(
        _points(found, measure),
        Axis("size", "parameters", log=True),
        Axis("value", title),
        caption=caption,
        colour="asked",
        colour_title="asked",
        low="low",
        high="high",
        interval="bars",
        rules=rules,
        run="run",
        height=260,
    )


def _scale(study: Toxicity, found: Told) -> Section:
    first = found.members[0].written
    really = Rule("how the texts really go on", first.result["really"]["mean"], run=first.id)
    empty = Rule("an empty text", found.judge.result["empty_text"], run=found.judge.id)
    drawn = _drawn(
        found,
        "toxicity",
        "mean toxicity (probability)",
        "The judge's probability that a continuation is toxic, mean over prompts, with 95% intervals over prompts.",
        [really, empty],
    )
    caption = (
        f"Of {first.result['prompts']} prompts with {study.each} continuations each: the mean toxicity, the expected"
        " greatest of a prompt's, and the share of prompts of which one continuation is called toxic (Gehman et al."
        " 2020, section 3.2)."
    )
    return Section(
        "Toxicity against size", (drawn, _table(found, ("toxicity", "expected_maximum", "any_toxic"), caption))
    )


def _table(found: Told, measures: tuple[str, ...], caption: str) -> Table:
    rows = tuple(
        (one.condition, one.parameters, *(measured(one.to_json()[name], one.run_of(name)) for name in measures))
        for one in found.members
    )
    return Table(("asked", "parameters", *(MEASURES[name] for name in measures)), rows, caption=caption)


def _by_prompt(study: Toxicity, found: Told) -> Section:
    largest: dict[str, Member] = {one.condition: one for one in found.members}  # in order of size: the last stays
    rows = [
        {
            "bin": (held["above"] + held["to"]) / 2,
            "value": held["toxicity"]["mean"],
            "low": held["toxicity"]["low"],
            "high": held["toxicity"]["high"],
            "asked": f"{one.condition}, {one.parameters:,}",
            "run": one.written.id,
        }
        for one in largest.values()
        for held in one.written.result["bins"]
        if held["prompts"]
    ]
    drawn = lines(
        rows,
        Axis("bin", "toxicity of the prompt (middle of its bin)"),
        Axis("value", "mean toxicity (probability)"),
        caption="Toxicity of continuations by that of what they go on from, of the greatest model in each condition;"
        " bars are 95% intervals over prompts.",
        colour="asked",
        colour_title="asked",
        low="low",
        high="high",
        interval="bars",
        run="run",
        height=260,
    )
    bins = found.members[0].written.result["bins"]
    heads = (f"{held['above']:g} to {held['to']:g} ({held['prompts']})" for held in bins)
    table = Table(
        ("asked", "parameters", *heads),
        tuple((m.condition, m.parameters, *(_in_bin(m, number) for number in range(len(bins)))) for m in found.members),
        caption="Mean toxicity by the judge's score of the prompt, with the number of prompts in brackets.",
    )
    return Section("By the toxicity of the prompt", (drawn, table))


def _in_bin(one: Member, number: int) -> Value | None:
    held = one.written.result["bins"][number]
    return measured(held["toxicity"], one.written, digits=2) if held["prompts"] else None


def _replies(found: Told) -> Section:
    pairs = len(found.members[0].pairs)
    drawn = _drawn(
        found,
        "civil",
        "share of pairs",
        f"Share of {pairs} pairs of replies of which the civil one is likelier for its bytes, with 95% intervals over"
        " pairs.",
        [Rule("chance", 0.5)],
    )
    intro = (
        "A model that is too small to obey a prompt can still be asked which of two replies it finds likelier. The"
        " judge has no part in this: the replies, a civil and an insulting one of like length to the same turn, are of"
        " our own writing."
    )
    caption = (
        "The share of pairs of which the civil reply is likelier for its bytes; the same without the turn that it"
        " answers, which says how far the words of the replies decide it; and by how much in log-likelihood."
    )
    return Section("Paired replies", (drawn, _table(found, ("civil", "alone", "margin"), caption)), intro=intro)


def _changes(found: Told) -> Section:
    def cells(change: Change) -> tuple[Any, ...]:
        e = change.estimate
        what = f"from {change.against} to {change.condition}" if change.against else f"a doubling, {change.condition}"
        return (what, MEASURES[change.measure], Value(e.mean, e.low, e.high, run=change.runs, digits=4))

    rows = tuple(map(cells, (*found.slopes, *found.contrasts)))
    caption = (
        "The slope over the logarithm of parameters to base 2, by least squares, and differences between conditions"
        " over models of the same number of parameters. All are made prompt by prompt, or pair by pair, and the 95%"
        " intervals are over these: they do not hold what other models of the same sizes, from other seeds, would"
        " change."
    )
    return Section("What size and condition change", (Table(("change", "measure", "estimate"), rows, caption=caption),))


def _examples(study: Toxicity, found: Told) -> Section:
    shown = masked if study.masked else str
    rows = []
    largest = {one.condition: one for one in found.members}
    for number in range(study.examples):
        one = list(largest.values())[number % len(largest)]
        lines = list(read_rows(one.written.file("continuations.jsonl")))
        held = lines[(number * len(lines)) // max(1, study.examples)]
        texts = held["continuations"][0]
        rows.append(
            (
                one.condition,
                Value(held["score"], run=one.written.id, digits=2),
                shown(held["prompt"]),
                Value(texts["score"], run=one.written.id, digits=2),
                shown(texts["text"]),
            )
        )
    hidden = " Letters are hidden: --no-masked shows them." if study.masked else " They may offend."
    table = Table(
        ("asked", "score", "prompt", "score after", "continuation"),
        tuple(rows),
        caption="First continuations of the greatest model in each condition, of prompts spread over the bins; not"
        f" chosen.{hidden}",
    )
    return Section("Examples", (table,))


def masked(text: str) -> str:
    """Return a text with the letters of each word hidden, but the first."""
    return re.sub(r"\B\w", "•", text)


def _method(study: Toxicity, found: Told) -> Section:
    sampling = study.sampling
    words = (
        f"Prompts are the first halves, of at most {study.words} words, of texts of the judge's test split, as many"
        f" from each of {study.bins} bins of the judge's score as there are, up to {study.prompts // study.bins}: the"
        " mean over them is not that over texts as they come. Every model is given the same ones. Continuations are of"
        f" at most {sampling.max_tokens} tokens, at temperature {sampling.temperature:g}. Asked vanilla, a model goes"
        f" on from the prompt alone; prompted, it reads the dialogue prompt ‘{study.prompt.name}’ and the prompt as a"
        " user's turn; tuned, the prompt as a user's turn alone. Paired replies are read as turns in all three. The"
        " same texts teach the judge and give the prompts, from splits that have no text in common."
    )
    return Section("How it was done", (text(words),))
