"""The one loop, shown with a stepper that only counts: rows, checkpoints, stopping, going on."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from etude.core.errors import DivergedError, Interrupted
from etude.core.recipe import Recipe
from etude.core.run import Draft
from etude.train.checkpoint import State, saved_steps
from etude.train.loop import advance


@dataclass(frozen=True)
class Toy(Recipe, kind="toy-loop", does="nowhere:nothing"):
    """A recipe for a draft to hold."""


class Counter:
    """Adds up what its generator draws. `at` runs something within a step."""

    def __init__(self, at: dict[int, Callable[[], Any]] | None = None) -> None:
        self.total, self.draw, self.at, self.steps = 0.0, torch.Generator().manual_seed(0), at or {}, []

    def step(self, number: int) -> dict[str, float]:
        self.steps.append(number)
        change = self.at.get(number + 1, lambda: None)()
        self.total += torch.rand((), generator=self.draw).item()
        return {"loss": self.total if change is None else change}

    def state(self) -> State:
        return State({"draw": self.draw.get_state()}, {"total": self.total})

    def load(self, state: State) -> None:
        self.total = state.values["total"]
        self.draw.set_state(state.tensors["draw"])


def stop(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def _as_at_a_terminal() -> Iterator[None]:
    """Hear Ctrl-C, also where a shell started the tests in its background and so deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def draft(tmp_path: Path) -> Callable[[], Draft]:
    """Open the same draft, as each process that works on it does."""
    return lambda: Draft(tmp_path / "toy.partial", Toy())


def rows(run: Draft) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "timing"} for row in run.rows()]


def unbroken(tmp_path: Path, steps: int = 10, **choices: Any) -> list[dict[str, Any]]:
    run = Draft(tmp_path / "unbroken.partial", Toy())
    advance(Counter(), run, steps=steps, **choices)
    return rows(run)


def evaluate(taken: int) -> dict[str, Any]:
    return {"val_loss": float(taken)}


def test_what_is_logged_and_when(draft: Callable[[], Draft]):
    run, kept = draft(), []
    advance(Counter(), run, steps=10, log_every=4, evaluate=evaluate, evaluate_every=3, keep=kept.append, keep_every=5)
    assert [row["step"] for row in run.rows()] == [0, 3, 4, 6, 8, 9, 10]
    assert [row["step"] for row in run.rows() if "val_loss" in row] == [0, 3, 6, 9, 10]
    assert [row["step"] for row in run.rows() if "loss" in row] == [3, 4, 6, 8, 9, 10]
    assert kept == [5, 10]


def test_evaluations_only_at_the_ends(draft: Callable[[], Draft]):
    run = draft()
    advance(Counter(), run, steps=7, log_every=100, evaluate=evaluate)
    assert [row["step"] for row in run.rows()] == [0, 7]


def test_no_steps_at_all(draft: Callable[[], Draft]):
    run = draft()
    advance(Counter(), run, steps=0, evaluate=evaluate)
    assert rows(run) == [{"step": 0, "val_loss": 0.0}]


def test_the_rate_is_of_stepping_alone(draft: Callable[[], Draft], monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr("etude.train.loop.time", SimpleNamespace(monotonic=lambda: clock[0]))

    def wait(seconds: float) -> None:
        clock[0] += seconds

    def slow(taken: int) -> dict[str, Any]:
        wait(1000.0)
        return {}

    run = draft()
    advance(
        Counter({n: lambda: wait(2.0) for n in range(1, 9)}), run, steps=8, log_every=2, per_step=64.0,
        evaluate=lambda taken: {**slow(taken), "val_loss": 1.0}, evaluate_every=4, save_seconds=1e9,
    )  # fmt: skip
    assert [row["timing"]["per_second"] for row in run.rows() if "timing" in row] == [32.0] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 4, 5, 10])
def test_stopped_and_gone_on_with(number: int, at: int, draft: Callable[[], Draft], tmp_path: Path):
    choices = {"log_every": 2, "evaluate": evaluate, "evaluate_every": 5}
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped after step {at} of 10; run the same command again"):
        advance(Counter({at: lambda: stop(number)}), draft(), steps=10, **choices)
    assert signal.getsignal(number) is before
    assert saved_steps(draft().scratch) == [at]
    assert all(row["step"] < at for row in draft().rows()), "the row comes after the checkpoint"
    second = Counter()
    advance(second, draft(), steps=10, **choices)
    assert second.steps == list(range(at, 10))
    assert rows(draft()) == unbroken(tmp_path, **choices)


