"""Run: a recipe done, as a directory that can be read without PyTorch; and Draft, a run while it is being made.

A draft stands in `NAME.partial` and becomes `NAME` by one rename when it is complete, so a run that exists is whole.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.core.errors import BusyError, DamagedError, EtudeError
from etude.core.files import read_json, replacing, sha256_of, write_json
from etude.core.recipe import Recipe
from etude.core.stopwatch import Stopwatch

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
"""Layout of a run directory. A reader that finds another number says so instead of guessing."""

MANIFEST = "files.json"

MAKER = "maker"
"""File in a draft's scratch folder with a word of the process that makes it."""


class Run:
    """A complete run. It is only read; nothing changes a run once it is complete.

    Raises:
        DamagedError: the directory is no complete run, or was laid out by another version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._verified: set[str] = set()
        manifest = read_json(self.path / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            found = manifest.get("format") if isinstance(manifest, dict) else None
            raise DamagedError(
                f"{self.path} has run format {found} and this Etude reads format {FORMAT};"
                " read it with the release that wrote it, or make the run again"
            )
        files = manifest.get("files")
        if not isinstance(files, dict) or not all(_is_entry(entry) for entry in files.values()):
            raise DamagedError(
                f"{self.path / MANIFEST} does not list the run's files: it was changed;"
                f" remove the run with `etude runs remove {self.id}` and make it again"
            )
        self.files: dict[str, dict[str, Any]] = files

    @property
    def id(self) -> str:
        return self.path.name

    def __repr__(self) -> str:
        return f"Run({self.id})"

    @cached_property
    def recipe_data(self) -> dict[str, Any]:
        """The recipe as JSON data, readable even where its class has changed since."""
        return read_json(self.file("recipe.json"))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that made this run."""
        return Recipe.from_json(self.recipe_data)

    @cached_property
    def result(self) -> dict[str, Any]:
        """What the work returned. Its `timing` block is the only part that differs between two runs of a recipe."""
        return read_json(self.file("result.json"))

    @property
    def outcome(self) -> dict[str, Any]:
        """The result without its `timing` block: the same whenever and wherever the recipe is run."""
        return {key: value for key, value in self.result.items() if key != "timing"}

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Code version, machine, library versions, seeds, hashes and inputs that the run came from."""
        return read_json(self.file("provenance.json"))

    @cached_property
    def record(self) -> list[dict[str, Any]]:
        """The rows that the work logged, in order."""
        return list(read_rows(self.file("record.jsonl"))) if "record.jsonl" in self.files else []

    def file(self, name: str) -> Path:
        """Return the path of a file of this run, after checking once that it is what was written.

        Raises:
            DamagedError: it is missing, cut short or changed.
        """
        path = self.path / name
        if name in self._verified:
            return path
        if name not in self.files:
            raise DamagedError(f"run {self.id} has no file {name!r}; it has: {', '.join(sorted(self.files))}")
        wanted = self.files[name]
        size = path.stat().st_size if path.exists() else None
        if size != wanted["bytes"] or sha256_of(path) != wanted["sha256"]:
            state = "missing" if size is None else "cut short" if size < wanted["bytes"] else "changed"
            raise DamagedError(
                f"{path} is {state}: its hash is not the one in {MANIFEST};"
                f" remove the run with `etude runs remove {self.id}` and make it again"
            )
        self._verified.add(name)
        return path

    def verify(self) -> None:
        """Check every file of the run against its hash."""
        for name in self.files:
            self.file(name)

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays in a safetensors file of this run."""
        from safetensors.numpy import load_file

        return load_file(self.file(name))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(entry["bytes"] for entry in self.files.values())

    @property
    def inputs(self) -> list[str]:
        """The ids of the runs that this one was made from."""
        return list(self.provenance.get("inputs", []))


def _is_entry(entry: Any) -> bool:
    """Whether this is what a manifest says of a file."""
    return isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)


