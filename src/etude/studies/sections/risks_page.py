"""The page of the risk ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import (
    Block,
    Code,
    Details,
    Findings,
    Report,
    Section,
    Strong,
    Table,
    Value,
    lasted,
    text,
)
from etude.report.charts import Axis, Rule, bars
from etude.report.figures import Cell
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.risks_findings import FIGURES, findings, terms, times
from etude.studies.sections.risks_ledger import figures, risks, source
from etude.studies.sections.risks_numbers import told, training_cost

if TYPE_CHECKING:
    from etude.studies.risks import Risks

LIMITS = (
    "A figure speaks to a part of its risk, in the form in which it was asked, in the language in which it was asked."
    " That it is small does not say that the risk is; a model that is too weak to be of use is also too weak to do some"
    " kinds of harm, and scores near chance on questions that it cannot read. Intervals are 95% over sentences, secrets"
    " or texts, each by itself: of twenty that are no different, one is expected to seem so. Sentences of our own are"
    " few and made by the people who made the instrument."
)


def page(study: Risks, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    found = told(study, done)
    probes = found["probes"]
    sections = [_ledger(found), _group_terms(probes["group-terms"], probes), _pronouns(probes)]
    if "exposure" in probes:
        sections.append(_exposure(probes["exposure"], probes["compute"]))
    for name, section in (("languages", _languages), ("groups", _groups)):
        if name in probes:
            sections.append(section(probes[name]))
    if "truthfulqa" in probes:
        sections.append(_truth(probes["truthfulqa"]))
    return Report(
        title="Risks",
        question="Of the 21 risks of language models in Weidinger et al. 2021, which are measured on this model, and"
        " what was found?",
        abstract=(Findings(tuple(findings(found))),),
        sections=(*sections, _cost(study, done, probes["compute"]), Section("Limits", (text(LIMITS),))),
        runs=cards(behind.values()),
    )


def _ledger(found: dict[str, Any]) -> Section:
    rows, kinds = list[tuple[Cell, ...]](), figures()
    for risk, row in zip(risks(), found["ledger"], strict=True):
        said = [
            text(*((Code(kinds[name].probe), " ") if kinds[name].probe else ()), *words.parts, ".")
            for name in risk.figures
            if (words := FIGURES[name](found["probes"])) is not None
        ]
        status = text(Strong(row["status"])) if said else row["status"]
        why = _how(row["missing"]) if row["missing"] else row["beyond"]
        rows.append((risk.area, risk.name, status, said[0] if said else why))
        rows += [(risk.area, "", "", words) for words in said[1:]]
    caption = f"The areas and risks are those of {source()}. What each figure leaves open stands below."
    beyond = tuple((risk.name, risk.about, risk.beyond) for risk in risks())
    asked = tuple((name, each.probe, each.asks, each.how or "always") for name, each in kinds.items())
    return Section(
        "The ledger",
        (
            Table(("area", "risk", "status", "what was found, or why nothing was"), _once(rows), caption),
            Details(
                "What each risk is, and what the figures do not show of it",
                (Table(("risk", "what it is", "what is not shown"), beyond),),
            ),
            Details(
                "What can be measured, and how",
                (Table(("figure", "probe", "what it asks", "when"), asked),),
            ),
        ),
    )


def _once(rows: list[tuple[Cell, ...]]) -> tuple[tuple[Cell, ...], ...]:
    """Return rows with each area named where it begins."""
    before = ("", *(row[0] for row in rows))
    return tuple(("" if row[0] == last else row[0], *row[1:]) for row, last in zip(rows, before, strict=False))


def _how(missing: list[dict[str, str]]) -> str:
    return "; ".join(dict.fromkeys(one["how"] or "nothing that is asked fits its context" for one in missing))


def _group_terms(held: dict[str, Any], probes: Mapping[str, Any]) -> Section:
    run = held["run"]
    rows = tuple(
        (
            kind,
            row["term"],
            Value(row["named"]["mean"], run=run, digits=1),
            measured(row["cost"], run),
            measured(row["leaning"], run, digits=2) if row["leaning"] else None,
        )
        for kind, row in terms(probes)
        if row["cost"] is not None
    )
    intro = text(
        "Sentences that differ in nothing but the group that they name: ",
        Value(held["sentences"], run=run),
        " plain ones, and ",
        Value(held["pairs"], run=run),
        " pairs of a favourable and an unfavourable one; ",
        Value(held["left_out"], run=run),
        " did not fit the context. What stands behind the name is the same words for every group.",
    )
    if not rows:
        return Section("Group terms", intro=intro)
    caption = (
        "Named: bits that the name itself costs, more for what the training text seldom has. Cost: bits a byte of the"
        " words behind the name in plain sentences, less the mean over the kind. Leaning: bits of unfavourable words"
        " less those of favourable ones, less the mean over the kind; below 0 unfavourable words are likelier behind"
        " this name than behind the others. A name that the model has seldom read moves what follows for that reason"
        " alone, and an untrained model has such differences too, small and steady."
    )
    return Section("Group terms", (Table(("kind", "term", "named", "cost", "leaning"), rows, caption),), intro)


SOURCES = {
    "pronouns": "our own",
    "winogender-male": "Winogender, men",
    "winogender-female": "Winogender, women",
    "winogender": "Winogender, all",
}


def _pronouns(probes: Mapping[str, Any]) -> Section:
    held = {name: probes[name] for name in SOURCES if name in probes}
    left_out = sum(said["left_out"] for name, said in held.items() if name in ("pronouns", "winogender"))
    rows = tuple(
        (
            SOURCES[name],
            Value(said["n"], run=tuple(said["runs"])),
            *(
                _of(said, key) if said["n"] else None
                for key in ("accuracy_he", "accuracy_she", "changed", "difference")
            ),
        )
        for name, said in held.items()
    )
    caption = (
        "Right: the share of sentences in which the right person is the likelier one; of two, chance is 0.5. Changed:"
        " the share in which the likelier person is another with the other pronoun. Difference: the right person's"
        " share in the probability of both persons with he, less that with she, on the same sentence."
        + (f" Of all sentences {left_out} did not fit the context." if left_out else "")
    )
    columns = ("sentences", "n", "right, he", "right, she", "changed", "difference")
    blocks: list[Block] = [Table(columns, rows, caption)]
    most = [
        (row["question"], Value(row["he"], run=tuple(said["runs"])), Value(row["she"], run=tuple(said["runs"])))
        for name, said in held.items()
        if name in ("pronouns", "winogender")
        for row in said["most"]
    ]
    if most:
        blocks.append(
            Details(
                "Sentences that the pronoun moves most",
                (Table(("with he", "the right person's share, he", "she"), tuple(most)),),
            )
        )
    return Section(
        "He and she",
        tuple(blocks),
        "Every sentence is read with he and with she; nothing else in it changes, and the right answer stays what it"
        " was."
        + (
            " Winogender's two files have different sentences in their rows, so that what is right in one is not"
            " compared with what is right in the other."
            if "winogender" in held
            else ""
        ),
    )


def _of(said: Mapping[str, Any], key: str) -> Value:
    each = said[key]
    return Value(each["mean"], each["low"], each["high"], run=tuple(said["runs"]))


def _exposure(held: dict[str, Any], trained: Mapping[str, Any]) -> Section:
    run, epochs = held["run"], trained.get("epochs")
    read = f" The training read its text {epochs:.3g} times, and each copy as often." if epochs else ""
    rows = [
        {"planted": times(g["repeats"]), "run": run}
        | {"bits": g["exposure"]["mean"], "low": g["exposure"]["low"], "high": g["exposure"]["high"]}
        for g in held["groups"]
    ]
    drawn = bars(
        rows,
        Axis("planted", "planted"),
        Axis("bits", "exposure (bits)"),
        caption="Exposure by how often a secret stands in the training text, with 95% intervals over secrets. The rules"
        " are what is expected of one that is not known, and the most that can be seen.",
        low="low",
        high="high",
        rules=(Rule("not known", held["expected"], run), Rule("by heart", held["most"], run)),
        run="run",
    )
    table = Table(
        ("planted", "secrets", "exposure (bits)", "recited"),
        tuple(
            (
                Value(g["repeats"], run=run),
                Value(g["exposure"]["n"], run=run),
                measured(g["exposure"], run, digits=2),
                Value(g["extracted"], run=run),
            )
            for g in held["groups"]
        ),
        text(
            "A secret's exposure is the log of how many there are, ",
            Value(held["space"], run=run),
            ", less the log of its rank by likelihood, ",
            "which is exact. " if held["exact"] else "estimated from as many as were compared. ",
            "Recited: written out greedily behind the sentence that asks for it.",
        ),
    )
    every = Table(
        ("name", "planted", "secret", "written", "rank", "exposure"),
        tuple(
            (
                row["name"],
                Value(row["repeats"], run=run),
                row["secret"],
                row["written"],
                Value(int(row["rank"]) if row["rank"].is_integer() else row["rank"], run=run, digits=1),
                Value(row["exposure"], run=run, digits=2),
            )
            for row in held["canaries"]
        ),
    )
    return Section(
        "Planted secrets",
        (drawn, table, Details("Every secret", (every,))),
        "Sentences with random numbers were planted in the training text. A model that learned nothing of them can only"
        " guess (Carlini et al. 2019). Counts are those of one epoch." + read,
    )


def _languages(held: dict[str, Any]) -> Section:
    run = held["run"]
    rows = tuple(
        (
            row["language"],
            measured(row["bits_per_byte"], run),
            measured(row["bits_per_text"], run, digits=1),
            measured(row["more"], run, digits=1) if row["more"] else None,
        )
        for row in held["languages"]
    )
    caption = text(
        "The same ",
        Value(held["texts"], run=run),
        " texts in each language. More: bits of a text above those of the same text in the first language, paired.",
    )
    return Section("Languages", (Table(("language", "bits per byte", "bits per text", "more"), rows, caption),))


def _groups(held: dict[str, Any]) -> Section:
    rows = tuple(
        (name, measured(said, held["run"]), Value(said["n"], run=held["run"])) for name, said in held["groups"].items()
    )
    caption = "The groups' texts are different texts: a difference can be one of subject, and is not paired."
    return Section("Groups of texts", (Table(("group", "bits per byte", "texts"), rows, caption),))


def _truth(held: dict[str, Any]) -> Section:
    run = held["run"]
    rows = tuple(
        (
            name,
            Value(said["n"], run=run),
            measured(said, run),
            Value(said["chance"], run=run),
        )
        for name, said in [("all", held["all"]), *sorted(held["groups"].items())]
    )
    caption = text(
        "Accuracy is MC1 of Lin et al. 2021: whether the best answer is likelier than every incorrect one. Categories"
        " of a few questions have wide intervals. ",
        Value(held["left_out"], run=run),
        " questions did not fit the context and are left out.",
    )
    return Section("TruthfulQA by category", (Table(("category", "n", "accuracy", "chance"), rows, caption),))


def _cost(study: Risks, done: Mapping[Recipe, Run], held: dict[str, Any]) -> Section:
    run, spent = held["run"], training_cost(study, done)
    if not spent:
        return Section("What it took", (text("Its run is no training, and does not say what the training took."),))
    parts: list[str | Value] = [
        Value(float(held["flops"]), run=run, digits=2),
        " FLOPs on ",
        Value(held["tokens"], run=run),
        f" tokens, in {lasted(spent['seconds'])} of one machine's time. Energy is not measured.",
    ]
    blocks: list[Block] = [text(*parts)]
    if "estimated_kwh" in spent:
        said = (
            f"An estimate, from {study.watts:g} watts that were given and not measured: "
            f"{1000 * spent['estimated_kwh']:.3g} watt-hours, {spent['estimated_price']:.3g} at {study.price:g} a"
            f" kilowatt-hour, {spent['estimated_grams_of_co2']:.3g} g of carbon dioxide at {study.carbon:g} g a"
            " kilowatt-hour."
        )
        blocks.append(text(said))
    else:
        blocks.append(text("Give --watts for an estimate of energy, cost and carbon."))
    return Section("What it took", tuple(blocks))
