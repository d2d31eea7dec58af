"""Reading a model's sites: one forward pass, no longer than it has to be, and copies of what passed there."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.files import replacing
from etude.core.machine import give_freed_memory_back
from etude.core.site import Site, match
from etude.nn.taps import Edit, Place, Tap, Tappable, put_at

Positions = SupportsIndex | slice | Sequence[int] | np.ndarray | Tensor
"""Which positions of the text are kept: one, a range, or several; negative ones count from the end."""


LARGE = 1 << 20
"""Bytes of a value from which on it is worth asking for freed memory when the value is kept in a file."""


class Seen(dict[Site, Tensor]):
    """What was read, by site. The text of a site finds it too."""

    def __getitem__(self, site: str) -> Tensor:
        return super().__getitem__(Site(site))


def look(
    model: Any,
    tokens: Int[Tensor, "B T"],
    sites: str | Iterable[str],
    grad: bool = False,
    *,
    positions: Positions | None = None,
    until: str | None = None,
    folder: Path | str | None = None,
    **given: Any,
) -> Seen:
    """Run the model once and return the values at the named sites, and only those.

    The pass ends with the last site that was asked for: what comes after it is not computed (but where it adds to a
    `past`, which would be left half extended). Nothing returned is shared
    with the model: it may be changed freely. The model runs in the mode it is in; call its `eval()` first to look
    without dropout. Of a compiled model the eager original is read.

    Args:
        model: with sites, compiled or not.
        tokens: the texts.
        sites: one glob or several, as in `L*.attn.pattern`. A weight is read as the forward pass used it.
        grad: keep the graph. Each value is then the one that the rest of the pass was computed from, so that
            `torch.autograd.grad(f(seen["logits"]), seen["L0.mlp.out"])` is the gradient at the site.
        positions: of these alone; the axis T of each site is then as long as they are, for one position too. Queries
            are chosen so, keys (S) never. Weights and what has no axis T are read whole.
        until: end the pass after this site at the latest, and leave out what the globs name beyond it.
        folder: keep each value there as soon as it is made, as SITE.npy (bf16 as its bits, int16), and return it mapped
            from the file: for more than fits in memory. It is made where there is none. Not with `grad`.
        given: what else the model is called with: `source` of an encoder-decoder, `past` in the middle of a generation.

    Returns:
        The values by site, in the model's order (that of `model.sites()`).

    Raises:
        UsageError: a glob matches nothing, the model cannot read the tokens, a position is outside the text, or a site
            was not passed in this call (or comes after `until`).
        OSError: the folder cannot be written to, or the disk is full.
    """
    if grad and folder is not None:
        raise UsageError("a graph is kept in memory: leave out folder, or grad")
    model = unwrapped(model)
    places = model.places()
    chosen = match(sites, places)
    last = None if until is None else _one(until, places)
    seen: dict[Site, Tensor] = {}
    missing = set(chosen)
    whole, alone = given.get("past") is not None, not model.watchers

    def read(site: Site, value: Tensor) -> Tensor:
        if site in missing:
            axis, index = _places_in(value, places[site], positions, site)
            if grad:
                seen[site], value = _kept(value, axis, index)
            else:
                found = value.detach() if index is None else value.detach().index_select(axis, index)
                # Positions that were taken out are copies already; and scores, of a large vocabulary the most of all,
                # are made for this call, in which nothing comes after them, unless somebody else's function gave them.
                own = index is not None or (alone and site == "logits")
                seen[site] = _in_file(Path(folder), site, found) if folder else found if own else found.clone()
            missing.discard(site)
        if site == last:
            missing.clear()
        if not missing and not whole:
            raise _Enough
        return value

    watched = [site for site in places if site in missing or site == last]
    edits: list[tuple[Site, Place, Edit]] = [(site, places[site], partial(read, site)) for site in watched]
    with put_at(model, edits), torch.set_grad_enabled(grad), suppress(_Enough):
        model(tokens, **given)
    if missing and last is None:
        raise UsageError(f"{min(missing)} was not passed in this call: read it in one that computes it")
    if not seen:
        raise UsageError(f"nothing of {', '.join(map(str, chosen[:3]))} comes before {last}: read until a later site")
    return Seen((site, seen[site]) for site in chosen if site in seen)


class _Enough(Exception):
    """Ends a forward pass of which everything wanted has been seen."""


def unwrapped(model: Any) -> Tappable:
    """Return the model itself where `torch.compile` has wrapped it.

    Raises:
        UsageError: it has no sites.
    """
    original = getattr(model, "_orig_mod", model)
    if not isinstance(original, Tappable):
        raise UsageError(f"{type(original).__name__} has no sites: look at a model that Etude built or loaded")
    return original


def _one(site: str, places: dict[Site, Place]) -> Site:
    """Return the one activation that is meant by `until`."""
    found = match(site, places)
    if len(found) > 1 or not isinstance(places[found[0]], Tap):
        raise UsageError(f"until = {site!r} names {len(found)} sites or a weight: name one activation")
    return found[0]


def _places_in(value: Tensor, place: Place, positions: Positions | None, site: Site) -> tuple[int, Tensor | None]:
    """Return the axis of positions and the wanted ones, or None for all of the value."""
    names = [axis.name for axis in place.shape] if positions is not None and isinstance(place, Tap) else []
    if "T" not in names:
        return 0, None
    axis = names.index("T")
    length = value.shape[axis]
    wanted = listed(positions, length)
    wrong = [at for at in wanted if not -length <= at < length]
    if wrong or not wanted:
        what = f"position {wrong[0]} is" if wrong else f"positions = {positions!r} are none"
        raise UsageError(f"{what} outside a text of {length} tokens (0 to {length - 1}) at {site}")
    return axis, torch.tensor([at % length for at in wanted], device=value.device)


def listed(positions: Any, length: int) -> list[int]:
    """Return which positions are meant, of a text of that length; none where it is none."""
    if isinstance(positions, slice):
        return list(range(length)[positions])
    if hasattr(positions, "__index__") and not getattr(positions, "ndim", 0):
        return [operator.index(positions)]
    return [operator.index(at) for at in positions]


def _in_file(folder: Path, site: Site, value: Tensor) -> Tensor:
    """Write a value and return it mapped from its file; changed in memory, it is not changed there."""
    folder.mkdir(parents=True, exist_ok=True)
    path, bits = folder / f"{site}.npy", value.dtype == torch.bfloat16
    with replacing(path) as new, new.open("wb") as file:  # an earlier look may still read what stands there
        np.save(file, (value.view(torch.int16) if bits else value).cpu().numpy())
    if value.nbytes >= LARGE:
        give_freed_memory_back()  # what was freed lies between what later layers took, and the heap would grow
    mapped = torch.from_numpy(np.load(path, mmap_mode="c"))
    return mapped.view(torch.bfloat16) if bits else mapped


def _kept(value: Tensor, axis: int, index: Tensor | None) -> tuple[Tensor, Tensor]:
    """Go on from the copy that is handed out: it is on the path to the output, and no other site shares it."""
    chosen = value.clone() if index is None else value.index_select(axis, index)
    return chosen, chosen if index is None else value.index_copy(axis, index, chosen)
