"""Several processes that take each step together (`torchrun`): each its share of the batch, all the same step."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from etude.core.errors import EtudeError, UsageError
from etude.core.run import Draft
from etude.core.world import World, world
from etude.nn.precision import device_named

SILENCE = timedelta(minutes=10)
"""How long a process waits for the others in one exchange: as long as an evaluation may keep one of them."""

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""What processes exchange tensors through, by the kind of their devices."""

_LOST = ("gloo", "onnection closed by peer", "onnection reset", "Broken pipe", "NCCL")


class Together:
    """The processes of one training. In a world of one every exchange gives back what it was given.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    def __init__(self, here: World | None = None) -> None:
        here = here or World()
        self.rank, self.size = here.rank, here.size

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, indices: np.ndarray) -> np.ndarray:
        """Return this process's part of a batch's samples: consecutive ones, as many for each."""
        each = len(indices) // self.size
        return indices[self.rank * each : (self.rank + 1) * each]

    def sums(self, *values: float) -> list[float]:
        """Return each value summed over all processes."""
        if self.size == 1:
            return list(values)
        held = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(held)
        return held.tolist()

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put the mean over all processes in the place of each tensor, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, mean in zip(tensors, (flat / self.size).split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def any(self, *flags: bool) -> list[bool]:
        """Return, for each flag, whether any process raised it: a signal reaches them at different steps."""
        return [total > 0 for total in self.sums(*map(float, flags))]

    def wait(self) -> None:
        """Return when every process is here. A barrier of NCCL would want a GPU for it."""
        self.sums(0.0)

    def firsts(self, value: Any) -> Any:
        """Return the first process's value, JSON data."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def gathered(self, arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Return the arrays of all processes, by rank."""
        if self.size == 1:
            return [arrays]
        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, arrays)
        return held

    def follow(self, run: Draft) -> None:
        """Let a process that only takes part see what the first one has of the run: its record and checkpoints, so
        that all go on from the same step and decide the same from the same rows."""
        if self.size == 1:
            return
        self.wait()  # the first has its folder
        if run.beside is not None:
            for name in ("record.jsonl", *(f"scratch/{f.name}" for f in run.beside.glob("scratch/checkpoint-*"))):
                source, here = run.beside / name, run.path / name
                if source.exists() and not here.exists():
                    if name == "record.jsonl":
                        shutil.copyfile(source, here)
                    else:
                        os.symlink(source.resolve(), here)
        self.wait()  # until then the first changes nothing in it

    def check_step(self, taken: int) -> None:
        """Raise EtudeError where this process begins at another step than the first: they would wait for each other."""
        theirs = self.firsts(taken)
        if theirs != taken:
            raise EtudeError(
                f"rank {self.rank} found a checkpoint of step {taken} and rank 0 of step {theirs}: their folders of"
                " runs are not the same, or one shows late what is in it; run the same command again"
            )

    def check_same(self, run_ids: Sequence[str]) -> None:
        """Raise UsageError where the processes do not make the same run."""
        if self.size > 1:
            found: list[Any] = [None] * self.size
            dist.all_gather_object(found, list(run_ids))
            wrong = next((rank for rank, ids in enumerate(found) if ids != found[0]), None)
            if wrong is not None:
                raise UsageError(
                    f"the ranks disagree on the recipe: rank 0 makes {found[0][0]}, rank {wrong} {found[wrong][0]};"
                    " start every rank with the same command"
                )


@contextmanager
def together(run: Draft, device: str) -> Iterator[Together]:
    """Join the processes that `torchrun` started for a run, if it did, and leave them at the end.

    Exchanges of numbers go through gloo on the CPU; gradients on a GPU through NCCL.

    Raises:
        UsageError: the device is none that several processes can share out.
        EtudeError: another process died or fell silent. What was saved stays, and the same command goes on from it.
    """
    here = world()
    if here.size == 1:
        yield Together()
        return
    kind = device_named(device).type
    if kind not in BACKENDS:
        raise UsageError(f"device {device!r} is not for several ranks: they train on {' or '.join(BACKENDS)}")
    try:
        _meet(BACKENDS[kind], run.recipe.id, here)
        joined = Together(here)
        joined.check_same([run.recipe.id])
        yield joined
        joined.wait()  # nobody leaves while another still needs it
    except RuntimeError as error:
        if not lost(error):
            raise
        raise EtudeError(
            f"rank {here.rank} lost another of the {here.size} ranks of {run.recipe.id} (it died, or was silent for"
            f" {SILENCE.seconds // 60} min); run the same command again to go on from the last checkpoint"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _meet(backend: str, run_id: str, here: World) -> None:
    """Make the process group of a run. Each has a corner of the store to itself: gloo would else find the addresses of
    the group before it there, and wait for ever. The store counts them, so a run may be begun twice in one start."""
    store, _, _ = next(rendezvous("env://", timeout=SILENCE))
    number = store.add(f"etude-{here.rank}", 1)
    corner = PrefixStore(f"etude-{number}-{run_id}", store)
    shown = sys.excepthook
    dist.init_process_group(backend, store=corner, rank=here.rank, world_size=here.size, timeout=SILENCE)
    sys.excepthook = shown  # else every group puts another "[rank0]: " before each line of a traceback


def lost(error: RuntimeError) -> bool:
    """Return whether an error of an exchange says that another process is not there. Those of NCCL and of the store
    have a class of their own; gloo's are known by their words."""
    return isinstance(error, dist.DistError) or any(said in str(error) for said in _LOST)
