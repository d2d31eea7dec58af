"""Recorded episodes: written, read back, played again, and refused where they are not what they should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from etude.core.errors import DamagedError, EtudeError, UsageError
from etude.culture.experts.base import Expert
from etude.culture.experts.noisy import Noisy
from etude.culture.experts.replayed import Replayed
from etude.culture.experts.shortest import Shortest
from etude.culture.experts.slow import Slow
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout, draw_layout, joined
from etude.culture.recording import OVER, Recording
from etude.culture.worlds.obstacles import Obstacles

STEPS, WORLDS = 25, 6


def played(expert: Expert, layout: Layout, steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Return an expert's actions and cells [B T]."""
    game, draw = GoalCycle(layout), np.random.default_rng(3)
    actions, cells = np.zeros((len(layout), steps), np.int64), np.zeros((len(layout), steps), np.int64)
    for step in range(steps):
        both = np.zeros(game.cells.shape, np.int64)
        both[:, 1] = actions[:, step] = expert.act(game, 1, draw)
        game.step(both)
        cells[:, step] = game.cells[:, 1]
    return actions, cells


@pytest.fixture
def layout() -> Layout:
    return draw_layout(Obstacles(slow=0.2), 3, WORLDS, np.random.default_rng(5), colours=4)


@pytest.fixture
def file(tmp_path: Path, layout: Layout) -> Path:
    actions, _ = played(Noisy(), layout)
    actions[2, 10:] = OVER
    Recording(layout, 1, actions, "A. Person", "2026-11-22").save(tmp_path / "human.safetensors")
    return tmp_path / "human.safetensors"


def test_what_was_recorded_reads_back_equal(file: Path, layout: Layout) -> None:
    found = Recording.load(file)
    assert (len(found), found.player, found.who, found.when) == (WORLDS, 1, "A. Person", "2026-11-22")
    assert all(np.array_equal(getattr(found.layout, name), x) for name, x in vars(layout).items())
    assert np.array_equal(found.actions[0], played(Noisy(), layout)[0][0]) and (found.actions[2, 10:] == OVER).all()


def test_it_is_played_as_it_was_and_stays_after_its_end(file: Path, layout: Layout) -> None:
    expert = Replayed(file=str(file))
    actions, cells = played(expert, expert.layouts(), STEPS + 5)
    _, before = played(Noisy(), layout)
    whole = np.array([number for number in range(WORLDS) if number != 2])
    assert np.array_equal(cells[whole, :STEPS], before[whole])
    assert np.array_equal(cells[2, :10], before[2, :10]) and (actions[2, 10:] == 0).all()
    assert (actions[:, STEPS:] == 0).all()


def test_its_worlds_in_any_order_twice_and_in_more_colours(file: Path) -> None:
    expert = Replayed(file=str(file))
    order = np.array([4, 0, 4, 3])
    actions, _ = played(expert, expert.layouts()[order].in_colours(7))
    assert np.array_equal(actions, np.maximum(Recording.load(file).actions, 0)[order])


def test_two_episodes_in_one_world_are_played_in_turn(tmp_path: Path, layout: Layout) -> None:
    twice = joined([layout[:1], layout[:1]])
    actions = np.array([[1, 1, 2], [3, 4, 3]])
    Recording(twice, 1, actions).save(tmp_path / "two")
    assert np.array_equal(played(Replayed(file=str(tmp_path / "two")), twice, 3)[0], actions)


def test_other_worlds_and_another_start_are_refused(file: Path, layout: Layout) -> None:
    other = draw_layout(Obstacles(), 3, 2, np.random.default_rng(0))
    mixed = joined([layout[:2].in_colours(4), other.in_colours(4)])
    with pytest.raises(UsageError, match=r"^world 2 is none of the 6 in which '.*human.safetensors' was recorded"):
        played(Replayed(file=str(file)), mixed)
    with pytest.raises(UsageError, match=r"^world 0 is none of the 6 .* take the worlds of its layouts\(\)$"):
        Replayed(file=str(file)).act(GoalCycle(layout), 0, np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"^4 colours do not fit into 3: give as many or more$"):
        layout.in_colours(3)


