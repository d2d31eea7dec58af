"""Path patching: what one component tells another directly (Wang et al. 2022, "Interpretability in the Wild", section
3.1 and appendix B; Goldowsky-Dill et al. 2023, "Localizing Model Behavior with Path Patching").

Patching a component changes everything that reads it. Here only the receivers read the change. First the base run is
made again with the sender's activation of the other run, and with everything between as it was, so that the stream at
the receivers differs by the sender alone; what the receivers make of that stream is kept. Then the base run is made
once more, with the receivers' activations exchanged for those, and everything behind them computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.site import Site, match
from etude.interp.metrics import Metric, measured
from etude.interp.patching import PatchMap, Progress
from etude.interp.resumed import AT_ONCE, Recorded, decoder, two_runs
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.nn.taps import Edit

SENDERS = ("embed.out", "attn.z", "mlp.out")
RECEIVERS = ("attn.q", "attn.k", "attn.v", "attn.z", "mlp.out", "logits")


@dataclass(frozen=True)
class Node:
    """One end of a path.

    Attributes:
        site: of a sender, where it writes: `embed.out`, `L0.attn.z` or `L0.mlp.out`. Of a receiver, what it makes of
            the stream that it reads: `L1.attn.q`, `L1.attn.k` or `L1.attn.v`, one input of attention; `L1.attn.z`, all
            three; `L1.mlp.out`; or `logits`, the last norm and the unembedding.
        head: which one, at sites of attention; None is all of them. Where heads share keys and values, a head of
            `attn.k` and `attn.v` is a group of them.
    """

    site: str
    head: int | None = None


@torch.no_grad()
def path_patch(
    model: Transformer,
    clean: Int[Tensor, "N T"],
    corrupted: Int[Tensor, "N2 T2"],
    metric: Metric,
    sender: Node,
    receivers: Sequence[Node],
    *,
    noising: bool = False,
    through_mlps: bool = False,
) -> PatchMap:
    """Return the metric with the direct path from a sender to all receivers exchanged; the map has no axes.

    Args:
        model: a decoder, in evaluation mode.
        clean: as in `patch_map`.
        corrupted: as in `patch_map`.
        metric: as in `patch_map`.
        sender: what is exchanged.
        receivers: what reads the change, each behind the sender; or `logits` alone.
        noising: send corrupted activations into the clean run, as Wang et al. do, and not the other way round.
        through_mlps: whether the feed-forward networks between count as part of the path and are computed anew, as
            Wang et al. do; else they are held, as all attention between is, and the path is one edge.

    Raises:
        UsageError: a node is none of the model's, or a receiver reads nothing of the sender; and as `patch_map`.
    """
    model = decoder(model)
    start = _place(model, sender, SENDERS)
    ends = _ends(model, receivers)
    for end in ends:
        if end.stage <= start.stage:
            raise UsageError(f"{end.site} does not read {start.site}: a receiver comes behind the sender")
    runs = two_runs(model, clean, corrupted, metric, _parts(model))
    base, source = runs if noising else runs[::-1]
    values = _effects(base, _change(base, source, start), ends, through_mlps)[0]
    return PatchMap("path", {}, values, runs[0].value, runs[1].value, noising)


@torch.no_grad()
def path_map(
    model: Transformer,
    clean: Int[Tensor, "N T"],
    corrupted: Int[Tensor, "N2 T2"],
    metric: Metric,
    receivers: Sequence[Node],
    *,
    noising: bool = False,
    through_mlps: bool = False,
    at_once: int = AT_ONCE,
    progress: Progress = lambda done, total: None,
) -> PatchMap:
    """Return the metric with the direct path from each head to the receivers exchanged: cells [L H].

    A head that no receiver is behind has the metric of the base run.

    Args:
        model: as in `path_patch`.
        clean: as in `path_patch`.
        corrupted: as in `path_patch`.
        metric: as in `path_patch`.
        receivers: as in `path_patch`.
        noising: as in `path_patch`.
        through_mlps: as in `path_patch`.
        at_once: how many positions are computed at once: patched texts times their lengths.
        progress: called with layers done and in all.

    Raises:
        UsageError: as `path_patch`.
    """
    model = decoder(model)
    if at_once < 1:
        raise UsageError(f"at_once = {at_once}: at least one position is computed at once")
    ends, layers, heads = _ends(model, receivers), model.spec.layers, model.spec.heads
    if not layers:
        raise UsageError("the model has no layers, so no head sends anything")
    runs = two_runs(model, clean, corrupted, metric, _parts(model))
    base, source = runs if noising else runs[::-1]
    many = max(1, at_once // clean.numel())
    values = []
    for layer in range(layers):
        behind = [end for end in ends if end.stage > 2 * layer]
        if behind:
            written = base.each_head_written(layer, source.at(layer, "attn.z"))
            changes = [_Change(layer, attended=some) for some in written.split(many)]
            values.append(torch.cat([_effects(base, change, behind, through_mlps) for change in changes]))
        else:
            values.append(base.value.expand(heads, -1))
        progress(layer + 1, layers)
    axes = {"layer": tuple(f"L{n}" for n in range(layers)), "head": tuple(f"H{n}" for n in range(heads))}
    return PatchMap("path", axes, torch.stack(values), runs[0].value, runs[1].value, noising)


class _Place(NamedTuple):
    """A node in the model: its layer, and when it comes in the order in which parts read and write the stream."""

    site: Site
    layer: int
    stage: int
    head: int | None


class _Change(NamedTuple):
    """What P variants of a sender write: exactly one of the three, [P N T D]."""

    layer: int
    stream: Tensor | None = None
    attended: Tensor | None = None
    fed: Tensor | None = None


def _place(model: DecoderModel, node: Node, parts: Sequence[str]) -> _Place:
    """Return where a node is. The stage of layer l's attention is 2l, and of its feed-forward 2l + 1, or 2l where the
    two are side by side."""
    (site,) = match(Site(node.site), model.sites())
    if site.part not in parts:
        raise UsageError(f"{site} is no end of a path: it is one of {', '.join(parts)}, with the layer before it")
    letter, size = model.sites()[site][2]
    if node.head is not None and letter not in ("H", "G"):
        raise UsageError(f"head = {node.head} at {site}, which has no heads: leave head out")
    if node.head is not None and not 0 <= node.head < (size or 0):
        raise UsageError(f"head = {node.head} at {site}, which has {size}: choose 0 to {(size or 0) - 1}")
    if site.layer is None:
        return _Place(site, *((0, -1) if site == "embed.out" else (model.spec.layers, 2 * model.spec.layers)), None)
    late = site.part == "mlp.out" and not model.spec.parallel
    return _Place(site, site.layer, 2 * site.layer + late, node.head)


def _ends(model: DecoderModel, receivers: Sequence[Node]) -> list[_Place]:
    ends = [_place(model, node, RECEIVERS) for node in receivers]
    if not ends:
        raise UsageError("a path without receivers goes nowhere: name at least one, as in Node('L1.attn.k', 0)")
    if len(ends) > 1 and any(end.site == "logits" for end in ends):
        raise UsageError("logits are behind every other receiver: ask for them alone")
    return ends


def _parts(model: DecoderModel) -> tuple[str, ...]:
    return ("attn.z", "attn.out") if model.spec.attention_only else ("attn.z", "attn.out", "mlp.out")


def _change(base: Recorded, source: Recorded, sender: _Place) -> _Change:
    """Return what the sender writes in the other run."""
    layer = sender.layer
    if sender.site == "embed.out":
        return _Change(layer, stream=source.stream(0)[None])
    if sender.site.part == "mlp.out":
        return _Change(layer, fed=source.at(layer, "mlp.out")[None])
    if sender.head is None:
        return _Change(layer, attended=source.at(layer, "attn.out")[None])
    return _Change(layer, attended=base.each_head_written(layer, source.at(layer, "attn.z"))[sender.head][None])


def _effects(base: Recorded, change: _Change, ends: Sequence[_Place], through_mlps: bool) -> Float[Tensor, "P M"]:
    """Return the metric with the receivers' activations exchanged for what they make of a change."""
    made, final = _received(base, change, ends, through_mlps)
    if final is not None:
        return base.measure(base.layers, final)
    first, many = min(end.layer for end in ends), len(next(iter(made.values())))
    tokens, stream = base.tokens.repeat(many, 1), base.stream(first).repeat(many, 1, 1)
    with base.model.tapped({site: _put(made[site], [e.head for e in ends if e.site == site]) for site in made}):
        logits = base.model(tokens, stream=stream, layer=first, last=base.logits.shape[1])
    return measured(base.metric, logits.unflatten(0, (many, -1)))


