"""The progress log: what each week came to, told by what was gained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from statistics import mean

from etude.practice.challenge import Course
from etude.practice.notebook import Event, moment
from etude.practice.standing import Round, standings, worked


@dataclass
class Summary:
    """A week.

    Attributes:
        begins: its Monday.
        seconds: worked.
        solved: challenges and their rounds, solved for the first time.
        again: challenges that came back and were solved, with the time over that of the first solving.
        overcome: what checks said of answers that pass by now.
        notes: the learner's own lines.
        tried: experiments, with what was predicted.
        read: pieces that were read, with what was taken.
    """

    begins: date
    seconds: float = 0.0
    solved: list[tuple[str, Round]] = field(default_factory=list)
    again: list[tuple[str, float]] = field(default_factory=list)
    overcome: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tried: list[tuple[str, str]] = field(default_factory=list)
    read: list[tuple[str, str]] = field(default_factory=list)

    @property
    def hours(self) -> float:
        return self.seconds / 3600


def monday(when: date) -> date:
    """Return the Monday of a day's week."""
    return when - timedelta(days=when.weekday())


def summaries(events: Sequence[Event]) -> list[Summary]:
    """Return a summary of each week in which anything was done, in order. Days are UTC's."""
    found: dict[date, Summary] = {}

    def of(day: date) -> Summary:
        return found.setdefault(monday(day), Summary(monday(day)))

    for event, seconds in worked(events):
        summary = of(moment(event).date())
        summary.seconds += seconds
        match event["what"]:
            case "noted":
                summary.notes.append(event["text"])
            case "predicted":
                summary.tried.append((event["experiment"], event["prediction"]))
            case "read":
                summary.read.append((event["piece"], event["took"]))
    for name, standing in standings(events).items():
        for number, done in enumerate(standing.solved):
            assert done.solved is not None
            summary = of(done.solved.date())
            if number:
                summary.again.append((name, done.seconds / max(standing.solved[0].seconds, 1.0)))
            else:
                summary.solved.append((name, done))
                summary.overcome += done.messages
    return [found[day] for day in sorted(found)]


def told(summary: Summary, course: Course) -> list[str]:
    """Return a week as lines, what was gained first."""
    titles = {each.name: each.title for each in course}
    lines = [f"Week of {summary.begins}: {summary.hours:.1f} hours."]
    if summary.solved:
        unaided = sum(done.unaided for _, done in summary.solved)
        names = ", ".join(titles.get(name, name) for name, _ in summary.solved)
        lines.append(f"  You can now build: {names} ({unaided} of {len(summary.solved)} unaided).")
        sure = [done.answers["sure"] for _, done in summary.solved if "sure" in done.answers]
        if sure:
            lines.append(f"  You were sure to {mean(sure):.1f} of 5.")
    for name, done in summary.solved:
        if done.answers.get("hard"):
            lines.append(f"  Hard in {titles.get(name, name)}: {done.answers['hard']}")
    if summary.again:
        easier = sum(ratio < 1 for _, ratio in summary.again)
        each = ", ".join(f"{titles.get(name, name)} in {ratio:.2f} of the time" for name, ratio in summary.again)
        lines.append(f"  Came back: {each}; {easier} of {len(summary.again)} quicker than at first.")
    for message in summary.overcome[:5]:
        lines.append(f"  Got over: {message.splitlines()[0]}")
    if len(summary.overcome) > 5:
        lines.append(f"  and {len(summary.overcome) - 5} mistakes more.")
    lines += [f"  Predicted, of {name}: {said}" for name, said in summary.tried]
    lines += [f"  Read {name}: {took}" for name, took in summary.read]
    lines += [f"  Note: {note}" for note in summary.notes]
    if len(lines) == 1:
        lines.append("  Nothing was finished; what was begun counts as well.")
    return lines
