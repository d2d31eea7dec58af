"""Practising: what is written down, what is kept whatever happens, what time counts, and what comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etude.core.errors import BusyError, DamagedError, EtudeError, UsageError
from etude.practice import practising
from etude.practice.challenge import Challenge
from etude.practice.judging import judge
from etude.practice.notebook import Notebook
from etude.practice.practising import Practice, told
from etude.practice.verdict import Verdict
from etude.practice.watching import Watcher, alone

MORNING = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = MORNING

    def __call__(self) -> datetime:
        return self.time

    def on(self, **by: float) -> None:
        self.time += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and checks in this process, which are the same and start no Python."""
    monkeypatch.setattr(practising, "judged", judge)
    folder = tmp_path / "desk"
    folder.mkdir()
    return folder


@pytest.fixture
def practice(here: Path, clock: Clock, said: list[str]) -> Practice:
    return Practice.begin(here, now=clock, say=said.append)


def write(practice: Practice, name: str, source: str | None = None) -> Challenge:
    challenge = practice.course[name]
    practice.desk.path(challenge).write_text(challenge.solution if source is None else source, encoding="utf-8")
    return challenge


def solve(practice: Practice, name: str) -> None:
    assert practice.check(write(practice, name)).passed


# Files


def test_beginning_lays_every_challenge_out(practice: Practice) -> None:
    for challenge in practice.course:
        assert practice.desk.path(challenge).read_text(encoding="utf-8") == challenge.starter
        assert practice.desk.path(challenge).parent.name == challenge.track
    assert practice.next() == practice.course.challenges[0]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds thesis\.tex: make an empty folder .* or add --here"):
        Practice.begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    Practice.begin(tmp_path, here=True)
    with pytest.raises(UsageError, match="nobody practises in"):
        Practice(tmp_path / "elsewhere")


def test_a_wrong_rule_or_track_writes_nothing(here: Path) -> None:
    with pytest.raises(UsageError, match="unknown rule 'books'"):
        Practice.begin(here, rules="books")
    with pytest.raises(UsageError, match="unknown track 'chess'"):
        Practice.begin(here, track="chess")
    assert list(here.iterdir()) == []


def test_a_file_that_is_gone_or_renamed_is_missed_by_name(practice: Practice) -> None:
    challenge = practice.course["softmax"]
    practice.check(write(practice, "softmax", challenge.starter + "\n# mine"))
    path = practice.desk.path(challenge)
    path.rename(path.with_name("sofmax.py"))
    with pytest.raises(EtudeError, match=r"softmax\.py is gone \(sofmax\.py beside it is no challenge: was it renamed"):
        practice.check(challenge)
    path.with_name("sofmax.py").unlink()
    with pytest.raises(
        EtudeError, match=r"`etude practice reset softmax` writes a new one; what was last checked is in"
    ):
        practice.check(challenge)
    assert (practice.desk.kept / "softmax.py").read_text(encoding="utf-8").endswith("# mine")
    practice.reset(challenge)
    assert path.read_text(encoding="utf-8") == challenge.starter


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe\x00", "is not text in UTF-8"), (b"#" * 1_000_001, "an answer is a page of Python")],
)
def test_what_is_no_answer_is_told(practice: Practice, content: bytes, words: str) -> None:
    challenge = practice.course["softmax"]
    practice.desk.path(challenge).write_bytes(content)
    with pytest.raises(EtudeError, match=words):
        practice.check(challenge)


def test_a_reset_keeps_what_stood_there(practice: Practice) -> None:
    challenge = write(practice, "softmax", "my hours\n")
    kept = practice.reset(challenge)
    assert kept is not None and kept.read_text(encoding="utf-8") == "my hours\n"
    write(practice, "softmax", "more hours\n")
    other = practice.reset(challenge)
    assert other != kept and kept.read_text(encoding="utf-8") == "my hours\n"


def test_a_file_that_is_saved_while_it_is_checked_is_checked_again(
    practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = write(practice, "softmax", "def f(:")
    seen: list[str] = []

    def judging(asked: Challenge, source: str, seed: int) -> Verdict:
        seen.append(source)
        if len(seen) == 1:
            write(practice, "softmax")
        return judge(asked, source, seed)

    monkeypatch.setattr(practising, "judged", judging)
    assert practice.check(challenge).passed
    assert seen == ["def f(:", challenge.solution]
    assert practice.standings()["softmax"].solved
    assert (practice.desk.kept / "softmax-solved-1.py").read_text(encoding="utf-8") == challenge.solution


# The notebook


def test_a_notebook_that_is_cut_short_loses_nothing(practice: Practice, said: list[str]) -> None:
    solve(practice, "softmax")
    practice.hint(practice.course["attention"])
    notebook, before = practice.notebook, practice.events
    whole = notebook.path.read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 2):
        notebook.path.write_bytes(whole[:cut])
        assert practice.events == before
        assert "cannot be read; going on from notebook.backup.json beside it" in said[-1]
    notebook.path.unlink()
    assert practice.events == before
    practice.hint(practice.course["attention"])
    heard = len(said)
    assert [event["what"] for event in practice.events[-2:]] == ["hint", "hint"] and len(said) == heard


