"""Losses of tokens as bits per byte of documents, which models of any tokenizer can be compared by."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int

from etude.core.errors import UsageError
from etude.core.run import Run
from etude.evals.statistics import Estimate, paired, ratio
from etude.text.store import TokenStore
from etude.text.tokenizers.live import Tokenizer

DOCUMENTS = "documents.safetensors"


@dataclass(frozen=True)
class ByDocument:
    """What a model makes of each document of a split.

    Attributes:
        nats: [N] summed cross-entropy.
        targets: [N] tokens predicted, the separator that ends the document among them.
        bytes: [N] bytes of UTF-8.
    """

    nats: Float[np.ndarray, " N"]
    targets: Int[np.ndarray, " N"]
    bytes: Float[np.ndarray, " N"]

    @classmethod
    def of(cls, run: Run) -> Self:
        """Read what a run kept."""
        kept = run.tensors(DOCUMENTS)
        return cls(*(kept[f.name] for f in fields(cls)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the sums by name, as they are stored."""
        return {"nats": self.nats, "targets": self.targets, "bytes": self.bytes}

    @property
    def bits_per_byte(self) -> Estimate:
        """Bits per byte of UTF-8, with an interval by documents."""
        return ratio(self.nats, self.bytes).scaled(1 / math.log(2))

    @property
    def loss(self) -> Estimate:
        """Nats per token, with an interval by documents."""
        return ratio(self.nats, self.targets)

    def summary(self) -> dict[str, Any]:
        """Return both, and how much was read."""
        return {
            "bits_per_byte": self.bits_per_byte.to_json(),
            "loss": self.loss.to_json(),
            "documents": len(self.nats),
            "tokens": int(self.targets.sum()),
            "bytes": round(float(self.bytes.sum())),
        }


def compared(a: ByDocument, b: ByDocument) -> Estimate:
    """Return the bits per byte of `a` less those of `b`, paired by documents: below 0, `a` is the better.

    Raises:
        UsageError: they are not of the same documents.
    """
    if not np.array_equal(a.bytes, b.bytes):
        raise UsageError(
            f"{len(a.bytes)} documents of {a.bytes.sum():.0f} bytes and {len(b.bytes)} of {b.bytes.sum():.0f} are not"
            " the same text: compare models on one split of one corpus"
        )
    return paired(a.nats, b.nats, a.bytes).scaled(1 / math.log(2))


def summed(losses: Float[np.ndarray, " C"], store: TokenStore, bytes: Float[np.ndarray, " N"]) -> ByDocument:
    """Return sums by document.

    Args:
        losses: of each token of the store, in nats.
        store: whole documents.
        bytes: of each document, from `document_bytes`.
    """
    bounds = np.asarray(store.documents).astype(np.int64)
    nats = np.add.reduceat(losses, bounds[:-1], dtype=np.float64)  # no document is empty: each has its separator
    return ByDocument(nats, np.diff(bounds), bytes)


def document_bytes(store: TokenStore, tokenizer: Tokenizer) -> Float[np.ndarray, " N"]:
    """Return the bytes of UTF-8 of each document, whole numbers where the tokenizer gives its text back.

    One that does not (it lower-cases, say) gives other bytes back than it read. The store knows how many it read in
    all; they are then shared out as those that come back are, and the bits per byte of the whole remain exact.
    """
    bounds = np.asarray(store.documents).astype(np.int64)
    spans = zip(bounds[:-1].tolist(), (bounds[1:] - 1).tolist(), strict=True)  # without the separator
    sizes = np.array([len(tokenizer.decode_bytes(store.tokens[a:b].tolist())) for a, b in spans], np.float64)
    if sizes.sum() == store.bytes:
        return sizes
    weights = np.maximum(sizes, 1)  # a document of which nothing comes back was text all the same
    return weights * (store.bytes / weights.sum())
