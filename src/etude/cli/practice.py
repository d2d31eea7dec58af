"""`etude practice`: challenges in a folder of plain files, checked whenever they are saved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from etude.cli.around_practice import From, log, new, opened, plan, portfolio, prove, read, try_
from etude.cli.complaints import remark
from etude.cli.console import AsJson, say, say_json, say_prose, say_table
from etude.core.errors import EtudeError, UsageError
from etude.practice.challenge import RUNGS, Challenge, Course
from etude.practice.practising import RULES, Practice, told
from etude.practice.standing import Standing

command = App("practice", version_flags=[])
for act in (plan, log, read, portfolio, new, prove):
    command.command(act)
command.command(try_, name="try")

Switch = {"negative": (), "show_default": False}


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
    watcher = Watcher(practice, say=say_prose, ask=input if asks else None)
    try:
        watcher.watch()
    except KeyboardInterrupt:
        say("")
        say("Everything is kept; `etude practice` goes on from here.")


def _begun(course: Path | None, track: str, rules: str, *, here: bool) -> Practice:
    """Open the practice of this folder, or begin one."""
    from etude.practice.notebook import Notebook

    if Notebook(Path(), say=remark).exists:
        practice = opened()
        if course is not None:
            raise UsageError("this folder has a course already: practise with --from in another folder")
        practice.choose(rules=rules, track=track)
        new = practice.desk.lay_out()
        if new:
            say_prose(f"New or gone, and written as starters: {', '.join(new)}.")
        if rules:
            say_prose(f"The rules from now on: {RULES[rules]}.")
    else:
        chosen = rules or _asked_rules()
        practice = Practice.begin(Path(), course=course, rules=chosen, track=track, here=here, say=remark)
        say_prose(f"Laid out, a plain file each: {len(practice.course)} challenges. The rules: {RULES[chosen]}.")
    if practice.track:
        many = len(practice.challenges)
        say_prose(f"Following the track {practice.track}, {many} challenges; `--track all` follows everything.")
    return practice


def _asked_rules() -> str:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "documentation"
    say("What may you look up while you practise? It is for you to say, and your page will show it.")
    for name, meaning in RULES.items():
        say(f"  {name:<14} {meaning}")
    while True:
        answer = input("documentation? (Enter for yes, or another name) ").strip().lower()
        if answer in ("", "y", "yes"):
            return "documentation"
        if answer in RULES:
            return answer
        say(f"{answer!r} is none of them: {', '.join(RULES)}")


def _once(practice: Practice) -> None:
    """Check every file that is not as it was when it was last checked."""
    wrong = []
    changed = practice.changed()
    for challenge in changed:
        try:
            verdict = practice.check(challenge)
        except EtudeError as error:
            remark(str(error))
            wrong.append(challenge.name)
            continue
        for line in told(challenge, verdict):
            say_prose(line)
        if not verdict.passed:
            wrong.append(challenge.name)
    if not changed:
        say("Nothing was changed since it was last checked.")
    if wrong:
        raise EtudeError(f"not right yet: {', '.join(wrong)}")


@command.command(name="list")
def list_(
    *,
    course: From = None,
    every: Annotated[bool, Parameter(name="--all", help="not those of the track alone.", **Switch)] = False,
    json: AsJson = False,
) -> None:
    """Show the challenges in order, and where you stand with each."""
    from etude.practice.notebook import Notebook

    practice = opened() if course is None and Notebook(Path(), say=remark).exists else None
    whole = practice.course if practice else Course.load(course) if course else Course.load()
    listed = practice.challenges if practice and not every else whole.challenges
    found = practice.standings() if practice else {}
    if json:
        say_json([_as_json(each, found.get(each.name)) for each in whole])
        return
    rows = [
        [
            each.name,
            each.track,
            each.title,
            f"{each.minutes[0]:g} to {each.minutes[1]:g}",
            _stands(found.get(each.name)),
        ]
        for each in listed
    ]
    say_table(["challenge", "track", "what is built", "minutes", "you"], rows)
    if practice is None:
        say(f"{len(whole)} challenges: `etude practice` begins")
        return
    solved = sum(bool(found[each.name].solved) for each in listed if each.name in found)
    more = "" if len(listed) == len(whole) else f" of the track {practice.track}; --all shows all {len(whole)}"
    say(f"{solved} of {len(listed)} solved{more}")


def _stands(standing: Standing | None) -> str:
    if standing is None or not standing.rounds:
        return ""
    if standing.back:
        return "has come back"
    if standing.under_way:
        tries = standing.rounds[-1].tries
        return f"under way, {tries} wrong" if tries else "under way"
    last = standing.solved[-1]
    return f"solved in {last.told_minutes} min" + ("" if last.unaided else ", helped")


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
    practice = opened()
    for name in practice.bring_back():
        say(f"{name} has come back blank: is it easier now?")
    challenge = practice.next()
    if challenge is None:
        say("All of it is solved.")
        return
    practice.desk.read(challenge)  # which says so where it is gone
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
    practice = opened()
    challenge = _named(practice, name)
    verdict = practice.check(challenge, seed)
    if json:
        say_json(verdict.to_json())
    else:
        for line in told(challenge, verdict):
            say_prose(line)
    if not verdict.passed:
        again = f" (--seed {verdict.seed} asks the same again)" if verdict.outcome in ("wrong", "raised") else ""
        raise EtudeError(f"{challenge.name} is not right yet{again}")


def _named(practice: Practice, name: str) -> Challenge:
    if name:
        return practice.course[name]
    if (challenge := practice.next()) is None:
        raise UsageError("all of it is solved: name a challenge. See: etude practice list")
    return challenge


@command.command
def hint(name: str = "", /) -> None:
    """Take the next of three hints: an idea, a formula, almost the code. Your page will say so."""
    practice = opened()
    challenge = _named(practice, name)
    rung, words = practice.hint(challenge)
    last = ", and there are no more" if rung == RUNGS else ""
    say_prose(f"{challenge.name}, hint {rung} of {RUNGS}{last}: {words}")


@command.command
def solution(name: str, /) -> None:
    """Show our solution. Your page will say that you saw it, and the challenge comes back a day after you solve it."""
    practice = opened()
    say(practice.solution(practice.course[name]).rstrip())
    remark("(It is written down that you saw it.)")


@command.command
def reset(name: str, /) -> None:
    """Begin a challenge anew. What stands in its file is kept."""
    practice = opened()
    challenge = practice.course[name]
    kept = practice.reset(challenge)
    say(f"{challenge.file} is a starter again" + (f"; what stood there is in {kept}" if kept else ""))


@command.command
def pause() -> None:
    """Stop the timer until the next save, hint or check."""
    opened().pause()
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
    """Answer the three questions after a challenge with flags, where nobody asked you."""
    practice = opened()
    practice.answer(practice.course[name], hard, sure, unaided)
    say("Written down.")
