"""A challenge as it lies on the disk, and the ordered manifest that makes a course of many."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from etude.core.errors import UsageError, unknown

HOUSE = Path(__file__).parent / "challenges"
"""The challenges that come with Etude."""

RUNGS = 3
"""Hints of a challenge: an idea, a formula, almost the code."""

FEWEST_MUTANTS = 5

PARTS = ("challenge.toml", "starter.py", "check.py", "solution.py")


@dataclass(frozen=True)
class Mutant:
    """A plausible wrong solution: the solution with one piece of its text replaced.

    Attributes:
        name: what is wrong with it, in a few words.
        old: a piece that stands exactly once in `solution.py`.
        new: what stands there instead.
        says: a part of the message that the check must answer with, and with no other mutant.
    """

    name: str
    old: str
    new: str
    says: str

    def of(self, solution: str) -> str:
        """Return the mutant's source.

        Raises:
            UsageError: the piece to replace is not there, or more than once.
        """
        if (found := solution.count(self.old)) != 1:
            raise UsageError(f"mutant {self.name!r} replaces {self.old!r}, which stands {found} times in the solution")
        return solution.replace(self.old, self.new)


@dataclass(frozen=True)
class Challenge:
    """One thing to rebuild: a folder with `challenge.toml`, `starter.py`, `check.py` and `solution.py`.

    Attributes:
        folder: where it is.
        track: the part of the course that it belongs to.
        title: what is built.
        minutes: the band in which a first solution is expected (docs/practice.md says how it was set).
        hints: three rungs.
        mutants: wrong solutions that its check must tell apart.
        after: challenges whose ideas it uses.
        forbidden: calls that it asks to be written oneself, as in `torch.softmax`; `.softmax` is any method so named.
        seconds: the most that a check may take.
        further: where Etude has the grown-up version, as a file or command.
    """

    folder: Path
    track: str
    title: str
    minutes: tuple[float, float]
    hints: tuple[str, ...]
    mutants: tuple[Mutant, ...]
    after: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    seconds: float = 10.0
    further: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def barred(self) -> tuple[str, ...]:
        """What an answer may not use: what is forbidden, and in the house's own challenges the house."""
        return (*self.forbidden, "etude") if self.folder.parent == HOUSE else self.forbidden

    @property
    def file(self) -> str:
        """The learner's file, relative to where they practise."""
        return f"{self.track}/{self.name}.py"

    @cached_property
    def starter(self) -> str:
        """What the learner is given."""
        return self._read("starter.py")

    @cached_property
    def solution(self) -> str:
        """Our answer."""
        return self._read("solution.py")

    def _read(self, part: str) -> str:
        return (self.folder / part).read_text(encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, track: str) -> Challenge:
        """Read a challenge.

        Raises:
            UsageError: a part is missing, or the description is not what it has to be.
        """
        for part in PARTS:
            if not (folder / part).is_file():
                raise UsageError(f"{folder} has no {part}; a challenge has {', '.join(PARTS)}")
        told = _toml(folder / "challenge.toml")
        known = {field.name for field in fields(cls)} - {"folder", "track"}
        if strange := sorted(told.keys() - known):
            raise unknown(f"entry of {folder / 'challenge.toml'}", strange[0], known)
        if missing := [name for name in ("title", "minutes", "hints", "mutants") if name not in told]:
            raise UsageError(f"{folder / 'challenge.toml'} has no {missing[0]!r}")
        try:
            mutants = tuple(Mutant(**each) for each in told.pop("mutants"))
        except TypeError as error:
            raise UsageError(f"{folder / 'challenge.toml'}: a mutant has name, old, new and says ({error})") from None
        lists: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        low, high = lists["minutes"] if len(lists["minutes"]) == 2 else (0, 0)
        if not 0 < low < high:
            raise UsageError(f"{folder / 'challenge.toml'}: minutes = {told['minutes']}: give [least, most]")
        if len(lists["hints"]) != RUNGS:
            raise UsageError(f"{folder / 'challenge.toml'} has {len(lists['hints'])} hints: give {RUNGS}")
        return cls(folder=folder, track=track, mutants=mutants, **lists)


@dataclass(frozen=True)
class Course:
    """Challenges in the order in which they are met.

    Attributes:
        folder: where their folders are, with the manifest.
        tracks: the titles of the tracks by name.
        challenges: in order.
    """

    folder: Path
    tracks: dict[str, str]
    challenges: tuple[Challenge, ...]

    @classmethod
    def load(cls, folder: Path = HOUSE) -> Course:
        """Read a manifest and the challenges that it names.

        Raises:
            UsageError: the manifest or a challenge is missing or malformed, or one is named twice or out of order.
        """
        if not (folder / "manifest.toml").is_file():
            raise UsageError(
                f"{folder} has no manifest.toml: `etude practice new NAME --in {folder}` makes one with a challenge"
            )
        told = _toml(folder / "manifest.toml")
        tracks = {str(name): str(title) for name, title in told.get("tracks", {}).items()}
        found: dict[str, Challenge] = {}
        for place in told.get("order", []):
            track, _, name = str(place).partition("/")
            if track not in tracks or not name:
                raise unknown(f"track of {place!r} in {folder / 'manifest.toml'}", track, tracks)
            if name in found:
                raise UsageError(f"{folder / 'manifest.toml'} names {name!r} twice")
            found[name] = challenge = Challenge.load(folder / name, track)
            if late := [each for each in challenge.after if each not in found]:
                raise UsageError(f"{name!r} comes after {late[0]!r}, which the manifest has later or not at all")
        if not found:
            raise UsageError(f"{folder / 'manifest.toml'} orders no challenge: order = ['track/name']")
        return cls(folder, tracks, tuple(found.values()))

    def __iter__(self) -> Iterator[Challenge]:
        return iter(self.challenges)

    def __len__(self) -> int:
        return len(self.challenges)

    def __getitem__(self, name: str) -> Challenge:
        for challenge in self:
            if name.replace("-", "_").removesuffix(".py").rpartition("/")[2] == challenge.name:
                return challenge
        raise unknown("challenge", name, (each.name for each in self), see="etude practice list")

    def along(self, track: str) -> tuple[Challenge, ...]:
        """Return the challenges of one track, with those of other tracks that they build on, in order.

        Raises:
            UsageError: there is no such track.
        """
        if track not in self.tracks:
            raise unknown("track", track, self.tracks)
        wanted: set[str] = set()
        for challenge in reversed(self.challenges):
            if challenge.track == track or challenge.name in wanted:
                wanted |= {challenge.name, *challenge.after}
        return tuple(each for each in self if each.name in wanted)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
