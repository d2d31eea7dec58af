"""The work of writing pairs of replies, and the page on which a person chooses between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.chat.blinded import masked, page
from etude.chat.dialogue import Dialogue, Turn
from etude.chat.prompts.base import Prompt
from etude.chat.recipes import Pairs
from etude.chat.session import Session
from etude.core.errors import UsageError
from etude.core.files import write_json, write_text
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.evals.evaluating import Kept
from etude.models.load import load
from etude.models.sampling import Sampling
from etude.text.dialogues import Talk
from etude.text.splits import fraction

PAGE, KEY = "pairs.html", "pairs-key.json"

MORE = 4
"""Dialogues that are looked at for each pair at most, since some do not fit or have the same reply twice."""


@dataclass(frozen=True)
class Pair:
    """Two replies to one dialogue.

    Attributes:
        turns: the dialogue, the user's turn last.
        replies: the prompted model's and the tuned one's.
    """

    turns: tuple[str, ...]
    replies: tuple[str, str]


def pairs(recipe: Pairs, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Write pairs. Killed, it goes on with the dialogues that were not answered.

    Raises:
        UsageError: a model is no decoder, or no dialogue fits both.
    """
    talks = _chosen(recipe)
    writers = [
        _Writer(inputs[of], prompt, recipe.sampling)
        for of, prompt in zip((recipe.of, recipe.tuned), recipe.reads, strict=True)
    ]
    kept, found, counts = Kept(run.scratch / "replies.jsonl"), list[Pair](), {"same": 0, "unfit": 0}
    for number, talk in enumerate(talks):
        if len(found) == recipe.pairs:
            break
        key = str(number)
        if key not in kept:
            kept.add({key: [writer.answer(_asked(talk), number) for writer in writers]})
        prompted, tuned = kept[key]
        if prompted is None or tuned is None:
            counts["unfit"] += 1
        elif prompted == tuned:
            counts["same"] += 1
        else:
            found.append(Pair(_asked(talk), (prompted, tuned)))
        run.progress(len(found), recipe.pairs, unit="pairs")
    if not found:
        raise UsageError(
            f"none of {len(talks)} dialogues has two different replies ({counts['unfit']} do not fit the context with"
            " what stands before them): choose a shorter --prompt, or another corpus"
        )
    swapped = _drawn(recipe.seed, len(found))
    shown = [_sides(pair, swap) for pair, swap in zip(found, swapped, strict=True)]
    sides = masked(["A" if swap else "B" for swap in swapped], recipe.id)
    write_json(run.path / KEY, {"pairs": recipe.id, **sides})
    write_text(run.path / PAGE, page(shown, recipe.id))
    lengths = np.array([[len(reply) for reply in pair.replies] for pair in found])
    return {"pairs": len(found), **counts, "characters": lengths.mean(0).tolist()}


class _Writer:
    """Answers dialogues with a model, as a chat does."""

    def __init__(self, made: Run, prompt: Prompt, sampling: Sampling) -> None:
        self.session = Session(*load(made), prompt, sampling)

    def answer(self, turns: Sequence[str], number: int) -> str | None:
        """Return what the model says to a dialogue; None where that does not fit its context whole."""
        self.session.dialogue = Dialogue(
            tuple(Turn("model" if n % 2 else "user", text) for n, text in enumerate(turns[:-1]))
        )
        self.session.drawn = number  # which numbers are drawn must not depend on where a killed run went on
        try:
            if self.session.left_out_by(turns[-1]):
                return None
            return "".join(self.session.say(turns[-1]))
        except UsageError:
            return None


def _chosen(recipe: Pairs) -> list[Talk]:
    """Return dialogues of the test split in an order that their text decides."""
    talks = sorted(recipe.corpus.talks("test"), key=lambda talk: (fraction(talk.text), talk.text))
    return talks[: MORE * recipe.pairs]


def _asked(talk: Talk) -> tuple[str, ...]:
    """Return a dialogue up to the last turn that the model answers."""
    return talk.turns[: len(talk.turns) - 1 - len(talk.turns) % 2]


def _drawn(seed: int, count: int) -> list[bool]:
    """Return of each pair whether the tuned model's reply is A."""
    return np.random.Generator(np.random.PCG64(stream(seed, "sides"))).integers(0, 2, count).astype(bool).tolist()


def _sides(pair: Pair, swap: bool) -> dict[str, Any]:
    prompted, tuned = pair.replies
    first, second = (tuned, prompted) if swap else (prompted, tuned)
    return {"turns": list(pair.turns), "A": first, "B": second}
