"""The units of a code on a page: what foretells each, what moving it does, and where it is highest."""

from __future__ import annotations

from typing import Any

from etude.core.run import Run
from etude.report.blocks import Block, Cell, Context, Contexts, Details, Table, Value, text
from etude.studies.sections.cards import measured
from etude.studies.sections.look_page import visible
from etude.studies.sections.squeeze_numbers import Row

FACTS = ("token", "previous_token", "position", "class")


def units_table(row: Row, run: Run) -> Table:
    """Return a line for each unit that is shown."""
    result = run.result
    scored = {unit["unit"]: unit for unit in row["meaning"][0]["units"]}
    cells = [_unit(latent, scored.get(latent["latent"]), run, row["meaning"][0]["run"]) for latent in result["latents"]]
    amount = "used at" if result["discrete"] else "share of variance"
    counts = [Value(len(result["latents"]), run=run.id), " of ", Value(result["of"], run=run.id), " units are shown; "]
    counts += [Value(result["active"], run=run.id), " are active (a variance over 0.01 of the greatest), "]
    counts += [Value(result["silent"], run=run.id), " never leave 0."]
    return Table(
        (
            "unit",
            amount,
            "not 0 at",
            "foretold",
            "by",
            *("by " + fact.replace("_", " ") for fact in FACTS),
            "drawn classes",
        ),
        tuple(cells),
        text(
            *counts,
            " Foretold: by the fact that was chosen, on the windows that judge. After it each fact alone, learned on"
            " even windows and judged on odd ones, without intervals; drawn classes are as many classes dealt out among"
            " the tokens at random, a control for the class.",
        ),
    )


def _unit(latent: dict[str, Any], scored: dict[str, Any] | None, run: Run, meaning: str) -> tuple[Cell, ...]:
    share = latent["rate"] if run.result["discrete"] else latent["share"]
    told: tuple[Cell, ...] = (None, None)
    if scored is not None:
        told = (Value(scored["score"], run=meaning, digits=2), scored["by"].replace("_", " "))
    facts = [latent["foretold_by"][fact] for fact in FACTS] + [latent["controls"]["drawn_class"]]
    return (
        latent["name"],
        None if share is None else Value(share, run=run.id, digits=2),
        Value(latent["rate"], run=run.id, digits=2),
        *told,
        *(None if fact is None else Value(fact, run=run.id, digits=2) for fact in facts),
    )


def contexts_of(run: Run) -> list[Block]:
    """Return, for each unit, what moving it does and its contexts, folded away."""
    return [Details(_summary(latent), tuple(_of_unit(latent, run))) for latent in run.result["latents"]]


def _summary(latent: dict[str, Any]) -> str:
    top = ", ".join(f"“{visible(context['token'])}”" for context in latent["top"][:3])
    return f"{latent['name']}: {top}"


def _of_unit(latent: dict[str, Any], run: Run) -> list[Block]:
    ends = {"top": "highest", "middle": "nearest its median where it is not 0", "bottom": "lowest"}
    words = {"top": "where it is used"} if not latent["bottom"] else ends
    blocks: list[Block] = []
    for end, said in words.items():
        rows = tuple(
            Context(tuple(c["before"]), c["token"], tuple(c["after"]), Value(c["value"], run=run.id, digits=2))
            for c in latent[end]
        )
        blocks.append(Contexts(rows, f"{latent['name']}, {said}"))
    return [*blocks, *_moved(latent, run)]


def _moved(latent: dict[str, Any], run: Run) -> list[Block]:
    """Return what moving a unit does to the model."""
    told = latent.get("traversal")
    if told is None:
        return []
    moves = [(_step(move["at"]), measured(move["kl"], run)) for move in told["moves"]]
    effect = Table(
        ("the unit at every position", "KL (nats per token)"),
        tuple(moves),
        text(
            "Divergence from what the model says with the code as it is, over ",
            Value(told["moves"][0]["kl"]["n"], run=run.id),
            " windows.",
        ),
    )
    pairs = zip(told["rises"], told["falls"], strict=True)
    cells = [
        (
            _token(up),
            Value(up["change"], run=run.id, digits=2),
            _token(down),
            Value(down["change"], run=run.id, digits=2),
        )
        for up, down in pairs
    ]
    far = (
        "between the code as it is and with this entry"
        if told["moves"][0]["at"] is None
        else "from -2 to 2 standard deviations"
    )
    logits = Table(
        ("rises", "by", "falls", "by "),
        tuple(cells),
        f"Tokens of the text whose logits change most {far}, about the mean change, over all positions there.",
    )
    return [effect, logits]


def _step(at: int | None) -> str:
    return "set to this entry" if at is None else f"moved by {at} standard deviation" + ("s" if abs(at) > 1 else "")


def _token(told: dict[str, Any]) -> str:
    return visible(told["token"])
