"""Recorded episodes: what one player did in which worlds, as a file that can be played back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from etude.core.errors import DamagedError, UsageError
from etude.core.files import replacing
from etude.culture.layout import Layout
from etude.culture.routes import ACTIONS

FORMAT = "etude episodes 1"
OVER = -1
"""Stands for the steps after the end of an episode that is shorter than the longest."""

MADE = "record episodes with: etude play FILE"


@dataclass(frozen=True, eq=False)
class Recording:
    """N episodes of one player. A safetensors file: no code runs when it is read.

    Attributes:
        layout: the world of each.
        player: which of the players in it was recorded.
        actions: [N T] what it did, then `OVER`.
        who: a name for who played.
        when: as text.
    """

    layout: Layout
    player: int
    actions: Int[np.ndarray, "N T"]
    who: str = ""
    when: str = ""

    def __len__(self) -> int:
        return len(self.actions)

    def save(self, path: Path | str) -> None:
        """Write the file in one step."""
        from safetensors.numpy import save_file

        said = {"size": self.layout.size, "player": self.player, "who": self.who, "when": self.when}
        tensors = {name: np.ascontiguousarray(getattr(self.layout, name).astype(kind)) for name, kind in _WORLD.items()}
        tensors["actions"] = np.ascontiguousarray(self.actions.astype(np.int8))
        with replacing(Path(path)) as temporary:
            save_file(tensors, temporary, {"format": FORMAT, "said": json.dumps(said)})

    @staticmethod
    def load(path: Path | str) -> Recording:
        """Read a file.

        Raises:
            UsageError: there is none, or it holds something else.
            DamagedError: it holds what nobody can have played.
        """
        said, tensors = _read(Path(path))
        problem = _problem(said, tensors)
        if problem:
            raise DamagedError(f"{path}: {problem}; {MADE}")
        size, player = int(said["size"]), int(said["player"])
        walls, slow = tensors["walls"].astype(bool), tensors["slow"].astype(bool)
        goals, following, starts = (tensors[name].astype(np.int64) for name in ("goals", "following", "starts"))
        layout = Layout.of(size, walls, slow, goals, following, starts)
        try:
            layout.require_playable()
        except UsageError as error:
            raise DamagedError(f"{path}: {error}") from None
        actions = tensors["actions"].astype(np.int64)
        return Recording(layout, player, actions, str(said.get("who", "")), str(said.get("when", "")))


_WORLD = {"walls": np.uint8, "slow": np.uint8, "goals": np.int16, "following": np.int16, "starts": np.int16}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UsageError(f"there are no recorded episodes at {path}: {MADE}")
    try:
        with safe_open(path, "numpy") as file:
            described = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        said = json.loads(described.get("said", "{}"))
    except (SafetensorError, ValueError, TypeError) as error:
        raise UsageError(f"{path} holds no recorded episodes ({error}): {MADE}") from None
    if described.get("format") != FORMAT or not isinstance(said, dict):
        raise UsageError(f"{path} holds {described.get('format', 'something else')!r} and not {FORMAT!r}: {MADE}")
    return said, tensors


def _problem(said: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """Return what is wrong with what a file says, in a few words, or nothing."""
    missing = ({*_WORLD, "actions"} - set(tensors)) | ({"size", "player"} - set(said))
    if missing:
        return f"{', '.join(sorted(missing))} is missing"
    size, player, worlds = said["size"], said["player"], len(tensors["actions"])
    if not (isinstance(size, int) and isinstance(player, int) and 2 <= size <= 99):
        return f"size {size!r} or player {player!r} is none"
    cells, kinds = size**2, {x.dtype.kind for x in tensors.values()}
    goals, following, starts = tensors["goals"], tensors["following"], tensors["starts"]
    actions = tensors["actions"]
    wide = [(tensors[name].shape, (worlds, cells)) for name in ("walls", "slow")]
    wide += [(goals.shape, (worlds, *goals.shape[1:])), (following.shape, goals.shape)]
    if any(found != wanted for found, wanted in wide) or {x.ndim for x in tensors.values()} != {2} or not worlds:
        return "its arrays do not fit each other"
    if not kinds <= set("iu") or len(starts) != worlds or not 0 <= player < starts.shape[1]:
        return f"player {player} is not among its starts, or its numbers are not whole"
    if not (_within(goals, -1, cells) and _within(starts, 0, cells) and _within(actions, OVER, ACTIONS)):
        return "a goal, a start or an action is out of range"
    over = actions == OVER
    if (over[:, :-1] & ~over[:, 1:]).any():
        return "an episode goes on after its end"
    if not all(map(_is_cycle, goals, following)):
        return "the order of its goals is no cycle"
    return ""


def _within(x: np.ndarray, low: int, end: int) -> bool:
    return not x.size or (int(x.min()) >= low and int(x.max()) < end)


def _is_cycle(goals: Int[np.ndarray, " G"], following: Int[np.ndarray, " G"]) -> bool:
    """Whether the order leads through every goal that is there, and through no other, back to the first."""
    there = np.flatnonzero(goals >= 0)
    colour, met = (int(there[0]) if len(there) else -1), []
    while 0 <= colour < len(goals) and colour not in met:
        met.append(colour)
        colour = int(following[colour])
    return len(met) >= 2 and sorted(met) == there.tolist() and colour == met[0]
