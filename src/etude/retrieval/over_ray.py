"""Work that falls into parts, each made by itself from what stands in a folder that all machines share, as a Ray Data
job: the parts' descriptions flow to the machines, and what each came to flows back. Nothing large goes through Ray."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.core.done import Done
from etude.core.engines.cluster import QUIET, address_of, for_tasks, joined, lack
from etude.core.errors import EtudeError, UsageError
from etude.core.machine import cores, keep_freed_memory
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.core.work import use_threads

Part = dict[str, Any]
"""What a part is, and what came of it: numbers, words, and small objects that Ray can carry."""

Opened = Callable[[Part], Part]
"""What was opened to make parts."""

TRIES = 4
"""How often a part is begun whose worker dies. One that needs more memory than there is kills each of them."""

_open: dict[str, Opened] = {}
"""In a worker, what it opened for the job that it works for. Ray gives a process the parts of a job one after the
other."""


@dataclass(frozen=True)
class Job:
    """What a worker is told with each part.

    Attributes:
        name: of this job alone.
        folder: where it is noted which parts are begun, absolute, and shared by all machines.
        opening: called once by each worker; what it returns makes the parts.
        arguments: its own. Paths among them are absolute, and of a folder that all machines share.
        threads: of a worker.
    """

    name: str
    folder: Path
    opening: Callable[..., Opened]
    arguments: tuple[Any, ...]
    threads: int

    def begun(self, number: int) -> Path:
        """Return the file that has a letter for each worker that began a part."""
        return self.folder / f"{self.name}-{number}.begun"


def over_ray(
    folder: Path, opening: Callable[..., Opened], arguments: tuple[Any, ...], parts: Sequence[Part]
) -> Iterator[Part]:
    """Yield what comes of parts as they are made, in no order, by as many workers as the cluster has room for at the
    time. A part whose worker is lost is made by another.

    A worker has as many threads as this process, and a core for each. With one thread on like machines the parts are
    those made here, bit for bit.

    Args:
        folder: for notes while the job runs, shared by all machines.
        opening: called once by each worker; what it returns makes the parts.
        arguments: its own. Paths among them are absolute, and of a folder that all machines share.
        parts: what there is to make.

    Raises:
        UsageError: Ray is not installed, no cluster answers, or no machine of it has the cores.
        EtudeError: whatever making a part raises, or that its workers died too often.
    """
    import torch

    if not parts:
        return
    threads = torch.get_num_threads()
    job = Job(secrets.token_hex(6), folder.absolute(), opening, arguments, threads)
    rows = [{"number": number, "part": part} for number, part in enumerate(parts)]
    with joined_for(threads) as ray:
        _check_fits(ray, threads)
        made = (
            _data()
            .from_items(rows, override_num_blocks=len(rows))
            .map(_made, fn_args=(job,), num_cpus=threads, **for_tasks())
        )
        try:
            yield from made.iter_rows()
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, EtudeError):  # to whose one line Ray Data adds some of its own
                raise type(error.cause)(str(error.cause).partition("\n")[0]) from error
            raise
        finally:
            for left in job.folder.glob(f"{job.name}-*.begun"):
                left.unlink(missing_ok=True)


@contextlib.contextmanager
def joined_for(threads: int) -> Iterator[Any]:
    """Join the cluster at `$RAY_ADDRESS`, or start one of this machine's own, for as long as the block runs; several
    jobs inside share it. Standard output is closed for that time: Ray tells of lost workers there, and it belongs to
    the result.

    Args:
        threads: of each worker.

    Yields:
        The module `ray`.
    """
    with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as nowhere:
        warnings.filterwarnings("ignore", "lance is not fork-safe")  # what Ray forks becomes another program at once
        with contextlib.redirect_stdout(nowhere), joined(address_of(), max(cores(), threads)) as ray:
            yield ray


def reachable(inputs: Mapping[Recipe, Run]) -> Done:
    """Return runs as other machines find them: by absolute paths, since a worker works in another folder. What of them
    was read through here is not read through again by each worker."""
    done = Done()
    for recipe, run in inputs.items():
        there = copy.copy(run)
        there.path = run.path.absolute()
        done.add(recipe, there)
    return done


def _made(row: Part, job: Job) -> Part:
    """Make a part, in a worker. Ray begins a part again whose worker died, as often as that happens."""
    begun = job.begun(row["number"])
    with begun.open("a") as file:
        file.write(".")
    if begun.stat().st_size > TRIES:
        raise EtudeError(
            f"a worker died {TRIES} times over one part: out of memory, or killed; run again to go on, with --threads"
            " that leaves each worker more of its machine if memory is short"
        )
    if job.name not in _open:
        _open.clear()
        use_threads(job.threads)
        keep_freed_memory()
        _open[job.name] = job.opening(*job.arguments)
        use_threads(job.threads)  # of libraries that this loaded
    made = _open[job.name](row["part"])
    begun.unlink(missing_ok=True)
    return made


def _data() -> Any:
    """Return Ray Data, which is to say nothing by itself: no bars, and no logs.

    Raises:
        UsageError: what it needs is not installed.
    """
    with warnings.catch_warnings():  # of its own, about itself
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            import ray.data
        except ImportError:  # Ray itself is there, and not what Ray Data needs
            raise UsageError("Ray Data is asked for and is not installed: pip install 'etude[ray]'") from None
        said = ray.data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(QUIET.upper())
    said.enable_progress_bars = said.print_on_execution_start = False
    said.raise_original_map_exception = True
    return ray.data


def _check_fits(ray: Any, threads: int) -> None:
    """Raise UsageError where Ray would wait for ever without a word: no machine has the cores of a worker, or the work
    is a task itself, which holds a core that its parts may wait for."""
    if ray.get_runtime_context().get_task_id() is not None:
        raise UsageError("--through ray inside --engine ray: choose one; the first spreads one run, the second many")
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if lacking := lack({"CPU": float(threads)}, machines):
        raise UsageError(f"a worker of {threads} threads {lacking}: give fewer --threads; 1 is usual")
