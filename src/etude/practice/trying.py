"""Experiments to try next, with a prediction before each, and pieces to read."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from etude.core.errors import EtudeError, unknown
from etude.practice.notebook import Event
from etude.practice.standing import Standing

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Experiment:
    """A study to run, and a question to answer before it.

    Attributes:
        name: of the experiment.
        title: in a line.
        command: what `etude` is given.
        minutes: that it takes on two cores, about.
        after: challenges that make the question answerable.
        question: what to predict.
        look: where the answer stands.
    """

    name: str
    title: str
    command: tuple[str, ...]
    minutes: float
    after: tuple[str, ...]
    question: str
    look: str

    @property
    def line(self) -> str:
        """What to type to run it alone."""
        return " ".join(["etude", *self.command])

    def is_ready(self, found: Mapping[str, Standing]) -> bool:
        """Return whether every challenge that it comes after is solved."""
        return all(name in found and found[name].solved for name in self.after)


@dataclass(frozen=True)
class Piece:
    """Something to read.

    Attributes:
        name: of the piece.
        of: its track.
        what: authors, year, title and where.
        take: what to take from it.
    """

    name: str
    of: str
    what: str
    take: str


@lru_cache
def experiments() -> dict[str, Experiment]:
    """Return the experiments by name, in order."""
    told = tomllib.loads((HERE / "experiments.toml").read_text(encoding="utf-8"))["experiments"]
    made = (Experiment(**{**each, "command": tuple(each["command"]), "after": tuple(each["after"])}) for each in told)
    return {each.name: each for each in made}


@lru_cache
def pieces() -> dict[str, Piece]:
    """Return the reading list by name, in order."""
    told = tomllib.loads((HERE / "reading.toml").read_text(encoding="utf-8"))["pieces"]
    return {each["name"]: Piece(**each) for each in told}


def experiment(name: str) -> Experiment:
    """Return an experiment.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in experiments():
        raise unknown("experiment", name, experiments(), see="etude practice try")
    return experiments()[name]


def piece(name: str) -> Piece:
    """Return a piece to read.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in pieces():
        raise unknown("piece", name, pieces(), see="etude practice read")
    return pieces()[name]


def run(chosen: Experiment) -> dict[str, Any]:
    """Run an experiment's study, its progress on standard error, and return what it found.

    Raises:
        EtudeError: it did not end.
    """
    command = [sys.executable, "-m", "etude", *chosen.command, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise EtudeError(f"{chosen.line} did not end; the prediction is kept, and the same command goes on from there")
    return json.loads(done.stdout)


def predictions(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """Return, by experiment, the last prediction, and what was found and concluded after it, where it was."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["what"] == "predicted":
            found[event["experiment"]] = {"prediction": event["prediction"], "when": event["when"]}
        elif event["what"] in ("found", "concluded") and event["experiment"] in found:
            found[event["experiment"]] |= {key: value for key, value in event.items() if key not in ("when", "what")}
    return found


def findings_of(told: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the findings of what `etude run --json` printed; none where the study has none."""
    found = told.get("result", {}).get("findings", [])
    return [{"text": str(each["text"]), "strength": str(each["strength"])} for each in found]


def page_of(told: Mapping[str, Any]) -> str:
    """Return the path of the page that a study wrote, or nothing."""
    return str(Path(told["report"]).absolute()) if "report" in told else ""
