"""Somebody who has played before: recorded episodes, once more."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Int

from etude.core.errors import DamagedError, UsageError
from etude.core.files import sha256_of
from etude.core.spec import AUTO, cosmetic
from etude.culture.experts.base import Expert
from etude.culture.goal_cycle import GoalCycle
from etude.culture.layout import Layout
from etude.culture.recording import MADE, OVER, Recording
from etude.culture.routes import STAY


@dataclass(frozen=True)
class Replayed(Expert):
    """Do what was done in recorded episodes, a person's among them (`etude play FILE`). It plays in the recorded worlds
    alone, and stays where it is once its episode is over.

    Attributes:
        file: the recorded episodes. The path does not enter the fingerprint: the content does.
        sha256: identity of the content. Left at auto, it is taken from what is there; set, what is there must have it.
    """

    file: str = cosmetic("")
    sha256: str = AUTO

    def settle(self) -> Self:
        return self if self.sha256 != AUTO else dataclasses.replace(self, sha256=sha256_of(self._path()))

    def layouts(self) -> Layout:
        return self.recording().layout

    def recording(self) -> Recording:
        """Return the episodes.

        Raises:
            UsageError: there are none.
            DamagedError: they have not the identity in `sha256`.
        """
        path = self._path()
        about = path.stat()
        found, recording = _opened(path, about.st_mtime_ns, about.st_size)
        if self.sha256 not in (AUTO, found):
            raise DamagedError(
                f"the recorded episodes at {self.file!r} have changed: their sha256 is {found[:12]} and the recipe's is"
                f" {self.sha256[:12]}; put the old file back, or leave sha256 out to use the new one"
            )
        return recording

    def act(self, game: GoalCycle, player: int, draw: np.random.Generator) -> Int[np.ndarray, " B"]:
        key = (self, player)
        if key not in game.notes:
            game.notes[key] = self._found(game, player)
        actions = game.notes[key]
        if game.steps >= actions.shape[1]:
            return np.full(game.worlds, STAY)
        return np.where(actions[:, game.steps] == OVER, STAY, actions[:, game.steps])

    def _found(self, game: GoalCycle, player: int) -> Int[np.ndarray, "B T"]:
        """Return what was done in each of the worlds. Of several episodes in one world each is taken in turn."""
        recording = self.recording()
        episodes: dict[bytes, list[int]] = {}
        for episode, world in enumerate(_identities(recording.layout, recording.player)):
            episodes.setdefault(world, []).append(episode)
        chosen = []
        for number, world in enumerate(_identities(game.layout, player)):
            if world not in episodes:
                raise UsageError(
                    f"world {number} is none of the {len(recording)} in which {self.file!r} was recorded: replayed"
                    " plays those alone, from its own start; take the worlds of its layouts()"
                )
            episodes[world].append(episodes[world].pop(0))
            chosen.append(episodes[world][-1])
        return recording.actions[chosen]

    def _path(self) -> Path:
        if not self.file:
            raise UsageError(f"expert replayed needs the file of recorded episodes: --expert.file FILE; {MADE}")
        if not Path(self.file).is_file():
            raise UsageError(f"there are no recorded episodes at {self.file}: {MADE}")
        return Path(self.file)


@functools.lru_cache(maxsize=4)
def _opened(path: Path, changed: int, size: int) -> tuple[str, Recording]:
    """Return a file's hash and what it holds, read again when it was written again."""
    return sha256_of(path), Recording.load(path)


def _identities(layout: Layout, player: int) -> list[bytes]:
    """Return what tells each world from another, for one player; colours that are in no goal do not count."""
    found = []
    for number in range(len(layout)):
        colours = np.flatnonzero(layout.goals[number] >= 0)
        order = (colours, layout.goals[number, colours], layout.following[number, colours])
        parts = (*order, layout.starts[number, [player]], layout.walls[number], layout.slow[number])
        found.append(b"".join(np.asarray(part, np.int64).tobytes() for part in parts))
    return found