class Draft:
    """A run being made: what a recipe's work is given to write into.

    Attributes:
        path: the folder; files written here become the run's.
        scratch: a folder for what should survive a kill but is no part of the run (checkpoints to resume from).
        say: takes a line for the person who waits for the run, of what they should know and would not find out.
        beside: in a process that only takes part, the folder in which the first one writes the run; nothing that is
            written here is kept.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        *,
        say: Callable[[str], None] = lambda text: None,
        beside: Path | None = None,
    ) -> None:
        self.path, self.recipe, self.say, self.beside = path, recipe, say, beside
        self.scratch = path / "scratch"
        self.notes: dict[str, Any] = {}
        self.stopwatch = Stopwatch(self.scratch / "clock.json")
        self._first: tuple[float, float, str] | None = None
        self._shown = 0.0
        if path.exists() and not self._same_recipe():
            shutil.rmtree(path)
        for torn in path.rglob(".*.tmp"):  # a write that a kill cut off; it must not become a file of the run
            torn.unlink()
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._word = secrets.token_hex(8)
        (self.scratch / MAKER).write_text(self._word, encoding="utf-8")
        write_json(path / "recipe.json", recipe.to_json())

    def require_ours(self) -> None:
        """Make sure that no other process has taken the draft over, before something of it is written.

        The lock of a run keeps others away while its holder lives, except where a file system drops the lock of a
        machine that it cannot reach, or keeps locks to one machine.

        Raises:
            BusyError: one has; what was written stays and is its own.
        """
        try:
            word = (self.scratch / MAKER).read_text(encoding="utf-8")
        except FileNotFoundError:  # it was even finished
            word = ""
        if word != self._word:
            raise BusyError(
                f"{self.recipe.id} was taken over by another process while this one was cut off; this one leaves it"
            )

    def _same_recipe(self) -> bool:
        """Whether what stands in the folder was begun by this very recipe, and may be gone on with."""
        try:
            begun = Recipe.from_json(read_json(self.path / "recipe.json"))
            return begun.fingerprint() == self.recipe.fingerprint()
        except EtudeError:
            return False

    def log(self, **row: Any) -> None:
        """Append a row to `record.jsonl`. What depends on the clock goes under the key `timing`."""
        self.require_ours()
        with (self.path / "record.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows logged so far, by this process or by one that was killed."""
        path = self.path / "record.jsonl"
        return list(read_rows(path)) if path.exists() else []

    def keep_rows(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drop the rows that a resumed work will log again."""
        rows = [row for row in self.rows() if wanted(row)]
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        temporary = self.scratch / "record.jsonl"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.path / "record.jsonl")

    def save(self, name: str, tensors: Mapping[str, np.ndarray]) -> Path:
        """Write arrays as a safetensors file of the run."""
        import numpy as np
        from safetensors.numpy import save_file

        path = self.path / name
        with replacing(path) as temporary:
            save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, temporary)
        return path

    def note(self, **facts: Any) -> None:
        """Add facts to the run's provenance, such as the hash of the data that was read."""
        self.notes.update(facts)

    def progress(self, done: float, total: float, unit: str = "steps", note: str = "") -> None:
        """Say how far the work is. Cheap enough to call at every step: it writes at most twice a second."""
        now = time.monotonic()
        if self._first is None or self._first[2] != unit:  # work of another kind has a rate of its own
            self._first = (now, done, unit)
        if now - self._shown < 0.5 and done < total:
            return
        self._shown = now
        self.require_ours()
        since, start, _ = self._first
        rate = (done - start) / (now - since) if now > since else 0.0
        state = {"done": done, "total": total, "unit": unit, "note": note, "rate": rate}
        write_json(self.scratch / "progress.json", state)
        self.stopwatch.keep()

    def finish(self, result: dict[str, Any], provenance: dict[str, Any]) -> Run:
        """Write what remains, hash every file and turn the draft into a run."""
        self.require_ours()
        timing = {**result.pop("timing", {}), "seconds": self.stopwatch.seconds}
        write_json(self.path / "result.json", {**result, "timing": timing})
        write_json(self.path / "provenance.json", {**provenance, **self.notes})
        written = (p.relative_to(self.path) for p in self.path.rglob("*") if p.is_file())
        names = sorted(p.as_posix() for p in written if p.parts[0] != self.scratch.name)
        files = {n: {"bytes": (self.path / n).stat().st_size, "sha256": sha256_of(self.path / n)} for n in names}
        write_json(self.path / MANIFEST, {"format": FORMAT, "files": files})
        return seal(self.path)


def seal(partial: Path) -> Run:
    """Turn a draft whose manifest is written into a run. Killed before this ends, it is done by whoever comes next."""
    shutil.rmtree(partial / "scratch", ignore_errors=True)
    final = partial.with_suffix("")
    os.rename(partial, final)
    return Run(final)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON-lines file. A last line cut off by a kill is left out."""
    for line in path.read_text(encoding="utf-8").split("\n"):  # other ends of lines may stand in what a model wrote
        if not line:
            continue
        try:
            yield json.loads(line)
        except ValueError:
            return
