"""Recordings: activations of many texts on disk, written batch by batch and read through memory mapping, so that they
may be larger than the memory.

A recording is two safetensors files. `activations.safetensors` has a tensor [N M] for each site, by its name, and
`rows.safetensors` says of each of the N rows which token it was of, in which window and where in it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from etude.core.errors import UsageError, unknown
from etude.core.files import read_json, write_json
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.site import Site, match
from etude.evals.filling import Filling, Layout
from etude.evals.loss import batch_for, batches, chosen_windows
from etude.evals.recipes import Record
from etude.evals.splits import windows_of
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples
from etude.text.data import TextData

ACTIVATIONS, ROWS = "activations.safetensors", "rows.safetensors"

MARK_EVERY = 2.0
"""Seconds between marks of how far a recording is. Each waits for the disk, which at every batch would slow it down."""


def as_vectors(site: str, value: Tensor) -> Float[Tensor, "B T M"]:
    """Return an activation as one vector for each token, with the axes of heads and head width as one.

    Raises:
        UsageError: it has no vector for each token, as an attention pattern or a norm's scale.
    """
    if value.ndim == 4 and site.rpartition(".")[2] in ("q", "k", "v", "z", "q_rot", "k_rot"):
        return value.flatten(2)
    if value.ndim != 3 or value.shape[-1] == 1:
        raise UsageError(
            f"{site} has shape {tuple(value.shape)} and no vector for each token; choose a site such as L0.attn.out"
        )
    return value


class Passed(NamedTuple):
    """What passed the sites in one batch.

    Attributes:
        values: [B T M] by site.
        tokens: [B T].
        targets: [B T], IGNORE where there is padding.
    """

    values: dict[Site, Tensor]
    tokens: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]


def passing(model: Transformer, examples: Examples, windows: np.ndarray, sites: Iterable[Site]) -> Iterator[Passed]:
    """Yield what passes at the sites while the model reads the windows, on the CPU, a batch at a time.

    Raises:
        UsageError: a site has no vector for each token, or is not passed.
    """
    chosen = list(sites)
    size = batch_for(examples.vocabulary, examples.context)
    for tokens, targets, found in batches(examples, windows, next(model.parameters()).device, size):
        given: dict[str, Any] = found
        seen = look(model, tokens, chosen, **given)
        yield Passed({site: as_vectors(site, seen[site]).cpu() for site in chosen}, tokens.cpu(), targets.cpu())


def record(
    model: Transformer,
    examples: Examples,
    windows: np.ndarray,
    sites: str | Iterable[str],
    folder: Path,
    *,
    mark: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Recording:
    """Write what passes at sites on windows of text, one row for each position that is no padding.

    No more than a batch is held in memory. The files have their full size from the first batch on.

    Args:
        model: in evaluation mode.
        examples: the texts.
        windows: which of them.
        sites: one glob or several, of activations.
        folder: where the two files are written.
        mark: a file in which it is kept, every other second, how far the recording is. Called again with it, the same
            call goes on from there and comes to the same files; that the model is the same is for the caller to see
            to. None begins anew, and so does a mark whose files are gone.
        progress: called with windows done and in all.

    Raises:
        UsageError: there are no windows, a glob matches nothing or a weight, a site has no vector for each token, or an
            activation is not finite.
    """
    chosen = _activations_among(model, sites)
    if not len(windows):
        raise UsageError("0 windows are nothing to record: give one or more")
    total = _positions(examples, windows)
    first = next(passing(model, examples, windows[:1], chosen)).values
    layout: Layout = {site: (value.dtype, (total, value.shape[-1])) for site, value in first.items()}
    rows: Layout = dict.fromkeys(Rows._fields, (torch.int32, (total,)))
    call = hashlib.sha256(repr((layout, len(windows))).encode() + windows.tobytes()).hexdigest()
    there = all((folder / name).exists() for name in (ACTIVATIONS, ROWS))
    done, at = _how_far(mark, call) if there else (0, 0)
    with (
        Filling(folder / ACTIVATIONS, layout, new=not done) as values,
        Filling(folder / ROWS, rows, new=not done) as of,
    ):
        marked = time.monotonic()
        for batch in passing(model, examples, windows[done:], chosen):
            kept = batch.targets != IGNORE
            for site, value in batch.values.items():
                values.write(site, at, _finite(site, value[kept], at))
            window, position = torch.from_numpy(windows[done : done + len(kept)]), torch.arange(kept.shape[1])
            where = batch.tokens, window[:, None].expand_as(kept), position.expand_as(kept)
            for name, each in Rows(*where)._asdict().items():
                of.write(name, at, each[kept].int())
            done, at = done + len(kept), at + int(kept.sum())
            if mark is not None and time.monotonic() - marked >= MARK_EVERY:
                values.keep()
                of.keep()
                write_json(mark, {"call": call, "windows": done, "rows": at})
                marked = time.monotonic()
            progress(done, len(windows))
    return Recording.open(folder)


def _activations_among(model: Transformer, sites: str | Iterable[str]) -> list[Site]:
    chosen = match(sites, model.sites())
    weight = next((site for site in chosen if site.is_weight), None)
    if weight is not None:
        raise UsageError(f"{weight} is a weight, which needs no recording; record activations such as L*.resid.post")
    return chosen


def _positions(examples: Examples, windows: np.ndarray) -> int:
    """Return how many positions of the windows are no padding."""
    parts = np.array_split(windows, max(1, len(windows) // 1024))
    return sum(int((examples.batch(part).targets != IGNORE).sum()) for part in parts)


def _how_far(mark: Path | None, call: str) -> tuple[int, int]:
    """Return the windows and rows that an earlier call of the same kind has written."""
    said = read_json(mark) if mark is not None and mark.exists() else {}
    return (said["windows"], said["rows"]) if said.get("call") == call else (0, 0)


def _finite(site: Site, rows: Float[Tensor, "N M"], before: int) -> Float[Tensor, "N M"]:
    bad = int((~rows.isfinite()).any(1).sum())
    if bad:
        raise UsageError(
            f"{bad} of {len(rows)} activations at {site}, after {before} good ones, are not finite; the model has"
            " diverged"
        )
    return rows


class Rows(NamedTuple):
    """What the rows of a recording are of.

    Attributes:
        tokens: [N] the token at the position.
        window: [N] the number of its window among the samples of the split.
        position: [N] where it stands in the window, from 0.
    """

    tokens: Int[Tensor, " N"]
    window: Int[Tensor, " N"]
    position: Int[Tensor, " N"]


class Recording:
    """A recording, opened. Tensors are mapped into memory: what of them is not read takes no room."""

    def __init__(self, file: Callable[[str], Path]) -> None:
        """Take what gives the path of a file (and may check it). Use `open`."""
        self._file = file

    @classmethod
    def open(cls, source: Run | Path) -> Recording:
        """Open a run, whose files are then checked against its hashes, or a folder that `record` wrote into."""
        return cls(source.file if isinstance(source, Run) else lambda name: source / name)

    @property
    def sites(self) -> list[Site]:
        """What was recorded."""
        with safe_open(self._file(ACTIVATIONS), "pt") as file:
            return [Site(name) for name in file.keys()]  # noqa: SIM118  it is no mapping

    def activations(self, site: str) -> Float[Tensor, "N M"]:
        """Return a site's activations, mapped. What is written to them is not written to the file.

        Raises:
            UsageError: the site was not recorded.
        """
        if site not in self.sites:
            raise unknown("site in this recording", site, self.sites)
        with safe_open(self._file(ACTIVATIONS), "pt") as file:
            return file.get_tensor(site)

    @property
    def rows(self) -> Rows:
        """What each row is of, int32."""
        with safe_open(self._file(ROWS), "pt") as file:
            return Rows(*(file.get_tensor(name) for name in Rows._fields))


def recording(recipe: Record, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Record activations on windows spread over the training split."""
    model, _ = load(inputs[recipe.of])
    examples = windows_of(recipe.of, TextData.open(inputs[recipe.of.text]), "train")
    windows = chosen_windows(examples, recipe.tokens)
    recorded = record(
        model,
        examples,
        windows,
        recipe.site,
        run.path,
        mark=run.scratch / "recorded.json",
        progress=lambda done, total: run.progress(done, total, unit="windows"),
    )
    of_site = {str(site): recorded.activations(site) for site in recorded.sites}
    return {
        "sites": {site: {"width": x.shape[1], "dtype": str(x.dtype).partition(".")[2]} for site, x in of_site.items()},
        "tokens": len(recorded.rows.tokens),
        "windows": len(windows),
    }
