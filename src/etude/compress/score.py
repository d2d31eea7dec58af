"""The harm of a compressor: the model with it in place against the unharmed model, on the same windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from etude.compress.codec import Codec
from etude.compress.linear import as_matrix
from etude.core.site import Site
from etude.evals.loss import Scores, batch_for, batches, joined, tally
from etude.evals.recording import as_vectors
from etude.evals.statistics import paired, ratio
from etude.models.transformer import Transformer
from etude.text.batches import IGNORE, Examples

KEPT_BYTES = 512 << 20
"""Most memory for the unharmed model's predictions; beyond it they are made again for each compressor."""

ROUNDING = 1e-12
"""What is left of float64 in a difference of sums over many tokens: a smaller share of the whole is no variance."""


@dataclass
class Explained:
    """Gathers, in float64, how much of the variance about the mean a codec keeps of what passes it.

    The variance is summed over dimensions: 1 - sum |x - y|² / sum |x - mean|². About zero instead of the mean, the
    same ratio flatters activations that have a large constant part.
    """

    error: float = 0.0
    total: float = 0.0
    sum: Tensor | None = None
    count: int = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in activations [..., D] and what is left of them."""
        x, y = x.flatten(0, -2).cpu().double(), y.flatten(0, -2).cpu().double()  # MPS has no float64
        self.error += float(((x - y) ** 2).sum())
        self.total += float((x**2).sum())
        self.sum = x.sum(0) if self.sum is None else self.sum + x.sum(0)
        self.count += len(x)

    @property
    def share(self) -> float | None:
        """The share that is kept, or None where there is no variance to keep."""
        if self.sum is None:
            return None
        variance = self.total - float((self.sum**2).sum()) / self.count
        return 1 - self.error / variance if variance > ROUNDING * self.total else None


@dataclass(frozen=True)
class Harm:
    """What a compressor did to a model.

    Attributes:
        clean: scores of the unharmed model.
        harmed: scores with the compressor in place.
        kl: [N] summed Kullback–Leibler divergence of each window, from the unharmed to the harmed predictions, nats.
        explained: share of the variance of the activation (or of the weight's squares) that is kept, over the positions
            that are scored.
    """

    clean: Scores
    harmed: Scores
    kl: np.ndarray
    explained: float | None

    def to_json(self) -> dict[str, Any]:
        """Return loss, its increase (paired by window), KL and accuracy, each with its interval."""
        count = self.clean.count
        return {
            "loss": ratio(self.harmed.loss, count).to_json(),
            "clean_loss": ratio(self.clean.loss, count).to_json(),
            "increase": paired(self.harmed.loss, self.clean.loss, count).to_json(),
            "kl": ratio(self.kl, count).to_json(),
            "accuracy": ratio(self.harmed.right, count).to_json(),
            "explained": self.explained,
            "tokens": int(count.sum()),
        }


class Host:
    """A model and the windows on which compressors in it are judged. What the unharmed model says of them is made once
    and kept for every compressor, as long as it fits into `KEPT_BYTES`.

    Args:
        model: in evaluation mode; it is judged in the precision of its weights.
        examples: the validation split.
        windows: which of its windows.
    """

    def __init__(self, model: Transformer, examples: Examples, windows: np.ndarray) -> None:
        self.model, self.examples, self.windows = model, examples, windows
        self._keep = 4 * len(windows) * examples.context * examples.vocabulary <= KEPT_BYTES
        self._kept: list[tuple[Scores, Tensor]] = []

    def batches(self) -> Iterator[tuple[Tensor, Tensor, Scores, Tensor]]:
        """Yield inputs and targets [B, T], with the unharmed model's scores and log-probabilities [B, T, V]."""
        device = next(self.model.parameters()).device
        size = batch_for(self.examples.vocabulary, self.examples.context)
        for i, (inputs, targets, _) in enumerate(batches(self.examples, self.windows, device, size)):
            if i < len(self._kept):
                yield inputs, targets, *self._kept[i]
                continue
            logits = self.model(inputs)
            clean = tally(logits, targets), log_softmax(logits.float(), -1)
            if self._keep:
                self._kept.append(clean)
            yield inputs, targets, *clean


@torch.no_grad()
def harm(host: Host, site: str, codec: Codec, progress: Callable[[int, int], None] = lambda done, total: None) -> Harm:
    """Measure a model with a codec at a site against the model without it.

    Args:
        host: the model and the windows.
        site: an activation, or a weight.
        codec: what is put there.
        progress: called with windows done and in all.
    """
    explained = Explained()
    clean, harmed, divergence, done = [], [], [], 0
    for inputs, targets, scores, before in host.batches():
        scored = targets != IGNORE
        weight = Site(site).is_weight
        edit = _weight_edit(site, codec, explained) if weight else _activation_edit(site, codec, explained, scored)
        with host.model.tapped({site: edit}):
            after = host.model(inputs)
        clean.append(scores)
        harmed.append(tally(after, targets))
        divergence.append(_divergence(before, log_softmax(after.float(), -1), scored))
        done += len(inputs)
        progress(done, len(host.windows))
    return Harm(joined(clean), joined(harmed), np.concatenate(divergence), explained.share)


def _activation_edit(site: str, codec: Codec, explained: Explained, scored: Tensor) -> Callable[[Tensor], Tensor]:
    def edit(value: Tensor) -> Tensor:
        x = as_vectors(site, value)
        y = codec(x)
        explained.add(x[scored], y[scored])
        return y.reshape(value.shape)

    return edit


def _weight_edit(site: str, codec: Codec, explained: Explained) -> Callable[[Tensor], Tensor]:
    def edit(weight: Tensor) -> Tensor:
        matrix = as_matrix(site, weight)
        smaller = codec(matrix)
        if not explained.count:
            explained.error, explained.count = float(((matrix - smaller).cpu().double() ** 2).sum()), 1
            explained.total, explained.sum = float((matrix.cpu().double() ** 2).sum()), torch.zeros(1).double()
        return smaller.reshape(weight.shape)

    return edit


def _divergence(p: Tensor, q: Tensor, scored: Tensor) -> np.ndarray:
    """Return the summed divergence of each window from log-probabilities p to q [B, T, V]."""
    each = (p.exp() * (p - q)).sum(-1).cpu().double()
    return (each * scored.cpu()).sum(1).numpy()
