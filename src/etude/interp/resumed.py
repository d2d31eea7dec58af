"""A decoder's run that is gone on from in its middle, so that what a change cannot reach is not computed again.

A layer reads the stream before it, so a change in a layer leaves the layers below as they were. No position sees a
later one, so a change at a position leaves those before it as they were: their keys and values, which are kept, are all
that later positions read of them. And scores are computed only where the metric reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.interp.metrics import Metric, measured, positions_read
from etude.interp.subject import decoder_of
from etude.models.cache import Cache
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.nn.block import Block
from etude.nn.look import Seen, look
from etude.nn.multi_head import MultiHead, head_outputs

AT_ONCE = 1024
"""Positions that are computed at once: variants times texts times positions of each. Fewer cost calls, more cost
positions before the change: on a CPU, at widths 64 and 128, this was best, and half and twice of it within a third."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """One run of N texts, with what is needed to go on from its middle, and the metric of it and of its variants.

    M is N, or 1 where the metric gives one number for all texts. P counts variants of the run.

    Attributes:
        model: in evaluation mode, with nothing put at its sites.
        tokens: [N T].
        metric: what is measured.
        seen: the stream before each layer and behind the last, keys and values, and the parts that were asked for.
        logits: [N R V] of the R positions at the end that the metric reads.
        value: [M] the metric of this run.
    """

    model: DecoderModel
    tokens: Int[Tensor, "N T"]
    metric: Metric
    seen: Seen
    logits: Float[Tensor, "N R V"]
    value: Float[Tensor, " M"]

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.model.layers)

    def at(self, layer: int, part: str) -> Tensor:
        """Return what was seen in a layer: `attn.out` of layer 1 is `L1.attn.out`."""
        return self.seen[f"L{layer}.{part}"]

    def stream(self, layer: int) -> Float[Tensor, "N T D"]:
        """Return the stream before a layer; the number of layers is behind the last."""
        return self.seen[stream_site(self.layers, layer)]

    def between(
        self, layer: int, x: Float[Tensor, "*P T D"], attended: Float[Tensor, "*Q T D"]
    ) -> Float[Tensor, "*R T D"]:
        """Return the stream between a layer's attention and its feed-forward.

        Args:
            layer: its number.
            x: the stream before it.
            attended: what its attention wrote.
        """
        y = x + attended
        return _each_row(self._block(layer).attn_norm, y) if self._post_norm else y

    def fed(self, layer: int, x: Float[Tensor, "*P T D"], attended: Float[Tensor, "*Q T D"]) -> Float[Tensor, "*R T D"]:
        """Return what a layer's feed-forward writes. The arguments are those of `between`."""
        block = self._block(layer)
        read = x if block.parallel else self.between(layer, x, attended)
        if not self._post_norm:
            read = _each_row(block.mlp_norm, read)
        return _each_row(cast(nn.Module, block.mlp), read)

    def after(
        self,
        layer: int,
        x: Float[Tensor, "*P T D"],
        attended: Float[Tensor, "*Q T D"],
        fed: Float[Tensor, "*S T D"] | None = None,
    ) -> Float[Tensor, "*R T D"]:
        """Return the stream after a layer whose attention is not computed but given.

        Args:
            layer: its number.
            x: the stream before it.
            attended: what its attention wrote.
            fed: what its feed-forward wrote; None computes it.
        """
        block, y = self._block(layer), self.between(layer, x, attended)
        if block.mlp is None:
            return y
        y = y + (self.fed(layer, x, attended) if fed is None else fed)
        return _each_row(block.mlp_norm, y) if self._post_norm else y

    def after_each_head(self, layer: int, z: Float[Tensor, "N T H K"]) -> Float[Tensor, "H N T D"]:
        """Return the stream after a layer with one head's z exchanged, for each head. Needs `attn.z` and `attn.out`."""
        attended = self.each_head_written(layer, z)
        return self.after(layer, self.stream(layer), attended)

    def each_head_written(self, layer: int, z: Float[Tensor, "N T H K"]) -> Float[Tensor, "H N T D"]:
        """Return what a layer's attention writes with one head's z exchanged, for each head."""
        change = head_outputs(z - self.at(layer, "attn.z"), self.model.get_parameter(f"layers.{layer}.attn.W_O"))
        return self.at(layer, "attn.out") + change.movedim(2, 0)

    def measure(self, layer: int, streams: Float[Tensor, "P N S D"]) -> Float[Tensor, "P M"]:
        """Return the metric of variants whose stream before a layer differs at the last S positions."""
        many, start = len(streams), self.tokens.shape[1] - streams.shape[2]
        tokens = self.tokens[:, start:].repeat(many, 1)
        last = min(self.logits.shape[1], streams.shape[2])
        past = self._past(layer, start, many) if start else None
        scores = self.model(tokens, stream=streams.flatten(0, 1), layer=layer, past=past, last=last)
        scores = scores.unflatten(0, (many, -1))
        unreached = self.logits[:, : self.logits.shape[1] - last]
        if unreached.shape[1]:
            scores = torch.cat((unreached.expand(many, *unreached.shape), scores), dim=2)
        return measured(self.metric, scores)

    def each_stream(self, layer: int, streams: Float[Tensor, "P N T D"], at_once: int) -> Float[Tensor, "P M"]:
        """Return the metric of variants that have other streams before a layer, a few at once."""
        reached = self._reached(layer, streams)
        if not reached:
            return self.value.expand(len(streams), -1)
        streams = streams[:, :, self._start(reached[0]) :]
        many = max(1, at_once // streams[0, ..., 0].numel())
        return torch.cat([self.measure(layer, some) for some in streams.split(many)])

    def each_position(self, layer: int, rows: Float[Tensor, "N T D"], at_once: int) -> Float[Tensor, "T M"]:
        """Return the metric with the stream before a layer exchanged at one position, for each position.

        Positions where the rows are those of the run itself, or that nothing that is read can see, are not computed.

        Args:
            layer: its number.
            rows: what the stream is exchanged for.
            at_once: see `AT_ONCE`.
        """
        stream = self.stream(layer)
        values = self.value.repeat(stream.shape[1], 1)
        left = self._reached(layer, rows[None])
        while left:
            start = self._start(left[0])
            many = max(1, at_once // stream[:, start:, 0].numel())
            now, left = torch.tensor(left[:many], device=stream.device), left[many:]
            streams = stream[:, start:].repeat(len(now), 1, 1, 1)
            streams[torch.arange(len(now)), :, now - start] = rows[:, now].transpose(0, 1)
            values[now] = self.measure(layer, streams).to(values.dtype)
        return values

    @property
    def _post_norm(self) -> bool:
        return self.model.spec.norm_at == "post"

    def _block(self, layer: int) -> Block:
        return cast(Block, self.model.layers[layer])

    def _reached(self, layer: int, streams: Float[Tensor, "P N T D"]) -> list[int]:
        """Return the positions where a stream is another one, as far as the metric can tell."""
        other = (streams != self.stream(layer)).any(-1).any(1).any(0)
        if layer == self.layers:  # nobody looks back from here
            other[: other.shape[0] - self.logits.shape[1]] = False
        return other.nonzero().flatten().tolist()

    def _start(self, position: int) -> int:
        """Return from where on a change at a position is computed: attention that is not `MultiHead` keeps its past in
        a way of its own."""
        return position if _keeps_past(self.model) else 0

    def _past(self, layer: int, length: int, times: int) -> Cache:
        """Return keys and values of the first positions, for every layer from this one, once for each variant."""
        past = Cache(self.model.spec.context)
        for number in range(layer, self.layers):
            attn = cast(MultiHead, self._block(number).attn)
            k, v = (self.at(number, part)[:, :length].repeat(times, 1, 1, 1) for part in _kept(self.model))
            past.extend(attn, k, v, attn.rule.window)
        past.length = length
        return past


def recorded(model: Transformer, tokens: Int[Tensor, "N T"], metric: Metric, parts: Sequence[str] = ()) -> Recorded:
    """Run a decoder once and keep what its variants go on from. Call it without gradients.

    Args:
        model: a decoder.
        tokens: the texts.
        metric: from logits [N T V] to a number, or to one a text (`etude.interp.metrics`).
        parts: what else is kept of every layer, as in `attn.out`.

    Raises:
        UsageError: the model is no decoder, is in training mode with dropout, or has functions put at its sites; the
            texts are empty, too long, or of another vocabulary; the metric reads positions that they do not have.
    """
    model = decoder(model)
    tokens = tokens.to(next(model.parameters()).device)
    model.check_tokens(tokens)
    if not tokens.numel():
        raise UsageError(f"tokens of shape {list(tokens.shape)} hold no text: give at least one of one token")
    length, layers = tokens.shape[1], len(model.layers)
    read = positions_read(metric) or length
    if read > length:
        raise UsageError(f"the metric reads position {-read}, and the texts have {length} tokens: they are too short")
    kept = [*parts, *_kept(model)] if _keeps_past(model) else parts
    sites = [stream_site(layers, layer) for layer in range(layers + 1)]
    sites += [f"L{layer}.{part}" for layer in range(layers) for part in kept]
    seen = look(model, tokens, [*sites, "logits"], last=read)
    logits = seen.pop(Site("logits"))
    return Recorded(model, tokens, metric, seen, logits, measured(metric, logits[None])[0])


def two_runs(
    model: Transformer,
    clean: Int[Tensor, "N T"],
    corrupted: Int[Tensor, "N2 T2"],
    metric: Metric,
    parts: Sequence[str] = (),
) -> tuple[Recorded, Recorded]:
    """Return the clean and the corrupted run.

    Raises:
        UsageError: the texts are not of one shape, or one of them cannot be read (`recorded`).
    """
    same_shape(clean, corrupted)
    return recorded(model, clean, metric, parts), recorded(model, corrupted, metric, parts)


def same_shape(clean: Tensor, corrupted: Tensor) -> None:
    """Raise UsageError where two sets of texts are not of one shape."""
    if clean.shape != corrupted.shape:
        raise UsageError(
            f"clean texts of shape {list(clean.shape)} and corrupted ones of {list(corrupted.shape)}:"
            " a patch goes from each position to the same one, so give as many tokens in both"
        )


def decoder(model: Any) -> DecoderModel:
    """Return the decoder itself, ready to be gone on from; of a compiled one, the eager original.

    Raises:
        UsageError: it is none; or its runs differ from call to call, or from those of the model alone.
    """
    model = decoder_of(model)
    if model.watchers:
        raise UsageError(
            f"{model.watchers} functions are put at sites of the model, and it is gone on from in the middle of a text:"
            " leave `tapped` first"
        )
    return model


def stream_site(layers: int, layer: int) -> str:
    """Return the site of the stream before a layer, in a decoder of so many; `layers` is behind the last."""
    if layer < layers:
        return f"L{layer}.resid.pre"
    return f"L{layers - 1}.resid.post" if layers else "embed.out"


def _keeps_past(model: DecoderModel) -> bool:
    return all(isinstance(cast(Block, block).attn, MultiHead) for block in model.layers)


def _kept(model: DecoderModel) -> tuple[str, str]:
    """Return where keys and values are as attention keeps them: after rotation."""
    return ("attn.k_rot" if model.spec.positions == "rotary" else "attn.k"), "attn.v"


def _each_row(part: nn.Module, x: Float[Tensor, "*P T D"]) -> Float[Tensor, "*P T D"]:
    """Return what a part that treats every position alike makes of streams with any leading axes."""
    return part(x.flatten(0, -3)).view(x.shape)
