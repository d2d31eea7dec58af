"""Ablation of attention heads: what a model does without what a head writes.

What stands in for a head's output matters. Zero is a value that the rest of the model may never have seen; the mean
over a reference takes away what depends on the text and leaves the rest (Wang et al. 2022, "Interpretability in the
Wild", section 2.1); another text's output is at least one that the head makes (Chan et al. 2022, "Causal Scrubbing").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.errors import UsageError, unknown
from etude.core.site import Site
from etude.interp.metrics import Metric
from etude.interp.patching import Progress
from etude.interp.resumed import AT_ONCE, decoder, recorded
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.nn.taps import Edit

WAYS = ("zero", "mean", "resample")


@dataclass(frozen=True, eq=False)
class Ablation:
    """The metric without each head.

    M is the number of texts, or 1 where the metric gives one number for all of them.

    Attributes:
        how: what stood in for a head: `zero`, `mean` or `resample`.
        values: [L H M] the metric without that head.
        base: [M] the metric of the model as it is.
    """

    how: str
    values: Float[Tensor, "L H M"]
    base: Float[Tensor, " M"]

    @property
    def effects(self) -> Float[Tensor, "L H"]:
        """How far the metric moves without each head: the mean over texts."""
        return (self.values - self.base).mean(-1)


@torch.no_grad()
def ablate_heads(
    model: Transformer,
    tokens: Int[Tensor, "N T"],
    metric: Metric,
    how: str = "zero",
    reference: Int[Tensor, "R S"] | None = None,
    *,
    seed: int = 0,
    at_once: int = AT_ONCE,
    progress: Progress = lambda done, total: None,
) -> Ablation:
    """Return the metric without each head in turn, at all positions.

    A run goes on from behind the head, with what the head wrote exchanged. The values are those of whole runs with a
    function put at the head's z, to rounding.

    Args:
        model: a decoder, in evaluation mode.
        tokens: the texts.
        metric: from logits [N T V] to a number, or to one a text (`etude.interp.metrics`).
        how: what stands in for z of a head. `zero`: nothing, so that attention's bias alone is left. `mean`: its mean
            over all texts and positions of the reference. `resample`: its value in another text of the reference, at
            the same position; text n gets that of text p(n), for a permutation p of the reference that leaves none in
            its place, and from the first again where there are more texts.
        reference: None is the texts themselves. To resample, at least two texts, as long as these.
        seed: of the permutation.
        at_once: how many positions are computed at once: ablated texts times their lengths.
        progress: called with layers done and in all.

    Raises:
        UsageError: the way is unknown; the model is no decoder, or has no layers; the texts cannot be read, or the
            reference cannot stand in for them.
    """
    model = decoder(model)
    if at_once < 1:
        raise UsageError(f"at_once = {at_once}: at least one position is computed at once")
    layers = model.spec.layers
    if not layers:
        raise UsageError("the model has no layers, so it has no heads to ablate")
    base = recorded(model, tokens, metric, ("attn.z", "attn.out"))
    instead = _stand_ins(model, range(layers), how, tokens if reference is None else reference, seed)
    values = []
    for layer in range(layers):
        site = Site(f"L{layer}.attn.z")
        streams = base.after_each_head(layer, _for_each_text(instead[site], base.seen[site], site))
        values.append(base.each_stream(layer + 1, streams, at_once))
        progress(layer + 1, layers)
    return Ablation(how, torch.stack(values), base.value)


@torch.no_grad()
def ablated(
    model: Transformer,
    heads: Sequence[tuple[int, int]],
    how: str = "zero",
    reference: Int[Tensor, "R S"] | None = None,
    *,
    seed: int = 0,
) -> dict[str, Edit]:
    """Return the functions that ablate several heads at once, for `model.tapped`, under which anything can be measured.

    Stand-ins are read from the whole model, before anything is ablated.

    Args:
        model: with sites `L*.attn.z`, in evaluation mode.
        heads: each as its layer and its number in it; no heads ablate nothing.
        how: as in `ablate_heads`.
        reference: texts for `mean` and `resample`, which need them; resampled, the texts that the model is then called
            with have to be as long.
        seed: as in `ablate_heads`.

    Raises:
        UsageError: the model has no such head; the way is unknown, or has no reference; or, when the model is called,
            the resampled texts are not as long as those that it reads.
    """
    if how in WAYS[1:] and reference is None:
        raise UsageError(f"how = {how!r} needs a reference: give texts [R, T] to read stand-ins from")
    for layer, head in heads:
        if not (0 <= layer < model.spec.layers and 0 <= head < model.spec.heads):
            there = f"{model.spec.layers} layers of {model.spec.heads} heads"
            raise UsageError(f"there is no head {head} in layer {layer}: the model has {there}, counted from 0")
    by_layer = {layer: sorted({head for at, head in heads if at == layer}) for layer, _ in heads}
    instead = _stand_ins(model, sorted(by_layer), how, reference, seed)
    return {site: partial(_without, site, by_layer[site.layer or 0], value) for site, value in instead.items()}


def derangement(texts: int, seed: int) -> Int[Tensor, " R"]:
    """Return a permutation that leaves nothing in its place: each takes the one before it in a circle in random order.

    Raises:
        UsageError: there are fewer than two.
    """
    if texts < 2:
        raise UsageError(f"resampling gives each text what another has, and the reference is {texts}: give two or more")
    circle = torch.randperm(texts, generator=torch.Generator().manual_seed(seed))
    order = torch.empty_like(circle)
    order[circle] = circle.roll(1)
    return order


def _without(site: Site, heads: list[int], instead: Tensor, z: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T H K"]:
    z, new = z.clone(), _for_each_text(instead, z, site)
    z[:, :, heads] = new[:, :, heads].to(z.dtype)
    return z


def _stand_ins(
    model: Transformer, layers: Sequence[int], how: str, reference: Tensor | None, seed: int
) -> dict[Site, Tensor]:
    """Return what z is exchanged for in some layers: [1 1 H K], or [R T H K] of texts that have changed places."""
    sites = [Site(f"L{layer}.attn.z") for layer in layers]
    if how not in WAYS:
        raise unknown("way of ablating", how, WAYS)
    weight = next(model.parameters())
    if how == "zero" or reference is None or not sites:
        zero = weight.new_zeros(1, 1, model.spec.heads, model.spec.head_width)
        return dict.fromkeys(sites, zero)
    order = derangement(len(reference), seed).to(weight.device) if how == "resample" else None
    seen = look(model, reference.to(weight.device), sites)
    if order is None:
        return {site: z.mean((0, 1), keepdim=True) for site, z in seen.items()}
    return {site: z[order] for site, z in seen.items()}


def _for_each_text(instead: Tensor, z: Float[Tensor, "B T H K"], site: Site) -> Float[Tensor, "B T H K"]:
    """Return the stand-in of every text: one for all, or the rows in turn."""
    if len(instead) == 1:
        return instead.expand_as(z)
    if instead.shape[1] != z.shape[1]:
        raise UsageError(
            f"texts of {z.shape[1]} tokens cannot be resampled from a reference of {instead.shape[1]} at {site}:"
            " give a reference of the same length"
        )
    return instead[torch.arange(len(z), device=z.device) % len(instead)]
