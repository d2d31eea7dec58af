"""What a compressor did to a model, window by window, and what is told of it: all in all, and in parts of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from etude.evals.statistics import Estimate, paired, ratio
from etude.evals.token_classes import TokenClasses
from etude.text.batches import IGNORE

SPANS = 4
"""How many stretches of positions a loss is told for, each about twice as long as the one before."""


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
