"""Masked language modelling: some tokens of a sample are hidden, and are its targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude.core.errors import UsageError
from etude.text.batches import IGNORE, Batch, Examples
from etude.text.chance import below, uniform
from etude.text.tokenizers.live import Tokenizer


@dataclass(frozen=True)
class Hiding:
    """Which tokens are hidden and how (Devlin et al. 2019, section 3.1 and appendix A.1).

    Attributes:
        share: of a sample's tokens, special ones and padding not counted, that are targets: rounded, and at least one.
        mask_share: of these, replaced by the mask.
        random_share: of these, replaced by any token but a special one. The rest are left as they are.
    """

    share: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1


class MaskedTexts:
    """Samples of other examples with some tokens hidden. A sample and a draw decide which.

    Args:
        of: gives the texts: their `inputs`, and in `given` which are `present`, where there is padding.
        tokenizer: says which tokens are special.
        hiding: how many are hidden, and how.
        seed: of what is drawn.

    Raises:
        UsageError: the tokenizer has no mask.
    """

    def __init__(self, of: Examples, tokenizer: Tokenizer, hiding: Hiding, seed: int = 0) -> None:
        if "mask" not in tokenizer.specials:
            raise no_mask("the tokenizer")
        self.of, self.hiding, self.seed = of, hiding, seed
        self.context, self.vocabulary = of.context, of.vocabulary
        self.mask = tokenizer.specials["mask"]
        self._ordinary = np.ones(tokenizer.vocabulary, dtype=bool)
        self._ordinary[[tokenizer.end, *tokenizer.specials.values()]] = False
        self._drawn_from = np.flatnonzero(self._ordinary)

    def __len__(self) -> int:
        return len(self.of)

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        text = self.of.batch(indices, draw)
        inputs, given = text.inputs, text.given
        may = self._ordinary[inputs]
        if "present" in given:
            may &= given["present"]
        width = inputs.shape[1]
        numbers = uniform(self.seed, "masking", draw, indices, 3 * width)
        which, how, other = np.split(numbers, 3, axis=1)
        chosen = lowest(np.where(may, which, np.inf), self.hiding.share)
        hidden = chosen & (how < self.hiding.mask_share)
        replaced = chosen & ~hidden & (how < self.hiding.mask_share + self.hiding.random_share)
        drawn = self._drawn_from[below(np.asarray(len(self._drawn_from)), other)]
        seen = np.where(hidden, self.mask, np.where(replaced, drawn, inputs))
        return Batch(seen, np.where(chosen, inputs, IGNORE), given)


def lowest(numbers: np.ndarray, share: float) -> np.ndarray:
    """Return where each row has its lowest numbers: a share of those that are finite, rounded, and at least one where
    there is any."""
    finite = np.isfinite(numbers)
    counts = finite.sum(axis=1)
    wanted = np.minimum(np.maximum(np.rint(share * counts).astype(np.int64), 1), counts)
    most = int(wanted.max(initial=0))
    if most == 0:
        return np.zeros_like(finite)
    ordered = np.sort(np.partition(numbers, most - 1, axis=1)[:, :most], axis=1)
    last = np.take_along_axis(ordered, np.maximum(wanted - 1, 0)[:, None], axis=1)
    return finite & (numbers <= last)


def no_mask(what: str) -> UsageError:
    """Return the error for a tokenizer that cannot hide a token."""
    return UsageError(f"{what} has no token that stands for a hidden one: set --data.tokenizer.specials mask")
