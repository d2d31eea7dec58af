"""Doing one recipe: in this process, or in a worker that the lab's pool started."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

from etude.core.done import Done
from etude.core.files import require_room
from etude.core.locks import held
from etude.core.machine import keep_freed_memory
from etude.core.provenance import provenance
from etude.core.recipe import Recipe, work_of
from etude.core.run import MANIFEST, Draft, Run, seal


def make(
    root: Path, recipe: Recipe, inputs: Done, threads: int, say: Callable[[str], None], *, wait_for_others: bool = True
) -> Run:
    """Make the run of a resolved recipe whose inputs are done, or return it where it stands already.

    A draft left by a process that was killed is gone on with.

    Args:
        root: the folder of runs.
        recipe: what to do.
        inputs: the runs of everything the recipe asked for.
        threads: how many threads PyTorch may use.
        say: takes one line for the person, as when another process has the run.
        wait_for_others: wait for another process that is making this run, instead of refusing.

    Raises:
        BusyError: another process is making it and `wait_for_others` is false.
        EtudeError: the disk has no room for it, or whatever the work raises.
    """
    final = root / recipe.id
    with held(root, recipe.id, wait=wait_for_others, say=say):
        if (final / MANIFEST).exists():
            return Run(final)
        require_room(root, recipe.estimate().disk_bytes, recipe.id)
        if final.exists():  # a folder of that name that is no run: moved or half-deleted by hand
            shutil.rmtree(final)
        partial = root / f"{recipe.id}.partial"
        if (partial / MANIFEST).exists():  # the manifest is written last: all but the final step was done
            return seal(partial)
        draft = Draft(partial, recipe)
        use_threads(threads)
        keep_freed_memory()
        result = work_of(recipe)(recipe, inputs, draft)
        return draft.finish(result, provenance(recipe, [run.id for run in inputs.runs()], threads))


def use_threads(threads: int) -> None:
    """Set the number of threads for numerical libraries that are loaded, and for those that will be."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    torch = sys.modules.get("torch")  # not imported here: this floor, and a study's own work, do without it
    if torch is not None:
        torch.set_num_threads(threads)


def start_worker(threads: int) -> None:
    """Prepare a pool's worker: its threads, and its end when the parent dies.

    A worker whose parent was killed would otherwise finish its task and hold the locks of runs that nobody waits for.
    """
    use_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def make_in_worker(root: Path, recipe: Recipe, inputs: Done, threads: int) -> Path:
    """Make a run in a pool's worker and return its folder."""
    return make(root, recipe, inputs, threads, say=lambda text: print(text, file=sys.stderr, flush=True)).path
