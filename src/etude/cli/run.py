"""`etude run`: does a recipe or a study, and says what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from etude.cli.complaints import remark
from etude.cli.console import AsJson, RunsFolder, near, say, say_json
from etude.cli.describe import is_study
from etude.cli.results import result_lines
from etude.cli.subject import carry_out
from etude.core.errors import UsageError
from etude.core.lab import Beside, Lab
from etude.core.machine import cores
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.shelf import Shelf, check_name
from etude.core.world import world

MOST_JOBS = 8
PAGE = "report.html"

command = App("run", help_flags=[], version_flags=[])


@command.default
def _run(*words: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    carry_out("run", words, run)


def run(
    recipe: Recipe,
    *,
    preset: Annotated[str | None, Parameter(name="--preset", help="a study's named choice of its fields.")] = None,
    runs: RunsFolder = None,
    jobs: Annotated[int | None, Parameter(name=("--jobs", "-j"), help="runs made at once.")] = None,
    threads: Annotated[int | None, Parameter(name="--threads", help="threads for each run.")] = None,
    engine: Annotated[Literal["local", "ray"], Parameter(name="--engine", help="where runs are made.")] = "local",
    address: Annotated[
        str | None,
        Parameter(name="--address", help="the Ray cluster to join. Default: $RAY_ADDRESS, else a new one."),
    ] = None,
    name: Annotated[str | None, Parameter(name="--name", help="a name of your own for the run.")] = None,
    track: Annotated[
        str | None, Parameter(name="--track", help="metrics out, live: tensorboard:FOLDER or mlflow:ADDRESS.")
    ] = None,
    quiet: Annotated[
        bool, Parameter(name="--quiet", negative=(), show_default=False, help="show no progress.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Do a recipe or a study. What is done already is not done again, and what was stopped goes on.

    A study makes several runs at once, each on one thread, so that its numbers do not depend on how the work is spread;
    any other recipe takes all cores for one run. The last line of the answer is the path of the page, or of the run.
    """
    if name is not None:
        check_name(name)
    for flag, number in (("--jobs", jobs), ("--threads", threads)):
        if number is not None and number < 1:
            raise UsageError(f"{flag} {number} is too few: give 1 or more, or leave it out")
    lab = lab_for(recipe, runs, jobs, threads, quiet=quiet, engine=engine, address=address)
    if track is not None:
        lab.beside = _tracking(lab, track)
    here, done = world(), lab.lookup(recipe)
    if done and not quiet and here.first:
        remark(f"{done.id} is done already")
    made = done if done and here.size == 1 else lab.run(recipe)  # several make sure that all want the same
    if not here.first:
        return  # one answers
    if name is not None:
        Shelf(lab.root).name(made, name)
    if json:
        _print_json(made)
    else:
        _print(recipe, made)


def lab_for(
    recipe: Recipe,
    runs: Path | None,
    jobs: int | None,
    threads: int | None,
    *,
    quiet: bool,
    engine: str = "local",
    address: str | None = None,
) -> Lab:
    """Return the lab that does a recipe, with as many jobs and threads as suit it. A cluster knows how many jobs it has
    room for."""
    study = is_study(type(recipe))
    many = study and world().size == 1  # several processes make one run at a time
    here = (min(cores(), MOST_JOBS) if many else 1) if engine == "local" else None
    threads = threads or (1 if study else None)
    return Lab(runs, jobs=jobs or here, threads=threads, quiet=quiet, engine=engine, address=address)


def _tracking(lab: Lab, track: str) -> Beside:
    """Return what follows every run of the lab into a tracker."""
    from etude.cli.tracking import Tracking, tracker_named

    tracker = tracker_named(track)
    return lambda begun, say: Tracking(lab.root, tracker, begun, remark if lab.quiet else say)


def _print(recipe: Recipe, made: Run) -> None:
    for line in recipe.in_words(made):
        say(line)
    for line in result_lines(made.result, made.id):
        say(line)
    if "mfu" in (timing := made.result.get("timing", {})):
        say(f"{timing['mfu']:.0%} of the {timing['peak_flops'] / 1e9:,.0f} GFLOP/s of matrix products here (MFU)")
    say(near(made.path / PAGE if PAGE in made.files else made.path))


def _print_json(made: Run) -> None:
    answer: dict[str, Any] = {"id": made.id, "path": near(made.path)}
    if PAGE in made.files:
        answer["report"] = near(made.path / PAGE)
    say_json({**answer, "result": made.result})