def _received(
    base: Recorded, change: _Change, ends: Sequence[_Place], through_mlps: bool
) -> tuple[dict[Site, Tensor], Float[Tensor, "P N T D"] | None]:
    """Return what is made of a change at the receivers' sites [P N T ...], and the stream at the end if that is read.

    The change goes up the stream alone: what attention writes on the way, and the feed-forward networks unless they
    are part of the path, is that of the base run.
    """
    made: dict[Site, Tensor] = {}
    x = base.stream(change.layer)[None] if change.stream is None else change.stream
    for layer in range(change.layer, max(end.layer for end in ends) + 1):
        if layer == base.layers:
            return made, x
        sends = layer == change.layer
        here = sorted({end.site for end in ends if end.layer == layer})
        made.update(_attention(base, layer, x, [site for site in here if site.part != "mlp.out"]))
        attended = base.at(layer, "attn.out") if not sends or change.attended is None else change.attended
        made.update({site: base.fed(layer, x, attended) for site in here if site.part == "mlp.out"})
        held = None if through_mlps or base.model.spec.attention_only else base.at(layer, "mlp.out")
        fed = held if not sends or change.fed is None else change.fed
        x = base.after(layer, x, attended, fed)
    return made, None


def _attention(base: Recorded, layer: int, x: Float[Tensor, "P N T D"], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Return what a layer's attention makes of streams, at some of its sites."""
    if not sites:
        return {}
    seen = look(base.model, base.tokens.repeat(len(x), 1), sites, stream=x.flatten(0, 1), layer=layer)
    return {site: value.unflatten(0, (len(x), -1)) for site, value in seen.items()}


def _put(made: Float[Tensor, "P N T *rest"], heads: Sequence[int | None]) -> Edit:
    """Return the function that exchanges some heads of a site's value, or (None among them) all of it."""
    new = made.flatten(0, 1)

    def put(value: Tensor) -> Tensor:
        if None in heads:
            return new.clone()
        value = value.clone()
        value[:, :, heads] = new[:, :, heads]
        return value

    return put
