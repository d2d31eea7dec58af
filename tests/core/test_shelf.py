"""The shelf when something on it is damaged, busy or half done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etude.core.errors import BusyError, DamagedError, EtudeError, UsageError
from etude.core.lab import Lab
from etude.core.locks import held
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.shelf import Shelf


@dataclass(frozen=True)
class Brick(Recipe, kind="toy-brick", does=f"{__name__}:lay"):
    """Stands on others."""

    number: int = 0
    on: tuple[Recipe, ...] = ()


def lay(recipe: Brick, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    return {"number": recipe.number}


GROUND = Brick(1)
WALL = Brick(2, (GROUND,))
ROOF = Brick(3, (WALL,))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path / "runs", quiet=True)
    lab.run(ROOF)
    return lab


@pytest.fixture
def shelf(lab: Lab) -> Shelf:
    return Shelf(lab.root)


def standing(shelf: Shelf) -> set[str]:
    return {path.name for path in shelf.root.iterdir() if not path.name.startswith(".")}


def test_users_come_before_what_they_were_made_from(shelf: Shelf) -> None:
    assert shelf.users(GROUND.id) == [ROOF.id, WALL.id]
    assert shelf.remove(shelf.find(GROUND.id), with_users=True) == [ROOF.id, WALL.id, GROUND.id]
    assert standing(shelf) == set()


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"inputs": 3}', ""])
def test_a_damaged_provenance_blocks_no_other_run(lab: Lab, shelf: Shelf, text: str) -> None:
    other = lab.run(Brick(4))
    (shelf.root / ROOF.id / "provenance.json").write_text(text)
    assert len(list(shelf)) == 4
    assert shelf.users(GROUND.id) == [WALL.id]
    assert shelf.remove(other) == [other.id]
    assert shelf.remove(shelf.find(ROOF.id)) == [ROOF.id]


def test_an_unread_run_still_tells_what_it_was_made_from(shelf: Shelf) -> None:
    (shelf.root / WALL.id / "files.json").write_text("{")
    assert shelf.users(GROUND.id) == [ROOF.id, WALL.id]
    with pytest.raises(EtudeError, match="--with-users"):
        shelf.remove(shelf.find(GROUND.id))


@pytest.mark.parametrize("manifest", ["{", '{"format": 1}', '{"format": 1, "files": {"a": 1}}', None])
def test_a_run_that_cannot_be_read_is_named_and_removed(shelf: Shelf, manifest: str | None) -> None:
    path = shelf.root / ROOF.id / "files.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    with pytest.raises(DamagedError, match="remove"):
        shelf.find(ROOF.id)
    with pytest.raises(DamagedError, match="remove"):
        shelf.find(ROOF.id[:-1])
    assert len(shelf.unreadable()) == 1
    assert shelf.remove(shelf.place(ROOF.id)) == [ROOF.id]
    assert shelf.unreadable() == []


def test_a_damaged_run_may_go_alone_and_comes_back_the_same(lab: Lab, shelf: Shelf) -> None:
    (shelf.root / GROUND.id / "result.json").write_text("{}")
    assert shelf.remove(shelf.find(GROUND.id)) == [GROUND.id]
    assert standing(shelf) == {WALL.id, ROOF.id}
    assert lab.run(GROUND).id == GROUND.id and shelf.users(GROUND.id) == [ROOF.id, WALL.id]


def test_only_folders_with_a_runs_name_are_runs(shelf: Shelf) -> None:
    for name in (f".{GROUND.id}.removed", f"{GROUND.id}.moving", f"{GROUND.id}.partial", "copy-of-mine"):
        shutil.copytree(shelf.root / GROUND.id, shelf.root / name)
    assert {run.id for run in shelf} == {GROUND.id, WALL.id, ROOF.id}
    assert shelf.find(GROUND.id[:-1]).id == GROUND.id
    shelf.remove_unfinished()
    assert standing(shelf) == {GROUND.id, WALL.id, ROOF.id, "copy-of-mine"}


def test_where_one_is_busy_none_is_removed(shelf: Shelf) -> None:
    for busy in (GROUND.id, WALL.id, ROOF.id):
        with held(shelf.root, busy), pytest.raises(BusyError):
            shelf.remove(shelf.find(GROUND.id), with_users=True)
        assert standing(shelf) == {GROUND.id, WALL.id, ROOF.id}


def test_a_run_of_another_folder_is_removed_there(shelf: Shelf, tmp_path: Path) -> None:
    moved = shelf.move(shelf.find(ROOF.id), tmp_path / "other")
    assert shelf.remove(shelf.find(moved.path)) == [ROOF.id]
    assert not moved.path.exists() and standing(shelf) == {GROUND.id, WALL.id}


def test_moving_waits_for_nobody_and_leaves_no_half(shelf: Shelf, tmp_path: Path) -> None:
    with held(shelf.root, ROOF.id), pytest.raises(BusyError):
        shelf.move(shelf.find(ROOF.id), tmp_path / "other")
    assert shelf.find(ROOF.id).result == {**shelf.find(ROOF.id).result}
    with pytest.raises(UsageError, match="exists already"):
        shelf.move(shelf.find(ROOF.id), shelf.root)


def test_a_source_that_is_deleted_halfway_is_no_run(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.rmtree

    def killed(path: Path, **choices: Any) -> None:
        if Path(path).parent == shelf.root and Path(path).exists():
            os.unlink(Path(path) / "result.json")
            raise KeyboardInterrupt
        real(path, **choices)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        shelf.move(shelf.find(ROOF.id), tmp_path / "other")
    assert standing(shelf) == {GROUND.id, WALL.id}
    assert Shelf(tmp_path / "other").find(ROOF.id).result["number"] == 3


def test_a_damaged_run_is_not_moved(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.root / ROOF.id / "result.json").write_text("{}")
    with pytest.raises(DamagedError, match=f"{ROOF.id}/result.json is cut short"):
        shelf.move(shelf.find(ROOF.id), tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == [".locks"]
    assert (shelf.root / ROOF.id).exists()
