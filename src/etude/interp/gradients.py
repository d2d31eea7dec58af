"""What a prediction owes to tokens and sites, by gradients: integrated gradients, and attribution patching."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.errors import UsageError, unknown
from etude.core.site import Site, match
from etude.interp.metrics import Metric, measured, positions_read
from etude.interp.resumed import same_shape
from etude.interp.subject import check_text, decoder_of
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.nn.embedding import embed
from etude.nn.look import Seen, look
from etude.nn.taps import Tap

TOKENS = "embed.tokens"


@dataclass(frozen=True, eq=False)
class IntegratedGradients:
    """What each token adds to a metric, in the metric's units.

    Attributes:
        scores: [B T] of each token, summed over the width of its vector.
        change: [B] metric of the texts less that of the baseline, which the scores of a text should sum to; [1] where
            the metric gives one number for all texts.
        completeness: [B] or [1], how far they are from that: the error of the quadrature (axiom "completeness",
            section 3 of the paper).
    """

    scores: Float[Tensor, "B T"]
    change: Float[Tensor, " M"]
    completeness: Float[Tensor, " M"]


def integrated_gradients(
    model: Transformer,
    tokens: Int[Tensor, "B T"],
    metric: Metric,
    baseline: str | Float[Tensor, "*S"] = "mean",
    points: int = 32,
) -> IntegratedGradients:
    """Return integrated gradients of a metric over token vectors (Sundararajan et al. 2017, section 3, equation 1).

    The vectors at `embed.tokens` go from the baseline to the texts' own along a straight line, and the gradient is
    averaged on the way. Position vectors stay. The integral is taken by Gauss-Legendre quadrature, which is exact where
    the gradient is a polynomial of degree below 2 · points along the line; the paper sums at equal steps.

    Args:
        model: a decoder in evaluation mode.
        tokens: the texts.
        metric: from logits [B T V] to a number, or one for each text; see `etude.interp.metrics`.
        baseline: `mean`, the mean token vector of the vocabulary; `zero`; or vectors that broadcast to [B T D].
        points: gradients taken, each by a pass forth and back.

    Raises:
        UsageError: the model is no decoder or drops out, it cannot read the texts, the baseline or the number of points
            is none, or the metric does not depend on the logits.
    """
    decoder = decoder_of(model)
    check_text(decoder, tokens)
    if points < 1:
        raise UsageError(f"points = {points}: the quadrature needs 1 or more")
    end = look(decoder, tokens, TOKENS)[TOKENS]
    start = _baseline(decoder, baseline, end)
    with torch.no_grad():
        change = _metric_from(decoder, tokens, metric, end) - _metric_from(decoder, tokens, metric, start)
    mean = torch.zeros_like(end)
    for at, weight in zip(*_legendre(points), strict=True):
        mean += weight * _gradient(decoder, tokens, metric, start + at * (end - start))
    scores = ((end - start) * mean).sum(-1)
    reached = scores.sum(1) if len(change) == len(scores) else scores.sum()[None]
    return IntegratedGradients(scores, change, (reached - change).abs())


def attribution_patching(
    model: Transformer,
    clean: Int[Tensor, "B T"],
    corrupted: Int[Tensor, "B2 T2"],
    metric: Metric,
    sites: str | Iterable[str],
    direction: str = "denoising",
) -> Seen:
    """Return a first-order estimate of what patching each number of each site would do to a metric (Nanda 2023,
    "Attribution Patching"; Syed et al. 2023).

    It is the gradient in the run that would be patched, times the difference to the run that would be patched in:
    exact where the metric is linear in the site, an estimate elsewhere, and poor where an attention pattern is
    saturated or a norm would change much. Sums over axes estimate the patching of a head, a position or a whole site.
    Two passes forth and one back serve all sites.

    Args:
        model: a decoder in evaluation mode.
        clean: texts on which the model does what is studied.
        corrupted: texts of the same shape on which it does not.
        metric: from logits [B T V] to a number, or one for each text. Those are summed: texts do not interact.
        sites: one glob or several. Weights, which both runs share, are left out.
        direction: `denoising` patches the clean run into the corrupted one, `noising` the other way round.

    Returns:
        The estimates by site, in the site's shape; `logits` at the positions that the metric reads.

    Raises:
        UsageError: the model is no decoder or drops out, it cannot read the texts, they differ in shape, a glob matches
            nothing, no activation is among the sites, or the metric does not depend on the logits.
    """
    decoder = decoder_of(model)
    check_text(decoder, clean)
    check_text(decoder, corrupted)
    same_shape(clean, corrupted)
    if direction not in ("denoising", "noising"):
        raise unknown("direction", direction, ("denoising", "noising"))
    source, base = (clean, corrupted) if direction == "denoising" else (corrupted, clean)
    chosen, last = _activations(decoder, sites), positions_read(metric)
    patched_in = look(decoder, source, chosen, last=last)
    with decoder.tapped(dict.fromkeys(chosen, _differentiable)):
        seen = look(decoder, base, {*chosen, "logits"}, grad=True, last=last)
    value = _depending(measured(metric, seen["logits"][None])).sum()
    gradients = torch.autograd.grad(value, [seen[site] for site in chosen])
    estimates = (g * (patched_in[site] - seen[site].detach()) for site, g in zip(chosen, gradients, strict=True))
    return Seen(zip(chosen, estimates, strict=True))


def _activations(model: DecoderModel, sites: str | Iterable[str]) -> list[Site]:
    places = model.places()
    named = match(sites, places)
    chosen = [site for site in named if isinstance(places[site], Tap)]
    if not chosen:
        raise UsageError(f"{named[0]} is a weight, which both runs share: name activations, such as L0.attn.head_out")
    return chosen


def _differentiable(x: Tensor) -> Tensor:
    """Begin a graph where there is none yet, as in a model whose weights are frozen."""
    return x if x.requires_grad else x.detach().requires_grad_()


def _baseline(model: DecoderModel, baseline: str | Tensor, like: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """Return the token vectors that the line begins at."""
    if isinstance(baseline, Tensor):
        try:
            return baseline.detach().to(like).expand_as(like)
        except RuntimeError:
            wanted = f"[{', '.join(map(str, like.shape))}]"
            raise UsageError(f"a baseline of {list(baseline.shape)} does not broadcast to {wanted}") from None
    if baseline == "zero":
        return torch.zeros_like(like)
    if baseline == "mean":
        W_E = model.embed.W_E.detach().mean(0, keepdim=True)
        return embed(torch.zeros(like.shape[:2], dtype=torch.long, device=like.device), W_E, model.embed.scaled)
    raise unknown("baseline", baseline, ("mean", "zero"))


def _legendre(points: int) -> tuple[list[float], list[float]]:
    """Return the nodes and weights of Gauss-Legendre quadrature from 0 to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()


def _metric_from(
    model: DecoderModel, tokens: Tensor, metric: Metric, vectors: Float[Tensor, "B T D"]
) -> Float[Tensor, " M"]:
    """Return a metric where the token vectors are these."""
    with model.tapped({TOKENS: lambda _: vectors}):
        return measured(metric, model(tokens, last=positions_read(metric))[None])[0]


def _gradient(
    model: DecoderModel, tokens: Tensor, metric: Metric, vectors: Float[Tensor, "B T D"]
) -> Float[Tensor, "B T D"]:
    """Return the gradient of a metric, summed over texts, by the token vectors. Texts do not interact."""
    with torch.enable_grad():
        at = vectors.detach().requires_grad_()
        value = _depending(_metric_from(model, tokens, metric, at)).sum()
    return torch.autograd.grad(value, at)[0]


def _depending(value: Tensor) -> Tensor:
    if not value.requires_grad:
        raise UsageError("the metric has no gradient by the logits: give one that is differentiable, not a count")
    return value
