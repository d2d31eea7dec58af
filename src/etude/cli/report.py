"""`etude report`: builds the page of a study's run again, with the code as it is now."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from etude.cli.console import RunsFolder, near, say
from etude.cli.spelling import command_for
from etude.core.done import Done
from etude.core.errors import EtudeError, UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.shelf import Shelf
from etude.studies.base import Study

command = App("report", version_flags=[])


@command.default
def report(
    run: str,
    /,
    *,
    out: Annotated[Path | None, Parameter(name="--out", help="where to. By default reports and the run's id.")] = None,
    open: Annotated[
        bool, Parameter(name="--open", negative=(), show_default=False, help="show it in a browser.")
    ] = False,
    runs: RunsFolder = None,
) -> None:
    """Build the page of a study's run again from the runs behind it, which stay as they are.

    The last line of the answer is the path of the page.
    """
    lab = Lab(runs)
    found = Shelf(lab.root).find(run)
    study = found.recipe
    if not isinstance(study, Study):
        raise UsageError(
            f"{found.id} is no study's run and has no page: etude show {found.id} shows what came out, and"
            " etude list studies shows what writes pages"
        )
    from etude.report.publish import publish  # with the charts' libraries, not needed for help

    page = publish(study.tell(_behind(lab, study)), out or Path("reports") / found.id)
    if open:
        webbrowser.open(page.resolve().as_uri())
    say(near(page))


def _behind(lab: Lab, study: Study) -> Done:
    """Return the runs that a study's answer rests on.

    Raises:
        EtudeError: one of them is not there any more.
    """
    done, missing = Done(), set[str]()
    while True:
        before = len(done)
        for need in (need.resolve() for need in study.plan(done)):
            _take(lab, need, done, missing)
        if len(done) == before:
            break
    if missing:
        raise EtudeError(
            f"{study.id} rests on {len(missing)} runs that are not in {near(lab.root)}, {min(missing)} first;"
            f" make them again with: etude runs remove {study.id}; {command_for(study)}"
        )
    return done


def _take(lab: Lab, need: Recipe, done: Done, missing: set[str]) -> None:
    run = lab.lookup(need)
    if run is None:
        missing.add(need.id)
    else:
        done.add(need, run)
