"""Doing one recipe: in this process, or in a worker that the lab's pool started."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

from etude.core.company import Company
from etude.core.done import Done
from etude.core.errors import BusyError, UsageError
from etude.core.files import require_room
from etude.core.locks import held
from etude.core.machine import cores, keep_freed_memory
from etude.core.provenance import provenance
from etude.core.recipe import Recipe, work_of
from etude.core.run import MANIFEST, Draft, Run, seal
from etude.core.signals import obey_the_lab, stoppable
from etude.core.trouble import explained

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What numerical libraries read when they are loaded."""


def make(
    root: Path,
    recipe: Recipe,
    inputs: Done,
    threads: int,
    say: Callable[[str], None],
    begin: Callable[[str], None] = lambda run_id: None,
) -> Run:
    """Make the run of a resolved recipe whose inputs are done, or return it where it stands already.

    A draft left by a process that was killed is gone on with. Another process that is making the run is waited for.

    Args:
        root: the folder of runs.
        recipe: what to do.
        inputs: the runs of everything the recipe asked for.
        threads: how many threads PyTorch may use.
        say: takes one line for the person, as when another process has the run.
        begin: told the run's id where other processes are to take part in it, once it is sure to be made.

    Raises:
        UsageError: the recipe asks for what cannot be. Nothing of it is left, unless it can be gone on with.
        EtudeError: the disk or the memory has no room for it, or whatever the work raises. Its draft is kept.
    """
    final = root / recipe.id
    with held(root, recipe.id, say=say):
        if (final / MANIFEST).exists():
            return Run(final)
        require_room(root, recipe.estimate().disk_bytes, recipe.id)
        if final.exists():  # a folder of that name that is no run: moved or half-deleted by hand
            shutil.rmtree(final)
        partial = root / f"{recipe.id}.partial"
        resumed = partial.exists()
        if (partial / MANIFEST).exists():  # the manifest is written last: all but the final step was done
            return seal(partial)
        try:
            return _done(Draft(partial, recipe, say=say), inputs, threads, begin)
        except UsageError:
            if not resumed and not list(partial.glob("scratch/checkpoint-*")):
                shutil.rmtree(partial)
            raise
        except Exception as error:
            if told := explained(error, recipe.id, partial):
                raise told from error
            raise


def accompany(root: Path, recipe: Recipe, inputs: Done, threads: int, others: Company) -> Run:
    """Take part in a run that the first process makes, and return it when it is done.

    Work that is done together is done here too, into a folder that nobody keeps.

    Raises:
        EtudeError: the first process is gone, or whatever the work raises.
    """
    if not others.wait_for(recipe.id, to_begin=recipe.together):
        with tempfile.TemporaryDirectory(prefix="etude-") as folder, using_threads(threads):
            keep_freed_memory()
            work_of(recipe)(recipe, inputs, Draft(Path(folder), recipe, beside=root / f"{recipe.id}.partial"))
        others.wait_for(recipe.id, to_begin=False)
    return Run(root / recipe.id)


def _done(draft: Draft, inputs: Done, threads: int, begin: Callable[[str], None]) -> Run:
    """Do the work of a draft's recipe, noting beforehand where it comes from."""
    recipe = draft.recipe
    origin = provenance(recipe, [run.id for run in inputs.runs()], threads)
    draft.stopwatch.begin(origin)
    try:
        with using_threads(threads):
            keep_freed_memory()
            work = work_of(recipe)
            if recipe.together:
                begin(recipe.id)
            result = work(recipe, inputs, draft)
        return draft.finish(result, origin)
    except BusyError:  # the draft is another's now, and its clock
        raise
    except BaseException:
        draft.stopwatch.keep()
        raise


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Use so many threads in the block, and as many as before after it, so that making a run in a notebook does not
    leave the notebook slower.

    What PyTorch would have chosen is unknown where the block was what loaded it; then it gets what `$OMP_NUM_THREADS`
    says, or all cores.
    """
    torch = sys.modules.get("torch")
    environment = {name: os.environ.get(name) for name in THREADS}
    said = (environment[THREADS[0]] or "").partition(",")[0]  # a list has one number for each level of nesting
    before = torch.get_num_threads() if torch is not None else int(said) if said.isdigit() else cores()
    use_threads(threads)
    try:
        yield
    finally:
        use_threads(before)
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def use_threads(threads: int) -> None:
    """Set the number of threads for numerical libraries that are loaded, and for those that will be."""
    for name in THREADS:
        os.environ[name] = str(threads)
    torch = sys.modules.get("torch")  # not imported here: this floor, and a study's own work, do without it
    if torch is not None:
        torch.set_num_threads(threads)


def start_worker(threads: int) -> None:
    """Prepare a pool's worker: its threads, what stops it, and its end when the parent dies.

    A worker whose parent was killed would otherwise finish its task and hold the locks of runs that nobody waits for.
    """
    obey_the_lab()
    use_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def make_in_worker(root: Path, recipe: Recipe, inputs: Done, threads: int, *, quiet: bool) -> Path:
    """Make a run in a pool's worker and return its folder. What it says goes to standard error, unless `quiet`."""

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    with stoppable():
        return make(root, recipe, inputs, threads, say).path
