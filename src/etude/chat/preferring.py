"""The work of counting what a person chose."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.chat.blinded import CHOICES, unmasked
from etude.chat.pairing import KEY
from etude.chat.recipes import Preferences
from etude.core.errors import DamagedError, UsageError
from etude.core.files import read_json
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.detection import share
from etude.text.places import sha256_of

NOTE = "one person chose: the interval is over dialogues, and says nothing of other people"


def preferences(recipe: Preferences, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Count the choices.

    Raises:
        UsageError: the file holds no choices, or those of other pairs.
        DamagedError: it is not the file that the recipe names.
    """
    key = read_json(inputs[recipe.pairs].file(KEY))
    sides = unmasked(key)
    chosen = read_choices(recipe.file, key["pairs"], len(sides))
    if sha256_of(recipe.file) != recipe.sha256:
        raise DamagedError(f"{recipe.choices!r} has changed; put the old one back, or leave sha256 out")
    for number, choice in chosen.items():
        run.log(pair=number, choice=choice, chosen=_whose(choice, sides[number - 1]))
    return counted(chosen, sides)


def counted(chosen: Mapping[int, str], sides: list[str]) -> dict[str, Any]:
    """Return how often each was chosen.

    Args:
        chosen: `A`, `B` or `tie` by the number of the pair, from 1.
        sides: of each pair, the side on which the tuned model's reply stood.
    """
    from scipy.stats import binomtest

    counts = Counter(_whose(choice, sides[number - 1]) for number, choice in chosen.items())
    decided = counts["tuned"] + counts["prompted"]
    return {
        "pairs": len(sides),
        "judged": len(chosen),
        "tuned": counts["tuned"],
        "prompted": counts["prompted"],
        "ties": counts["tie"],
        "A": sum(choice == "A" for choice in chosen.values()),
        "B": sum(choice == "B" for choice in chosen.values()),
        "share_tuned": share(counts["tuned"], decided).to_json() if decided else None,
        "chance_of_a_coin": float(binomtest(counts["tuned"], decided).pvalue) if decided else None,
        "people": 1,
        "note": NOTE,
    }


def read_choices(path: Path, of: str, pairs: int) -> dict[int, str]:
    """Return what was chosen, by the number of the pair.

    Raises:
        UsageError: the file holds no choices, or those of other pairs.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        name, choices = held["pairs"], {int(number): choice for number, choice in held["choices"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        form = '{"pairs": "...", "choices": {"1": "A", "2": "tie"}}'
        raise UsageError(f"{path.name!r} holds no choices: give what the page wrote, {form}") from None
    if name != of:
        raise UsageError(f"{path.name!r} has the choices of {name!r}, and these pairs are {of!r}")
    wrong = next((number for number in choices if not 1 <= number <= pairs), None)
    if wrong is not None:
        raise UsageError(f"{path.name!r} has a choice for pair {wrong}, and there are {pairs}")
    odd = next((number for number, choice in choices.items() if choice not in CHOICES), None)
    if odd is not None:
        raise UsageError(f"{path.name!r}: pair {odd} has {choices[odd]!r}, which is not one of {', '.join(CHOICES)}")
    if not choices:
        raise UsageError(f"{path.name!r} holds no choice: judge at least one pair")
    return choices


def _whose(choice: str, side: str) -> str:
    return "tie" if choice == "tie" else "tuned" if choice == side else "prompted"
