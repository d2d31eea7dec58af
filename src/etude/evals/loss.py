"""Loss and accuracy on held-out windows, kept by window so that models can be compared in pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from etude.evals.statistics import Estimate, ratio
from etude.nn.precision import autocast
from etude.text.batches import IGNORE, Batch, Examples
from etude.text.parts import Parts


@dataclass(frozen=True)
class Scores:
    """Sums over each window's predicted tokens.

    Attributes:
        loss: [N] summed cross-entropy in nats.
        right: [N] tokens that were the likeliest.
        count: [N] tokens predicted.
        last_loss: [N] cross-entropy at the last position, 0 where nothing is predicted there.
        last_right: [N] whether the last position's token was the likeliest.
        last_count: [N] whether the last position is predicted at all.
        part_loss: [N, P] summed cross-entropy of the tokens of each part of a mix; None where the text has no parts.
        part_count: [N, P] tokens of each part.
    """

    loss: np.ndarray
    right: np.ndarray
    count: np.ndarray
    last_loss: np.ndarray
    last_right: np.ndarray
    last_count: np.ndarray
    part_loss: np.ndarray | None = None
    part_count: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the sums by name, as they are stored."""
        named = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: array for name, array in named if array is not None}

    def summary(self, tokens_per_byte: float | None, parts: Sequence[str] = ()) -> dict[str, Any]:
        """Return loss, accuracy and bits per byte with intervals, over all positions and at the last alone.

        Args:
            tokens_per_byte: of the text; None where what is predicted is not the text, token by token, and a loss a
                byte would mean nothing.
            parts: names of the text's parts, where there are any.
        """
        loss = ratio(self.loss, self.count)
        found: dict[str, Any] = {
            "loss": loss.to_json(),
            "accuracy": ratio(self.right, self.count).to_json(),
            **({} if tokens_per_byte is None else {"bits_per_byte": bits_per_byte(loss, tokens_per_byte).to_json()}),
            "tokens": int(self.count.sum()),
        }
        if tokens_per_byte is not None and self.last_count.any():
            found["last_position"] = {
                "loss": ratio(self.last_loss, self.last_count).to_json(),
                "accuracy": ratio(self.last_right, self.last_count).to_json(),
            }
        if self.part_loss is not None and self.part_count is not None:
            columns = zip(parts, self.part_loss.T, self.part_count.T, strict=True)
            found["parts"] = {name: _of_part(loss, count) for name, loss, count in columns}
        return found


def _of_part(loss: np.ndarray, count: np.ndarray) -> dict[str, Any]:
    """Return a part's loss with its interval, over the windows that have any of it, or None where none has."""
    return {"loss": ratio(loss, count).to_json() if count.any() else None, "tokens": int(count.sum())}


def bits_per_byte(loss: Estimate, tokens_per_byte: float) -> Estimate:
    """Return a loss in nats per token as bits per UTF-8 byte, which compares models of different tokenizers."""
    return loss.scaled(tokens_per_byte / math.log(2))


def chosen_windows(examples: Examples, tokens: int) -> np.ndarray:
    """Return the indices of the windows that an evaluation reads: evenly spread, the same for every model.

    Args:
        examples: the validation split.
        tokens: how many positions to read; 0 all.
    """
    wanted = len(examples) if tokens <= 0 else max(1, min(len(examples), tokens // examples.context))
    return np.linspace(0, len(examples) - 1, wanted).round().astype(np.int64)


class Parted(NamedTuple):
    """Which part of a mix each target belongs to.

    Attributes:
        of: [B, T] numbers of parts.
        parts: how many parts there are.
    """

    of: np.ndarray
    parts: int


class Live(NamedTuple):
    """A batch as tensors on a device: see `etude.text.batches.Batch`."""

    inputs: Tensor
    targets: Tensor
    given: dict[str, Tensor]


def live(batch: Batch, device: torch.device) -> Live:
    """Return a batch as tensors on a device."""
    given = {name: torch.from_numpy(array).to(device) for name, array in batch.given.items()}
    return Live(torch.from_numpy(batch.inputs).to(device), torch.from_numpy(batch.targets).to(device), given)


def batches(examples: Examples, windows: np.ndarray, device: torch.device, batch: int) -> Iterator[Live]:
    """Yield the windows, in order, as batches of tensors."""
    for start in range(0, len(windows), batch):
        yield live(examples.batch(windows[start : start + batch]), device)


def batch_for(vocabulary: int, context: int) -> int:
    """Return how many windows to evaluate at once: as many as keep the logits within 64 MB."""
    return max(1, min(64, 16_000_000 // (vocabulary * context)))


def tally(logits: Tensor, targets: Tensor, parts: Parted | None = None) -> Scores:
    """Return the sums for one batch.

    Args:
        logits: [B, T, V], or [B, C] of classes.
        targets: [B, T] with IGNORE where there is nothing to predict, or [B].
        parts: which part of the text each target belongs to.
    """
    if targets.ndim == 1:
        logits, targets = logits[:, None], targets[:, None]
    flat = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
    loss = flat.view(targets.shape).cpu().double()  # on the CPU first: MPS has no float64
    predicted = targets != IGNORE
    right = (logits.argmax(-1) == targets) & predicted
    sums = (loss.sum(1), right.sum(1), predicted.sum(1), loss[:, -1], right[:, -1], predicted[:, -1])
    scores = Scores(*(s.cpu().double().numpy() for s in sums))
    if parts is None:
        return scores
    of = np.eye(parts.parts)[parts.of] * predicted.cpu().numpy()[..., None]  # [B, T, P], 1 where a target belongs
    return replace(scores, part_loss=np.einsum("btp,bt->bp", of, loss.numpy()), part_count=of.sum(1))


def joined(batches: list[Scores]) -> Scores:
    """Return the scores of all batches in order."""
    arrays = [batch.arrays() for batch in batches]
    return Scores(**{name: np.concatenate([those[name] for those in arrays]) for name in arrays[0]})


@torch.no_grad()
def score(
    model: nn.Module,
    examples: Examples,
    windows: np.ndarray,
    *,
    precision: str = "fp32",
    parts: Parts | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Return a model's scores on windows of held-out text. Dropout is off while it reads.

    Args:
        model: gives logits [B, T, V], or [B, C], for tokens [B, T] and what a sample gives beside them.
        examples: the split.
        windows: which of its windows, from `chosen_windows`.
        precision: as the training had it.
        parts: tells the parts of the text apart, where it has any.
        progress: called with windows done and in all.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    found, done = [], 0
    size = batch_for(examples.vocabulary, examples.context)
    for inputs, targets, given in batches(examples, windows, device, size):
        with autocast(device, precision):
            logits = model(inputs, **given)
        here = windows[done : done + len(inputs)]
        found.append(tally(logits, targets, None if parts is None else Parted(parts.of(here), len(parts.names))))
        done += len(inputs)
        progress(done, len(windows))
    model.train(was_training)
    return joined(found)
