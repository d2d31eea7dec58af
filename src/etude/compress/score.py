"""The harm of a compressor: the model with it in place against the unharmed model, on the same text, and in what."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from etude.compress.compressor import Compressor, text_of
from etude.compress.explained import Explained, explained_of_weight
from etude.compress.harmed import Harm
from etude.compress.host import BEGINNING, Host, Passage, Scores, Start, scores_from
from etude.core.site import Site
from etude.evals.token_classes import TokenClasses
from etude.models.transformer import Transformer


@torch.no_grad()
def harm(
    host: Host,
    compressor: Compressor,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    inside: Transformer | None = None,
) -> Harm:
    """Measure a model with a compressor in it against the unharmed model.

    Args:
        host: the unharmed model and the text.
        compressor: what is put into it; of no parts, only what `inside` says is measured.
        progress: called with windows done and in all.
        inside: the model that the compressor stands in, where that is not the host's own, as after it was trained on:
            a decoder of the same vocabulary, in evaluation mode.

    Raises:
        UsageError: the model and the compressor do not belong together.
    """
    model = host.model if inside is None else inside
    # A model of other weights says other things from the first layer on.
    start = host.start(compressor) if inside is None else BEGINNING
    compressor.require(model)
    tally = _Tally(model, compressor, start)
    for passage in host.passages(start):
        tally.judge(passage)
        progress(tally.windows, len(host.windows))
    for passage in host.repeats(start):
        tally.repeat(passage)
    return tally.harm(host.classes)


class _Tally:
    """Gathers what a model says with a compressor in it, passage by passage.

    Args:
        model: that it stands in.
        compressor: that belongs to it.
        start: from where the model says something else.
    """

    def __init__(self, model: Transformer, compressor: Compressor, start: Start) -> None:
        self.model, self.compressor, self.start = model, compressor, start
        self.explained = {site: Explained() for site in compressor.parts if not site.is_weight}
        self.weights: dict[Site, float | None] = {}
        self.windows = 0
        self._scored: Tensor | None = None
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._repeated: list[np.ndarray] = []

    def judge(self, passage: Passage) -> None:
        """Take in windows of text."""
        self._scored = passage.scored
        scores = self._scores(passage)
        self._scored = None
        said, each = scores.said(passage.text.targets), scores.divergence(passage)
        found = (*(_numbers(part) for part in (passage.said.loss, said.loss, said.right)), _numbers(each).sum(1))
        self._rows.append((*found, passage.text.targets.cpu().numpy()))
        self.windows += len(passage.text.inputs)

    def repeat(self, passage: Passage) -> None:
        """Take in sequences that repeat themselves, of which the loss alone is told."""
        said = self._scores(passage).said(passage.text.targets)
        sums = (_numbers(part).sum(1) for part in (passage.said.loss, said.loss, passage.scored))
        self._repeated.append(np.stack(list(sums), 1))

    def harm(self, classes: TokenClasses | None) -> Harm:
        """Return what was gathered."""
        shares = {site: one.share for site, one in self.explained.items()} | self.weights
        return Harm(
            *(np.concatenate(found) for found in zip(*self._rows, strict=True)),
            explained={site: shares[site] for site in self.compressor.parts},
            repeated=np.concatenate(self._repeated) if self._repeated else np.zeros((0, 3)),
            classes=classes,
        )

    def _scores(self, passage: Passage) -> Scores:
        if self.start.alone:
            return Scores.of(scores_from(self.model, passage.text, self._added(passage), self.start.layer))
        stream = next(iter(passage.passed.values()), None)
        with self.compressor.standing(self.model, self._observe):
            return Scores.of(scores_from(self.model, passage.text, stream, self.start.layer))

    def _added(self, passage: Passage) -> Float[Tensor, "B T D"]:
        """Return the stream to which one codec adds what stands for a feed-forward."""
        (site, part), (mid, _, reads) = next(iter(self.compressor.parts.items())), self.start.sites
        text = (text_of(passage.text.inputs, passage.text.given),) if part.codec.reads_text else ()
        before, after = passage.passed[site], part.codec(passage.passed[reads], *text)
        self._observe(site, before, after)
        return passage.passed[mid] + after

    def _observe(self, site: Site, before: Tensor, after: Tensor) -> None:
        """Compare what was at a site with what stands there: a weight once, an activation where the text is judged."""
        if site.is_weight:
            if site not in self.weights:
                self.weights[site] = explained_of_weight(before, after)
        elif self._scored is not None:
            self.explained[site].add(before[self._scored], after[self._scored])


def _numbers(values: Tensor) -> np.ndarray:
    return values.cpu().double().numpy()  # on the CPU first: MPS has no float64
