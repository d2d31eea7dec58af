"""`etude practice`: challenges in a folder of plain files, checked whenever they are saved."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from etude.cli.complaints import remark
from etude.cli.console import AsJson, say, say_json, say_table
from etude.core.errors import EtudeError, UsageError, unknown
from etude.practice.challenge import RUNGS, Challenge, Course
from etude.practice.practising import RULES, Practice, told
from etude.practice.standing import Standing

command = App("practice", version_flags=[])

Switch = {"negative": (), "show_default": False}
From = Annotated[Path | None, Parameter(name="--from", help="a folder of challenges of your own.")]


def _here() -> Practice:
    return Practice(Path(), say=remark)


@command.default
def watch(
    *,
    course: From = None,
    track: Annotated[str, Parameter(name="--track", help="follow one track, with what it builds on.")] = "",
    rules: Annotated[str, Parameter(name="--rules", help="what you may look up: " + ", ".join(RULES) + ".")] = "",
    once: Annotated[bool, Parameter(name="--once", help="check what was changed, and end.", **Switch)] = False,
    here: Annotated[bool, Parameter(name="--here", help="begin in a folder that is not empty.", **Switch)] = False,
) -> None:
    """Practise: rebuild every part of a transformer in plain files, which are checked whenever you save one.

    In an empty folder it lays the challenges out. Then it watches; leave it open beside your editor, and end it with
    Ctrl-C. Nothing is lost by that: the same command goes on.
    """
    from etude.practice.watching import Watcher

    practice = _begun(course, track, rules, here=here)
    if once:
        _once(practice)
        return
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    watcher = Watcher(practice, say=_say_now, ask=input if asks else None)
    _say_now("Watching. Save a file and it is checked; Ctrl-C ends. `etude practice hint` in another terminal helps.")
    try:
        watcher.watch()
    except KeyboardInterrupt:
        say("")
        say("Everything is kept; `etude practice` goes on from here.")


def _begun(course: Path | None, track: str, rules: str, *, here: bool) -> Practice:
    """Open the practice of this folder, or begin one."""
    from etude.practice.notebook import Notebook

    if Notebook(Path(), say=remark).exists:
        practice = _here()
        if course is not None:
            raise UsageError("this folder has a course already: practise with --from in another folder")
        practice.choose(rules=rules, track=track)
        new = practice.desk.lay_out()
        if new:
            say(f"New or gone, and written as starters: {', '.join(new)}.")
        return practice
    chosen = rules or _asked_rules()
    practice = Practice.begin(Path(), course=course, rules=chosen, track=track, here=here, say=remark)
    say(f"{len(practice.course)} challenges are laid out, a plain file each. The rules: {RULES[chosen]}.")
    return practice


def _asked_rules() -> str:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "documentation"
    say("What may you look up while you practise? It is for you to say, and your page will show it.")
    for name, meaning in RULES.items():
        say(f"  {name:<14} {meaning}")
    while (answer := input("documentation? (Enter for yes, or another name) ").strip() or "documentation") not in RULES:
        say(str(unknown("rule", answer, RULES)))
    return answer


def _once(practice: Practice) -> None:
    """Check every file that is not as it was when it was last checked, or was never checked and is no starter."""
    checked, wrong = 0, []
    for challenge in practice.course:
        try:
            source = practice.desk.read(challenge)
        except EtudeError as error:
            remark(str(error))
            wrong.append(challenge.name)
            continue
        last = practice.desk.kept / f"{challenge.name}.py"
        if source == (last.read_text(encoding="utf-8") if last.exists() else challenge.starter):
            continue
        checked += 1
        verdict = practice.check(challenge)
        for line in told(challenge, verdict):
            say(line)
        if not verdict.passed:
            wrong.append(challenge.name)
    if not checked:
        say("Nothing was changed since it was last checked.")
    if wrong:
        raise EtudeError(f"not right yet: {', '.join(wrong)}")


def _say_now(line: str) -> None:
    print(line, flush=True)


@command.command(name="list")
def list_(*, course: From = None, json: AsJson = False) -> None:
    """Show the challenges in order, and where you stand with each."""
    from etude.practice.notebook import Notebook

    practice = _here() if course is None and Notebook(Path(), say=remark).exists else None
    every = practice.course if practice else Course.load(course) if course else Course.load()
    found = practice.standings() if practice else {}
    if json:
        say_json([_as_json(each, found.get(each.name)) for each in every])
        return
    rows = [
        [
            each.name,
            each.track,
            each.title,
            f"{each.minutes[0]:g} to {each.minutes[1]:g}",
            _stands(found.get(each.name)),
        ]
        for each in every
    ]
    say_table(["challenge", "track", "what is built", "minutes", "you"], rows)
    solved = sum(bool(standing.solved) for standing in found.values())
    say(f"{solved} of {len(every)} solved" if practice else f"{len(every)} challenges: `etude practice` begins")


def _stands(standing: Standing | None) -> str:
    if standing is None or not standing.rounds:
        return ""
    if standing.back:
        return "has come back"
    if standing.under_way:
        return f"under way, {standing.rounds[-1].tries} wrong"
    last = standing.solved[-1]
    return f"solved in {last.minutes:.0f} min" + ("" if last.unaided else ", helped")


def _as_json(challenge: Challenge, standing: Standing | None) -> dict[str, object]:
    done = standing.solved if standing else []
    return {
        "challenge": challenge.name,
        "track": challenge.track,
        "title": challenge.title,
        "file": challenge.file,
        "minutes": list(challenge.minutes),
        "solved": len(done),
        "worked_minutes": done[-1].minutes if done else None,
        "unaided": done[-1].unaided if done else None,
        "due": standing.due.isoformat() if standing and standing.due else None,
    }


@command.command(name="next")
def next_() -> None:
    """Say what to do now."""
    practice = _here()
    for name in practice.bring_back():
        say(f"{name} has come back blank: is it easier now?")
    challenge = practice.next()
    if challenge is None:
        say("All of it is solved.")
        return
    practice.open(challenge)
    say(f"{challenge.file}: {challenge.title}, {challenge.minutes[0]:g} to {challenge.minutes[1]:g} minutes")


@command.command
def check(
    name: str = "",
    /,
    *,
    seed: Annotated[int | None, Parameter(name="--seed", help="of the numbers; fresh ones without it.")] = None,
    json: AsJson = False,
) -> None:
    """Check one challenge; without a name, the one that is next."""
    practice = _here()
    challenge = _named(practice, name)
    verdict = practice.check(challenge, seed)
    if json:
        say_json(verdict.to_json())
    else:
        for line in told(challenge, verdict):
            say(line)
    if not verdict.passed:
        raise EtudeError(f"{challenge.name} is not right yet (seed {verdict.seed})")


def _named(practice: Practice, name: str) -> Challenge:
    if name:
        return practice.course[name]
    if (challenge := practice.next()) is None:
        raise UsageError("all of it is solved: name a challenge. See: etude practice list")
    return challenge


@command.command
def hint(name: str = "", /) -> None:
    """Take the next of three hints: an idea, a formula, almost the code. Your page will say so."""
    practice = _here()
    challenge = _named(practice, name)
    rung, words = practice.hint(challenge)
    say(f"{challenge.name}, hint {rung} of {RUNGS}: {words}")


@command.command
def solution(name: str, /) -> None:
    """Show our solution. Your page will say that you saw it, and the challenge comes back a day after you solve it."""
    practice = _here()
    say(practice.solution(practice.course[name]).rstrip())


@command.command
def reset(name: str, /) -> None:
    """Begin a challenge anew. What stands in its file is kept."""
    practice = _here()
    challenge = practice.course[name]
    kept = practice.reset(challenge)
    say(f"{challenge.file} is a starter again" + (f"; what stood there is in {kept}" if kept else ""))


@command.command
def pause() -> None:
    """Stop the timer until the next save, hint or check."""
    _here().pause()
    say("The timer stands still until you save, check or take a hint.")


@command.command
def answer(
    name: str,
    /,
    *,
    sure: Annotated[int, Parameter(name="--sure", help="1, not at all, to 5: that you know why it is right.")],
    hard: Annotated[str, Parameter(name="--hard", help="what was hard.")] = "",
    unaided: Annotated[bool, Parameter(name="--unaided", help="you would do it again unaided.", **Switch)] = False,
) -> None:
    """Answer the three questions after a challenge, where nobody asked you."""
    practice = _here()
    practice.answer(practice.course[name], hard, sure, unaided)
    say("Written down.")


@command.command
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

    practice, today = _here(), datetime.now(UTC).date()
    before = planning.plan_of(practice.events)
    if goal or hours is not None or until:
        try:
            day = date.fromisoformat(until) if until else None
        except ValueError:
            raise UsageError(f"--until {until} is no day: write it as 2027-03-01") from None
        told_goal = goal or (before.goal if before else "")
        told_hours = hours if hours is not None else before.hours if before else 5.0
        planning.Plan(told_goal, told_hours, day, today)
        practice.notebook.add("planned", goal=told_goal, hours=told_hours, until=until)
    practice.choose(track=track)
    made = planning.plan_of(practice.events)
    if made is None:
        raise UsageError("there is no plan yet: etude practice plan --goal '...' --hours 5 --until 2027-03-01")
    found = practice.standings()
    todo = planning.left(practice.challenges, found)
    for line in planning.told(made, todo, planning.pace(practice.course, found), today):
        say(line)


@command.command
def log(
    note: Annotated[str, Parameter(help="a line to write down.")] = "",
    /,
    *,
    weeks: Annotated[int, Parameter(name="--weeks", help="how many of the last are shown.")] = 4,
) -> None:
    """Show what each week gained, or write a line of your own into the log."""
    from etude.practice import weekly

    practice = _here()
    if note:
        practice.notebook.add("noted", text=note)
    for summary in weekly.summaries(practice.events)[-weeks:]:
        for line in weekly.told(summary, practice.course):
            say(line)


@command.command(name="try")
def try_(
    name: str = "",
    /,
    *,
    predict: Annotated[str, Parameter(name="--predict", help="what you expect, before it is run.")] = "",
    conclude: Annotated[str, Parameter(name="--conclude", help="what you make of it, after.")] = "",
) -> None:
    """Run an experiment: predict first, then see. Without a name, show what there is to try."""
    from etude.practice import trying

    practice = _here()
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
    say(chosen.question)
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


@command.command
def read(
    name: str = "",
    /,
    *,
    took: Annotated[str, Parameter(name="--took", help="what you took from it: it is read.")] = "",
) -> None:
    """Show the reading list, or write down what you took from a piece."""
    from etude.practice import trying

    practice = _here()
    if name:
        piece = trying.piece(name)
        if took:
            practice.notebook.add("read", piece=name, took=took)
        say(piece.what)
        say(f"  take from it: {piece.take}")
        return
    done = {event["piece"] for event in practice.events if event["what"] == "read"}
    for piece in trying.pieces().values():
        say(f"{'read' if piece.name in done else '    '}  {piece.name:<14} {piece.what}")


@command.command
def portfolio(
    folder: Annotated[Path, Parameter(help="to write to.")] = Path("portfolio"),
    /,
    *,
    name: Annotated[str, Parameter(name="--name", help="yours, for the title.")] = "",
) -> None:
    """Write a page and a repository of what you can show, honest about the help you took."""
    from etude.practice.portfolio import portfolio as write

    say(str(write(_here(), folder, name)))


@command.command
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


@command.command
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
            say(line)
    if wrong:
        raise EtudeError(f"{wrong} complaints")
    say(f"{1 if name else len(loaded)} proved")
