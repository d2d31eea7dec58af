"""Reading a model's sites: one forward pass, no longer than it has to be, and copies of what passed there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.site import Site, match
from etude.nn.taps import Edit, Place, Tap, Tappable, put_at

Positions = int | slice | Sequence[int]
"""Which positions of the text are kept: one, a range, or several; negative ones count from the end."""


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
    **given: Any,
) -> Seen:
    """Run the model once and return the values at the named sites, and only those.

    The pass ends with the last site that was asked for: what comes after it is not computed. Nothing returned is shared
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
        given: what else the model is called with: `source` of an encoder-decoder, `past` in the middle of a generation.

    Returns:
        The values by site, in the model's order (that of `model.sites()`).

    Raises:
        UsageError: a glob matches nothing, the model cannot read the tokens, a position is outside the text, or a site
            was not passed in this call (or comes after `until`).
    """
    model = unwrapped(model)
    places = model.places()
    chosen = match(sites, places)
    last = None if until is None else _one(until, places)
    seen: dict[Site, Tensor] = {}
    missing, keep = set(chosen), _kept if grad else _copied

    def read(site: Site, value: Tensor) -> Tensor:
        if site in missing:
            seen[site], value = keep(value, *_places_in(value, places[site], positions, site))
            missing.discard(site)
        if not missing or site == last:
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
    if isinstance(positions, int):
        listed = [positions]
    else:
        listed = list(range(length)[positions] if isinstance(positions, slice) else positions or ())
    wrong = [at for at in listed if not -length <= at < length]
    if wrong or not listed:
        what = f"position {wrong[0]} is" if wrong else f"positions = {positions!r} are none"
        raise UsageError(f"{what} outside a text of {length} tokens (0 to {length - 1}) at {site}")
    return axis, torch.tensor([at % length for at in listed], device=value.device)


def _copied(value: Tensor, axis: int, index: Tensor | None) -> tuple[Tensor, Tensor]:
    whole = value.detach()
    return (whole.clone() if index is None else whole.index_select(axis, index)), value


def _kept(value: Tensor, axis: int, index: Tensor | None) -> tuple[Tensor, Tensor]:
    """Go on from the copy that is handed out: it is on the path to the output, and no other site shares it."""
    chosen = value.clone() if index is None else value.index_select(axis, index)
    return chosen, chosen if index is None else value.index_copy(axis, index, chosen)
