"""The shelf of finished runs: find, name, compare, move and safely remove them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.errors import BusyError, DamagedError, EtudeError, UsageError, unknown
from etude.core.files import read_json
from etude.core.locks import held
from etude.core.recipe import Recipe
from etude.core.run import MANIFEST, Run


@dataclass(frozen=True)
class Shelf:
    """The runs in one folder.

    Attributes:
        root: the folder. Names that people gave stand in `names/`, one file each, holding a run's id.
    """

    root: Path

    def __iter__(self) -> Iterator[Run]:
        """Yield the complete runs that this Etude can read, newest first."""
        return (run for run in self._opened() if isinstance(run, Run))

    def unreadable(self) -> list[DamagedError]:
        """Return what is wrong with each folder that is a run by its looks, and that this Etude cannot read."""
        return [problem for problem in self._opened() if isinstance(problem, DamagedError)]

    def _opened(self) -> Iterator[Run | DamagedError]:
        found = [path for path in self.root.glob("*") if (path / MANIFEST).exists()] if self.root.is_dir() else []
        for path in sorted(found, key=lambda p: (p / MANIFEST).stat().st_mtime, reverse=True):
            try:
                yield Run(path)
            except DamagedError as error:
                yield error

    def unfinished(self) -> list[Path]:
        """Return the drafts of work that was stopped, or that another process is doing now."""
        return sorted(self.root.glob("*.partial"))

    def find(self, text: str | Path) -> Run:
        """Return the run that a person means: an id, the start of one, a given name, or a folder.

        Raises:
            UsageError: there is none, or several begin so.
        """
        if (Path(text) / MANIFEST).exists():
            return Run(text)
        text = str(text)
        named = self.root / "names" / text
        if _is_name(text) and named.is_file():
            return self.find(named.read_text(encoding="utf-8").strip())
        ids = [run.id for run in self]
        alike = [name for name in ids if name.startswith(text)]
        if text in ids or len(alike) == 1:
            return Run(self.root / (text if text in ids else alike[0]))
        if alike:
            raise UsageError(f"{text!r} begins {len(alike)} runs: {', '.join(sorted(alike))}; write more of the id")
        raise unknown("run", text, [*ids, *self.names()], see="etude runs")

    def names(self) -> dict[str, str]:
        """Return the ids by the names that people gave."""
        return {p.name: p.read_text(encoding="utf-8").strip() for p in sorted((self.root / "names").glob("*"))}

    def name(self, run: Run, name: str) -> None:
        """Give a run a name of one's own. A name that exists moves to this run."""
        check_name(name)
        (self.root / "names").mkdir(parents=True, exist_ok=True)
        (self.root / "names" / name).write_text(run.id + "\n", encoding="utf-8")

    def users(self, run: Run) -> list[Run]:
        """Return the runs that were made from this one, directly or not."""
        every, tainted = list(self), {run.id}
        while more := {r.id for r in every if tainted & set(r.inputs)} - tainted:
            tainted |= more
        return [r for r in every if r.id in tainted - {run.id}]

    def remove(self, run: Run, *, with_users: bool = False) -> list[str]:
        """Delete a run and return the ids that went.

        Args:
            run: what to delete.
            with_users: delete also whatever was made from it.

        Raises:
            EtudeError: others were made from it and `with_users` is false.
            BusyError: a process is working on it.
        """
        users = self.users(run)
        if users and not with_users:
            listed = ", ".join(u.id for u in users[:5]) + (", …" if len(users) > 5 else "")
            raise EtudeError(
                f"{run.id} is what {len(users)} other runs were made from ({listed}); remove them too with --with-users"
            )
        gone = [run, *users]
        for each in gone:
            with held(self.root, each.id, wait=False):
                doomed = each.path.with_name(f".{each.id}.removed")
                os.rename(each.path, doomed)  # one step: it is never there in part
                shutil.rmtree(doomed)
        ids = [each.id for each in gone]
        for name, target in self.names().items():
            if target in ids:
                (self.root / "names" / name).unlink()
        return ids

    def remove_unfinished(self) -> list[str]:
        """Delete the drafts that no process is working on, and return their ids."""
        gone = []
        for path in self.unfinished():
            name = path.name.removesuffix(".partial")
            try:
                with held(self.root, name, wait=False):
                    shutil.rmtree(path, ignore_errors=True)
                    gone.append(name)
            except BusyError:
                continue
        return gone

    def move(self, run: Run, folder: Path) -> Run:
        """Move a run to another folder of runs, also on another disk, checking every file after the copy."""
        target = folder / run.id
        if target.exists():
            raise UsageError(f"{target} exists already; remove it first, or choose another folder")
        partial = folder / f"{run.id}.moving"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(run.path, partial)
        Run(partial).verify()
        os.rename(partial, target)
        shutil.rmtree(run.path)
        for name in [name for name, target_id in self.names().items() if target_id == run.id]:
            Shelf(folder).name(run, name)
            (self.root / "names" / name).unlink()
        return Run(target)


def differences(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """Return where two runs differ, by dotted path, leaving out what depends on the clock.

    Recipe, result, record and the hashes of all other files are compared; `provenance.json`, which says where each was
    made, and a study's pages, which say how long each run took, are not.
    """
    ours = {"recipe": a.recipe_data, "result": a.result, "record": a.record}
    theirs = {"recipe": b.recipe_data, "result": b.result, "record": b.record}
    found = dict(_differences(ours, theirs, ""))
    told = {"recipe.json", "result.json", "record.jsonl", "provenance.json", "report.html", "report.md"}
    for name in sorted((set(a.files) | set(b.files)) - told):
        left, right = a.files.get(name, {}).get("sha256"), b.files.get(name, {}).get("sha256")
        if left != right:
            found[f"files.{name}"] = (left, right)
    return found


def _differences(a: Any, b: Any, where: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            if key != "timing":
                yield from _differences(a.get(key), b.get(key), f"{where}.{key}" if where else key)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            yield from _differences(left, right, f"{where}[{i}]")
    elif a != b:
        yield where, (a, b)


def recipe_from_file(path: Path) -> Recipe:
    """Read a recipe from a `recipe.json`, so that any run can be made again from its own record."""
    return Recipe.from_json(read_json(path))


def check_name(name: str) -> None:
    """Raise UsageError where a text cannot name a run."""
    if not _is_name(name):
        raise UsageError(f"{name!r} cannot name a run: use letters, digits, '-', '_' and '.', a letter first")


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z][\w.-]*", text) is not None