def test_only_what_is_replayed_has_worlds_of_its_own(file: Path) -> None:
    assert Shortest().layouts() is None and Noisy().layouts() is None
    within = Slow(of=Noisy(of=Replayed(file=str(file)), chance=0.0), wait=0.0)
    found = within.layouts()
    assert found is not None and len(found) == WORLDS
    assert np.array_equal(played(within, found)[0], played(Replayed(file=str(file)), found)[0])


def test_its_identity_is_its_content(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    copy.write_bytes(file.read_bytes())
    one, two = Replayed(file=str(file)).resolve(), Noisy(of=Replayed(file=str(copy))).resolve()
    assert isinstance(two.of, Replayed)
    assert one.sha256 == two.of.sha256 != "auto" and one.fingerprint() == two.of.fingerprint()
    changed = Recording.load(copy)
    replace(changed, who="B.").save(copy)
    assert Replayed(file=str(copy)).resolve().fingerprint() != one.fingerprint()
    with pytest.raises(DamagedError, match=r"^the recorded episodes at .* have changed: their sha256 is"):
        two.layouts()


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^expert replayed needs the file of recorded episodes: --expert.file FILE"):
        Replayed().resolve()
    with pytest.raises(UsageError, match=r"^there are no recorded episodes at nowhere: record episodes with"):
        Replayed(file="nowhere").resolve()


def rewritten(file: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], object]) -> None:
    with safe_open(file, "numpy") as opened:
        said = json.loads(opened.metadata()["said"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    change(said, tensors)
    save_file(tensors, file, {"format": "etude episodes 1", "said": json.dumps(said)})


def put(name: str, at: Any, value: int) -> Callable[[dict[str, Any], dict[str, np.ndarray]], object]:
    return lambda _, tensors: tensors[name].__setitem__(at, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said, tensors: tensors.pop("starts"), "starts is missing"),
        (lambda said, tensors: said.pop("size"), "size is missing"),
        (lambda said, tensors: said.update(size=6), "its arrays do not fit each other"),
        (lambda said, tensors: said.update(size="5"), "size '5' or player 1 is none"),
        (lambda said, tensors: said.update(player=2), "player 2 is not among its starts"),
        (lambda said, tensors: tensors.update(actions=tensors["actions"][:3]), "its arrays do not fit each other"),
        (lambda said, tensors: tensors.update(goals=tensors["goals"][:, 0]), "its arrays do not fit each other"),
        (lambda said, tensors: tensors.update(goals=tensors["goals"] * 1.0), "player 1 is not .* not whole"),
        (put("actions", (0, 0), 5), "a goal, a start or an action is out of range"),
        (put("actions", (0, 0), OVER), "an episode goes on after its end"),
        (put("goals", (0, 0), 25), "a goal, a start or an action is out of range"),
        (put("following", 0, 1), "the order of its goals is no cycle"),
        (put("following", (slice(None), slice(None)), 99), "the order of its goals is no cycle"),
        (put("walls", (1, slice(None)), 1), "world 1 cannot be played"),
    ],
)
def test_what_nobody_can_have_played_is_refused(file: Path, change: Any, words: str) -> None:
    rewritten(file, change)
    with pytest.raises(DamagedError, match=rf"^.*human\.safetensors: {words}"):
        Recording.load(file)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b'{"a": 1}', b"\xff" * 100])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UsageError, match=r"^.*x holds no recorded episodes \(.*\): record episodes with: etude play"):
        Recording.load(tmp_path / "x")


def test_weights_are_no_recording_and_a_cut_file_is_refused(tmp_path: Path, file: Path) -> None:
    save_file({"w": np.zeros(3)}, tmp_path / "weights")
    with pytest.raises(UsageError, match="weights holds 'something else' and not 'etude episodes 1'"):
        Recording.load(tmp_path / "weights")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(EtudeError, match="holds no recorded episodes"):
        Recording.load(file)
