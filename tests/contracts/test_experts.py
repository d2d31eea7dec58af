"""What every expert owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from etude.core.family import Family
from etude.culture.experts import base
from etude.culture.experts.base import Expert
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout, draw_layout
from etude.culture.recording import Recording
from etude.culture.routes import ACTIONS
from etude.culture.worlds.obstacles import Obstacles

FAMILY = Family("culture/experts")


def drawn(worlds: int = 12) -> Layout:
    return draw_layout(Obstacles(slow=0.2), 3, worlds, np.random.default_rng(1), colours=4)


def recorded(folder: Path) -> str:
    actions = np.random.default_rng(0).integers(0, ACTIONS, (12, 20))
    Recording(drawn(), 1, actions).save(folder / "human")
    return str(folder / "human")


ARGUMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {"replayed": lambda folder: {"file": recorded(folder)}}
"""What a member is made with; those left out need nothing."""


@pytest.fixture(params=FAMILY.names())
def expert(request: pytest.FixtureRequest, tmp_path: Path) -> Expert:
    member = cast(type[Expert], FAMILY.member(request.param))
    return member(**ARGUMENTS.get(request.param, lambda folder: {})(tmp_path))


def actions_of(expert: Expert, layout: Layout, seed: int = 0, steps: int = 30) -> np.ndarray:
    """Return what an expert does [T B], the other player going about at random."""
    game, draw, others = GoalCycle(layout), np.random.default_rng(seed), np.random.default_rng(9)
    found = []
    for _ in range(steps):
        found.append(expert.act(game, 1, draw))
        game.step(np.stack([others.integers(0, ACTIONS, game.worlds), found[-1]], axis=1))
    return np.array(found)


def test_the_family_has_its_members() -> None:
    assert {"anti", "noisy", "random", "replayed", "shortest", "slow"} <= set(FAMILY.names())
    assert FAMILY.base() is Expert


def test_the_readme_tells_every_member() -> None:
    text = (Path(base.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in FAMILY.names())


def test_it_gives_an_action_for_each_world_and_changes_nothing(expert: Expert) -> None:
    game, draw = GoalCycle(expert.layouts() or drawn()), np.random.default_rng(0)
    for _ in range(25):
        before = {name: deepcopy(value) for name, value in vars(game).items() if name not in ("notes", "layout")}
        actions = expert.act(game, 1, draw)
        assert actions.shape == (game.worlds,) and actions.dtype.kind == "i"
        assert actions.min() >= 0 and actions.max() < ACTIONS
        assert all(np.array_equal(value, getattr(game, name)) for name, value in before.items())
        game.step(np.repeat(actions[:, None], 2, axis=1))


def test_the_same_draw_gives_the_same_moves_and_nothing_is_kept_from_game_to_game(expert: Expert) -> None:
    layout = expert.layouts() or drawn()
    first = actions_of(expert, layout, 5)
    actions_of(expert, layout[np.arange(len(layout))[::-1]], 6)
    assert np.array_equal(actions_of(expert, layout, 5), first)


def test_one_world_alone_is_played(expert: Expert) -> None:
    layout = (expert.layouts() or drawn())[:1]
    assert actions_of(expert, layout).shape == (30, 1)


def test_its_own_worlds_can_be_played_and_told_apart_from_none(expert: Expert) -> None:
    own = expert.layouts()
    assert own is None or (len(own) > 0 and own.playable.all() and own.starts.shape[1] == 2)


def test_it_is_plain_data_that_reads_back_equal(expert: Expert) -> None:
    assert Expert.from_json(json.loads(json.dumps(expert.to_json()))) == expert
    settled = expert.resolve()
    assert settled.fingerprint() == settled.resolve().fingerprint()
