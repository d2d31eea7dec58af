"""Tasks on a Ray cluster: one that is joined, or one that is started on this machine and ended again.

The folder of runs is the only truth, and all machines share it. So a task that is lost with its machine is nothing but
begun again: whoever takes it waits for the run's lock and goes on from its last checkpoint.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from etude.core.done import Done
from etude.core.engines.arrival import arrived
from etude.core.engines.cluster import LOCAL, address_of, for_tasks, joined, lack
from etude.core.engines.engine import Setting
from etude.core.engines.post import opened_post
from etude.core.engines.ray_task import make_in_task
from etude.core.errors import EtudeError, Interrupted, UsageError
from etude.core.machine import cores
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.schedule import Task

PERIOD = 0.25
"""Seconds between two looks at what tasks say."""

TRIES = 4
"""How often a run is begun whose workers die. A run that needs more memory than there is kills each of them."""


class OnRay:
    """Makes tasks on a Ray cluster.

    Args:
        setting: what every engine is told. Where it names no number of jobs, as many are made as there is room for.
        address: the cluster to join; by default `$RAY_ADDRESS`, else one is started here.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, setting: Setting, address: str | None = None) -> None:
        self.setting, self.root = setting, setting.root.absolute()
        self.address = address_of(address)
        self._busy: dict[Any, Task] = {}
        self._lost: Counter[str] = Counter()
        self._within = ExitStack()

    def __enter__(self) -> OnRay:
        threads, jobs = self.setting.threads, self.setting.jobs
        with ExitStack() as within:
            room = jobs * threads if jobs else max(cores(), threads)
            self.ray = within.enter_context(joined(self.address, room))
            self._post = within.enter_context(opened_post(self.root))
            self._remote = self.ray.remote(make_in_task)
            self._within = within.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._within:
            if error is not None:
                self._stop()

    @property
    def has_room(self) -> bool:
        if not self._busy:
            return True
        if self.setting.jobs is not None and len(self._busy) >= self.setting.jobs:
            return False
        every = self.ray.cluster_resources()
        taken = sum((Counter(self._needs(task)) for task in self._busy.values()), Counter[str]())
        has_gpu = not taken["GPU"] or taken["GPU"] < every.get("GPU", 0)
        return taken["CPU"] + self.setting.threads <= every.get("CPU", 0) and has_gpu

    def begin(self, task: Task) -> None:
        self._check_fits(task)
        self._submit(task)

    def ended(self) -> list[tuple[Task, Run]]:
        ended: list[tuple[Task, Run]] = []
        while self._busy and not ended:
            ready, _ = self.ray.wait(list(self._busy), timeout=PERIOD)
            self._post.pass_on(self.setting.say)
            self._give_up_lost_machines()
            for ref in ready:
                if ref in self._busy and self._is_made(ref):
                    task = self._busy.pop(ref)
                    ended.append((task, arrived(self.root, task.recipe.id)))
                    self._post.clear(task.recipe.id)
        return ended

    def _needs(self, task: Task) -> dict[str, float]:
        return needs(task.recipe, self.setting.threads)

    def _check_fits(self, task: Task) -> None:
        """Say that no machine has what a task needs, which Ray would wait for without a word."""
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if lacking := lack(self._needs(task), machines):
            told = f"{task.recipe.id} {lacking}"
            if self.address == LOCAL:
                raise UsageError(f"{told}; see --threads and --device, or join a cluster with --address")
            self.setting.say(f"{told}; waiting for a machine that has it, see --threads and --device")

    def _submit(self, task: Task) -> None:
        recipe, wanted, inputs = task.recipe, self._needs(task), Done()
        for needed in task.inputs:
            inputs.add(needed, Run(self.root / needed.id))  # by an absolute path: a task works in another folder
        remote = self._remote.options(
            name=recipe.id,
            num_cpus=wanted["CPU"],
            num_gpus=wanted.get("GPU", 0),
            max_retries=0,  # it is begun again below, and said
            **for_tasks(),
        )
        arguments = (self.root, recipe.id, recipe, inputs, self.setting.threads, self._post.folder)
        self._busy[remote.remote(*arguments)] = task

    def _is_made(self, ref: Any) -> bool:
        """Return whether a task that ended made its run. One that was lost is begun again.

        Raises:
            EtudeError: it was lost too often.
            Exception: whatever the work raised.
        """
        errors = self.ray.exceptions
        try:
            self.ray.get(ref)
        except errors.RayTaskError as error:
            if not isinstance(error.cause, Interrupted):
                raise (error.cause or error) from error  # which says where in the task
            self._begin_again(ref, "its machine told it to stop")
        except errors.RayError as error:
            self._begin_again(ref, type(error).__name__)
        else:
            return True
        return False

    def _give_up_lost_machines(self) -> None:
        """Begin again what is on machines that the cluster gave up. Ray itself waits for their connections to break,
        which takes minutes where a machine lost its power or its network."""
        gone = {node["NodeID"] for node in self.ray.nodes() if not node["Alive"]}
        for ref, task in list(self._busy.items()):
            if self._post.machine_of(task.recipe.id) in gone:
                self._begin_again(ref, "its machine does not answer")

    def _begin_again(self, ref: Any, reason: str) -> None:
        task = self._busy.pop(ref)
        name = task.recipe.id
        self._post.forget(name)
        self._lost[name] += 1
        if self._lost[name] == TRIES:
            raise EtudeError(
                f"{name} lost its worker {TRIES} times ({reason} the last time): out of memory, or killed; run again to"
                " go on, with --threads that leaves it a machine of its own if memory is short"
            )
        self.setting.say(f"{name} lost its worker ({reason}); going on with it, time {self._lost[name] + 1} of {TRIES}")
        self._submit(task)

    def _stop(self) -> None:
        """Let the tasks save and leave. Whoever stops this too does not want to wait: then they are ended."""
        waiting = list(self._busy)
        for ref in waiting:
            self.ray.cancel(ref)  # as Ctrl-C in the process that works: the loop saves between two steps
        try:
            while waiting:
                _, waiting = self.ray.wait(waiting, timeout=PERIOD)
        except KeyboardInterrupt:
            for ref in waiting:
                self.ray.cancel(ref, force=True)
            raise


def needs(recipe: Recipe, threads: int) -> dict[str, float]:
    """Return what Ray has to set aside for a recipe: a core for each thread, and a GPU where it works on one."""
    device = str(getattr(recipe, "device", "cpu"))
    return {"CPU": float(threads), **({"GPU": 1.0} if device.startswith("cuda") else {})}
