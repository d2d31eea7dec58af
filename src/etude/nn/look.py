"""Reading a model's sites: one forward pass, and copies of what passed there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.site import Site, match
from etude.nn.taps import Tappable, put_at


class Seen(dict[Site, Tensor]):
    """What was read, by site. The text of a site finds it too."""

    def __getitem__(self, site: str) -> Tensor:
        return super().__getitem__(Site(site))


def look(model: Any, tokens: Int[Tensor, "B T"], sites: str | Iterable[str], grad: bool = False) -> Seen:
    """Run the model once and return the values at the named sites, and only those.

    Nothing returned is shared with the model: it may be changed freely. The model runs in the mode it is in; call its
    `eval()` first to look without dropout. Of a compiled model the eager original is read.

    Args:
        model: with sites, compiled or not.
        tokens: the texts.
        sites: one glob or several, as in `L*.attn.pattern`. A weight is read as the forward pass used it.
        grad: keep the graph. Each value is then the one that the rest of the pass was computed from, so that
            `torch.autograd.grad(f(seen["logits"]), seen["L0.mlp.out"])` is the gradient at the site.

    Returns:
        The values by site, in the model's order (that of `model.sites()`).

    Raises:
        UsageError: a glob matches nothing, or the model cannot read the tokens.
    """
    model = unwrapped(model)
    places = model.places()
    chosen = match(sites, places)
    seen: dict[Site, Tensor] = {}
    read = _kept if grad else _copied
    with put_at(model, [(s, places[s], partial(read, seen, s)) for s in chosen]), torch.set_grad_enabled(grad):
        model(tokens)
    return Seen((site, seen[site]) for site in chosen)


def unwrapped(model: Any) -> Tappable:
    """Return the model itself where `torch.compile` has wrapped it.

    Raises:
        UsageError: it has no sites.
    """
    original = getattr(model, "_orig_mod", model)
    if not isinstance(original, Tappable):
        raise UsageError(f"{type(original).__name__} has no sites: look at a model that Etude built or loaded")
    return original


def _copied(seen: dict[Site, Tensor], site: Site, value: Tensor) -> Tensor:
    seen[site] = value.detach().clone()
    return value


def _kept(seen: dict[Site, Tensor], site: Site, value: Tensor) -> Tensor:
    """Go on from the copy that is handed out: it is on the path to the output, and no other site shares it."""
    seen[site] = value.clone()
    return seen[site]
