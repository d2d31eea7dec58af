"""`etude runs`: lists, names, compares, moves, checks, follows and removes runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from etude.cli.complaints import remark
from etude.cli.console import AsJson, RunsFolder, near, say, say_json, say_table
from etude.cli.results import shown
from etude.core.errors import DamagedError, UsageError
from etude.core.files import bytes_of
from etude.core.lab import Lab
from etude.core.progress import clock
from etude.core.run import Run
from etude.core.shelf import Shelf, differences

MOST_DIFFERENCES = 40

command = App("runs", version_flags=[])


@command.default
@command.command(name="list")
def list_(*, json: AsJson = False, runs: RunsFolder = None) -> None:
    """List the runs, newest first, and the drafts of work that is not finished."""
    say_runs(runs, json=json)


@command.command
def name(run: str, name: str, /, *, runs: RunsFolder = None) -> None:
    """Give a run a name of your own, which then stands for it everywhere. A name that exists moves to this run."""
    shelf = shelf_at(runs)
    found = shelf.find(run)
    shelf.name(found, name)
    say(f"{name} is {found.id}")


@command.command
def compare(a: str, b: str, /, *, json: AsJson = False, runs: RunsFolder = None) -> None:
    """Show where two runs differ, in recipe, result, record and files, leaving out what depends on the clock."""
    shelf = shelf_at(runs)
    left, right = shelf.find(a), shelf.find(b)
    found = differences(left, right)
    if json:
        say_json({"a": left.id, "b": right.id, "differences": {where: list(pair) for where, pair in found.items()}})
        return
    if not found:
        say(f"{left.id} and {right.id} are the same in everything but time")
        return
    rows = [[where, _brief(one), _brief(other)] for where, (one, other) in found.items()]
    say_table(["", left.id, right.id], rows[:MOST_DIFFERENCES])
    if len(rows) > MOST_DIFFERENCES:
        say(f"({len(rows) - MOST_DIFFERENCES} more: --json shows all)")


@command.command
def move(run: str, folder: Path, /, *, runs: RunsFolder = None) -> None:
    """Move a run to another folder of runs, also on another disk; every file is checked after the copy."""
    say(near(shelf_at(runs).move(shelf_at(runs).find(run), folder).path))


@command.command
def remove(
    *which: Annotated[str, Parameter(name="RUN", help="which, by id, name or folder.")],
    with_users: Annotated[
        bool, Parameter(name="--with-users", negative=(), show_default=False, help="also what was made from them.")
    ] = False,
    unfinished: Annotated[
        bool, Parameter(name="--unfinished", negative=(), show_default=False, help="drafts that nobody works on.")
    ] = False,
    runs: RunsFolder = None,
) -> None:
    """Delete runs for good. A run that others were made from stays, unless these go too or it is damaged: made again,
    it is the same."""
    shelf = shelf_at(runs)
    if not which and not unfinished:
        raise UsageError("nothing to remove: give runs, or --unfinished for drafts. See: etude runs")
    wanted = {path.name: path for path in map(shelf.place, which)}
    gone: list[str] = []
    for name in sorted(wanted, key=lambda name: len(shelf.users(name))):  # what nothing was made from goes first
        gone += shelf.remove(wanted[name], with_users=with_users) if name not in gone else []
    gone += [f"{name} (unfinished)" for name in (shelf.remove_unfinished() if unfinished else [])]
    for name in gone:
        say(f"removed {name}")
    if not gone:
        remark("there was nothing to remove")


@command.command
def verify(
    *which: Annotated[str, Parameter(name="RUN", help="which; by default all.")], runs: RunsFolder = None
) -> None:
    """Check every file of runs against the hash that was written with it."""
    shelf = shelf_at(runs)
    damaged = [] if which else shelf.unreadable()
    for run in [shelf.find(text) for text in which] or shelf:
        try:
            run.verify()
            say(f"{run.id}: {len(run.files)} files, {bytes_of(run.size)}, as written")
        except DamagedError as error:
            damaged.append(error)
            say(f"{run.id}: damaged")
    if damaged:
        raise DamagedError(f"{damaged[0]}" + (f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""))


@command.command
def follow(
    run: str,
    /,
    *,
    to: Annotated[str, Parameter(name="--to", help="tensorboard:FOLDER or mlflow:ADDRESS.")],
    runs: RunsFolder = None,
) -> None:
    """Write a run's metrics into a tracker, also while it is being made, until it is complete or Ctrl-C.

    Started again it writes nothing twice. The run itself is only read.
    """
    from etude.cli.tracking import follow as follow_run
    from etude.cli.tracking import tracker_named

    tracker = tracker_named(to)
    written = follow_run(shelf_at(runs).root, run, tracker, remark)
    say(f"{written:,} values written to {tracker.name}:{tracker.place}")


def shelf_at(runs: Path | None) -> Shelf:
    """Return the shelf of the folder that `--runs` names, or of the usual one."""
    return Shelf(Lab(runs).root)


def say_runs(runs: Path | None, *, json: bool = False) -> None:
    """Print the runs and drafts of a folder."""
    shelf = shelf_at(runs)
    names: dict[str, list[str]] = {}
    for name, target in shelf.names().items():
        names.setdefault(target, []).append(name)
    rows = [_row(run, names.get(run.id, [])) for run in shelf] + [_draft_row(path) for path in shelf.unfinished()]
    for problem in shelf.unreadable():
        remark(str(problem))
    if json:
        say_json(rows)
        return
    if not rows:
        remark(f"no runs in {near(shelf.root)} yet")
        return
    columns = ["id", "names", "kind", "state", "size", "age", "seconds", "made from"]
    say_table(columns, [_cells(row) for row in rows], right=("size", "age", "seconds", "made from"))


def _row(run: Run, names: Sequence[str]) -> dict[str, Any]:
    """Return what the list says of a run. One that is damaged is listed as such, so that it can be removed."""
    row = {"id": run.id, "names": list(names), "kind": run.id.rpartition("-")[0], "state": "done", "bytes": run.size}
    try:
        started = datetime.fromisoformat(run.provenance["timing"]["started"])
        seconds = run.result["timing"]["seconds"]
        return {**row, "started": started.isoformat(), "seconds": seconds, "inputs": run.inputs}
    except (DamagedError, KeyError, TypeError, ValueError, AttributeError):
        return {**row, "state": "damaged", "started": None, "seconds": None, "inputs": []}


def _draft_row(path: Path) -> dict[str, Any]:
    name = path.name.removesuffix(".partial")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    begun = datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat()
    row = {"id": name, "names": [], "kind": name.rpartition("-")[0], "state": "unfinished", "bytes": size}
    return {**row, "started": begun, "seconds": None, "inputs": []}


def _cells(row: dict[str, Any]) -> list[str]:
    age = time.time() - datetime.fromisoformat(row["started"]).timestamp() if row["started"] else None
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
    made_from = str(len(row["inputs"])) if row["inputs"] else ""
    names = ", ".join(row["names"])
    return [row["id"], names, row["kind"], row["state"], bytes_of(row["bytes"]), _age(age), seconds, made_from]


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return clock(max(0.0, seconds)) if seconds < 86400 else f"{seconds / 86400:.0f} days"


def _brief(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= 60 else text[:59] + "…"
