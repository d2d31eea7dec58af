"""What surrounds the challenges: plan, log, experiments, reading, portfolio, and challenges of one's own."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from etude.cli.complaints import remark
from etude.cli.console import RunsFolder, say, say_prose, say_table
from etude.core.errors import EtudeError, UsageError
from etude.practice.challenge import Course
from etude.practice.practising import Practice

From = Annotated[Path | None, Parameter(name="--from", help="a folder of challenges of your own.")]


def opened() -> Practice:
    """Return the practice of this folder.

    Raises:
        UsageError: nobody practises here.
    """
    return Practice(Path(), say=remark)


def plan(
    *,
    goal: Annotated[str, Parameter(name="--goal", help="in your own words.")] = "",
    hours: Annotated[float | None, Parameter(name="--hours", help="a week.")] = None,
    track: Annotated[str, Parameter(name="--track", help="to follow; `all` for everything.")] = "",
    until: Annotated[str, Parameter(name="--until", help="a day, as in 2027-03-01.")] = "",
) -> None:
    """Make a plan, or show it as it stands after what was really done."""
    from datetime import date

    from etude.practice import planning

    practice, today = opened(), datetime.now(UTC).date()
    before = planning.plan_of(practice.events)
    if goal or hours is not None or until:
        try:
            day = date.fromisoformat(until) if until else None
        except ValueError:
            raise UsageError(f"--until {until} is no day: write it as 2027-03-01") from None
        told_goal = goal or (before.goal if before else "")
        told_hours = hours if hours is not None else before.hours if before else 5.0
        planning.Plan(told_goal, told_hours, day, today)
        practice.choose(track=track)
        practice.notebook.add("planned", goal=told_goal, hours=told_hours, until=until, track=practice.track)
    elif track:
        raise UsageError("--track alone plans nothing: give --goal, --hours or --until too")
    made = planning.plan_of(practice.events)
    if made is None:
        raise UsageError("there is no plan yet: etude practice plan --goal '...' --hours 5 --until 2027-03-01")
    found = practice.standings()
    along = practice.course.along(made.track) if made.track else practice.course.challenges
    todo = planning.left(along, found)
    for line in planning.told(made, todo, planning.pace(practice.course, found), today):
        say_prose(line)


def log(
    note: Annotated[str, Parameter(help="a line to write down.")] = "",
    /,
    *,
    weeks: Annotated[int, Parameter(name="--weeks", help="how many of the last are shown.")] = 4,
) -> None:
    """Show what each week gained, or write a line of your own into the log."""
    from etude.practice import weekly

    practice = opened()
    if note:
        practice.notebook.add("noted", text=note)
    for summary in weekly.summaries(practice.events)[-weeks:]:
        for line in weekly.told(summary, practice.course):
            say_prose(line)


def try_(
    name: str = "",
    /,
    *,
    predict: Annotated[str, Parameter(name="--predict", help="what you expect, before it is run.")] = "",
    conclude: Annotated[str, Parameter(name="--conclude", help="what you make of it, after.")] = "",
) -> None:
    """Run an experiment: predict first, then see. Without a name, show what there is to try."""
    from etude.practice import trying

    practice = opened()
    if not name:
        found = practice.standings()
        rows = [
            [
                each.name,
                each.title,
                f"{each.minutes:g}",
                "now" if each.is_ready(found) else "after " + ", ".join(each.after),
            ]
            for each in trying.experiments().values()
        ]
        say_table(["experiment", "what it asks", "minutes", "when"], rows)
        return
    chosen = trying.experiment(name)
    if conclude:
        practice.notebook.add("concluded", experiment=name, conclusion=conclude)
        say("Written down.")
        return
    say_prose(chosen.question)
    if not predict:
        raise UsageError(f"say what you expect first: etude practice try {name} --predict '...'")
    practice.notebook.add("predicted", experiment=name, prediction=predict)
    say(f"Your prediction is written down. Running `{chosen.line}`, about {chosen.minutes:g} minutes on two cores.")
    found = trying.run(chosen)
    findings, page = trying.findings_of(found), trying.page_of(found)
    practice.notebook.add("found", experiment=name, findings=findings, page=page)
    say(f"You predicted: {predict}")
    for each in findings:
        say(f"- {each['text']} ({each['strength']})")
    say(f"Where to look: {chosen.look}" + (f" {page}" if page else ""))
    say(f"What do you make of it? etude practice try {name} --conclude '...'")


def read(
    name: str = "",
    /,
    *,
    took: Annotated[str, Parameter(name="--took", help="what you took from it: it is read.")] = "",
) -> None:
    """Show the reading list, or write down what you took from a piece."""
    from etude.practice import trying

    practice = opened()
    if name:
        piece = trying.piece(name)
        if took:
            practice.notebook.add("read", piece=name, took=took)
        say_prose(piece.what)
        say_prose(f"  take from it: {piece.take}")
        return
    done = {event["piece"] for event in practice.events if event["what"] == "read"}
    for piece in trying.pieces().values():
        say_prose(f"{'read' if piece.name in done else '    '}  {piece.name:<14} {piece.what}")


def portfolio(
    folder: Annotated[Path, Parameter(help="to write to.")] = Path("portfolio"),
    /,
    *,
    name: Annotated[str, Parameter(name="--name", help="yours, for the title.")] = "",
    runs: RunsFolder = None,
) -> None:
    """Write a page and a repository of what you can show, honest about the help you took."""
    from etude.practice.portfolio import portfolio as write

    say(str(write(opened(), folder, name, runs or Path(os.environ.get("ETUDE_RUNS") or "runs"))))


def new(
    name: str,
    /,
    *,
    into: Annotated[Path, Parameter(name="--in", help="a folder of your own challenges; made where there is none.")],
) -> None:
    """Write a new challenge of your own: task, starter, check, solution and mutants, ready to be filled in."""
    from etude.practice.scaffolding import scaffold

    place = scaffold(name, into)
    say(f"{place}: four files, which prove as they stand (etude practice prove --from {into})")


def prove(
    name: str = "",
    /,
    *,
    course: From = None,
    seeds: Annotated[int, Parameter(name="--seeds", help="sets of numbers that each is asked with.")] = 3,
) -> None:
    """Prove challenges: a starter is blank, a solution passes, and every mutant is caught with a message of its own."""
    from etude.practice.proving import complaints

    loaded = Course.load(course) if course else Course.load()
    wrong = 0
    for challenge in [loaded[name]] if name else loaded:
        for line in complaints(challenge, range(seeds)):
            wrong += 1
            say_prose(line)
    if wrong:
        raise EtudeError(f"not proved; complaints: {wrong}")
    say(f"proved: {1 if name else len(loaded)}")
