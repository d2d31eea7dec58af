"""The plan, the log, experiments and the portfolio: all are computed from what was really done."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.practice import practising, trying
from etude.practice.challenge import Course
from etude.practice.judging import judge
from etude.practice.planning import Plan, left, middle, pace, plan_of, told, weeks
from etude.practice.portfolio import portfolio
from etude.practice.practising import Practice
from etude.practice.standing import Round, Standing
from etude.practice.weekly import monday, summaries
from etude.practice.weekly import told as told_week

COURSE = Course.load()
TODAY = date(2026, 11, 2)


# The plan


@given(st.integers(1, len(COURSE)), st.floats(0.5, 20.0), st.floats(0.3, 3.0))
def test_weeks_hold_every_challenge_once_in_order_and_all_the_time(count: int, hours: float, slow: float) -> None:
    todo = COURSE.challenges[:count]
    found = weeks(todo, hours, slow, TODAY)
    assert [each for week in found for each in week.challenges] == list(todo)
    assert sum(week.minutes for week in found) == pytest.approx(sum(middle(each) for each in todo) * slow)
    assert all(week.minutes <= hours * 60 + 1e-6 for week in found)
    assert all(week.minutes == pytest.approx(hours * 60) for week in found[:-1])
    assert [week.begins for week in found] == [TODAY + timedelta(days=7 * n) for n in range(len(found))]


def solved(minutes: float) -> Standing:
    at = datetime(2026, 11, 2, tzinfo=UTC)
    return Standing([Round(at, seconds=60 * minutes, solved=at)])


def test_the_pace_is_the_learners_own_and_moves_slowly() -> None:
    first, second, third = COURSE.challenges[:3]
    assert pace(COURSE, {}) == 1
    assert pace(COURSE, {first.name: solved(3 * middle(first))}) == 1  # one slow one swings nothing
    slow = {each.name: solved(3 * middle(each)) for each in (first, second, third)}
    assert pace(COURSE, slow) == 3
    assert left(COURSE, slow) == list(COURSE.challenges[3:])


def test_a_plan_says_whether_its_day_is_kept() -> None:
    plan = Plan("a GPT", 5, date(2027, 12, 1), TODAY)
    assert "before 2027-12-01" in told(plan, COURSE.challenges, 1, TODAY)[-1]
    late = told(Plan("a GPT", 1, date(2026, 12, 1), TODAY), COURSE.challenges, 1, TODAY)[-1]
    needed = sum(map(middle, COURSE)) / 60 * 7 / 29
    assert f"needs {needed:.1f} hours a week" in late and "not by 2026-12-01" in late
    assert told(plan, (), 1, TODAY)[-1] == "Everything of it is solved."
    assert "200% of the time at the middle of the bands" in told(plan, COURSE.challenges, 2, TODAY)[1]


@pytest.mark.parametrize(("hours", "until"), [(0, None), (-1, None), (100, None), (5, TODAY), (5, date(2020, 1, 1))])
def test_a_plan_that_cannot_be_is_refused(hours: float, until: date | None) -> None:
    with pytest.raises(UsageError, match=r"give more than 0|is not ahead"):
        Plan("", hours, until, TODAY)


def test_the_last_plan_counts() -> None:
    at = "2026-11-02T08:00:00+00:00"
    made = [
        {"when": at, "what": "planned", "goal": g, "hours": h, "until": "", "track": ""}
        for g, h in (("a", 1), ("b", 2))
    ]
    assert plan_of([]) is None
    assert plan_of(made) == Plan("b", 2, None, TODAY)


# The log


@pytest.fixture
def practice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Practice:
    """Three weeks: two solved, one of them again after three days, one with a hint and a mistake."""
    monkeypatch.setattr(practising, "judged", judge)
    clock = [datetime(2026, 11, 2, 8, tzinfo=UTC)]
    folder = tmp_path / "desk"
    folder.mkdir()
    made = Practice.begin(folder, rules="nothing", now=lambda: clock[0], say=lambda text: None)

    def on(**by: float) -> None:
        clock[0] += timedelta(**by)

    def save(name: str, source: str) -> None:
        challenge = made.course[name]
        made.desk.path(challenge).write_text(source, encoding="utf-8")
        made.check(challenge)

    softmax, norm = made.course["softmax"], made.course["layer_norm"]
    made.open(softmax)
    on(minutes=6)
    save("softmax", softmax.mutants[0].of(softmax.solution))
    on(minutes=4)
    save("softmax", softmax.solution)
    made.answer(softmax, "which axis", 2, False)
    on(days=7)
    made.open(norm)
    made.hint(norm)
    on(minutes=12)
    save("layer_norm", norm.solution)
    made.answer(norm, "", 4, True)
    made.notebook.add("noted", text="eps stands inside the root")
    made.bring_back()
    made.open(softmax)
    on(minutes=5)
    save("softmax", softmax.solution)
    on(days=7)
    made.notebook.add("read", piece="vaswani", took="scores grow with the width of a key")
    return made


def test_each_week_is_told_by_what_was_gained(practice: Practice) -> None:
    one, two, three = summaries(practice.events)
    assert [each.begins for each in (one, two, three)] == [date(2026, 11, 2), date(2026, 11, 9), date(2026, 11, 16)]
    assert [name for name, _ in one.solved] == ["softmax"] and one.hours == pytest.approx(10 / 60)
    assert len(one.overcome) == 1 and "wrong axis" in one.overcome[0]
    assert [name for name, _ in two.solved] == ["layer_norm"] and two.again == [("softmax", 0.5)]
    assert three.read == [("vaswani", "scores grow with the width of a key")]
    lines = "\n".join(line for each in (one, two, three) for line in told_week(each, practice.course))
    assert "You can now build: Softmax (1 of 1 unaided)." in lines and "Layer norm (0 of 1 unaided)." in lines
    assert "Softmax in 0.50 of the time; 1 of 1 quicker than at first." in lines
    assert "Note: eps stands inside the root" in lines and "You were sure to 2.0 of 5." in lines


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_a_week_begins_on_its_monday(day: date) -> None:
    assert monday(day).weekday() == 0 and 0 <= (day - monday(day)).days < 7


# Experiments and reading


def test_experiments_name_challenges_and_commands_that_exist() -> None:
    from etude.core.recipe import kinds

    names = {each.name for each in COURSE}
    for each in trying.experiments().values():
        assert set(each.after) <= names and each.after and each.question.rstrip(")").endswith(("?", "?)", "interval?"))
        assert each.command[0] == "run" and each.command[1] in kinds()
    for piece in trying.pieces().values():
        assert piece.of in COURSE.tracks and piece.take
    with pytest.raises(UsageError, match="unknown experiment 'indction': did you mean 'induction'"):
        trying.experiment("indction")
    with pytest.raises(UsageError, match="unknown piece"):
        trying.piece("nobody")


def test_an_experiment_is_ready_when_what_it_asks_of_is_solved() -> None:
    chosen = trying.experiment("induction")
    assert not chosen.is_ready({}) and chosen.is_ready({name: solved(1) for name in chosen.after})


def test_a_prediction_stands_before_what_was_found() -> None:
    when = "2026-11-02T08:00:00+00:00"
    told: list[dict[str, Any]] = [
        {"when": when, "what": "found", "experiment": "sizes", "findings": [], "page": "x"},  # of no prediction
        {"when": when, "what": "predicted", "experiment": "sizes", "prediction": "a third"},
        {"when": when, "what": "found", "experiment": "sizes", "findings": [{"text": "31%", "strength": "clear"}]},
        {"when": when, "what": "concluded", "experiment": "sizes", "conclusion": "near"},
    ]
    assert trying.predictions(told[:1]) == {}
    found = trying.predictions(told)["sizes"]
    assert (found["prediction"], found["conclusion"], found["when"]) == ("a third", "near", when)


# The portfolio


def test_the_portfolio_hides_nothing(practice: Practice, tmp_path: Path) -> None:
    study = tmp_path / "study.html"
    study.write_text("<p>a page</p>", encoding="utf-8")
    practice.notebook.add("predicted", experiment="sizes", prediction="half & half <b>")
    practice.notebook.add(
        "found", experiment="sizes", findings=[{"text": "A third.", "strength": "clear"}], page=str(study)
    )
    practice.notebook.add("concluded", experiment="sizes", conclusion="fewer than I thought")
    page = portfolio(practice, tmp_path / "out", "Ada")
    html = page.read_text(encoding="utf-8")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    assert "Practice of Ada" in words and "nothing is looked up" in words
    assert "2 of 60 challenges solved" in words and "1 with neither hint nor solution, 1 with hints" in words
    assert "half &amp; half &lt;b&gt;" in html and "fewer than I thought" in words
    assert "http://" not in re.sub(r"http://www\.w3\.org", "", html)  # it stands by itself
    solutions = tmp_path / "out" / "solutions" / "transformer"
    assert (solutions / "softmax.py").read_text(encoding="utf-8") == practice.course["softmax"].solution
    assert sorted(path.name for path in solutions.iterdir()) == ["layer_norm.py", "softmax.py"]
    assert (tmp_path / "out" / "studies" / "sizes.html").read_text(encoding="utf-8") == "<p>a page</p>"
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", readme):
        assert (tmp_path / "out" / link).is_file(), link


def test_the_portfolio_of_a_beginner(tmp_path: Path) -> None:
    practice = Practice.begin(tmp_path, say=lambda text: None)
    html = portfolio(practice, tmp_path / "portfolio").read_text(encoding="utf-8")
    assert "Nothing is solved yet." in html


def test_what_was_trained_is_drawn(practice: Practice, tmp_path: Path) -> None:
    practice.check(_with_solution(practice, "train_one"), seed=0)
    losses = practice.standings()["train_one"].solved[0].shown["loss (nats per token)"]
    assert len(losses) > 10 and losses[-1] < losses[0]
    assert "What I trained" in portfolio(practice, tmp_path / "out").read_text(encoding="utf-8")
    assert json.loads(json.dumps(losses)) == losses


def _with_solution(practice: Practice, name: str) -> Any:
    challenge = practice.course[name]
    practice.desk.path(challenge).write_text(challenge.solution, encoding="utf-8")
    return challenge
