"""Activation patching: one activation of a run is exchanged for that of another run, and the metric says what it
carried (Meng et al. 2022, "Locating and Editing Factual Associations in GPT", section 2.1; Wang et al. 2022,
"Interpretability in the Wild").

There are two texts that differ in one thing: the clean one, which the model answers rightly, and the corrupted one.
Denoising puts an activation of the clean run into the corrupted one and shows what suffices to bring the answer back.
Noising puts one of the corrupted run into the clean one and shows what the answer needs. They answer different
questions (Heimersheim and Nanda 2024, "How to use and interpret activation patching", section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.errors import UsageError, unknown
from etude.core.site import Site, match
from etude.interp.metrics import Metric, measured, positions_read
from etude.interp.resumed import AT_ONCE, Recorded, same_shape, stream_site, two_runs
from etude.models.transformer import Transformer
from etude.nn.look import look, unwrapped
from etude.nn.taps import Edit, Tap

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class PatchMap:
    """The metric of a run with one activation exchanged, for each of many activations.

    M is the number of texts, or 1 where the metric gives one number for all of them.

    Attributes:
        kind: what was exchanged.
        axes: what each axis of the cells counts, and the name of each place on it.
        values: [*cells M] the metric with the activation of that cell exchanged.
        clean: [M] the metric of the clean run.
        corrupted: [M] of the corrupted run.
        noising: whether corrupted activations were put into the clean run, and not the other way round.
    """

    kind: str
    axes: dict[str, tuple[str, ...]]
    values: Float[Tensor, "*cells M"]
    clean: Float[Tensor, " M"]
    corrupted: Float[Tensor, " M"]
    noising: bool = False

    def recovered(self) -> Float[Tensor, "*cells"]:
        """Return how much of the way from one run to the other each exchange goes: 0 changes nothing, 1 goes all of it.

        That is (patched - base) / (source - base), where the base is the run that was patched and the source the one
        that the activation came from, and each is the mean over texts: a text in which the two runs hardly differ would
        otherwise decide the mean of the quotients.

        Raises:
            UsageError: the two runs do not differ in the metric, beyond rounding.
        """
        base, source = (self.clean, self.corrupted) if self.noising else (self.corrupted, self.clean)
        base, source = base.mean(), source.mean()
        if torch.isclose(source, base, rtol=1e-5, atol=1e-7):
            raise UsageError(
                f"the metric is {base.item():.6g} of both runs, so there is nothing to recover:"
                " choose texts or a metric in which they differ"
            )
        return (self.values.mean(-1) - base) / (source - base)


@torch.no_grad()
def patch_map(
    model: Transformer,
    clean: Int[Tensor, "N T"],
    corrupted: Int[Tensor, "N2 T2"],
    metric: Metric,
    kind: str = "resid",
    *,
    noising: bool = False,
    at_once: int = AT_ONCE,
    progress: Progress = lambda done, total: None,
) -> PatchMap:
    """Return the metric with each activation of a kind exchanged in turn.

    | kind | what is exchanged | cells |
    | --- | --- | --- |
    | `resid` | the stream before each layer and behind the last, at one position | [L+1 T] |
    | `attn` | what the attention of each layer writes, at one position | [L T] |
    | `mlp` | what the feed-forward of each layer writes, at one position | [L T] |
    | `head` | z of each head, at all positions | [L H] |
    | `head-position` | z of each head, at one position | [L H T] |

    Nothing is computed that the exchange cannot change: a run goes on from the layer and the position of the exchange.
    The values are those of whole runs with a function put at the site, to rounding.

    Args:
        model: a decoder, in evaluation mode.
        clean: texts that the model answers as it should.
        corrupted: the same texts with what matters changed, each of as many tokens: activations are exchanged between
            a text and its partner, position by position.
        metric: from logits [N T V] to a number, or to one a text (`etude.interp.metrics`).
        kind: of the activations.
        noising: put corrupted activations into the clean run, and not clean ones into the corrupted run.
        at_once: how many positions are computed at once: patched texts times their lengths.
        progress: called with layers done and in all.

    Raises:
        UsageError: the kind is unknown, or the model has none of it; the texts are not of one shape, or are ones that
            the model cannot read; the model is no decoder.
    """
    if kind not in _KINDS:
        raise unknown("kind of patch", kind, _KINDS)
    if at_once < 1:
        raise UsageError(f"at_once = {at_once}: at least one position is computed at once")
    parts, values_of, axes_of = _KINDS[kind]
    if kind == "mlp" and getattr(model.spec, "attention_only", False):
        raise UsageError(
            "kind 'mlp' finds nothing in an attention-only model: patch resid, attn, head or head-position"
        )
    runs = two_runs(model, clean, corrupted, metric, parts)
    base, source = runs if noising else runs[::-1]
    layers = base.layers + (kind == "resid")
    if not layers:
        raise UsageError(f"the model has no layers, and kind {kind!r} patches what is in them: patch resid")
    values = []
    for layer in range(layers):
        values.append(values_of(base, source, layer, at_once))
        progress(layer + 1, layers)
    return PatchMap(kind, axes_of(base), torch.stack(values), runs[0].value, runs[1].value, noising)


@torch.no_grad()
def patch_at(
    model: Transformer,
    clean: Int[Tensor, "N T"],
    corrupted: Int[Tensor, "N2 T2"],
    metric: Metric,
    sites: str | Iterable[str],
    *,
    noising: bool = False,
    progress: Progress = lambda done, total: None,
    **given: Any,
) -> PatchMap:
    """Return the metric with the whole activation at each of some sites exchanged in turn, at all positions.

    Each is a whole run, so that this works for any model and any site. A classifier's scores are given to the metric as
    those of texts of one position, [N 1 C].

    Args:
        model: in evaluation mode.
        clean: as in `patch_map`.
        corrupted: as in `patch_map`.
        metric: as in `patch_map`.
        sites: one glob or several, as in `L*.attn.out`. Weights are left out, since both runs have the same.
        noising: as in `patch_map`.
        progress: called with sites done and in all.
        given: what else the model is called with in both runs, as the `source` of an encoder-decoder.

    Raises:
        UsageError: a glob matches no activation, or one that is passed several times in a run; the texts are not of one
            shape, or cannot be read.
    """
    same_shape(clean, corrupted)
    model.check_steady()
    places = unwrapped(model).places()
    chosen = [site for site in match(sites, places) if isinstance(places[site], Tap)]
    if not chosen:
        raise UsageError(f"{sites!r} names weights alone, which both runs share: name activations, as in L*.attn.out")
    device = next(model.parameters()).device
    clean, corrupted = clean.to(device), corrupted.to(device)
    values = [_measured(model, tokens, metric, given) for tokens in (clean, corrupted)]
    base, source = (clean, corrupted) if noising else (corrupted, clean)
    seen = look(model, source, chosen, **given)
    patched = []
    for site in chosen:
        with model.tapped({site: _exchanged(site, seen[site])}):
            patched.append(_measured(model, base, metric, given))
        progress(len(patched), len(chosen))
    return PatchMap("site", {"site": tuple(chosen)}, torch.stack(patched), values[0], values[1], noising)


def _measured(model: Transformer, tokens: Tensor, metric: Metric, given: dict[str, Any]) -> Float[Tensor, " M"]:
    logits = model(tokens, **given)
    logits = logits[:, None] if logits.ndim == 2 else logits
    if positions_read(metric) > logits.shape[1]:
        read = positions_read(metric)
        raise UsageError(f"the metric reads position {-read}, and there are scores of {logits.shape[1]} positions")
    return measured(metric, logits[None])[0]


def _exchanged(site: Site, value: Tensor) -> Edit:
    """Return the function that puts a value at a site once: one that is passed again has another value there."""
    left = [value]

    def put(_: Tensor) -> Tensor:
        if not left:
            raise UsageError(f"{site} is passed more than once in a run, as two stacks do: patch a site of one stack")
        return left.pop()

    return put


def _resid(base: Recorded, source: Recorded, layer: int, at_once: int) -> Float[Tensor, "T M"]:
    return base.each_position(layer, source.stream(layer), at_once)


def _attn(base: Recorded, source: Recorded, layer: int, at_once: int) -> Float[Tensor, "T M"]:
    rows = base.after(layer, base.stream(layer), source.at(layer, "attn.out"))
    return base.each_position(layer + 1, rows, at_once)


def _mlp(base: Recorded, source: Recorded, layer: int, at_once: int) -> Float[Tensor, "T M"]:
    rows = base.after(layer, base.stream(layer), base.at(layer, "attn.out"), source.at(layer, "mlp.out"))
    return base.each_position(layer + 1, rows, at_once)


def _head(base: Recorded, source: Recorded, layer: int, at_once: int) -> Float[Tensor, "H M"]:
    return base.each_stream(layer + 1, base.after_each_head(layer, source.at(layer, "attn.z")), at_once)


def _head_position(base: Recorded, source: Recorded, layer: int, at_once: int) -> Float[Tensor, "H T M"]:
    heads = base.after_each_head(layer, source.at(layer, "attn.z"))
    return torch.stack([base.each_position(layer + 1, rows, at_once) for rows in heads])


Axes = dict[str, tuple[str, ...]]


def _streams(run: Recorded) -> Axes:
    return {"layer": tuple(stream_site(run.layers, layer) for layer in range(run.layers + 1))}


def _layers(run: Recorded) -> Axes:
    return {"layer": tuple(f"L{layer}" for layer in range(run.layers))}


def _heads(run: Recorded) -> Axes:
    return {**_layers(run), "head": tuple(f"H{head}" for head in range(run.model.spec.heads))}


def _positions(run: Recorded) -> Axes:
    return {"position": tuple(map(str, range(run.tokens.shape[1])))}


class _Kind(NamedTuple):
    """What is kept of every layer, how one layer is measured, and what the axes are."""

    parts: tuple[str, ...]
    values: Callable[[Recorded, Recorded, int, int], Tensor]
    axes: Callable[[Recorded], Axes]


_KINDS = {
    "resid": _Kind((), _resid, lambda run: {**_streams(run), **_positions(run)}),
    "attn": _Kind(("attn.out",), _attn, lambda run: {**_layers(run), **_positions(run)}),
    "mlp": _Kind(("attn.out", "mlp.out"), _mlp, lambda run: {**_layers(run), **_positions(run)}),
    "head": _Kind(("attn.z", "attn.out"), _head, _heads),
    "head-position": _Kind(("attn.z", "attn.out"), _head_position, lambda run: {**_heads(run), **_positions(run)}),
}
