"""What every world owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from etude.core.family import Family
from etude.culture.layout import draw_layout
from etude.culture.worlds import base
from etude.culture.worlds.base import World

FAMILY = Family("culture/worlds")
MEMBERS = cast("list[type[World]]", list(FAMILY))
every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda cls: cls.name)


def test_the_family_has_its_members() -> None:
    assert {"open", "obstacles", "rooms"} <= set(FAMILY.names()) and FAMILY.base() is World


def test_the_readme_tells_every_member() -> None:
    text = (Path(base.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in FAMILY.names())


@every_member
@pytest.mark.parametrize("size", [5, 8])
def test_walls_are_those_of_the_draw(member: type[World], size: int) -> None:
    world = member(size=size, slow=0.3)
    one, again, other = (world.walls(40, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == (40, size**2) and one.dtype == bool and not one.all(1).any()
    assert np.array_equal(one, again)
    assert one.any() == (not np.array_equal(one, other)) == (len(np.unique(one, axis=0)) > 1)
    assert world.walls(0, np.random.default_rng(0)).shape == (0, size**2)
    muddy = world.mud(500, np.random.default_rng(0))
    assert muddy.shape == (500, size**2) and abs(muddy.mean() - 0.3) < 0.02


@every_member
def test_its_worlds_can_be_drawn_and_played(member: type[World]) -> None:
    layout = draw_layout(member(slow=0.2), 3, 64, np.random.default_rng(0), players=3)
    assert len(layout) == 64 and layout.playable.all()


@every_member
def test_it_is_plain_data_that_reads_back_equal(member: type[World]) -> None:
    world = member(size=9, slow=0.25)
    assert World.from_json(json.loads(json.dumps(world.to_json()))) == world
