"""What the heads do: attention on a sample, and scores on repeated random tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Heads
from etude.interp.recipes import Patterns
from etude.report.blocks import Attention, Block, Section, Table, Text, Value, text
from etude.studies.sections.cards import measured
from etude.studies.sections.findings import called, capital

if TYPE_CHECKING:
    from etude.studies.progress_report import ProgressReport


def heads_section(study: ProgressReport, done: Mapping[Recipe, Run]) -> Section:
    """Return the scores of every head, and its attention on a sample."""
    blocks: list[Block] = [_heads_table(study, done)]
    for name, model in study.compressed(done).items():
        run = done[Patterns(model, study.sample)]
        patterns = run.tensors("patterns.safetensors")["patterns"]
        blocks.append(Attention(tuple(run.result["tokens"]), patterns, _reading(name, run), runs=(run.id,)))
    return Section(
        "What the heads do",
        tuple(blocks),
        intro="Random tokens repeat with a period drawn anew for each sequence, so that position alone does not tell"
        " where the last occurrence was. A head's score is the share of its attention on the token before"
        " (previous), on the token after the last occurrence of the present one (induction), and on the first token.",
    )


def _reading(name: str, run: Run) -> Text:
    """Say what is read, and what of it did not fit."""
    words, cut = f"{capital(called(name))} reading a sample", run.result["cut"]
    if not cut:
        return text(f"{words}.")
    tokens = "token was" if cut == 1 else "tokens were"
    return text(f"{words}, whose last ", Value(cut, run=run.id), f" {tokens} cut, to fit into its context.")


def _heads_table(study: ProgressReport, done: Mapping[Recipe, Run]) -> Table:
    rows = []
    for name, recipe in study.models(done).items():
        run = done[Heads(recipe)]
        for head in run.result["heads"]:
            scores = (measured(head[kind], run) for kind in ("previous", "induction", "first"))
            rows.append((name, head["head"], *scores))
    chance = done[Heads(study.models(done)["attention-only"])]
    return Table(
        ("model", "head", "previous", "induction", "first"),
        tuple(rows),
        caption=text(
            "Means over ",
            Value(chance.result["gain"]["n"], run=chance.id),
            " sequences with 95% intervals. Attention spread evenly would score ",
            Value(chance.result["chance"], run=chance.id),
            " for each.",
        ),
        highest=("previous", "induction"),
    )
