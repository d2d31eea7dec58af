"""Which task reads a file, by its first row; and files grouped by category."""

from __future__ import annotations

from pathlib import Path

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.evals.tasks.base import Task, first_row

TASKS = Family("evals/tasks")


def recognised(path: Path) -> Task:
    """Return the task that reads a file.

    Raises:
        UsageError: no member's form is that of its first row, or the file cannot be read.
    """
    for name in TASKS.names():
        task = TASKS.member(name)
        assert issubclass(task, Task), "every member of the family is a task"
        headed = getattr(task, "header", True) is not False
        row = first_row(path, headed)
        if row is not None and task.fits(row):
            return task(path=str(path))
    raise UsageError(
        f"no task reads {path.name}: its first row is of no known form; name one with --task, of"
        f" {', '.join(TASKS.names())}"
    )
