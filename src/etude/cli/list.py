"""`etude list`: what there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from etude.cli.console import AsJson, RunsFolder, say, say_json
from etude.cli.describe import family_summary, is_study, summary
from etude.cli.results import aligned
from etude.cli.runs import say_runs
from etude.core.errors import unknown
from etude.core.family import Family, families
from etude.core.recipe import kinds

command = App("list", version_flags=[])


@command.default
def list_(
    what: Annotated[
        str | None, Parameter(help="studies, recipes, families, runs, or a family such as corpora.")
    ] = None,
    /,
    *,
    json: AsJson = False,
    runs: RunsFolder = None,
) -> None:
    """List what there is: studies, recipes, families and their members, runs."""
    if what == "runs":
        say_runs(runs, json=json)
        return
    shown = _sections() if what is None else _asked_for(what)
    if json:
        say_json(shown)
        return
    for number, (title, lines) in enumerate(shown.items()):
        if number:
            say()
        say(title)
        for line in aligned(list(lines.items())):
            say(f"  {line.rstrip()}")
        if not lines:
            say("  none yet")


def _sections() -> dict[str, dict[str, str]]:
    """Return the studies, the other recipes and every family's members, each with its line."""
    every = dict(sorted(kinds().items()))
    studies = {name: summary(cls) for name, cls in every.items() if is_study(cls)}
    recipes = {name: summary(cls) for name, cls in every.items() if not is_study(cls)}
    return {"studies": studies, "recipes": recipes, **_members(families())}


def _members(found: Mapping[str, Family]) -> dict[str, dict[str, str]]:
    return {path: {m.name: summary(m) for m in family} for path, family in sorted(found.items()) if path != "studies"}


def _asked_for(what: str) -> dict[str, Any]:
    sections = _sections()
    if what == "families":
        return {"families": {path: family_summary(family) for path, family in sorted(families().items())}}
    matching = [name for name in sections if what in _names_of(name)]
    if not matching:
        raise unknown("name", what, ["families", "runs", *sections], see="etude list")
    return {name: sections[name] for name in matching}


def _names_of(section: str) -> Iterator[str]:
    """Yield what a person may call a section: its path, or for a family its last part or what one member is called."""
    yield section
    if "/" in section:
        yield section.rpartition("/")[2]
        yield Family(section).noun
