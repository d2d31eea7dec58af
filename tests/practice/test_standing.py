"""How time is counted, from a notebook's events alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from etude.practice.standing import standings

MORNING = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)


def events(*told: tuple[float, str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events by minutes since the morning."""
    return [{"when": (MORNING + timedelta(minutes=at)).isoformat(), "what": what, **facts} for at, what, facts in told]


A, PASSED, WRONG = {"challenge": "a"}, {"outcome": "passed"}, {"outcome": "wrong", "message": "off by one"}


def test_time_counts_from_opening_to_passing() -> None:
    found = standings(events((0, "opened", A), (5, "checked", A | WRONG), (12, "checked", A | PASSED)))["a"]
    (done,) = found.solved
    assert (done.minutes, done.tries, done.unaided, done.messages) == (12, 1, True, ["off by one"])
    assert done.against((3, 15)) == "within" and done.against((13, 15)) == "under" and done.against((1, 11)) == "over"


def test_the_timer_pauses_by_itself_and_when_told_to() -> None:
    idle = standings(events((0, "opened", A), (300, "checked", A | PASSED)))["a"].solved[0]
    assert idle.minutes == 15
    paused = events((0, "opened", A), (4, "paused", {}), (9, "checked", A | WRONG), (11, "checked", A | PASSED))
    assert standings(paused)["a"].solved[0].minutes == 2
    left = events((0, "opened", A), (1, "left", {}), (9, "opened", A), (11, "checked", A | PASSED))
    assert standings(left)["a"].solved[0].minutes == 2


def test_time_goes_to_what_was_worked_at() -> None:
    b = {"challenge": "b"}
    found = standings(events((0, "opened", A), (5, "checked", b | WRONG), (7, "checked", A | PASSED)))
    assert (found["b"].rounds[0].minutes, found["a"].solved[0].minutes) == (5, 2)


def test_help_is_written_down_and_a_clock_that_goes_back_adds_nothing() -> None:
    hints = events((0, "opened", A), (1, "hint", A | {"rung": 1}), (2, "hint", A | {"rung": 2}), (3, "solution", A))
    done = standings([*hints, *events((1, "checked", A | PASSED))])["a"].solved[0]
    assert (done.hints, done.seen, done.unaided, done.minutes) == (2, True, False, 3)


def test_a_solved_one_that_is_saved_again_stays_as_it_was() -> None:
    found = standings(events((0, "opened", A), (5, "checked", A | PASSED), (9, "checked", A | WRONG)))["a"]
    assert len(found.rounds) == 1 and found.solved[0].minutes == 5 and found.under_way is None


def test_what_is_written_down_meanwhile_takes_no_time_away() -> None:
    meanwhile = [(4, "noted", {"text": "x"}), (6, "planned", {}), (7, "answered", {"challenge": "b", "answers": {}})]
    found = standings(events((0, "opened", A), *meanwhile, (9, "checked", A | PASSED)))["a"]
    assert found.solved[0].minutes == 9


def test_a_reset_is_work_too() -> None:
    found = standings(events((0, "opened", A), (9, "reset", A), (12, "checked", A | PASSED)))["a"]
    assert (found.solved[0].minutes, found.solved[0].tries) == (12, 0)
