"""What cannot be asked of a compression, told in one line each, before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etude.compress.methods.base import Method
from etude.core.errors import UsageError
from etude.core.site import Site
from etude.evals.sites import is_glob, require_site, shape_of
from etude.models.recipes import ModelRecipe

if TYPE_CHECKING:
    from etude.compress.recipes import Compress


def check_compress(asked: Compress) -> None:
    """Raise UsageError where a compression could not be fitted or judged."""
    check_decoder(asked.of)
    check_precision(asked.precision, asked.method)
    for name in ("fit_tokens", "evaluate_tokens", "sequences"):
        if getattr(asked, name) < 0:
            raise UsageError(f"{name} = {getattr(asked, name)} is too small: it is 0 or more")
    for site in asked.site.split(","):
        if not is_glob(site):
            check_method(asked.of, Site(site), asked.method)


def check_decoder(of: ModelRecipe) -> None:
    """Raise UsageError where a model is known to be no decoder before it is made."""
    shape = shape_of(of)
    if shape is not None and shape.name != "decoder":
        raise UsageError(f"compressors are judged in decoders, and the model is an {shape.name}: give a decoder")


def check_precision(bits: int, method: Method | None = None) -> None:
    """Raise UsageError where a number of a code cannot be held in so many bits, or a method's code is surely not of
    numbers; of a floor the codec itself says."""
    if bits not in (2, 4, 8, 16, 32):
        raise UsageError(f"precision = {bits} bits: choose one of 2, 4, 8, 16, 32")
    if bits < 32 and method is not None and method.group != "floor" and not method.rounds:
        raise no_numbers(bits, method)


def no_numbers(bits: int, method: Method) -> UsageError:
    """Return the error of a precision that is asked of a code without numbers."""
    return UsageError(f"precision = {bits}: {method.name} has no code of numbers for each token; leave it at 32")


def check_method(of: ModelRecipe, site: Site, method: Method) -> Site:
    """Return a site, refused where the method compresses another kind of thing, or the model cannot have it.

    Raises:
        UsageError: it is refused.
    """
    require_site(of, site)
    wanted, last = method.target, site.rpartition(".")[2]
    told = {"activation": "an activation", "weight": "a weight", "component": "a component"}[wanted]
    if site.is_weight != (wanted == "weight"):
        raise UsageError(
            f"{method.name} compresses {told} and {site} is {'a weight' if site.is_weight else 'an activation'};"
            f" choose a site such as {'L0.attn.W_O' if wanted == 'weight' else 'L0.attn.out'}, or another method"
        )
    if site.is_weight and not last.startswith("W_"):
        raise UsageError(f"{site} is a weight but no matrix; choose one such as L0.attn.W_O")
    if last in ("pattern", "scores", "scale", "positions", "head_out"):
        raise UsageError(f"{site} has no vector for each token; choose a site such as L0.attn.out")
    if wanted == "component" and site.part not in ("attn.out", "mlp.out"):
        raise UsageError(
            f"{method.name} stands in place of a component and {site} is not the output of one; choose L0.attn.out or"
            " L0.mlp.out"
        )
    return site


def require_units_at(squeezed: Compress) -> None:
    """Raise UsageError where a compression is not of one activation or component, and so has no code of each token."""
    if is_glob(squeezed.site) or "," in squeezed.site:
        raise UsageError(f"{squeezed.site} names several sites; show the latents of one")
    if Site(squeezed.site).is_weight:
        raise UsageError(f"{squeezed.site} is a weight, which has no latents; compress an activation")


def check_course(steps: int, batch: int, rate: float) -> None:
    """Raise UsageError where a model cannot be trained so."""
    if steps < 0 or batch < 1 or rate <= 0:
        raise UsageError(
            f"steps = {steps}, batch = {batch}, rate = {rate}: give 0 or more steps, 1 or more windows, a rate over 0"
        )


def check_moving(of: Compress, trains: str, prior: float) -> None:
    """Raise UsageError where no gradient could move what is to be trained, what is trained would no longer be what it
    is called, or there is no prior to weigh."""
    name, moves = of.method.name, trains != "host"
    if of.method.counts in ("codes", "bits") or of.precision < 32:
        code = f"of {name}" if of.precision == 32 else f"of {of.precision} bits"
        raise UsageError(
            f"the code {code} is discrete, and no gradient passes through it: choose a code of numbers, at a precision"
            " of 32"
        )
    if moves and name == "zero":
        raise UsageError("zero that is tuned is a constant: choose mean, which is one, or set trains to host")
    if prior < 0 or (prior and name != "infovae"):
        raise UsageError(f"prior = {prior} with {name}: it is 0 or more, and of infovae alone; set it to 0")
