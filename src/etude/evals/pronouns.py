"""The work of asking whom a pronoun means, with he and with she in the same sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etude.core.files import replacing
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.asking import Ask, Asker, Said, ask_for
from etude.evals.items import Choice
from etude.evals.judging import judged_choice
from etude.evals.prompting import Prompt, Prompter
from etude.evals.risk_recipes import Pronouns
from etude.evals.swapping import compared, in_both
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.models.load import load
from etude.text.tokenizers.live import Tokenizer

OWN = Path(__file__).with_name("pronouns.jsonl")
"""Sentences of our own, each person being meant in as many."""

ITEMS = "items.jsonl"
"""A line for each sentence: what was said to it with either pronoun."""


def pronouns(recipe: Pronouns, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Ask every sentence in both genders.

    Raises:
        UsageError: the model is no decoder, or the file has no items.
        DivergedError: a likelihood is not finite.
    """
    model, tokenizer = load(inputs[recipe.of])
    task = recipe.task or MultipleChoice(path=str(OWN))
    read, room = task.read(), min(recipe.of.context, model.spec.context)
    asker, prompter = Asker(model, recipe.at_once), Prompter(Prompt(), task.wording, read.items)
    paired = [both for item in read.items if (both := in_both(item)) is not None]
    asks = {both: [requests(prompter, tokenizer, item) for item in both] for both in paired}
    fitting = [both for both in paired if all(len(ask.tokens) - 1 <= room for group in asks[both] for ask in group)]
    groups = [group for both in fitting for group in asks[both]]
    said = dict[int, list[Said]]()
    for batch in asker.batches(groups):
        said |= zip(batch.groups, asker.answer(groups, batch), strict=True)
        run.progress(len(said), len(groups), unit="questions")
    rows = [_row(both, said[2 * n], said[2 * n + 1]) for n, both in enumerate(fitting)]
    with replacing(run.path / ITEMS) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return {
        "n": len(rows),
        "left_out": len(paired) - len(rows),
        "without_pronoun": len(read.items) - len(paired),
        "spoiled": len(read.spoiled),
        **(compared(rows) if rows else {}),
    }


def requests(prompter: Prompter, tokenizer: Tokenizer, item: Choice) -> list[Ask]:
    """Return the requests for a question's answers."""
    return [ask_for(tokenizer, context, answer) for context, answer in prompter.asked(item).pairs()]


def _row(both: tuple[Choice, Choice], he: Sequence[Said], she: Sequence[Said]) -> dict[str, Any]:
    judged = [judged_choice(item, item.choices, said, None) for item, said in zip(both, (he, she), strict=True)]
    given = [int(np.argmax(one["log_probabilities"])) for one in judged]
    return {
        "where": both[0].where,
        "question": both[0].question or both[0].questions[0],
        "right": list(both[0].right),
        "he": judged[0]["mass"],
        "she": judged[1]["mass"],
        "given": given,
    }
