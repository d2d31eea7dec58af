"""The page of talking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.report.blocks import Block, Code, Details, Findings, Report, Section, Table, Value, text
from etude.studies.sections.cards import cards, measured
from etude.studies.sections.dialogue_numbers import CALLED, METRICS, findings, points, share, told

if TYPE_CHECKING:
    from etude.studies.dialogue import Dialogue

AGAINST = {
    "random": "Bad replies said in other dialogues",
    "adversarial": "Bad replies written to share words with the dialogue",
}


def page(study: Dialogue, done: Mapping[Recipe, Run]) -> Report:
    """Return the whole page."""
    found = told(study, done)
    behind = {done[recipe].id: done[recipe] for recipe in study.plan(done)}
    sections = [_replies(found["replies"])]
    if found["choices"]:
        sections.append(_choices(found["choices"]))
    if "pairs" in found:
        sections.append(_pairs(found["pairs"]))
    return Report(
        title="Prompted or tuned",
        question="Does a language model answer better when it is prompted, or when it is tuned on dialogues?",
        abstract=(Findings(tuple(findings(found))),),
        sections=(*sections, _method(study, done, found)),
        runs=cards(behind.values()),
    )


def _replies(found: dict[str, Any]) -> Section:
    ways, unit = found["ways"], "bits a byte"
    rows = tuple((CALLED[way], measured(row["bits_per_byte"], row["run"])) for way, row in ways.items())
    caption = (
        f"Of {found['n']:,} held-out replies ({found['bytes']:,} bytes), given the dialogue so far. Lower is better."
    )
    apart = tuple(_difference(row, ways) for row in found["differences"])
    return Section(
        "How likely held-out replies are",
        (
            Table(("", unit), rows, caption),
            Table(("difference", unit), apart, "Paired by reply, 95% intervals. Below 0 the first is better."),
        ),
    )


def _difference(row: dict[str, Any], ways: dict[str, Any], percent: bool = False) -> tuple[Any, ...]:
    runs = tuple(dict.fromkeys((ways[row["of"]]["run"], ways[row["less"]]["run"])))
    shown = points(row, runs) if percent else Value(row["mean"], row["low"], row["high"], run=runs)
    return f"{CALLED[row['of']]} less {CALLED[row['less']]}", shown


def _choices(found: dict[str, Any]) -> Section:
    blocks = list[Block]()
    for name, choice in found.items():
        rows, others = (
            tuple(
                (CALLED[way], *((points if m == "gained" else share)(row[m], row["run"]) for m in metrics))
                for way, row in choice["ways"].items()
            )
            for metrics in (METRICS[:3], METRICS[3:])
        )
        caption = (
            f"{AGAINST[name]}: {choice['n']:,} dialogues, one good reply among the bad ones, chance"
            f" {100 * choice['chance']:.1f}%. How often the likeliest reply is the good one, and how often where the"
            " dialogue is not read, since short replies are likelier whatever was said; and what reading gains."
        )
        apart = tuple(_difference(row, choice["ways"], percent=True) for row in choice["differences"])
        blocks += [
            Table(("", "likeliest", "unread", "gained"), rows, caption),
            Table(
                ("", "per byte", "less unread"),
                others,
                "Chosen by the likelihood per byte, and by the likelihood less that of the reply unread.",
            ),
            Table(("difference", "likeliest"), apart, "Paired by dialogue."),
        ]
    return Section("Which reply is the good one", tuple(blocks))


def _pairs(found: dict[str, Any]) -> Section:
    words = text(
        Value(found["pairs"], run=found["run"]),
        " pairs of replies, the prompted model's and the tuned one's, stand in ",
        Code("pairs.html"),
        " of the run ",
        Code(found["run"]),
        ". Whose are whose is not on that page. When you have chosen, ",
        Code(f"etude run preferences --pairs {found['run']} --choices choices.json"),
        " counts.",
    )
    return Section("For a person to choose", (words,))


def _method(study: Dialogue, done: Mapping[Recipe, Run], found: dict[str, Any]) -> Section:
    held = done[study.asked["replies"]["vanilla"]].result
    left = found["replies"]["too_long"]
    words = text(
        "All three read the dialogue in the same layout, each turn on a line after ",
        Code("User:"),
        " or ",
        Code("Assistant:"),
        ". A reply's likelihood is that of its own words; bytes are counted without the space before it. One reply of"
        " each dialogue is asked, the last. ",
        f"{left:,} dialogues did not fit the context of all three, the prompt before them, and were left out."
        if left
        else "All dialogues that were asked fit the context, the prompt before them.",
        f" {held['spoiled']:,} entries of the files were no dialogues." if held["spoiled"] else "",
        " One tuning: what another seed would change is not in the intervals.",
    )
    prompt = Details("What the prompted model reads first", (text(Code(study.before or "(nothing)")),))
    return Section("How it was asked", (words, prompt))
