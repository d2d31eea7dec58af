"""`etude play` with lines on standard input, and at a terminal of its own."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.culture.experts.replayed import Replayed
from etude.culture.goal_cycle import GoalCycle
from etude.culture.recording import Recording

pty = pytest.importorskip("pty", reason="terminals of this kind are of Unix")
termios = pytest.importorskip("termios")


@pytest.fixture
def typed(etude: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls `etude play` with words and what stands on standard input."""

    def call(lines: str, *words: str | Path) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        return etude("play", *words)

    return call


def boards(out: str) -> list[list[str]]:
    """Return the rows of each board that was shown."""
    lines, found = out.splitlines(), []
    for at, line in enumerate(lines):
        if line.startswith("+-") and at + 1 < len(lines) and lines[at + 1].startswith("|"):
            size = (len(line) - 2) // 3
            found.append(lines[at + 1 : at + 1 + size])
    return found


def test_lines_are_played_kept_and_played_back(typed: Any, here: Path) -> None:
    answer = typed("wwda\ns. D\naaaa", "human", "--steps", "4", "--episodes", "3", "--who", "A. Person", "--seed", "4")
    assert answer.code == 0, answer.err
    assert answer.last.startswith("3 of 3 episodes, scores: ")
    assert answer.err == "kept in human; it plays again as --expert replayed --expert.file human\n"
    kept = Recording.load("human")
    assert (kept.who, len(kept), kept.player) == ("A. Person", 3, 1) and kept.when.endswith("+00:00")
    assert kept.actions.tolist() == [[1, 1, 2, 4], [3, 0, 0, 2], [4, 4, 4, 4]]
    game, scores = GoalCycle(Replayed(file="human").layouts()), np.zeros(3, int)
    for _ in range(4):
        both = np.zeros((3, 2), np.int64)
        both[:, 1] = Replayed(file="human").act(game, 1, np.random.default_rng(0))
        scores += game.step(both)[:, 1]
    assert answer.last == f"3 of 3 episodes, scores: {', '.join(map(str, scores))}"
    shown = boards(answer.out)
    assert len(shown) == 3 * 5
    assert all("".join(rows).count("@") == 1 for rows in shown)


def test_the_person_stands_where_the_game_has_it_and_goals_are_numbered(typed: Any) -> None:
    answer = typed("wdsa", "x", "--steps", "4", "--episodes", "1", "--world", "rooms", "--world.slow", "0.4")
    recording = Recording.load("x")
    game = GoalCycle(recording.layout)
    for step, rows in enumerate(boards(answer.out)):
        cells = [row[1 + 3 * at : 4 + 3 * at] for row in rows for at in range(game.layout.size)]
        assert [cell for cell, face in enumerate(cells) if "@" in face] == game.cells[0, 1:].tolist()
        assert [face == "###" for face in cells] == game.layout.walls[0].tolist()
        for colour, cell in enumerate(game.layout.goals[0]):
            assert cells[cell].strip(" @") == str(colour + 1)
        if step < 4:
            game.step(np.array([[0, recording.actions[0, step]]]))


def test_the_order_is_told_to_the_expert_and_not_to_the_learner(typed: Any) -> None:
    told = typed(" " * 3, "--steps", "3", "--episodes", "1")
    assert told.out.count("order ") == 4 and "from any" in told.out
    hidden = typed(" " * 3, "--steps", "3", "--episodes", "1", "--learner")
    assert "order" not in hidden.out
    assert boards(told.out) == boards(hidden.out), "the same worlds"


def test_q_and_the_end_of_input_keep_what_is_over(typed: Any, here: Path) -> None:
    for lines, name in (("wwwq", "a"), ("www", "b"), ("ww\n", "c")):
        answer = typed(lines, name, "--steps", "2", "--episodes", "3")
        assert answer.code == 0 and answer.out.splitlines()[-1].startswith("1 of 3 episodes, scores: ")
        assert Recording.load(name).actions.tolist() == [[1, 1]]
    answer = typed("wq", "d", "--steps", "2")
    assert answer.code == 0 and answer.err == "no episode is over, and d was not written\n" and not Path("d").exists()


