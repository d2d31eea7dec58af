"""The shelf of finished runs: find, name, compare, move and safely remove them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
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
        for path in self._folders():
            try:
                yield Run(path)
            except DamagedError as error:
                yield error

    def _folders(self) -> list[Path]:
        """Return the folders that have a run's name, newest first, whether or not a run can be read there."""
        found = [p for p in self.root.glob("*") if _is_id(p.name) and p.is_dir()] if self.root.is_dir() else []
        return sorted(found, key=_made_at, reverse=True)

    def unfinished(self) -> list[Path]:
        """Return the drafts of work that was stopped, or that another process is doing now."""
        return sorted(self.root.glob("*.partial"))

    def find(self, text: str | Path) -> Run:
        """Return the run that a person means: an id, the start of one, a given name, or a folder.

        Raises:
            UsageError: there is none, or several begin so.
            DamagedError: it is there and cannot be read.
        """
        return Run(self.place(text))

    def place(self, text: str | Path) -> Path:
        """Return the folder of the run that a person means, as `find` does, also where the run cannot be read.

        Raises:
            UsageError: there is none, or several begin so.
        """
        if (Path(text) / MANIFEST).exists():
            return Path(text)
        text = str(text)
        named = self.root / "names" / text
        if _is_name(text) and named.is_file():
            return self.place(named.read_text(encoding="utf-8").strip())
        ids = [path.name for path in self._folders()]
        alike = [name for name in ids if name.startswith(text)]
        if text in ids or len(alike) == 1:
            return self.root / (text if text in ids else alike[0])
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

    def users(self, name: str) -> list[str]:
        """Return the ids of the runs that were made from the run of this id, directly or not. Each comes before those
        that it was made from, so that what is removed in this order never lacks what it was made from.

        What a run that cannot be read was made from is unknown, unless its provenance can still be made out.
        """
        inputs = {path.name: _inputs(path) for path in self._folders()}

        def made_from(name: str) -> set[str]:
            tainted = {name}
            while more := {each for each, needed in inputs.items() if tainted & needed} - tainted:
                tainted |= more
            return tainted - {name}

        return sorted(made_from(name), key=lambda each: len(made_from(each)))

    def remove(self, run: Run | Path, *, with_users: bool = False) -> list[str]:
        """Delete a run and return the ids that went, in the order in which they did.

        A run that is damaged may go alone, although others were made from it: made again it has the same content and
        the same id, so what was made from it is as it was.

        Args:
            run: what to delete; as a folder where it cannot be read.
            with_users: delete also whatever was made from it.

        Raises:
            EtudeError: others were made from it and `with_users` is false. Nothing is deleted.
            BusyError: a process is working on it, or on one that would go with it. Nothing is deleted.
        """
        path = Path(os.path.abspath(run.path if isinstance(run, Run) else run))
        if path.parent != Path(os.path.abspath(self.root)):
            return Shelf(path.parent).remove(path, with_users=with_users)
        users = self.users(path.name)
        if users and not with_users and not _is_damaged(path):
            listed = ", ".join(users[:5]) + (", …" if len(users) > 5 else "")
            raise EtudeError(
                f"{path.name} is what {len(users)} other runs were made from ({listed}); remove them too with"
                " --with-users"
            )
        gone = [*(users if with_users else []), path.name]
        with ExitStack() as locks:
            for name in sorted(gone):
                locks.enter_context(held(self.root, name, wait=False))
            for name in gone:
                _delete(self.root / name)
        for given, target in self.names().items():
            if target in gone:
                (self.root / "names" / given).unlink()
        return gone

    def remove_unfinished(self) -> list[str]:
        """Delete the drafts that no process is working on, and return their ids."""
        for torn in [*self.root.glob(".*.removed"), *self.root.glob("*.moving")]:  # a removal or move that was killed
            shutil.rmtree(torn, ignore_errors=True)
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
        """Move a run to another folder of runs, also on another disk, checking every file after the copy.

        Raises:
            UsageError: the other folder has the run.
            DamagedError: a file is not what was written. The run stays where it is.
            BusyError: a process is working on it.
        """
        target, partial = folder / run.id, folder / f"{run.id}.moving"
        if target.exists():
            raise UsageError(f"{target} exists already; remove it first, or choose another folder")
        with held(self.root, run.id, wait=False), held(folder, run.id, wait=False):
            shutil.rmtree(partial, ignore_errors=True)
            try:
                shutil.copytree(run.path, partial)
                _require_same(run, partial)
                os.rename(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            _delete(run.path)
        for name in [name for name, target_id in self.names().items() if target_id == run.id]:
            Shelf(folder).name(run, name)
            (self.root / "names" / name).unlink()
        return Run(target)


def _delete(path: Path) -> None:
    """Delete a run, in one step for whoever looks: it is never there in part."""
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)  # what a kill left of another time
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def _require_same(run: Run, copy: Path) -> None:
    """Raise DamagedError where a copy of a run is not whole: the run's own error, if it is not whole itself."""
    try:
        Run(copy).verify()
    except DamagedError:
        Run(run.path).verify()
        raise DamagedError(f"{run.path} did not arrive whole in {copy.parent}; try again, or check that disk") from None


def _inputs(path: Path) -> set[str]:
    """Return the ids that a run was made from, as far as its folder tells."""
    try:
        return set(Run(path).inputs)
    except (DamagedError, AttributeError, TypeError):
        pass
    try:
        told = read_json(path / "provenance.json")["inputs"]
        return {name for name in told if isinstance(name, str)}
    except (DamagedError, OSError, KeyError, TypeError):
        return set()


def _is_damaged(path: Path) -> bool:
    try:
        Run(path).verify()
    except DamagedError:
        return True
    return False


def _made_at(path: Path) -> float:
    manifest = path / MANIFEST
    return (manifest if manifest.exists() else path).stat().st_mtime


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


def _is_id(text: str) -> bool:
    """Whether a text is the name that a recipe gives its run, and not that of a draft or of what is being moved."""
    return re.fullmatch(r"[A-Za-z][\w-]*-[0-9a-f]{12}", text) is not None


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z][\w.-]*", text) is not None
