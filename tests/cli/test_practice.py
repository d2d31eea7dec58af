"""`etude practice` at the command line: every verb in a folder, and the watcher as a process that is really watched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from etude.cli.app import main
from etude.practice import practising
from etude.practice.challenge import Course
from etude.practice.judging import judge

COURSE = Course.load()
SOFTMAX = COURSE["softmax"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which commands are given; checks run in this process."""
    monkeypatch.setattr(practising, "judged", judge)
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def etude(desk: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["practice", *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


Call = Callable[..., tuple[int, str, str]]


def test_a_first_session(desk: Path, etude: Call) -> None:
    code, out, _ = etude("--once", "--rules", "papers")
    assert code == 0 and f"a plain file each: {len(COURSE)} challenges" in out and "Nothing was changed" in out
    (desk / SOFTMAX.file).write_text(SOFTMAX.mutants[0].of(SOFTMAX.solution), encoding="utf-8")
    code, out, err = etude("--once")
    assert code == 1 and "runs over the wrong axis" in out and err == "etude: not right yet: softmax\n"
    assert "Nothing was changed since it was last checked." in etude("--once")[1]
    assert etude("check", "softmax", "--seed", "3")[0] == 1
    code, out, _ = etude("check", "softmax", "--seed", "3", "--json")
    assert json.loads(out)["seed"] == 3
    assert "softmax, hint 1 of 3: " in etude("hint", "softmax")[1]
    (desk / SOFTMAX.file).write_text(SOFTMAX.solution, encoding="utf-8")
    assert etude("--once")[:2] == (0, "softmax: right.\n")
    assert etude("answer", "softmax", "--sure", "4", "--hard", "the axis", "--unaided")[1] == "Written down.\n"
    listed = etude("list")[1]
    assert f"1 of {len(COURSE)} solved" in listed and "solved in under 1 min, helped" in listed
    rows = json.loads(etude("list", "--json")[1])
    assert [row["challenge"] for row in rows if row["solved"]] == ["softmax"]
    assert etude("next")[1].startswith(COURSE.challenges[0].file)
    assert "You can now build: Softmax" in etude("log", "my own line")[1]
    assert "Note: my own line" in etude("log")[1]


def test_plan_pause_reset_solution_read_and_portfolio(desk: Path, etude: Call) -> None:
    assert etude("--once")[0] == 0
    assert "there is no plan yet" in etude("plan")[2]
    code, out, _ = etude("plan", "--goal", "a GPT", "--hours", "4", "--until", "2090-01-01", "--track", "scaling")
    assert code == 0 and "before 2090-01-01" in out and "count_flops" in out and "ppo_clip" not in out
    planned = etude("plan")[1]
    assert "Goal: a GPT. Hours a week: 4" in planned and "Track: scaling." in planned
    assert "of the track scaling; --all shows all" in etude("list")[1] and "ppo_clip" in etude("list", "--all")[1]
    assert "Following the track retrieval" in etude("--once", "--track", "retrieval")[1]
    assert "count_flops" in etude("plan")[1]  # a plan keeps its own track
    assert "Following" not in etude("--once", "--track", "all")[1]
    assert "--track alone plans nothing" in etude("plan", "--track", "scaling")[2]
    assert "--until soon is no day" in etude("plan", "--until", "soon")[2]
    assert "stands still" in etude("pause")[1]
    assert etude("solution", "softmax")[1] == SOFTMAX.solution
    (desk / SOFTMAX.file).write_text("mine", encoding="utf-8")
    assert "what stood there is in" in etude("reset", "softmax")[1]
    assert (desk / SOFTMAX.file).read_text(encoding="utf-8") == SOFTMAX.starter
    assert "Attention Is All You Need" in etude("read")[1]
    etude("read", "vaswani", "--took", "scores grow with the width")
    assert "read  vaswani" in etude("read")[1]
    code, out, _ = etude("portfolio", "--name", "Ada")
    assert code == 0 and Path(out.strip()).read_text(encoding="utf-8").count("Practice of Ada")
    assert "induction" in etude("try")[1]
    assert "say what you expect first" in etude("try", "sizes")[2]


def test_an_experiment_is_run_after_it_was_predicted(desk: Path, etude: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_RUNS", str(desk / "runs"))
    etude("--once")
    code, out, _ = etude("try", "sizes", "--predict", "a third")
    assert code == 0 and out.index("Your prediction is written down") < out.index("You predicted: a third")
    assert "report.html" in out
    assert etude("try", "sizes", "--conclude", "less")[1] == "Written down.\n"
    main(["run", "sizes", "--quiet"])  # the same run, which is not taken along twice
    etude("portfolio")
    assert [path.name for path in (desk / "portfolio" / "studies").iterdir()] == ["sizes.html"]


def test_studies_that_were_run_on_the_side_are_taken_along(
    desk: Path, etude: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_RUNS", str(desk / "runs"))
    etude("--once")
    assert main(["run", "sizes", "--quiet"]) == 0
    page = Path(etude("portfolio")[1].strip())
    (copied,) = (desk / "portfolio" / "studies").iterdir()
    assert copied.name.startswith("sizes-") and f"studies/{copied.name}" in page.read_text(encoding="utf-8")


def test_challenges_of_ones_own(desk: Path, etude: Call) -> None:
    ours = str(desk.parent / "ours")
    assert "prove as they stand" in etude("new", "row_means", "--in", ours)[1]
    assert etude("prove", "--from", ours)[:2] == (0, "proved: 1\n")
    assert "exists already" in etude("new", "row_means", "--in", ours)[2]
    check = desk.parent / "ours" / "row_means" / "check.py"
    check.write_text("def check(theirs, exam):\n    pass\n", encoding="utf-8")
    code, out, err = etude("prove", "row_means", "--from", ours)
    assert code == 1 and "passes" in out and "not proved" in err
    assert "a plain file each: 1 challenges" in etude("--from", ours, "--once")[1]
    assert (desk / "own" / "row_means.py").exists() and "Nothing was changed" in etude("--once")[1]
    assert "has a course already" in etude("--from", ours)[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "sofmax"), "unknown challenge 'sofmax': did you mean 'softmax'?"),
        (("--track", "chess"), "unknown track 'chess'"),
        (("--rules", "books"), "unknown rule 'books'"),
        (("answer", "softmax", "--sure", "4"), "softmax is not solved yet"),
        (("new", "2nd", "--in", "ours"), "no name for a challenge"),
        (("--from", "nowhere"), "this folder has a course already"),
    ],
)
def test_wrong_use_is_one_line(desk: Path, etude: Call, words: tuple[str, ...], said: str) -> None:
    etude("--once")
    code, _, err = etude(*words)
    assert code in (1, 2) and said in err and err.count("\n") == 1


@pytest.mark.parametrize("words", [("check", "softmax"), ("hint",), ("next",), ("log",), ("plan",), ("portfolio",)])
def test_where_nobody_practises_it_says_how_to_begin(desk: Path, etude: Call, words: tuple[str, ...]) -> None:
    code, _, err = etude(*words)
    assert code == 2 and "`etude practice` in an empty folder begins" in err
    assert list(desk.iterdir()) == []


def until(folder: Path, words: str, process: subprocess.Popen[bytes], most: float = 90) -> str:
    """Wait until a watcher has said something."""
    end, said = time.monotonic() + most, ""
    while time.monotonic() < end:
        said = (folder.parent / "said.txt").read_text(encoding="utf-8")
        if words in said:
            return said
        assert process.poll() is None, said
        time.sleep(0.1)
    raise AssertionError(f"it never said {words!r}: {said}")


def test_a_watcher_checks_what_is_saved_and_is_alone_and_goes_on(tmp_path: Path) -> None:
    desk = tmp_path / "desk"
    desk.mkdir()
    first = COURSE.challenges[0]

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "said.txt").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "etude", "practice"],
                cwd=desk, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={**os.environ},
            )  # fmt: skip

    watcher = start()
    try:
        until(desk, f"Write it in {first.file}", watcher)
        second = subprocess.run(
            [sys.executable, "-m", "etude", "practice"], cwd=desk, capture_output=True, text=True, check=False
        )
        assert second.returncode == 1 and "is watched already, by process" in second.stderr
        (desk / first.file).write_text(first.solution, encoding="utf-8")
        until(desk, f"{first.name}: right.", watcher)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(30) == 0
        assert "goes on from here" in (tmp_path / "said.txt").read_text(encoding="utf-8")
        watcher = start()
        until(desk, f"Write it in {COURSE.challenges[1].file}", watcher)
    finally:
        watcher.kill()
        watcher.wait()
