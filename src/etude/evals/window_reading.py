"""Reading windows of text into a file, a row for each prediction that counts; killed, it goes on where it stopped."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from etude.core.errors import DivergedError
from etude.core.files import read_json, write_json
from etude.evals.filling import Filling, Layout
from etude.evals.loss import Live, batch_for, live
from etude.evals.sliding import Sliding
from etude.models.transformer import Transformer
from etude.nn.linear import linear
from etude.nn.precision import autocast
from etude.text.batches import IGNORE

MARK_EVERY = 2.0
"""Seconds between marks of how far a reading is. Each waits for the disk."""

Said = Callable[[Live], Mapping[str, Tensor]]
"""What can be kept of a batch: by name, a row for each prediction that counts, window after window."""


def token_losses(model: Transformer, precision: str = "fp32") -> Said:
    """Return what gives the cross-entropy in nats of each prediction that counts, as `losses` [F], and as `right` [F]
    whether the token was the likeliest.

    Args:
        model: in evaluation mode.
        precision: as the training had it.

    Raises:
        DivergedError: later, where a loss is not finite.
    """

    def said(batch: Live) -> dict[str, Tensor]:
        with autocast(batch.inputs.device, precision):
            hidden, targets = counting(model, batch)
            scores = scores_of(model, hidden)
        return {"losses": losses_of(scores, targets), "right": scores.argmax(-1) == targets}

    return said


def counting(model: Transformer, batch: Live) -> tuple[Float[Tensor, "F D"], Int[Tensor, " F"]]:
    """Return what the unembedding reads at the predictions that count, and the tokens that follow there."""
    counts = batch.targets != IGNORE
    return model.hidden(batch.inputs, **batch.given)[counts], batch.targets[counts]


def scores_of(model: Transformer, hidden: Float[Tensor, "F D"]) -> Float[Tensor, "F V"]:
    """Return the scores of every token, float32, from vectors that the unembedding reads."""
    return linear(hidden, *model.unembedding()).float()


def losses_of(scores: Float[Tensor, "F V"], targets: Int[Tensor, " F"]) -> Float[Tensor, " F"]:
    """Return the cross-entropy in nats of scores.

    Raises:
        DivergedError: one is not finite.
    """
    losses = cross_entropy(scores, targets, reduction="none")
    if not losses.isfinite().all():
        raise DivergedError("the model's loss on this text is not finite: it has diverged, and has no bits per byte")
    return losses


class Place(NamedTuple):
    """Where what is read is kept.

    Attributes:
        path: the safetensors file.
        layout: its tensors, each with a row for every prediction that counts.
        rows: [W] the row of the first counting prediction of each window that is read.
        mark: a file in which it is kept, every other second, how far the reading is; None begins anew.
    """

    path: Path
    layout: Layout
    rows: Int[np.ndarray, " W"]
    mark: Path | None = None


@torch.no_grad()
def read_windows(
    windows: Sliding,
    chosen: Int[np.ndarray, " W"],
    said: Said,
    place: Place,
    *,
    at_once: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Read windows on the CPU, the longest first, those of like length together, and write what is said of them.

    Called again with the same arguments after it was killed, it goes on from the mark and comes to the same file; that
    the model is the same is for the caller to see to.

    Args:
        windows: the samples.
        chosen: which of them.
        said: what is kept of a batch.
        place: where.
        at_once: windows in a batch; 0 as many as keep the scores within 64 MB.
        progress: called with predictions done and in all.
    """
    order = np.argsort(-windows.widths[chosen], kind="stable")
    counts = windows.counts[chosen]
    read, call = np.cumsum(counts[order]), _name(place, windows, chosen, at_once)
    done = _how_far(place, call)
    with Filling(place.path, place.layout, new=not done) as file:
        marked = time.monotonic()
        for start, stop in _batches(windows, chosen[order], at_once):
            if stop <= done:
                continue
            now = order[start:stop]
            found = said(live(windows.batch(chosen[now]), torch.device("cpu")))
            for name, (dtype, _) in place.layout.items():
                parts = found[name].to("cpu", dtype).split(counts[now].tolist())
                for row, part in zip(place.rows[now].tolist(), parts, strict=True):
                    file.write(name, row, part)
            progress(int(read[stop - 1]), int(read[-1]))
            if place.mark is not None and (stop == len(order) or time.monotonic() - marked >= MARK_EVERY):
                file.keep()
                write_json(place.mark, {"call": call, "windows": stop})
                marked = time.monotonic()


def _batches(windows: Sliding, order: Int[np.ndarray, " W"], at_once: int) -> Iterator[tuple[int, int]]:
    """Yield the first window of each batch, and the one behind its last."""
    start, widths = 0, windows.widths[order]
    while start < len(order):
        most = at_once or max(1, batch_for(windows.vocabulary, int(widths[start])) // windows.beside)
        stop = min(len(order), start + most)
        yield start, stop
        start = stop


def _name(place: Place, windows: Sliding, chosen: np.ndarray, at_once: int) -> str:
    """Return the hash of what decides which rows are written when."""
    digest = hashlib.sha256(repr((place.layout, windows.vocabulary, windows.chunk, at_once)).encode())
    for part in (*windows.slides, chosen, place.rows):
        digest.update(np.asarray(part, np.int64).tobytes())
    return digest.hexdigest()


def _how_far(place: Place, call: str) -> int:
    """Return how many windows an earlier call of the same kind has written."""
    if place.mark is None or not place.mark.exists() or not place.path.exists():
        return 0
    said = read_json(place.mark)
    return int(said["windows"]) if said.get("call") == call else 0
