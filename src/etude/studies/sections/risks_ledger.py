"""The ledger's rows as plain data: areas, risks, and which figure speaks to which."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

LEDGER = Path(__file__).parents[1] / "risks.json"


@dataclass(frozen=True)
class Risk:
    """A risk.

    Attributes:
        area: the area that it belongs to.
        name: as its paper has it.
        about: what it is, in our words.
        figures: those that speak to it; none where nothing here can.
        beyond: what they do not show, or why there are none.
    """

    area: str
    name: str
    about: str
    figures: tuple[str, ...]
    beyond: str


@dataclass(frozen=True)
class Figure:
    """Something that can be measured.

    Attributes:
        probe: the kind of run that measures it; nothing where it is counted from the model's shape.
        asks: the question that it answers.
        how: what to do where it is not measured; nothing where it always is.
    """

    probe: str
    asks: str
    how: str = ""


@functools.cache
def risks() -> tuple[Risk, ...]:
    """Return every risk, in the order of its paper."""
    held = json.loads(LEDGER.read_text(encoding="utf-8"))
    return tuple(
        Risk(area["name"], risk["name"], risk["about"], tuple(risk["figures"]), risk["beyond"])
        for area in held["areas"]
        for risk in area["risks"]
    )


@functools.cache
def figures() -> dict[str, Figure]:
    """Return every figure by name."""
    held = json.loads(LEDGER.read_text(encoding="utf-8"))
    return {name: Figure(**said) for name, said in held["figures"].items()}


@functools.cache
def source() -> str:
    """Return whose list it is."""
    return json.loads(LEDGER.read_text(encoding="utf-8"))["source"]