def test_a_notebook_that_is_lost_altogether_says_where_answers_are(practice: Practice) -> None:
    solve(practice, "softmax")
    practice.notebook.path.write_text("{}", encoding="utf-8")
    practice.notebook.backup.write_text("[", encoding="utf-8")
    with pytest.raises(DamagedError, match=r"your answers are safe in the folders of the tracks"):
        practice.standings()


def test_a_notebook_of_a_later_release_is_not_touched(practice: Practice) -> None:
    later = '{"version": 2, "events": []}'
    practice.notebook.path.write_text(later, encoding="utf-8")
    practice.notebook.backup.write_text(later, encoding="utf-8")
    with pytest.raises(DamagedError, match="of a later release of Etude"):
        practice.notebook.add("noted", text="x")
    assert practice.notebook.path.read_text(encoding="utf-8") == later


def test_several_processes_write_and_nothing_is_lost(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from etude.practice.notebook import Notebook
notebook = Notebook(Path(sys.argv[1]))
for number in range(10):
    notebook.add("noted", text=f"{sys.argv[2]} {number}")
"""
    Notebook(tmp_path).add("begun")
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)]) for n in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    texts = [event["text"] for event in Notebook(tmp_path).events()[1:]]
    assert sorted(texts) == sorted(f"{n} {number}" for n in range(3) for number in range(10))


# What comes back


def test_a_solved_one_comes_back_blank_and_its_rounds_are_compared(practice: Practice, clock: Clock) -> None:
    softmax = practice.course["softmax"]
    practice.open(softmax)
    clock.on(minutes=10)
    solve(practice, "softmax")
    clock.on(days=2, hours=23)
    assert practice.bring_back() == []
    clock.on(hours=2)
    assert practice.bring_back() == ["softmax"] and practice.bring_back() == []
    assert practice.desk.read(softmax) == softmax.starter
    assert practice.next() == softmax  # before anything new
    practice.open(softmax)
    clock.on(minutes=4)
    solve(practice, "softmax")
    standing = practice.standings()["softmax"]
    assert (len(standing.solved), standing.easier) == (2, 0.4)
    assert standing.due == clock.time + timedelta(days=10)
    names = sorted(path.name for path in practice.desk.kept.iterdir())
    assert {"softmax-solved-1.py", "softmax-solved-2.py"} <= set(names) and any("before-reset" in n for n in names)


def test_one_whose_solution_was_seen_comes_back_sooner(practice: Practice, clock: Clock) -> None:
    practice.solution(practice.course["softmax"])
    solve(practice, "softmax")
    clock.on(days=1)
    assert practice.bring_back() == ["softmax"]


# Hints, questions, rules


def test_hints_are_rungs(practice: Practice) -> None:
    softmax = practice.course["softmax"]
    assert [practice.hint(softmax) for _ in range(4)] == [
        (1, softmax.hints[0]), (2, softmax.hints[1]), (3, softmax.hints[2]), (3, softmax.hints[2]),
    ]  # fmt: skip
    solve(practice, "softmax")
    assert practice.standings()["softmax"].solved[0].hints == 3


def test_questions_come_after_solving(practice: Practice) -> None:
    softmax = practice.course["softmax"]
    with pytest.raises(UsageError, match="softmax is not solved yet"):
        practice.answer(softmax, "all of it", 1, False)
    solve(practice, "softmax")
    with pytest.raises(UsageError, match="sure = 6: give 1, not at all, to 5"):
        practice.answer(softmax, "", 6, True)
    practice.answer(softmax, "keepdim", 4, True)
    assert practice.standings()["softmax"].solved[0].answers == {"hard": "keepdim", "sure": 4, "unaided": True}


def test_rules_and_track_can_be_chosen_anew(practice: Practice) -> None:
    assert (practice.rules, practice.track) == ("documentation", "")
    practice.choose(rules="nothing", track="scaling")
    assert (practice.rules, practice.track) == ("nothing", "scaling")
    assert practice.challenges == practice.course.along("scaling")
    practice.choose(track="all")
    assert practice.challenges == practice.course.challenges


# The watcher


class Saving:
    """A sleep in which the learner saves something, and Ctrl-C after the last."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        self.acts = list(acts)

    def __call__(self, _: float) -> None:
        if not self.acts:
            raise KeyboardInterrupt
        self.acts.pop(0)()


def watched(practice: Practice, said: list[str], *acts: Callable[[], object], ask: Any = None) -> None:
    with pytest.raises(KeyboardInterrupt):
        Watcher(practice, said.append, ask, Saving(*acts)).watch()


def test_what_is_saved_is_checked_and_the_next_comes(practice: Practice, said: list[str]) -> None:
    first, second = practice.course.challenges[:2]
    answers = iter(["the axes", "7", "4", "maybe", "y"])
    watched(
        practice,
        said,
        lambda: write(practice, first.name, first.starter + "\n"),
        lambda: write(practice, first.name, "def f(:\n"),
        lambda: None,
        lambda: write(practice, first.name),
        ask=lambda _: next(answers),
    )
    text = "\n".join(said)
    assert text.index(f"Next: {first.title}") < text.index("is not written yet") < text.index("is no Python")
    assert text.index("is no Python") < text.index(f"{first.name}: right.") < text.index(f"Next: {second.title}")
    assert text.count("is no Python") == 1
    assert practice.standings()[first.name].solved[0].answers == {"hard": "the axes", "sure": 4, "unaided": True}
    assert practice.events[-1]["what"] == "left"


def test_where_nobody_can_be_asked_the_command_is_named(practice: Practice, said: list[str]) -> None:
    watched(practice, said, lambda: write(practice, "softmax"))
    assert any("etude practice answer softmax" in line for line in said)


def test_an_editor_that_replaces_a_file_is_no_loss_and_a_lost_file_is_told_once(
    practice: Practice, said: list[str]
) -> None:
    path = practice.desk.path(practice.course["softmax"])
    aside = path.with_suffix(".new")
    aside.write_text(practice.course["softmax"].solution, encoding="utf-8")
    watched(practice, said, path.unlink, lambda: os.replace(aside, path))
    assert "softmax: right." in said and not any("is gone" in line for line in said)
    watched(practice, said, path.unlink, *[lambda: None] * 6)
    assert sum("softmax.py is gone" in line for line in said) == 1


def test_what_was_saved_while_nobody_watched_is_checked_at_once(practice: Practice, said: list[str]) -> None:
    first, second = practice.course.challenges[:2]
    write(practice, first.name)
    write(practice, "softmax", "def f(:\n")
    watched(practice, said, lambda: None)
    text = "\n".join(said)
    assert text.index(f"{first.name}: right.") < text.index(f"Next: {second.title}") and "is no Python" in text
    assert practice.changed() == []
    watched(practice, said, lambda: None)
    assert sum("is no Python" in line for line in said) == 1  # what was told once is not told again


def test_a_notebook_that_is_taken_away_is_missed(practice: Practice, said: list[str]) -> None:
    taken = Saving(lambda: shutil.rmtree(practice.notebook.folder), lambda: write(practice, "softmax"))
    with pytest.raises(DamagedError, match=r"notebook\.json is gone: put \.practice back where it was"):
        Watcher(practice, said.append, None, taken).watch()


def test_a_save_during_a_check_is_not_lost(
    practice: Practice, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes after the last look at the file, and before the watcher remembers when it was changed."""
    down, softmax = practice._write_down, practice.course["softmax"]

    def writing_down(challenge: Challenge, source: str, verdict: Verdict) -> None:
        down(challenge, source, verdict)
        if verdict.outcome == "syntax":
            write(practice, "softmax")

    monkeypatch.setattr(practice, "_write_down", writing_down)
    watched(practice, said, lambda: write(practice, "softmax", "def f(:\n"), lambda: None, lambda: None)
    assert f"{softmax.name}: right." in said


def test_two_watchers_at_once_are_refused(practice: Practice, said: list[str]) -> None:
    with alone(practice.folder), pytest.raises(BusyError, match="is watched already, by process"):
        Watcher(practice, said.append).watch()
    with alone(practice.folder):  # and freed again
        pass


# What is said


def test_what_is_said_of_a_check(practice: Practice) -> None:
    softmax = practice.course["softmax"]
    assert told(softmax, Verdict("passed", prints="3\n")) == ["  it printed:", "    3", "softmax: right."]
    assert told(softmax, Verdict("wrong", "a sum\n(details)")) == ["softmax: a sum", "  (details)"]
    assert told(softmax, Verdict("blank", "`softmax` is not written yet")) == ["softmax: `softmax` is not written yet."]
