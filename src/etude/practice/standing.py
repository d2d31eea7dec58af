"""Where a learner stands, computed from the notebook: rounds with each challenge, their time, what comes back when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from etude.practice.challenge import Challenge
from etude.practice.notebook import Event, moment

IDLE = timedelta(minutes=15)
"""The timer pauses by itself after so long without a save, a hint or a check."""

RETURNS = (3, 10, 30)
"""Days after which a solved challenge comes back blank: after the first solving, the second, and each later one."""

SOONER = 1
"""Days after which one comes back whose solution was looked at."""

PAUSES = ("paused", "left")
"""Events after which no time counts, until the next."""

WORK = ("opened", "checked", "hint", "solution", "reset")
"""Events of a challenge that time is counted up to."""


@dataclass
class Round:
    """One going at a challenge, from blank to solved.

    Attributes:
        begun: when it was first worked at.
        seconds: that were worked, pauses left out.
        tries: checks that did not pass.
        hints: rungs that were taken.
        seen: whether our solution was looked at.
        solved: when it passed.
        answers: to the three questions after it.
        shown: series that the check drew from the answer.
        messages: what the checks said of wrong answers, in order; broken files are not among them.
    """

    begun: datetime
    seconds: float = 0.0
    tries: int = 0
    hints: int = 0
    seen: bool = False
    solved: datetime | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def minutes(self) -> float:
        return self.seconds / 60

    @property
    def told_minutes(self) -> str:
        """The minutes as they are written."""
        return f"{self.minutes:.0f}" if self.minutes >= 0.95 else "under 1"

    @property
    def unaided(self) -> bool:
        """Whether it was solved with no hint and no solution."""
        return self.solved is not None and not self.hints and not self.seen

    def against(self, band: tuple[float, float]) -> str:
        """Return where its time lies: `under`, `within` or `over` a band of minutes."""
        return "under" if self.minutes < band[0] else "over" if self.minutes > band[1] else "within"


@dataclass
class Standing:
    """Every round with one challenge, in order."""

    rounds: list[Round] = field(default_factory=list)
    back: bool = False

    @property
    def solved(self) -> list[Round]:
        return [each for each in self.rounds if each.solved]

    @property
    def under_way(self) -> Round | None:
        """The round that is not over, if there is one."""
        return self.rounds[-1] if self.rounds and not self.rounds[-1].solved else None

    @property
    def due(self) -> datetime | None:
        """When it comes back blank; None while it was never solved, or is back already."""
        done = self.solved
        if not done or self.back:
            return None
        last = done[-1]
        assert last.solved is not None
        days = SOONER if last.seen else RETURNS[min(len(done), len(RETURNS)) - 1]
        return last.solved + timedelta(days=days)

    @property
    def easier(self) -> float | None:
        """The time of the last solving over that of the first; None before there are two."""
        done = self.solved
        return done[-1].seconds / max(done[0].seconds, 1.0) if len(done) > 1 else None


def standings(events: Sequence[Event]) -> dict[str, Standing]:
    """Return where a learner stands with each challenge that has been worked at.

    Time between two events counts for the challenge of the later one, at most `IDLE` of it, and none of it after a
    pause.
    """
    found: dict[str, Standing] = {}
    for event, seconds in worked(events):
        if "challenge" in event:
            _take(found.setdefault(event["challenge"], Standing()), event, seconds)
    return found


def worked(events: Sequence[Event]) -> Iterator[tuple[Event, float]]:
    """Yield each event with the seconds of work that it ends. A note, a plan or an answer to a question that is written
    down meanwhile neither ends nor begins any."""
    before: Event | None = None
    for event in events:
        begins = before is None or before["what"] in PAUSES or event["what"] == "opened"
        ends = event["what"] in WORK and not begins
        yield event, max(0.0, min(moment(event) - moment(before), IDLE).total_seconds()) if ends and before else 0.0
        if event["what"] in (*WORK, *PAUSES):
            before = event


def _take(standing: Standing, event: Event, seconds: float) -> None:
    what = event["what"]
    if what == "returned":
        standing.back = True
        standing.rounds.append(Round(moment(event)))
        return
    if what == "answered":
        if standing.solved:
            standing.solved[-1].answers = dict(event["answers"])
        return
    if what not in WORK:
        return
    if standing.under_way is None:
        if standing.rounds:  # solved, and looked at again: practice, but no new round
            return
        standing.rounds.append(Round(moment(event)))
    now = standing.rounds[-1]
    now.seconds += seconds
    if what == "hint":
        now.hints = max(now.hints, int(event["rung"]))
    elif what == "solution":
        now.seen = True
    elif what == "checked":
        if event["outcome"] == "passed":
            now.solved, standing.back, now.shown = moment(event), False, dict(event.get("shown", {}))
            return
        now.tries += event["outcome"] != "blank"
        message = str(event.get("message", ""))
        if event["outcome"] == "wrong" and now.messages[-1:] != [message]:
            now.messages.append(message)


def coming_back(found: Mapping[str, Standing], now: datetime) -> list[str]:
    """Return the solved challenges whose time to come back has come, the longest due first."""
    due = [(standing.due, name) for name, standing in found.items() if standing.due is not None]
    return [name for when, name in sorted(due) if when <= now]


def next_of(challenges: Iterable[Challenge], found: Mapping[str, Standing]) -> Challenge | None:
    """Return what to do now: what has come back, then what is under way, then the first that is unsolved."""
    every = list(challenges)
    back = [each for each in every if each.name in found and found[each.name].back]
    unsolved = [each for each in every if each.name not in found or not found[each.name].solved]
    return next(iter((*back, *unsolved)), None)
