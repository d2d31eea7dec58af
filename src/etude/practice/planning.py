"""A plan that makes itself again from what was really done: weeks, hours and challenges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

from etude.core.errors import UsageError
from etude.practice.challenge import Challenge
from etude.practice.notebook import Event
from etude.practice.standing import Standing


@dataclass(frozen=True)
class Plan:
    """What a learner has set out to do.

    Attributes:
        goal: in their own words.
        hours: a week.
        until: the day by which it is to be done; None where there is none.
        since: the day on which it was made.
        track: that is planned; all where empty.
    """

    goal: str
    hours: float
    until: date | None
    since: date
    track: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.hours <= 80:
            raise UsageError(f"hours = {self.hours:g} a week: give more than 0 and at most 80")
        if self.until is not None and self.until <= self.since:
            raise UsageError(f"until = {self.until}: that day is not ahead of {self.since}")


@dataclass(frozen=True)
class Week:
    """A week of a plan.

    Attributes:
        begins: its first day.
        challenges: what ends in it.
        minutes: that are given to them.
    """

    begins: date
    challenges: tuple[Challenge, ...]
    minutes: float


def plan_of(events: Sequence[Event]) -> Plan | None:
    """Return the last plan that was made, or None."""
    for event in reversed(events):
        if event["what"] == "planned":
            until = date.fromisoformat(event["until"]) if event["until"] else None
            since = date.fromisoformat(event["when"][:10])
            return Plan(event["goal"], float(event["hours"]), until, since, event["track"])
    return None


def pace(challenges: Iterable[Challenge], found: Mapping[str, Standing]) -> float:
    """Return the learner's time over the middle of the band: the median over what was solved, with two solvings at just
    the middle thought in, so that the first few do not swing it."""
    own = [
        found[each.name].solved[0].minutes / middle(each)
        for each in challenges
        if each.name in found and found[each.name].solved
    ]
    return median([1.0, 1.0, *own])


def middle(challenge: Challenge) -> float:
    """Return the middle of a challenge's band, in minutes."""
    return sum(challenge.minutes) / 2


def left(challenges: Iterable[Challenge], found: Mapping[str, Standing]) -> list[Challenge]:
    """Return what is not solved yet, in order."""
    return [each for each in challenges if each.name not in found or not found[each.name].solved]


def weeks(todo: Sequence[Challenge], hours: float, pace: float, today: date) -> list[Week]:
    """Share challenges out over weeks, in order. One that is longer than what is left of a week goes on in the next.

    Args:
        todo: in order.
        hours: a week.
        pace: of the learner, over the middle of the band.
        today: when the first week begins.
    """
    found: list[Week] = []
    room, ends, spent, begins = hours * 60, [], 0.0, today
    for challenge in todo:
        need = middle(challenge) * pace
        while need > room + 1e-9:
            need -= room
            found.append(Week(begins, tuple(ends), spent + room))
            begins, room, ends, spent = begins + timedelta(days=7), hours * 60, [], 0.0
        room, spent = room - need, spent + need
        ends.append(challenge)
    if ends or spent:
        found.append(Week(begins, tuple(ends), spent))
    return found


def told(plan: Plan, todo: Sequence[Challenge], pace: float, today: date) -> list[str]:
    """Return the plan as lines: the goal, the weeks that are left, and whether the day that was set is kept."""
    ahead = weeks(todo, plan.hours, pace, today)
    of = f" Track: {plan.track}." if plan.track else ""
    lines = [f"Goal: {plan.goal or 'none set'}. Hours a week: {plan.hours:g}, since {plan.since}.{of}"]
    if pace != 1:
        lines.append(f"So far you take {pace:.0%} of the time at the middle of the bands; what follows goes by that.")
    if not todo:
        return [*lines, "Everything of it is solved."]
    for week in ahead:
        names = ", ".join(each.name for each in week.challenges) or "(going on)"
        lines.append(f"  from {week.begins}: {names} ({week.minutes / 60:.1f} h)")
    end = ahead[-1].begins + timedelta(days=6)
    needed = sum(middle(each) for each in todo) * pace / 60
    if plan.until is None:
        return [*lines, f"{len(todo)} challenges are left, about {needed:.0f} hours: done by {end}."]
    if end <= plan.until:
        return [*lines, f"{len(todo)} challenges are left: done by {end}, before {plan.until}."]
    days = max(1, (plan.until - today).days)
    return [
        *lines,
        f"{len(todo)} challenges are left, about {needed:.0f} hours: done by {end}, not by {plan.until}. That day needs"
        f" {needed * 7 / days:.1f} hours a week.",
    ]
