"""Practising in a folder: check, hint, solution, reset, and what comes back. Every step is written down first."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etude.core.errors import EtudeError, UsageError, unknown
from etude.practice.challenge import HOUSE, RUNGS, Challenge, Course
from etude.practice.desk import Desk, refuse_foreign
from etude.practice.notebook import Event, Notebook
from etude.practice.sandbox import judged
from etude.practice.standing import Round, Standing, coming_back, next_of, standings
from etude.practice.verdict import Verdict

RULES = {
    "nothing": "nothing is looked up",
    "documentation": "the documentation of Python and PyTorch may be looked up",
    "papers": "documentation, papers and books may be looked up",
    "anything": "anything may be looked up but a finished solution",
}
"""What may be looked up, by the learner's own choice. Nobody polices it: the page shows it."""

AGAIN = 3
"""Times that a file is read anew because it was saved while it was checked."""


class Practice:
    """A learner's folder with its course and notebook.

    Args:
        folder: where somebody practises.
        now: the clock.
        say: told of what a person should know.

    Raises:
        UsageError: nobody practises there yet (`begin` does that), or its course is gone.
    """

    def __init__(
        self,
        folder: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        say: Callable[[str], None] = print,
    ) -> None:
        self.folder, self.now, self.say = folder, now, say
        self.notebook = Notebook(folder, now, say)
        begun = [event for event in self.notebook.events() if event["what"] == "begun"]
        if not begun:
            raise UsageError(f"nobody practises in {folder.absolute()} yet: `etude practice` in an empty folder begins")
        self.course = Course.load(Path(begun[-1]["from"]) if begun[-1]["from"] else HOUSE)
        self.desk = Desk(folder, self.course)

    @classmethod
    def begin(
        cls,
        folder: Path,
        *,
        course: Path | None = None,
        rules: str = "documentation",
        track: str = "",
        here: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        say: Callable[[str], None] = print,
    ) -> Practice:
        """Begin in a folder: lay the challenges out and write the first line of the notebook.

        Args:
            folder: an empty one, unless `here`.
            course: a folder of one's own challenges; Etude's where None.
            rules: one of `RULES`.
            track: the one to follow; all where empty.
            here: use the folder whatever it holds.
            now: the clock.
            say: told of what a person should know.

        Raises:
            UsageError: the folder holds something else, or there is no such rule, track or course.
        """
        _known_rule(rules)
        loaded = Course.load(course or HOUSE)
        if track:
            loaded.along(track)
        if not here:
            refuse_foreign(folder)
        notebook = Notebook(folder, now, say)
        notebook.add("begun", **{"from": str(course.absolute()) if course else "", "rules": rules, "track": track})
        practice = cls(folder, now, say)
        practice.desk.lay_out()
        return practice

    # What stands

    @property
    def events(self) -> list[Event]:
        return self.notebook.events()

    @property
    def rules(self) -> str:
        """What may be looked up."""
        return next(event["rules"] for event in reversed(self.events) if "rules" in event)

    @property
    def track(self) -> str:
        """The track that is followed; empty for all."""
        return next((event["track"] for event in reversed(self.events) if "track" in event), "")

    @property
    def challenges(self) -> tuple[Challenge, ...]:
        """The challenges of the track, with what they build on."""
        return self.course.along(self.track) if self.track else self.course.challenges

    def changed(self) -> list[Challenge]:
        """Return what is not as it was when it was last checked, or was never checked and is no starter."""
        found = []
        for challenge in self.course:
            last = self.desk.kept / f"{challenge.name}.py"
            before = last.read_text(encoding="utf-8") if last.exists() else challenge.starter
            path = self.desk.path(challenge)
            if path.exists() and path.read_bytes() not in (before.encode(), challenge.starter.encode()):
                found.append(challenge)
        return found

    def standings(self) -> dict[str, Standing]:
        """Return where the learner stands, by challenge."""
        return standings(self.events)

    def next(self) -> Challenge | None:
        """Return what to do now; None where all is solved and nothing has come back."""
        return next_of(self.challenges, self.standings())

    # What is done

    def open(self, challenge: Challenge) -> None:
        """Write down that the learner begins with a challenge."""
        self.notebook.add("opened", challenge=challenge.name)

    def check(self, challenge: Challenge, seed: int | None = None) -> Verdict:
        """Check what stands in the learner's file. A file that is saved meanwhile is checked again.

        Args:
            challenge: which.
            seed: of the numbers that it is asked with; fresh ones where None.

        Raises:
            EtudeError: the file is gone or no text.
        """
        source = self.desk.read(challenge)
        verdict = self._judged(challenge, source, seed)
        for _ in range(AGAIN):
            now = self._now(challenge, source)
            if now == source:
                break
            source, verdict = now, self._judged(challenge, now, seed)
        self._write_down(challenge, source, verdict)
        return verdict

    def _judged(self, challenge: Challenge, source: str, seed: int | None) -> Verdict:
        self.desk.keep(challenge, source)
        return judged(challenge, source, secrets.randbelow(2**31) if seed is None else seed)

    def _now(self, challenge: Challenge, before: str) -> str:
        """Return what stands in the file by now; what was read before where it has gone meanwhile."""
        try:
            return self.desk.read(challenge)
        except EtudeError:
            return before

    def _write_down(self, challenge: Challenge, source: str, verdict: Verdict) -> None:
        facts: dict[str, Any] = {"outcome": verdict.outcome, "seed": verdict.seed, "message": verdict.message}
        before = self.standings().get(challenge.name, Standing())
        if verdict.passed and (before.under_way or not before.rounds):
            facts["shown"] = verdict.shown
            self.desk.keep(challenge, source, f"solved-{len(before.solved) + 1}")
        self.notebook.add("checked", challenge=challenge.name, **facts)

    def hint(self, challenge: Challenge) -> tuple[int, str]:
        """Return the next rung of hints and its number, from 1; the last again where all were taken."""
        now = self.standings().get(challenge.name, Standing()).under_way
        rung = min(RUNGS, (now.hints if now else 0) + 1)
        self.notebook.add("hint", challenge=challenge.name, rung=rung)
        return rung, challenge.hints[rung - 1]

    def solution(self, challenge: Challenge) -> str:
        """Return our solution. It is written down that it was seen."""
        self.notebook.add("solution", challenge=challenge.name)
        return challenge.solution

    def reset(self, challenge: Challenge) -> Path | None:
        """Begin a challenge anew: the starter is written, and where what stood there was kept is returned."""
        kept = self.desk.reset(challenge)
        self.notebook.add("reset", challenge=challenge.name)
        return kept

    def pause(self) -> None:
        """Stop the timer until the next thing is done."""
        self.notebook.add("paused")

    def choose(self, *, rules: str = "", track: str = "") -> None:
        """Choose other rules or another track from now on.

        Raises:
            UsageError: there is none of that name.
        """
        if rules:
            _known_rule(rules)
            self.notebook.add("chose", rules=rules)
        if track:
            if track != "all":
                self.course.along(track)
            self.notebook.add("chose", track="" if track == "all" else track)

    def answer(self, challenge: Challenge, hard: str, sure: int, unaided: bool) -> None:
        """Write down the answers to the three questions.

        Args:
            challenge: which was solved.
            hard: what was hard.
            sure: from 1, not at all, to 5.
            unaided: whether one would do it again unaided.

        Raises:
            UsageError: it was not solved, or `sure` is no such number.
        """
        if not self.standings().get(challenge.name, Standing()).solved:
            raise UsageError(f"{challenge.name} is not solved yet: the questions come after it")
        if sure not in range(1, 6):
            raise UsageError(f"sure = {sure}: give 1, not at all, to 5, entirely")
        self.notebook.add(
            "answered", challenge=challenge.name, answers={"hard": hard, "sure": sure, "unaided": unaided}
        )

    def bring_back(self) -> list[str]:
        """Blank the files of what is due to come back, and return their names. What stood there is kept."""
        back = coming_back(self.standings(), self.now())
        for name in back:
            self.desk.reset(self.course[name])
            self.notebook.add("returned", challenge=name)
        return back


def _known_rule(rules: str) -> None:
    if rules not in RULES:
        raise unknown("rule", rules, RULES)


def told(challenge: Challenge, verdict: Verdict) -> list[str]:
    """Return what is said of a check, line by line."""
    lines = []
    if verdict.prints.strip():
        lines += ["  it printed:", *(f"    {line}" for line in verdict.prints.rstrip().splitlines()[:20])]
    if verdict.passed:
        return [*lines, f"{challenge.name}: right."]
    if verdict.outcome == "blank":
        return [*lines, f"{challenge.name}: {verdict.message}."]
    first, *rest = verdict.message.splitlines() or [verdict.outcome]
    return [*lines, f"{challenge.name}: {first}", *(f"  {line}" for line in rest)]


def timed(challenge: Challenge, done: Round) -> str:
    """Return how long a solving took against its band."""
    low, high = challenge.minutes
    aid = "unaided" if done.unaided else "solution seen" if done.seen else f"{done.hints} of {RUNGS} hints"
    return f"{done.told_minutes} min ({done.against(challenge.minutes)} the band of {low:g} to {high:g}), {aid}"