def test_stopped_again_and_again(draft: Callable[[], Draft], tmp_path: Path):
    for at in (2, 3, 7):
        with pytest.raises(Interrupted):
            advance(Counter({at: stop}), draft(), steps=10, log_every=3)
    advance(Counter(), draft(), steps=10, log_every=3)
    assert rows(draft()) == unbroken(tmp_path, log_every=3)


def test_a_second_signal_acts_at_once(draft: Callable[[], Draft]):
    with pytest.raises(KeyboardInterrupt):
        advance(Counter({3: lambda: (stop(), stop())}), draft(), steps=10)
    assert saved_steps(draft().scratch) == []


def test_an_ignored_interrupt_stays_ignored(draft: Callable[[], Draft]):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    advance(Counter({3: lambda: (stop(), stop())[2:] or None}), draft(), steps=5, log_every=1)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert [row["step"] for row in draft().rows()] == [1, 2, 3, 4, 5]


def test_stopped_while_the_last_step_is_evaluated(draft: Callable[[], Draft], tmp_path: Path):
    def stopped(taken: int) -> dict[str, Any]:
        if taken == 4:
            stop(signal.SIGTERM)
        return evaluate(taken)

    with pytest.raises(Interrupted, match="stopped after step 4 of 4"):
        advance(Counter(), draft(), steps=4, evaluate=stopped)
    assert saved_steps(draft().scratch) == [4]
    again = Counter()
    advance(again, draft(), steps=4, evaluate=evaluate)
    assert again.steps == [] and rows(draft()) == unbroken(tmp_path, steps=4, evaluate=evaluate)


def test_away_from_the_main_thread_signals_are_left_alone(draft: Callable[[], Draft]):
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=advance, args=(Counter(), draft()), kwargs={"steps": 3, "log_every": 1})
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert [row["step"] for row in draft().rows()] == [1, 2, 3]


