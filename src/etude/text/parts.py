"""Which part of a mix each target comes from, so that a loss can be told for each part."""

from __future__ import annotations

import numpy as np

from etude.core.errors import UsageError
from etude.text.batches import Examples, Openings, Windows


class Parts:
    """The parts of a text whose documents are labelled with the part that they come from.

    A target belongs to the document that it lies in, and a separator to the document that it ends, also in a window
    that began in another.

    Args:
        examples: windows or openings of that text.

    Attributes:
        names: of the parts.

    Raises:
        UsageError: the documents have no labels, or the samples are of another kind.
    """

    def __init__(self, examples: Examples) -> None:
        if not isinstance(examples, Windows | Openings) or examples.store.labels is None:
            raise UsageError("only windows and openings of a labelled text have parts: leave them out")
        self.examples, self.names = examples, examples.store.classes
        self._labels, self._documents = examples.store.labels, np.asarray(examples.store.documents)

    def of(self, indices: np.ndarray) -> np.ndarray:
        """Return the part of each target of some samples: int64 [N, T]."""
        numbers, context = np.asarray(indices, dtype=np.int64), self.examples.context
        if isinstance(self.examples, Openings):
            return np.repeat(self._labels[numbers, None], context, axis=1)
        places = numbers[:, None] * context + np.arange(1, context + 1)
        return self._labels[np.searchsorted(self._documents, places, side="right") - 1]
