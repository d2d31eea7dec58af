"""Lab: takes recipes and gives runs. It is the only writer of a folder of runs."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from etude.core.company import company
from etude.core.done import Done
from etude.core.errors import EtudeError, Interrupted, UsageError
from etude.core.machine import cores
from etude.core.progress import Watch
from etude.core.recipe import Recipe
from etude.core.run import MANIFEST, Run
from etude.core.signals import send, without_interrupt
from etude.core.work import accompany, make, make_in_worker, start_worker
from etude.core.world import World, world


class Begun(Protocol):
    """What is being made.

    Attributes:
        begun: the ids of the runs that were begun, in order; it grows.
    """

    begun: list[str]


Beside = Callable[[Begun, Callable[[str], None]], AbstractContextManager[Any]]


@dataclass
class _Task:
    """A recipe that is wanted and not done, with what it still waits for."""

    recipe: Recipe
    inputs: Done
    missing: set[str]


class Lab:
    """A folder of runs and the means to make more.

    Args:
        root: the folder; by default `$ETUDE_RUNS`, else `runs` here.
        jobs: how many runs are made at once. 1 makes them in this process.
        threads: threads for each run; by default the cores divided by the jobs, or by the processes that `torchrun`
            started on this machine.
        quiet: show no progress.
        beside: makes what runs beside the work, such as a tracker, from what is being made and from what takes a line
            for the person. It is entered when the work begins and left when it ends.
    """

    def __init__(
        self,
        root: Path | str | None = None,
        *,
        jobs: int = 1,
        threads: int | None = None,
        quiet: bool = False,
        beside: Beside | None = None,
    ) -> None:
        self.root = Path(root or os.environ.get("ETUDE_RUNS") or "runs")
        self.jobs = max(1, jobs)
        self.threads = threads or max(1, cores() // (self.jobs * world().local_size))
        self.quiet = quiet
        self.beside = beside

    def lookup(self, recipe: Recipe) -> Run | None:
        """Return the run of a recipe if it is done."""
        path = self.root / recipe.resolve().id
        return Run(path) if (path / MANIFEST).exists() else None

    def run(self, recipe: Recipe) -> Run:
        """Return the run of a recipe, making it and whatever it needs where they are not done."""
        return self.run_all([recipe])[0]

    def run_all(self, recipes: Iterable[Recipe]) -> list[Run]:
        """Return the runs of several recipes in order, making at most `jobs` at once.

        Started by `torchrun`, in several processes with one folder of runs, the first makes the runs and the others
        take part in those that are made together.

        Raises:
            EtudeError: a recipe's work failed. What was complete stays; what was begun is gone on with next time.
            Interrupted: the person stopped it; the same call goes on from there.
        """
        goals, here = [recipe.resolve() for recipe in recipes], world()
        schedule = _Schedule(self, goals)
        with Watch(self.root, schedule, quiet=self.quiet or not here.first) as watch, self._beside(schedule, watch.say):
            try:
                if here.size > 1:
                    self._run_together(schedule, here, [goal.id for goal in goals], watch.say)
                else:
                    (self._run_here if self.jobs == 1 else self._run_pool)(schedule, watch.say)
            except KeyboardInterrupt:
                raise Interrupted("stopped; run the same command again to go on from here") from None
        return [schedule.done[goal] for goal in goals]

    def _run_together(self, schedule: _Schedule, here: World, goals: list[str], say: Callable[[str], None]) -> None:
        """Make the runs as one of several processes: the first writes, the others follow it."""
        if self.jobs > 1:
            raise UsageError(
                f"{self.jobs} jobs at once, and {here.size} ranks that make each run together: leave out -j"
            )
        with company(self.root, here, goals) as others:
            if here.first:
                self._run_here(schedule, say, others.begin)
                return
            while task := schedule.take():
                schedule.finish(task, accompany(self.root, task.recipe, task.inputs, self.threads, others))

    def _beside(self, schedule: _Schedule, say: Callable[[str], None]) -> AbstractContextManager[Any]:
        return self.beside(schedule, say) if self.beside and world().first else nullcontext()

    def _run_here(
        self,
        schedule: _Schedule,
        say: Callable[[str], None],
        begin: Callable[[str], None] = lambda run_id: None,
    ) -> None:
        while task := schedule.take():
            schedule.finish(task, make(self.root, task.recipe, task.inputs, self.threads, say, begin))

    def _run_pool(self, schedule: _Schedule, say: Callable[[str], None]) -> None:
        spawn = multiprocessing.get_context("spawn")  # forking a process that has run PyTorch is not safe
        pool = ProcessPoolExecutor(self.jobs, mp_context=spawn, initializer=start_worker, initargs=(self.threads,))
        busy: dict[Future[Path], _Task] = {}
        try:
            while True:
                while len(busy) < self.jobs and (task := schedule.take()):
                    with without_interrupt():  # it may start a process
                        future = pool.submit(
                            make_in_worker, self.root, task.recipe, task.inputs, self.threads, quiet=self.quiet
                        )
                    busy[future] = task
                if not busy:
                    return
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    schedule.finish(busy.pop(future), Run(future.result()))
        except BrokenProcessPool:
            names = ", ".join(task.recipe.id for task in busy.values())
            raise EtudeError(
                f"a worker process died while making {names} (out of memory, or killed); run again to go on,"
                " with -j 1 if memory is short"
            ) from None
        except BaseException:
            send(signal.SIGTERM, pool._processes or {})  # they save a checkpoint and leave
            raise
        finally:
            _close(pool)


def _close(pool: ProcessPoolExecutor) -> None:
    """Wait for the workers to leave. Whoever stops this too does not want to wait: then they are killed."""
    processes = list(pool._processes or {})
    try:
        pool.shutdown(wait=True, cancel_futures=True)
    except KeyboardInterrupt:
        send(signal.SIGKILL, processes)
        raise


class _Schedule:
    """What is wanted, in an order in which each recipe's needs come before it."""

    def __init__(self, lab: Lab, goals: list[Recipe]) -> None:
        self.lab = lab
        self.done = Done()
        self.tasks: dict[str, _Task] = {}
        self.active: dict[str, Recipe] = {}
        self.begun: list[str] = []
        self.made = 0
        for goal in goals:
            self._want(goal)

    def _want(self, recipe: Recipe) -> None:
        if recipe.id in self.tasks or recipe.id in self.active or recipe in self.done:
            return
        if run := self.lab.lookup(recipe):
            self.done.add(recipe, run)
            return
        task = self.tasks[recipe.id] = _Task(recipe, Done(), set())
        self._ask(task)

    def _ask(self, task: _Task) -> None:
        """Ask a recipe what it needs until it asks for nothing new that is done already."""
        while True:
            before = len(task.inputs)
            for need in (need.resolve() for need in task.recipe.plan(task.inputs)):
                self._want(need)
                if need in self.done:
                    task.inputs.add(need, self.done[need])
                else:
                    task.missing.add(need.id)
            if task.missing or len(task.inputs) == before:
                return

    def take(self) -> _Task | None:
        """Return a task that is ready and mark it as being made, or None when there is none."""
        for task in self.tasks.values():
            if not task.missing:
                del self.tasks[task.recipe.id]
                self.active[task.recipe.id] = task.recipe
                self.begun.append(task.recipe.id)
                return task
        return None

    def finish(self, task: _Task, run: Run) -> None:
        """Take in a run that was made and free what waited for it."""
        del self.active[task.recipe.id]
        self.made += 1
        self.done.add(task.recipe, run)
        for waiting in list(self.tasks.values()):
            if task.recipe.id in waiting.missing:
                waiting.missing.discard(task.recipe.id)
                waiting.inputs.add(task.recipe, run)
                if not waiting.missing:
                    self._ask(waiting)

    @property
    def known(self) -> int:
        """How many runs are still to be made, as far as is known."""
        return len(self.tasks) + len(self.active)
