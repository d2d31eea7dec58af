"""The model that compressors are judged in, and what it says unharmed: made once, and kept for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from etude.compress.compressor import Compressor
from etude.core.errors import UsageError
from etude.core.site import Site
from etude.evals.behaviours import repeats
from etude.evals.loss import Live, batches
from etude.evals.token_classes import TokenClasses
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples

KEPT_BYTES = 512 << 20
"""Most memory for the probabilities that the unharmed model gives; beyond it each compressor has them made again."""

STREAM_BYTES = 1 << 30
"""Most memory for activations of the unharmed model, of which there are up to four a token; as above."""

AT_ONCE_BYTES = 8 << 20
"""Scores that are held at once. They are passed over several times, which is faster while they are near the processor:
by a third at a vocabulary of 2,048 against 64 MB."""


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
        text: the windows.
        said: of them by the unharmed model.
        chances: [B T V] its probabilities; None where only the loss is judged.
        surely: [B T] the sum of each probability times its logarithm.
        passed: what passed the sites that are asked for, by site.
    """

    text: Live
    said: Said
    chances: Float[Tensor, "B T V"] | None
    surely: Float[Tensor, "B T"] | None
    passed: Mapping[Site, Tensor]

    @property
    def scored(self) -> Bool[Tensor, "B T"]:
        """Where something is to be predicted."""
        return self.text.targets != IGNORE


class Start(NamedTuple):
    """From where a model with a compressor in it says something else than the unharmed one.

    Attributes:
        layer: the stream before it is all that is needed; 0 begins with the tokens.
        sites: of the unharmed model: the stream's; or, of a codec alone in the place of a feed-forward, after which the
            stream is a sum, what it adds to, what it stands for, and what it reads.
        alone: whether it is the latter.
    """

    layer: int
    sites: tuple[Site, ...] = ()
    alone: bool = False


BEGINNING = Start(0)
"""The tokens: nothing is taken from the unharmed model."""


