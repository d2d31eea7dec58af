"""The harm of a compressor: the model with it in place against the unharmed model, on the same text, and in what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.compress.compressor import Compressor
from etude.compress.explained import Explained, explained_of_weight
from etude.core.errors import UsageError
from etude.core.site import Site
from etude.evals.behaviours import repeats
from etude.evals.loss import batch_for, batches
from etude.evals.statistics import Estimate, paired, ratio
from etude.evals.token_classes import TokenClasses
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples

KEPT_BYTES = 512 << 20
"""Most memory for what the unharmed model says, its streams too; beyond it they are made again for each compressor."""

SPANS = 4
"""How many stretches of positions a loss is told for, each about twice as long as the one before."""


class Said(NamedTuple):
    """What a model says of each token.

    Attributes:
        loss: [B T] cross-entropy in nats, 0 where nothing is predicted.
        right: [B T] whether the token was the likeliest.
    """

    loss: Float[Tensor, "B T"]
    right: Float[Tensor, "B T"]


@dataclass(frozen=True, eq=False)
class Passage:
    """Windows that compressors are judged on, with what the unharmed model says of them.

    Attributes:
        inputs: [B T].
        targets: [B T], IGNORE where nothing is judged.
        said: by the unharmed model.
        chances: [B T V] its probabilities; None where only the loss is judged.
        surely: [B T] the sum of each probability times its logarithm.
        stream: [B T D] before the layer that is asked for; None before the first.
    """

    inputs: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    said: Said
    chances: Float[Tensor, "B T V"] | None
    surely: Float[Tensor, "B T"] | None
    stream: Float[Tensor, "B T D"] | None


@dataclass(frozen=True, eq=False)
class Harm:
    """What a compressor did to a model, window by window. N counts windows, T positions, S repeated sequences.

    Attributes:
        clean: [N T] loss of the unharmed model in nats, 0 where nothing is predicted.
        harmed: [N T] loss with the compressor in place.
        right: [N T] whether the token was then the likeliest.
        kl: [N] summed Kullback–Leibler divergence, from the unharmed to the harmed predictions, in nats.
        targets: [N T] what was to be predicted, IGNORE where nothing.
        explained: by site, the share of the variance of the activation about its mean (or of the weight's squares)
            that is left, over the positions that are scored; None where nothing varies.
        repeated: [S 3] of random sequences that repeat themselves (see `etude.evals.behaviours.repeats`), the summed
            loss from the second period on, unharmed and harmed, and how many tokens that is. No sequences: empty.
        classes: of the tokens, where they are told apart.
    """

    clean: Float[np.ndarray, "N T"]
    harmed: Float[np.ndarray, "N T"]
    right: Float[np.ndarray, "N T"]
    kl: Float[np.ndarray, " N"]
    targets: Int[np.ndarray, "N T"]
    explained: dict[str, float | None]
    repeated: Float[np.ndarray, "S 3"]
    classes: TokenClasses | None = None

    @property
    def count(self) -> Float[np.ndarray, " N"]:
        """Predicted tokens of each window."""
        return (self.targets != IGNORE).sum(1).astype(np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return loss, its increase (paired by window), KL and accuracy, each with its interval, and the loss of parts
        of the text: of what the compressor harms most."""
        count = self.count
        shares = list(self.explained.values())
        return {
            "loss": ratio(self.harmed.sum(1), count).to_json(),
            "clean_loss": ratio(self.clean.sum(1), count).to_json(),
            "increase": paired(self.harmed.sum(1), self.clean.sum(1), count).to_json(),
            "kl": ratio(self.kl, count).to_json(),
            "accuracy": ratio(self.right.sum(1), count).to_json(),
            "explained": shares[0] if len(shares) == 1 else None,
            "tokens": int(count.sum()),
            "parts": {name: part.to_json() for name, part in self.parts().items()},
        }

    def parts(self) -> dict[str, PartHarm]:
        """Return the harm in each part of the text: positions (`positions 0-3`), classes of what is to be predicted
        (`number`), what is learned in the window (`in-context`: the loss in its last quarter less that in its first
        tenth) and going on with what was repeated (`induction`). Parts without a token in them are left out."""
        masks = {**_spans(self.targets), **_classes(self.targets, self.classes)}
        found = {name: _within(self, mask) for name, mask in masks.items() if mask.any()}
        if len(self.repeated):
            before, after, count = self.repeated.T
            found["induction"] = PartHarm(ratio(before, count), paired(after, before, count), int(count.sum()))
        context = _in_context(self)
        return found if context is None else {**found, "in-context": context}


@dataclass(frozen=True)
class PartHarm:
    """Harm in a part of the text.

    Attributes:
        clean: loss of the unharmed model in nats.
        rise: with the compressor in place, paired by window.
        tokens: that it rests on.
    """

    clean: Estimate
    rise: Estimate
    tokens: int

    def to_json(self) -> dict[str, Any]:
        return {"clean": self.clean.to_json(), "rise": self.rise.to_json(), "tokens": self.tokens}


def _within(harm: Harm, mask: np.ndarray) -> PartHarm:
    count = mask.sum(1)
    clean, harmed = (np.where(mask, loss, 0).sum(1) for loss in (harm.clean, harm.harmed))
    return PartHarm(ratio(clean, count), paired(harmed, clean, count), int(count.sum()))


def _spans(targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return masks of stretches of positions, each twice as long as the one before."""
    length = targets.shape[1]
    ends = sorted({max(1, round(length / 2**n)) for n in range(SPANS)})
    starts = [0, *ends[:-1]]
    at, scored = np.arange(length), targets != IGNORE
    return {f"positions {a}-{b - 1}": scored & (at >= a) & (at < b) for a, b in zip(starts, ends, strict=True)}


def _classes(targets: np.ndarray, classes: TokenClasses | None) -> dict[str, np.ndarray]:
    if classes is None:
        return {}
    of = np.where(targets == IGNORE, -1, classes.of[np.maximum(targets, 0)])
    return {name: of == number for number, name in enumerate(classes.names)}


def _in_context(harm: Harm) -> PartHarm | None:
    """Return how much the model learns within a window, as a loss: above it, less is learned."""
    scored, length = harm.targets != IGNORE, harm.targets.shape[1]
    early, late = (np.zeros_like(scored) for _ in range(2))
    early[:, : max(1, length // 10)] = late[:, length - max(1, length // 4) :] = True
    both = (scored & early).any(1) & (scored & late).any(1)
    if length < 4 or not both.any():
        return None

    def falls(loss: np.ndarray) -> np.ndarray:
        sides = (np.where(m, loss, 0).sum(1)[both] / m.sum(1)[both] for m in (scored & late, scored & early))
        return next(sides) - next(sides)

    clean, harmed, ones = falls(harm.clean), falls(harm.harmed), np.ones(int(both.sum()))
    return PartHarm(ratio(clean, ones), paired(harmed, clean, ones), int((scored & (early | late))[both].sum()))


class Host:
    """A model and the text on which compressors in it are judged. What the unharmed model says of it is made once and
    kept for every compressor, as long as it fits into `KEPT_BYTES`; so is the stream before the layers where they
    stand, since what comes before a compressor is as it was.

    Args:
        model: a decoder, in evaluation mode; it is judged in the precision of its weights.
        examples: the validation split.
        windows: which of its windows.
        classes: of the tokens; None tells no classes apart.
        sequences: how many random sequences that repeat themselves it is also judged on; 0 is none.
        among: [M] the tokens that these are made of; None is the whole vocabulary.

    Raises:
        UsageError: the model is no decoder.
    """

    def __init__(
        self,
        model: Transformer,
        examples: Examples,
        windows: np.ndarray,
        classes: TokenClasses | None = None,
        sequences: int = 0,
        among: np.ndarray | None = None,
    ) -> None:
        if not isinstance(model, DecoderModel):
            raise UsageError(f"compressors are judged in decoders, and the model is an {model.spec.name}")
        self.model, self.examples, self.windows, self.classes = model, examples, windows, classes
        self._texts = list(self._windows())
        self._texts += _repeated(sequences, examples.context, model.vocabulary if among is None else among)
        self._judged = len(self._texts) - bool(sequences)
        tokens = sum(inputs.numel() for inputs, _ in self._texts)
        self._keep = 4 * tokens * examples.vocabulary <= KEPT_BYTES
        self._keep_streams = self._keep and 4 * tokens * model.spec.width <= KEPT_BYTES // 4
        self._kept: dict[int, Passage] = {}
        self._streams: dict[tuple[int, int], Tensor] = {}

    def _windows(self) -> Iterator[tuple[Tensor, Tensor]]:
        device = next(self.model.parameters()).device
        size = batch_for(self.examples.vocabulary, self.examples.context)
        for inputs, targets, _ in batches(self.examples, self.windows, device, size):
            yield inputs, targets

    def passages(self, layer: int = 0) -> Iterator[Passage]:
        """Yield the windows, in order, with the stream before a layer."""
        for number in range(self._judged):
            yield self._passage(number, layer)

    def repeats(self, layer: int = 0) -> Iterator[Passage]:
        """Yield the sequences that repeat themselves; their targets are those that can be known from that."""
        for number in range(self._judged, len(self._texts)):
            yield self._passage(number, layer)

    def _passage(self, number: int, layer: int) -> Passage:
        inputs, targets = self._texts[number]
        clean = self._kept.get(number) or self._clean(number, inputs, targets)
        return Passage(inputs, targets, clean.said, clean.chances, clean.surely, self._stream(number, layer, inputs))

    def _clean(self, number: int, inputs: Tensor, targets: Tensor) -> Passage:
        logits = self.model(inputs).float()
        whole = logits.logsumexp(-1)
        chances = (logits - whole[..., None]).exp() if number < self._judged else None
        surely = None if chances is None else _expected(chances, logits) - whole
        found = Passage(inputs, targets, _said(logits, whole, targets), chances, surely, None)
        if self._keep:
            self._kept[number] = found
        return found

    def _stream(self, number: int, layer: int, inputs: Tensor) -> Tensor | None:
        if layer == 0:
            return None
        found = self._streams.get((number, layer))
        if found is None:
            site = f"L{layer - 1}.resid.post"
            found = look(self.model, inputs, site)[site]
            if self._keep_streams:
                # One layer at a time: a sweep goes through the sites in order.
                self._streams = {at: kept for at, kept in self._streams.items() if at[1] == layer}
                self._streams[number, layer] = found
        return found

    def first_layer(self, compressor: Compressor) -> int:
        """Return the layer before which everything is as it was; the number of layers stands for behind the last."""
        return min(_layer_of(site, self.model.spec.layers) for site in compressor.parts)


def _layer_of(site: Site, layers: int) -> int:
    if site.layer is not None:
        return site.layer
    return 0 if site.startswith("embed.") else layers


def _repeated(count: int, length: int, among: int | np.ndarray) -> list[tuple[Tensor, Tensor]]:
    """Return one batch of repeated sequences and, as its targets, the tokens that were seen a period before."""
    if not count:
        return []
    drawn = repeats(count, length, among, seed=0)
    tokens = torch.from_numpy(drawn.tokens)
    targets = torch.full_like(tokens, IGNORE)
    targets[:, :-1] = tokens[:, 1:]
    # From the last position of the first period on, what follows has been seen once.
    known = torch.arange(length) >= torch.from_numpy(drawn.period)[:, None]
    return [(tokens, targets.masked_fill(~known, IGNORE))]


@torch.no_grad()
def harm(host: Host, compressor: Compressor, progress: Callable[[int, int], None] = lambda done, total: None) -> Harm:
    """Measure a model with a compressor in it against the model without it.

    Args:
        host: the model and the text.
        compressor: what is put into it.
        progress: called with windows done and in all.

    Raises:
        UsageError: the model and the compressor do not belong together.
    """
    explained: dict[Site, Explained] = {site: Explained() for site in compressor.parts if not site.is_weight}
    weights: dict[Site, float | None] = {}
    scored = torch.ones(())

    def observe(site: Site, before: Tensor, after: Tensor) -> None:
        if site.is_weight:
            if site not in weights:
                weights[site] = explained_of_weight(before, after)
        elif scored.ndim:  # not of repeated sequences
            explained[site].add(before[scored.bool()], after[scored.bool()])

    layer, model = host.first_layer(compressor), host.model
    clean, harmed, right, divergence, targets, done = [], [], [], [], [], 0
    repeated: list[Tensor] = []
    compressor.require(model)
    for passage in host.passages(layer):
        scored = passage.targets != IGNORE
        with compressor.standing(model, observe):
            logits = _from(model, passage, layer)
        whole = logits.logsumexp(-1)
        said = _said(logits, whole, passage.targets)
        each = _divergence(passage, logits, whole)
        for found, value in ((clean, passage.said.loss), (harmed, said.loss), (right, said.right)):
            found.append(value.cpu().double().numpy())
        divergence.append((each.cpu().double() * scored.cpu()).sum(1).numpy())
        targets.append(passage.targets.cpu().numpy())
        done += len(passage.inputs)
        progress(done, len(host.windows))
    scored = torch.ones(())
    for passage in host.repeats(layer):
        with compressor.standing(model, observe):
            logits = _from(model, passage, layer)
        after = _said(logits, logits.logsumexp(-1), passage.targets).loss
        count = (passage.targets != IGNORE).double().sum(1)
        sums = (passage.said.loss.double().sum(1), after.double().sum(1), count)
        repeated.append(torch.stack([s.cpu() for s in sums], 1))
    return Harm(
        *(np.concatenate(found) for found in (clean, harmed, right, divergence, targets)),
        explained={site: weights[site] if site.is_weight else explained[site].share for site in compressor.parts},
        repeated=torch.cat(repeated).numpy() if repeated else np.zeros((0, 3)),
        classes=host.classes,
    )


def _from(model: DecoderModel, passage: Passage, layer: int) -> Float[Tensor, "B T V"]:
    """Return the scores of a passage, gone on with from a layer."""
    given: dict[str, Any] = {} if passage.stream is None else {"stream": passage.stream, "layer": layer}
    return model(passage.inputs, **given).float()


def _said(logits: Tensor, whole: Tensor, targets: Tensor) -> Said:
    """Return what scores say of the targets; `whole` is the logarithm of the sum of their exponentials."""
    scored = targets != IGNORE
    loss = whole - logits.gather(-1, targets.clamp_min(0)[..., None]).squeeze(-1)
    return Said(loss * scored, ((logits.argmax(-1) == targets) & scored).float())


def _divergence(passage: Passage, logits: Tensor, whole: Tensor) -> Float[Tensor, "B T"]:
    """Return the Kullback–Leibler divergence from the unharmed predictions to these, at each position."""
    if passage.chances is None or passage.surely is None:
        return torch.zeros_like(whole)
    return passage.surely - (_expected(passage.chances, logits) - whole)


def _expected(chances: Tensor, logits: Tensor) -> Float[Tensor, "B T"]:
    """Return the mean score, without a second tensor of the size of the vocabulary."""
    return torch.einsum("btv,btv->bt", chances, logits)
