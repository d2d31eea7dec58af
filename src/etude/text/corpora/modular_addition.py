"""Modular addition: every sum once, a fraction of them to learn from."""

from __future__ import annotations

import functools
import hashlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from etude.core.errors import UsageError
from etude.core.seeds import stream
from etude.text.corpora.base import Corpus, Document
from etude.text.splits import check_split


@dataclass(frozen=True)
class ModularAddition(Corpus):
    """All sums of two numbers modulo a number, each in one document: `96 + 3 = 2`.

    As with Power et al. 2022, a fraction of the sums chosen by the seed is `train`; of the rest every other one is
    `valid`, and the others are `test`. `3 + 96` counts as another sum than `96 + 3`, there as here.

    The two numbers cost log2(modulus) each; the sum costs nothing.

    Attributes:
        modulus: how many numbers there are; 97 in the paper.
        fraction: how many of all the sums are in `train`.
        seed: which ones, and the order.
    """

    modulus: int = 97
    fraction: float = 0.5
    seed: int = 0

    def check(self) -> None:
        train, sums = self._train, self.modulus**2
        if self.modulus < 2 or self.modulus > 1000 or not 0 < self.fraction < 1 or train < 1 or sums - train < 2:
            raise UsageError(
                f"modular-addition.modulus = {self.modulus} and fraction = {self.fraction:g} leave a split empty or are"
                " out of bounds: give 2 to 1000, and more than 0 and less than 1"
            )

    def documents(self, split: str) -> Iterator[Document]:
        check_split(split)
        self.check_identity()
        for left, right in self.sums(split):
            yield Document(f"{left} + {right}", [f"{left} + {right} = {(left + right) % self.modulus}"])

    def sums(self, split: str) -> Iterator[tuple[int, int]]:
        """Yield the pairs of numbers of a split."""
        order, rest = _order(self.modulus, self.seed), slice(self._train, None)
        chosen = {"train": order[: self._train], "valid": order[rest][::2], "test": order[rest][1::2]}[
            check_split(split)
        ]
        return (divmod(number, self.modulus) for number in chosen)

    @property
    def _train(self) -> int:
        return round(self.fraction * self.modulus**2)

    def identity(self) -> str:
        first = _order(self.modulus, self.seed)[:100]
        return hashlib.sha256(
            f"modular-addition 1 {self.modulus} {self.fraction!r} {self.seed} {first}".encode()
        ).hexdigest()

    def about(self) -> dict[str, Any]:
        return {
            "licence": "Apache-2.0",
            "source": "Etude's task modular-addition",
            "sums": self.modulus**2,
            "bits_per_document": round(self.entropy(), 6),
        }

    def entropy(self) -> float:
        """Return the entropy of a document in bits: the least loss a document, its end included, that a model can
        have in expectation that knows the rule, and not by heart which sums are in the split."""
        return 2 * math.log2(self.modulus)

    def true_bits_per_byte(self, split: str) -> float:
        """Return that entropy per UTF-8 byte of a split."""
        sizes = [len(f"{a} + {b} = {(a + b) % self.modulus}") for a, b in self.sums(split)]
        return self.entropy() * len(sizes) / sum(sizes)

    def size(self, split: str) -> int:
        held = self._train if split == "train" else (self.modulus**2 - self._train) // 2
        return held * (6 + 3 * len(str(self.modulus)))


@functools.lru_cache(maxsize=4)
def _order(modulus: int, seed: int) -> list[int]:
    """Return all pairs, each as one number, in the order of the seed."""
    order = list(range(modulus**2))
    random.Random(stream(seed, "modular-addition", modulus)).shuffle(order)
    return order