class Host:
    """A model and the text on which compressors in it are judged. What the unharmed model says of it is made once and
    kept for every compressor, as long as it fits into `KEPT_BYTES`; so is the stream before the layers where they
    stand, since what comes before a compressor is as it was (`Start`). Where the probabilities do not fit, as of a
    large vocabulary, the stream behind the last layer is kept, and they are made again from that.

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
        device, size = next(model.parameters()).device, _at_once(model.vocabulary, examples.context)
        self._texts = list(batches(examples, windows, device, size))
        self._judged = len(self._texts)
        if sequences:
            among = np.arange(model.vocabulary) if among is None else among
            self._texts += _repeated(sequences, examples.context, among, device, size)
        tokens = sum(text.inputs.numel() for text in self._texts)
        self._keep = 4 * tokens * model.vocabulary <= KEPT_BYTES
        self._keep_streams = 4 * 4 * tokens * model.spec.width <= STREAM_BYTES
        self._kept: dict[int, Passage] = {}
        self._streams: dict[tuple[int, Site], Tensor] = {}

    def passages(self, start: Start = BEGINNING) -> Iterator[Passage]:
        """Yield the windows, in order, with what a compressor starts from."""
        for number in range(self._judged):
            yield self._passage(number, start)

    def repeats(self, start: Start = BEGINNING) -> Iterator[Passage]:
        """Yield the sequences that repeat themselves; their targets are those that can be known from that."""
        for number in range(self._judged, len(self._texts)):
            yield self._passage(number, start)

    def start(self, compressor: Compressor) -> Start:
        """Return the place before which everything is as it was."""
        spec = self.model.spec
        layer = min((_layer_of(site, spec.layers) for site in compressor.parts), default=spec.layers)
        site, part = next(iter(compressor.parts.items()), (None, None))
        sum_of_two = spec.norm_at == "pre" and not spec.parallel
        if part and site and len(compressor.parts) == 1 and site.part == "mlp.out" and sum_of_two:
            return Start(layer + 1, (Site(f"L{layer}.resid.mid"), site, part.reads or site), alone=True)
        return Start(layer, (Site(f"L{layer - 1}.resid.post"),) if layer else ())

    def _passage(self, number: int, start: Start) -> Passage:
        text = self._texts[number]
        clean = self._kept.get(number) or self._clean(number, text)
        return replace(clean, passed=self._passed(number, start.sites))

    def _clean(self, number: int, text: Live) -> Passage:
        scores, judged = Scores.of(self._scores(number, text)), number < self._judged
        chances = (scores.logits - scores.whole[..., None]).exp_() if judged else None
        surely = None if chances is None else torch.linalg.vecdot(chances, scores.logits) - scores.whole
        found = Passage(text, scores.said(text.targets), chances, surely, {})
        if self._keep:
            self._kept[number] = found
        return found

    def _scores(self, number: int, text: Live) -> Float[Tensor, "B T V"]:
        """Return what the unharmed model says: from the stream behind the last layer, where it will be asked again."""
        layers = self.model.spec.layers
        if self._keep or not layers:
            return scores_from(self.model, text, None, 0)
        last = Site(f"L{layers - 1}.resid.post")
        return scores_from(self.model, text, self._passed(number, (last,))[last], layers)

    def _passed(self, number: int, sites: tuple[Site, ...]) -> Mapping[Site, Tensor]:
        """Return what passes sites of the unharmed model. Of the sites that were asked for last, and behind the last
        layer, it is kept: a sweep goes through the sites in order."""
        text, missing = self._texts[number], [at for at in dict.fromkeys(sites) if (number, at) not in self._streams]
        given: dict[str, Any] = text.given
        found = look(self.model, text.inputs, missing, **given) if missing else {}
        held = {site: self._streams[number, site] for site in sites if site not in missing} | dict(found)
        if self._keep_streams and missing:
            stay = (*sites, f"L{self.model.spec.layers - 1}.resid.post")
            self._streams = {at: kept for at, kept in self._streams.items() if at[1] in stay}
            self._streams |= {(number, site): kept for site, kept in found.items()}
        return held


class Scores(NamedTuple):
    """What a model's scores come to.

    Attributes:
        logits: [B T V], fp32.
        whole: [B T] the logarithm of the sum of their exponentials.
        likeliest: [B T] the token with the highest.
    """

    logits: Float[Tensor, "B T V"]
    whole: Float[Tensor, "B T"]
    likeliest: Int[Tensor, "B T"]

    @staticmethod
    def of(logits: Float[Tensor, "B T V"]) -> Scores:
        top, likeliest = logits.max(-1)  # once, for both: `logsumexp` and `argmax` would each look for it
        return Scores(logits, top + (logits - top[..., None]).exp_().sum(-1).log_(), likeliest)

    def said(self, targets: Int[Tensor, "B T"]) -> Said:
        """Return what the scores say of the targets."""
        scored = targets != IGNORE
        loss = self.whole - self.logits.gather(-1, targets.clamp_min(0)[..., None]).squeeze(-1)
        return Said(loss * scored, ((self.likeliest == targets) & scored).float())

    def divergence(self, passage: Passage) -> Float[Tensor, "B T"]:
        """Return the Kullback–Leibler divergence from the unharmed predictions to these, 0 where nothing is judged: the
        sum of p log p, less that of p log q, which is one product with the scores."""
        if passage.chances is None or passage.surely is None:
            return torch.zeros_like(self.whole)
        return (passage.surely - (torch.linalg.vecdot(passage.chances, self.logits) - self.whole)) * passage.scored


def scores_from(model: Transformer, text: Live, stream: Tensor | None, layer: int) -> Float[Tensor, "B T V"]:
    """Return the scores of a text, gone on with from a stream before a layer, or from the start where there is none."""
    given: dict[str, Any] = {**text.given, **({} if stream is None else {"stream": stream, "layer": layer})}
    return model(text.inputs, **given).float()


def _at_once(vocabulary: int, context: int) -> int:
    """Return how many windows are scored at once."""
    return max(1, AT_ONCE_BYTES // (4 * vocabulary * context))


def _layer_of(site: Site, layers: int) -> int:
    if site.layer is not None:
        return site.layer
    return 0 if site.startswith("embed.") else layers


def _repeated(count: int, length: int, among: np.ndarray, device: torch.device, size: int) -> list[Live]:
    """Return repeated sequences in batches and, as their targets, the tokens that were seen a period before."""
    drawn = repeats(count, length, among, seed=0)
    tokens = torch.from_numpy(drawn.tokens)
    targets = torch.full_like(tokens, IGNORE)
    targets[:, :-1] = tokens[:, 1:]
    # From the first position of the second period on, the token at hand has been seen, and so has what followed it.
    known = torch.arange(length) >= torch.from_numpy(drawn.period)[:, None]
    pairs = zip(tokens.split(size), targets.masked_fill(~known, IGNORE).split(size), strict=True)
    return [Live(inputs.to(device), wanted.to(device), {}) for inputs, wanted in pairs]
