"""What can be said of a site before there is a model: whether one of this shape can have it."""

from __future__ import annotations

from fnmatch import fnmatch

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.models.architectures.base import Architecture
from etude.models.recipes import Imported, ModelRecipe, OnText


def shape_of(model: ModelRecipe) -> Architecture | None:
    """Return the shape of a model that is known before it is made, or None where only its run tells. One brought in is
    not opened for that: its files may be far away."""
    own = model.of if isinstance(model, OnText) else model
    return None if isinstance(own, Imported) else own.shape


def require_site(model: ModelRecipe, site: str) -> Site:
    """Return a site, refused before anything is trained where the model cannot have it. Names within a part are the
    live model's to check.

    Raises:
        UsageError: it is no site, its layer is beyond the model's, or it is feed-forward in an attention-only model.
    """
    found, shape = Site(site), shape_of(model)
    if shape is None or found.layer is None:
        return found
    if found.layer >= shape.layers:
        named = ", ".join(f"L{n}" for n in range(shape.layers)) or "none"
        raise UsageError(f"unknown site {site!r}: the model has {shape.layers} layers ({named})")
    if shape.attention_only and found.part.partition(".")[0] in ("mlp", "mlp_norm"):
        raise UsageError(
            f"unknown site {site!r}: the model is attention-only (feedforward = 0); choose one such as"
            f" L{found.layer}.attn.out"
        )
    return found


def is_glob(site: str) -> bool:
    """Return whether a text can name several sites."""
    return any(letter in site for letter in "*?[")


def require_activations(model: ModelRecipe, glob: str) -> None:
    """Refuse a glob, or a site, of weights, and a site that the model cannot have. Whether a glob matches anything is
    the live model's to say.

    Raises:
        UsageError: it is one of them.
    """
    name = glob.rpartition(".")[2] if is_glob(glob) else require_site(model, glob).rpartition(".")[2]
    if name.startswith(("W_", "b_")) or name in ("w", "b"):
        raise UsageError(f"{glob} is a weight; name an activation, such as L0.resid.post")


def width_of(model: ModelRecipe, glob: str) -> int:
    """Return how many numbers a token has at all sites that a glob names, as far as the model's shape tells."""
    shape = shape_of(model)
    if shape is None:
        return 0
    layer, _, part = glob.partition(".")
    layers = sum(fnmatch(f"L{n}", layer) for n in range(shape.layers))
    inside = part.startswith("mlp.") and part != "mlp.out"
    return max(1, layers) * (shape.feedforward if inside else shape.width)
