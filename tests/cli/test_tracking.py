"""`etude runs follow` and `etude run --track`: metrics out, live, to a tracker of lists and to TensorBoard's files."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from etude.cli import tracking
from etude.core.errors import EtudeError, UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run

pytestmark = pytest.mark.filterwarnings("ignore")  # what others' libraries warn of among themselves

TROUBLE: set[str] = set()
"""What goes wrong in the work while a test wants it to."""


@dataclass(frozen=True)
class Walk(Recipe, kind="toy-stroll", does=f"{__name__}:walk"):
    """Walk some steps, in the one loop.

    Attributes:
        steps: how many.
    """

    steps: int = 8


def walk(recipe: Walk, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    from etude.train.checkpoint import State
    from etude.train.loop import advance

    class Stepper:
        def step(self, number: int) -> dict[str, float]:
            if number == 6 and "stumble" in TROUBLE:
                raise EtudeError("stumbled")
            return {"loss": 1 / (number + 1)}

        def state(self) -> State:
            return State({}, {})

        def load(self, state: State) -> None: ...

    advance(Stepper(), run, steps=recipe.steps, log_every=1)
    return {}


@dataclass
class Book:
    """A tracker that keeps what it is told in lists."""

    name: str = "book"
    place: str = "here"
    told: list[Any] = field(default_factory=list)
    kept: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    failing: str = ""
    slow: float = 0.0

    def require(self) -> None: ...

    def open(self, run: str, recipe: Mapping[str, Any]) -> Page:
        assert recipe["kind"] == "toy-stroll"
        return Page(self, run)


@dataclass
class Page:
    """One run in the book."""

    book: Book
    run: str

    def held(self) -> dict[int, dict[str, float]]:
        return {step: dict(values) for step, values in self.book.kept.get(self.run, {}).items()}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if self.book.failing:
            raise RuntimeError(self.book.failing)
        time.sleep(self.book.slow)
        self.book.told.append(step)
        self.book.kept.setdefault(self.run, {}).setdefault(step, {}).update(values)

    def rewind(self, step: int) -> None:
        self.book.told.append(("rewind", step))

    def close(self, *, done: bool) -> None:
        self.book.told.append("done" if done else "open")


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Book:
    monkeypatch.setattr(tracking, "PERIOD", 0.02)
    found = Book()
    monkeypatch.setattr(tracking, "tracker_named", lambda text: found)
    TROUBLE.clear()
    return found


def losses(book: Book, recipe: Recipe) -> dict[int, float]:
    return {step: values["loss"] for step, values in book.kept[recipe.id].items() if "loss" in values}


def logged(recipe: Recipe) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in Run(Path("runs") / recipe.id).record if "loss" in row}


def touched(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_finished_run_is_followed_once_and_only_read(etude, book):
    etude("run", "toy-stroll", "--name", "stroll")
    before = touched(Path("runs"))
    answer = etude("runs", "follow", "stroll", "--to", "book:here")
    assert (answer.code, answer.err) == (0, "")
    values = sum(len(each) for each in book.kept[Walk().id].values())
    assert answer.out == f"{values} values written to book:here\n"
    assert losses(book, Walk()) == logged(Walk())
    assert book.told[-1] == "done"
    again = etude("runs", "follow", Walk().id[:-3], "--to", "book:here")
    assert again.out == "0 values written to book:here\n"
    assert touched(Path("runs")) == before


def test_a_run_that_is_being_made_is_followed_to_its_end(etude, book, here):
    draft = Draft(here / "runs" / f"{Walk().id}.partial", Walk())
    draft.log(step=0, loss=1.0)

    def work() -> None:
        for step in range(1, 4):
            time.sleep(0.06)
            draft.log(step=step, loss=1 / (step + 1))
        draft.finish({}, {})

    worker = threading.Thread(target=work)
    worker.start()
    answer = etude("runs", "follow", "toy-stroll", "--to", "book:here")
    worker.join()
    assert (answer.code, answer.out) == (0, "4 values written to book:here\n")
    assert answer.err == f"following {Walk().id}; Ctrl-C stops this, and not the run\n"
    assert losses(book, Walk()) == {0: 1.0, 1: 1 / 2, 2: 1 / 3, 3: 1 / 4}
    assert book.told == [0, 1, 2, 3, "done"]


def test_ctrl_c_stops_the_following_and_it_goes_on_later(etude, book, here, monkeypatch):
    draft = Draft(here / "runs" / f"{Walk().id}.partial", Walk())
    draft.log(step=0, loss=1.0)

    def stop(seconds: float) -> None:
        if seconds == tracking.PERIOD:
            raise KeyboardInterrupt

    monkeypatch.setattr(tracking.time, "sleep", stop)
    answer = etude("runs", "follow", Walk().id, "--to", "book:here")
    assert (answer.code, answer.out) == (0, "1 values written to book:here\n")
    assert "writes nothing twice" in answer.err
    draft.log(step=1, loss=0.5)
    assert etude("runs", "follow", Walk().id, "--to", "book:here").out == "1 values written to book:here\n"
    assert book.told == [0, "open", 1, "open"]


def test_a_draft_that_is_removed_is_said(etude, book, here, monkeypatch):
    draft = Draft(here / "runs" / f"{Walk().id}.partial", Walk())
    draft.log(step=0, loss=1.0)
    monkeypatch.setattr(tracking.time, "sleep", lambda seconds: etude("runs", "remove", "--unfinished"))
    answer = etude("runs", "follow", Walk().id, "--to", "book:here")
    assert answer.code == 1
    assert f"{Walk().id} was removed while it was followed; 1 values were written" in answer.err


def test_what_cannot_be_followed_is_said(etude, book):
    etude("run", "toy-stroll")
    answer = etude("runs", "follow", "toy-wolk", "--to", "book:here")
    assert answer.code == 2
    assert answer.err == f"etude: unknown run or draft 'toy-wolk': There are: {Walk().id}. See: etude runs\n"
    book.failing = "the server\nhas burnt down"
    answer = etude("runs", "follow", "toy-stroll", "--to", "book:here")
    assert (answer.code, answer.err) == (1, "etude: the tracker book at here fails: the server has burnt down\n")


def test_tracker_names_are_checked(monkeypatch):
    for text, words in (("tensorbord:x", "did you mean 'tensorboard'"), ("mlflow", "has no place: write mlflow:ADD")):
        with pytest.raises(UsageError, match=words):
            tracking.tracker_named(text)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="is not installed"):
        tracking.tracker_named("mlflow:http://host:5000")


def test_a_command_tracks_the_runs_that_it_makes(etude, book):
    plain = etude("run", "toy-stroll", "--steps", "7")
    answer = etude("run", "toy-stroll", "--track", "book:here")
    assert answer.code == plain.code == 0
    assert set(book.kept) == {Walk().id}
    assert losses(book, Walk()) == logged(Walk())
    assert book.told.count("done") == 1
    etude("run", "toy-stroll", "--track", "book:here")  # it is done: nothing is made
    assert book.told.count("done") == 1


def test_a_tracker_in_trouble_is_said_once_and_the_run_is_whole(etude, book):
    book.failing = "no room on the server"
    answer = etude("run", "toy-stroll", "--track", "book:here", "--quiet")
    assert answer.code == 0
    assert Run(Path("runs") / Walk().id).result["timing"]
    assert answer.err == (
        "the tracker book fails and is left: no room on the server; the runs are whole, and go there by:"
        " etude runs follow RUN --to book:here\n"
    )


def test_a_tracker_that_does_not_answer_is_not_waited_for(etude, book, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE", 0.1)
    book.slow = 0.4
    began = time.monotonic()
    answer = etude("run", "toy-stroll", "--steps", "2", "--track", "book:here")
    assert answer.code == 0 and "the tracker book does not answer" in answer.err
    assert time.monotonic() - began < 5


def test_work_that_stumbles_and_goes_on_is_in_the_tracker_once(etude, book):
    TROUBLE.add("stumble")
    assert etude("run", "toy-stroll", "--track", "book:here").code == 1
    assert sorted(losses(book, Walk())) == [1, 2, 3, 4, 5, 6]
    assert book.told[-1] == "open"
    TROUBLE.clear()
    assert etude("run", "toy-stroll", "--track", "book:here").code == 0  # from the start: there was no checkpoint yet
    assert losses(book, Walk()) == logged(Walk())
    assert sorted(step for step in book.told if isinstance(step, int)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert book.told[-1] == "done"


def test_in_tensorboard_s_own_files_too(etude, monkeypatch, here):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    EventAccumulator = import_module("tensorboard.backend.event_processing.event_accumulator").EventAccumulator

    monkeypatch.setattr(tracking, "PERIOD", 0.02)
    TROUBLE.add("stumble")
    assert etude("run", "toy-stroll", "--track", "tensorboard:logs").code == 1
    TROUBLE.clear()
    assert etude("run", "toy-stroll", "--track", "tensorboard:logs").code == 0
    assert etude("runs", "follow", "toy-stroll", "--to", "tensorboard:logs").out.startswith("0 values")
    events = EventAccumulator(str(here / "logs" / Walk().id), size_guidance={"scalars": 0}).Reload().Scalars("loss")
    assert {event.step: event.value for event in events} == pytest.approx(logged(Walk()))
    assert len(events) == len(logged(Walk()))
    assert not list((here / "runs").rglob("*tfevents*"))