@pytest.mark.parametrize(
    ("lines", "words", "line"),
    [
        ("wx", ("--steps", "3"), "unknown key 'x': w, a, s and d go, a space or a full stop stays, q leaves"),
        ("", ("--steps", "0"), "steps = 0: an episode has 1 step or more"),
        ("", ("--episodes", "0"), "--episodes 0 is none: give 1 or more"),
        ("", ("--goals", "1"), "goals = 1 of 0 colours"),
        ("", ("--goals", "30"), "goals = 30 with 2 starts need more than the 25 cells"),
        ("", ("--world", "maze"), "unknown world 'maze'"),
        ("", ("--world.szie", "3"), "unknown flag --world.szie"),
        ("", ("--lerner",), "unknown flag --lerner"),
        ("", ("no/such/file",), "there is no folder no/such: make it, or name another file"),
        ("", (".",), ". exists already: name another file, or remove it"),
    ],
)
def test_what_cannot_be_played_is_one_line(typed: Any, lines: str, words: tuple[str, ...], line: str) -> None:
    answer = typed(lines, *words)
    assert answer.code == 2 and answer.err.startswith(f"etude: {line}") and answer.err.count("\n") == 1


class Terminal:
    """`etude play` at a terminal."""

    def __init__(self, folder: Path, *words: str, term: str = "xterm-256color") -> None:
        self.ours, theirs = pty.openpty()
        self.before = termios.tcgetattr(theirs)
        plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "etude", "play", *words],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env={**plain, "TERM": term, "COLUMNS": "100"},
        )  # fmt: skip
        self.theirs, self.seen = theirs, ""

    def until(self, words: str) -> str:
        """Return what is shown up to these words."""
        end = time.monotonic() + 60
        while words not in self.seen:
            ready, _, _ = select.select([self.ours], [], [], 0.1)
            assert time.monotonic() < end, self.seen
            if ready:
                self.seen += os.read(self.ours, 65536).decode()
            elif self.process.poll() is not None:
                assert words in self.seen, self.seen
        shown, _, self.seen = self.seen.partition(words)
        return shown + words

    def press(self, *keys: bytes) -> None:
        for key in keys:
            os.write(self.ours, key)
            time.sleep(0.01)

    def end(self) -> int:
        code = self.process.wait(60)
        assert termios.tcgetattr(self.theirs) == self.before, "the terminal is as it was"
        os.close(self.ours)
        os.close(self.theirs)
        return code


def test_arrows_at_a_terminal_in_colour(here: Path) -> None:
    at = Terminal(here, "human", "--steps", "6", "--episodes", "2")
    first = at.until("6 steps left")
    assert "\x1b[" in first and "48;" in first, "goals have a ground of their colour"
    at.press(b"\x1b[A", b"\x1bOB", b"\x1b", b"[C", b"x\x1b[Hd", b"A ")  # a slip, and a key that is none
    at.until("any key goes on")
    at.press(b"y")
    at.until("episode 2 of 2")
    at.press(b"wwq")
    at.until("kept in human")
    assert at.end() == 0
    assert Recording.load(here / "human").actions.tolist() == [[1, 3, 2, 2, 4, 0]]


def test_a_dumb_terminal_gets_no_escapes_and_an_interrupt_keeps_what_is_over(here: Path) -> None:
    at = Terminal(here, "human", "--steps", "2", "--episodes", "2", term="dumb")
    shown = at.until("2 steps left")
    at.press(b"wd")
    shown += at.until("any key goes on")
    at.press(b" ")
    shown += at.until("episode 2 of 2")
    at.press(b"s")
    at.until("1 steps left")
    at.process.send_signal(signal.SIGINT)
    shown += at.until("kept in human")
    assert at.end() == 0 and "\x1b" not in shown
    assert Recording.load(here / "human").actions.tolist() == [[1, 2]]