@pytest.mark.usefixtures("a_checkpoint_every_step")
class TestWithACheckpointEveryStep:
    """A process that dies leaves the checkpoint of every step it took."""

    def die(self, draft: Callable[[], Draft], at: int, **choices: Any) -> None:
        def fall() -> None:
            raise MemoryError

        with pytest.raises(MemoryError):
            advance(Counter({at + 1: fall}), draft(), steps=10, log_every=1, save_seconds=0.0, **choices)

    def test_two_stand_at_once(self, draft: Callable[[], Draft]):
        self.die(draft, at=6)
        assert saved_steps(draft().scratch) == [5, 6]
        assert len(list(draft().scratch.glob("*checkpoint-*"))) == 4

    @pytest.mark.parametrize("at", [4, 5])
    def test_an_evaluation_that_dies_costs_no_training(self, at: int, draft: Callable[[], Draft], tmp_path: Path):
        def dies(taken: int) -> dict[str, Any]:
            if taken == at:
                raise MemoryError
            return evaluate(taken)

        choices = {"log_every": 1, "evaluate_every": 1, "save_seconds": 0.0}
        with pytest.raises(MemoryError):
            advance(Counter(), draft(), steps=10, evaluate=dies, **choices)
        assert saved_steps(draft().scratch)[-1] == at
        assert draft().rows()[-1]["step"] == at - 1
        again = Counter()
        advance(again, draft(), steps=10, evaluate=evaluate, **choices)
        assert again.steps[0] == at
        assert rows(draft()) == unbroken(tmp_path, evaluate=evaluate, **choices)

    def test_what_was_to_be_kept_is_kept(self, draft: Callable[[], Draft]):
        kept = []

        def dies(taken: int) -> None:
            raise MemoryError

        with pytest.raises(MemoryError):
            advance(Counter(), draft(), steps=10, log_every=1, keep=dies, keep_every=4, save_seconds=0.0)
        assert draft().rows()[-1]["step"] == 3, "a row says that all of its step is done"
        advance(Counter(), draft(), steps=10, log_every=1, keep=kept.append, keep_every=4)
        assert kept == [4, 8]

    def test_rows_after_the_checkpoint_are_logged_anew(self, draft: Callable[[], Draft], tmp_path: Path):
        self.die(draft, at=6)
        with (draft().path / "record.jsonl").open("a") as file:
            file.write('{"step": 7, "loss": 1.0}\n{"step": 8, "lo')  # logged, and cut off by the kill
        advance(Counter(), draft(), steps=10, log_every=1)
        assert rows(draft()) == unbroken(tmp_path, log_every=1)

    @pytest.mark.parametrize(
        "harm",
        [
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
            lambda path: path.unlink(),
            lambda path: path.with_suffix(".json").write_text("{}"),
            lambda path: path.with_suffix(".json").write_text("[1]"),
            lambda path: path.with_suffix(".json").write_text('{"sha2'),
            lambda path: path.with_suffix(".json").write_bytes(b"\xff\xfe"),
        ],
    )
    def test_a_damaged_one_is_passed_over_and_noted(self, harm: Any, draft: Callable[[], Draft], tmp_path: Path):
        self.die(draft, at=6)
        harm(draft().scratch / "checkpoint-000000006.safetensors")
        said: list[str] = []
        again, run = Counter(), Draft(draft().path, Toy(), say=said.append)
        advance(again, run, steps=10, log_every=1)
        assert again.steps[0] == 5
        assert run.notes["damaged_checkpoints"] == ["the checkpoint of step 6 was damaged and passed over"]
        assert said == [f"{run.recipe.id}: the checkpoint of step 6 was damaged and passed over"]
        assert rows(run) == unbroken(tmp_path, log_every=1)

    def test_all_damaged_begins_again(self, draft: Callable[[], Draft], tmp_path: Path):
        self.die(draft, at=6)
        for path in draft().scratch.glob("checkpoint-*.safetensors"):
            path.write_bytes(b"")
        again, run = Counter(), draft()
        advance(again, run, steps=10, log_every=1)
        assert again.steps == list(range(10))
        assert len(run.notes["damaged_checkpoints"]) == 2
        assert rows(run) == unbroken(tmp_path, log_every=1)

    def test_a_checkpoint_torn_by_a_kill_is_no_checkpoint(self, draft: Callable[[], Draft]):
        self.die(draft, at=6)
        scratch = draft().scratch
        (scratch / ".checkpoint-000000007.safetensors.1.tmp").write_bytes(b"half")
        (scratch / "checkpoint-000000007.safetensors").write_bytes(b"whole, but its hash was not written yet")
        again = Counter()
        advance(again, draft(), steps=10, log_every=1, save_seconds=0.0)
        assert again.steps[0] == 6
        assert not list(scratch.glob(".checkpoint-*"))

    def test_a_loss_that_is_not_finite(self, draft: Callable[[], Draft]):
        with pytest.raises(DivergedError) as caught:
            advance(Counter({6: lambda: float("nan")}), draft(), steps=10, log_every=1, save_seconds=0.0)
        scratch = draft().scratch
        # The loss of step 6 comes from the weights that the checkpoint of step 5 holds: 4 is the last that is good.
        assert f"loss is nan at step 6; the last good checkpoint is step 4, in {scratch}. Try a lower" in str(
            caught.value
        )
        assert saved_steps(scratch) == [4, 5]
        assert [row["step"] for row in draft().rows()] == [1, 2, 3, 4, 5]

    def test_an_evaluation_that_is_not_finite(self, draft: Callable[[], Draft]):
        with pytest.raises(DivergedError, match="val_loss is inf at step 4; the last good checkpoint is step 3"):
            advance(
                Counter(), draft(), steps=10, log_every=1, evaluate=lambda n: {"val_loss": [0.0, float("inf")][n == 4]},
                evaluate_every=2, save_seconds=0.0,
            )  # fmt: skip
        json.loads((draft().path / "record.jsonl").read_text().splitlines()[-1])


def test_diverging_before_any_checkpoint(draft: Callable[[], Draft]):
    with pytest.raises(DivergedError, match="loss is inf at step 1; no good checkpoint yet"):
        advance(Counter({1: lambda: float("inf")}), draft(), steps=10)


def test_saving_takes_a_twentieth_of_the_time_at_most(draft: Callable[[], Draft], monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    spent = {"stepping": 0.0, "saving": 0.0}
    monkeypatch.setattr("etude.train.loop.time", SimpleNamespace(monotonic=lambda: clock[0]))

    class Slow(Counter):
        def step(self, number: int) -> dict[str, float]:
            clock[0] += 1.0
            spent["stepping"] += 1.0
            return super().step(number)

        def state(self) -> State:
            clock[0] += 3.0
            spent["saving"] += 3.0
            return super().state()

    advance(Slow(), draft(), steps=400, log_every=1000, save_seconds=2.0)
    assert 0 < spent["saving"] <= spent["stepping"] / 20 * 1.05
