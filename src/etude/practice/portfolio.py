"""What a learner can show: a page that stands by itself, and a repository with the answers. It hides nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import etude
from etude.core.files import write_text
from etude.core.shelf import Shelf
from etude.practice.challenge import RUNGS, Challenge
from etude.practice.planning import middle
from etude.practice.practising import RULES, Practice
from etude.practice.standing import Round, Standing
from etude.practice.trying import experiments, pieces, predictions
from etude.practice.weekly import summaries
from etude.report.axes import Axis, Rule
from etude.report.blocks import Block, Code, Details, Report, Section, Table, text
from etude.report.charts import bars, lines
from etude.report.figures import Cell
from etude.report.publish import publish


@dataclass(frozen=True)
class Studied:
    """A study whose page is taken along.

    Attributes:
        title: what it asks.
        command: what made it.
        place: of its page, relative to the portfolio.
        predicted: whether a prediction was written down before.
    """

    title: str
    command: str
    place: str
    predicted: bool


@dataclass(frozen=True)
class Done:
    """A challenge that was solved.

    Attributes:
        challenge: which.
        standing: its rounds.
        source: the last answer that passed.
    """

    challenge: Challenge
    standing: Standing
    source: str

    @property
    def first(self) -> Round:
        return self.standing.solved[0]


def done_of(practice: Practice) -> list[Done]:
    """Return what was solved, in the order of the course."""
    found, kept = practice.standings(), []
    for challenge in practice.course:
        standing = found.get(challenge.name)
        if standing and standing.solved:
            path = practice.desk.kept / f"{challenge.name}-solved-{len(standing.solved)}.py"
            source = path.read_text(encoding="utf-8") if path.exists() else "# the answer is gone from .practice/kept\n"
            kept.append(Done(challenge, standing, source))
    return kept


def portfolio(practice: Practice, folder: Path, name: str = "", runs: Path | None = None) -> Path:
    """Write the portfolio and return the path of its page.

    Args:
        practice: whose.
        folder: is made, or written anew: `report.html`, `README.md`, `solutions/` and `studies/`.
        name: of the person, for the title.
        runs: a folder of runs; the pages of the studies in it are taken along.
    """
    done = done_of(practice)
    for each in done:
        write_text(folder / "solutions" / each.challenge.file, each.source)
    studies = [*_tried(practice, folder), *_others(practice, folder, runs)]
    page = publish(report(practice, done, name, studies), folder)
    write_text(folder / "README.md", _readme(practice, done, studies, name))
    return page


def report(practice: Practice, done: list[Done], name: str = "", studies: Sequence[Studied] = ()) -> Report:
    """Return the page."""
    sections = [
        _solved(practice, done),
        _calibration(done),
        _returned(done),
        _trained(done),
        _predicted(practice),
        _studied(studies),
        _weeks(practice),
        _aids(practice, done),
        _hard(done),
        _answers(done),
    ]
    return Report(
        title=f"Practice of {name}" if name else "Practice",
        question="What can I build by myself, and how sure am I of it?",
        abstract=(text(_summary(practice, done)), text(_rules(practice))),
        sections=tuple(section for section in sections if section is not None),
        made=f"{practice.now().date()}, with Etude {etude.__version__}",
    )


def _summary(practice: Practice, done: list[Done]) -> str:
    unaided = sum(each.first.unaided for each in done)
    hours = sum(each.seconds for each in summaries(practice.events)) / 3600
    seen = sum(each.first.seen for each in done)
    return (
        f"{len(done)} of {len(practice.course)} challenges solved in {hours:.1f} hours: {unaided} with neither hint nor"
        f" solution, {len(done) - unaided - seen} with hints, {seen} after the solution was seen. A challenge is solved"
        " when it passes a check on random shapes and values, its gradient too where it has one, which is known to"
        " catch at least five plausible mistakes."
    )


def _rules(practice: Practice) -> str:
    chosen = [event for event in practice.events if "rules" in event]
    first, *later = chosen
    changed = "".join(f"; from {event['when'][:10]} {RULES[event['rules']]}" for event in later)
    rules = f"The rules, chosen by myself at the start: {RULES[first['rules']]}{changed}."
    return f"{rules} Nobody checked that they were kept."


def _solved(practice: Practice, done: list[Done]) -> Section:
    parts: list[Block] = []
    for track, title in practice.course.tracks.items():
        rows = [_row(each) for each in done if each.challenge.track == track]
        if not rows:
            continue
        every = sum(each.track == track for each in practice.course)
        parts.append(
            Table(
                ("challenge", "minutes", "band", "vs band", "wrong tries", "help", "sure", "again unaided"),
                tuple(rows),
                caption=f"{title}: {len(rows)} of {every}.",
            )
        )
    return Section(
        "What I can build",
        tuple(parts) or (text("Nothing is solved yet."),),
        intro="Minutes are of work on a first solution, pauses left out, and the band is what is expected of one. How"
        " sure I am that I know why it is right, from 1, not at all, to 5, and whether I would do it again unaided, are"
        " my own answers.",
    )


def _row(each: Done) -> tuple[Cell, ...]:
    low, high = each.challenge.minutes
    first, answers = each.first, each.first.answers
    hints = f"{first.hints} of {RUNGS} hints" if first.hints else "none"
    again = {True: "yes", False: "no", None: None}[answers.get("unaided")]
    return (
        each.challenge.title,
        first.told_minutes,
        f"{low:g} to {high:g}",
        first.against(each.challenge.minutes),
        first.tries,
        "solution seen" if first.seen else hints,
        answers.get("sure"),
        again,
    )


def _calibration(done: list[Done]) -> Section | None:
    if not done:
        return None
    rows = [
        {
            "challenge": each.challenge.title,
            "ratio": each.first.minutes / middle(each.challenge),
        }
        for each in done
    ]
    return Section(
        "Time against the bands",
        (
            bars(
                rows,
                Axis("challenge", "challenge"),
                Axis("ratio", "time, in multiples of the middle of the band"),
                rules=(Rule("the middle of the band", 1.0),),
                caption="Time of the first solving of each challenge, divided by the middle of its band.",
            ),
        ),
    )


def _returned(done: list[Done]) -> Section | None:
    rows = [
        (
            each.challenge.title,
            each.first.told_minutes,
            last.told_minutes,
            f"{ratio:.2f}",
            (last.begun - before.solved).days if before.solved else None,
            "yes" if last.unaided else "no",
        )
        for each in done
        if (ratio := each.standing.easier) is not None
        for before, last in [each.standing.solved[-2:]]
    ]
    if not rows:
        return None
    easier = sum(float(row[3]) < 1 for row in rows)
    return Section(
        "What came back",
        (
            Table(
                ("challenge", "minutes at first", "minutes now", "now over first", "days between", "now unaided"),
                tuple(rows),
                caption="A solved challenge comes back blank after 3, 10 and 30 days. Minutes are of work.",
            ),
        ),
        intro=f"Of {len(rows)} that came back and were solved again, {easier} took less time than at first.",
    )


def _trained(done: list[Done]) -> Section | None:
    charts = []
    for each in done:
        for series, values in each.standing.solved[-1].shown.items():
            rows = [{"step": n + 1, "value": value} for n, value in enumerate(values)]
            if len(rows) > 1:
                charts.append(
                    lines(
                        rows,
                        Axis("step", "step"),
                        Axis("value", series),
                        points=False,
                        caption=f"{each.challenge.title}: {series}, as my code gave it when it was last checked.",
                    )
                )
    return Section("What I trained", tuple(charts)) if charts else None


def _predicted(practice: Practice) -> Section | None:
    parts: list[Block] = []
    for name, told in predictions(practice.events).items():
        chosen = experiments().get(name)
        if chosen is None:
            continue
        found = told.get("findings") or []
        parts.append(
            text(f"{chosen.title} {chosen.question} I predicted, on {told['when'][:10]}: {told['prediction']}")
        )
        if found:
            parts.append(
                Table(
                    ("found", "how firmly"),
                    tuple((each["text"], each["strength"]) for each in found),
                    caption=f"What the study found: {chosen.line}",
                )
            )
        if "conclusion" in told:
            parts.append(text(f"What I make of it: {told['conclusion']}"))
    return Section("Predicted, then seen", tuple(parts)) if parts else None


def _studied(studies: Sequence[Studied]) -> Section | None:
    rows = tuple((each.title, each.command, each.place, "yes" if each.predicted else "no") for each in studies)
    columns = ("study", "made by", "its page, beside this one", "predicted before")
    caption = "Studies of Etude that I ran. Their pages say what was measured and how it is made again."
    return Section("Studies that I ran", (Table(columns, rows, caption=caption),)) if rows else None


def _weeks(practice: Practice) -> Section | None:
    every = summaries(practice.events)
    if not every:
        return None
    rows = [
        (
            str(each.begins),
            f"{each.hours:.1f}",
            len(each.solved),
            len(each.again),
            len(each.overcome),
            " ".join(each.notes),
        )
        for each in every
    ]
    read: list[Block] = [
        text(f"{pieces()[name].what}. What I took from it: {took}")
        for each in every
        for name, took in each.read
        if name in pieces()
    ]
    return Section(
        "Weeks",
        (
            Table(
                ("week of", "hours", "solved", "came back and solved", "mistakes got over", "notes"),
                tuple(rows),
                caption="Each week from its Monday, in UTC.",
            ),
            *read,
        ),
    )


def _aids(practice: Practice, done: list[Done]) -> Section:
    used = [each for each in done if not each.first.unaided]
    if not used:
        return Section("Help that I took", (text("None: no hint and no solution was looked at before solving."),))
    rows = tuple((each.challenge.title, each.first.hints, "yes" if each.first.seen else "no") for each in used)
    return Section(
        "Help that I took",
        (
            Table(
                ("challenge", f"hints of {RUNGS}", "solution seen"),
                rows,
                caption="Before the first solving, as the practice notebook has it.",
            ),
        ),
    )


def _hard(done: list[Done]) -> Section | None:
    rows = tuple(
        (each.challenge.title, told) for each in done if (told := each.standing.solved[-1].answers.get("hard") or "")
    )
    caption = "My own words, after the last solving."
    return Section("What was hard", (Table(("challenge", "what was hard"), rows, caption=caption),)) if rows else None


def _answers(done: list[Done]) -> Section | None:
    if not done:
        return None
    folded = tuple(Details(each.challenge.title, (Code(each.source),)) for each in done)
    return Section("My answers", folded, intro="The last answer that passed, each as it was written.")


def _tried(practice: Practice, folder: Path) -> Iterator[Studied]:
    """Copy the pages of the experiments that were predicted and run."""
    for name, told in predictions(practice.events).items():
        page = Path(told["page"]) if told.get("page") else None
        if page is not None and page.is_file() and name in experiments():
            chosen = experiments()[name]
            yield Studied(chosen.title, chosen.line, _copied(page, folder, name), predicted=True)


def _others(practice: Practice, folder: Path, runs: Path | None) -> Iterator[Studied]:
    """Copy the pages of the other studies in a folder of runs."""
    if runs is None or not runs.is_dir():
        return
    tried = {told.get("page") for told in predictions(practice.events).values()}
    for run in Shelf(runs):
        page = run.path / "report.html"
        if "report.html" in run.files and str(page.absolute()) not in tried:
            kind = str(run.recipe_data["kind"])
            yield Studied(kind, f"etude run {kind}", _copied(page, folder, run.id), predicted=False)


def _copied(page: Path, folder: Path, name: str) -> str:
    place = folder / "studies" / f"{name}.html"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(page, place)
    return place.relative_to(folder).as_posix()


def _readme(practice: Practice, done: list[Done], studies: Sequence[Studied], name: str) -> str:
    return "\n".join(_readme_lines(practice, done, studies, name)) + "\n"


def _readme_lines(practice: Practice, done: list[Done], studies: Sequence[Studied], name: str) -> Iterator[str]:
    yield f"# Practice{f' of {name}' if name else ''}"
    yield ""
    yield _summary(practice, done)
    yield ""
    yield _rules(practice)
    yield ""
    yield "`report.html` is the whole page. The answers are plain Python, each checked as it stands:"
    yield ""
    for each in done:
        solved = each.first.solved or datetime.min
        yield f"- [{each.challenge.title}](solutions/{each.challenge.file}), {solved.date()}"
    if studies:
        yield ""
        yield "Studies that I ran:"
        yield ""
        for study in studies:
            yield f"- [{study.title}]({study.place})" + (", predicted before" if study.predicted else "")
    yield ""
    yield "Made with Etude, `etude practice portfolio`."
