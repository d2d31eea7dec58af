"""Samples made of plain arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from etude.text.batches import Batch, Examples


class Rows:
    """Samples given outright."""

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, vocabulary: int) -> None:
        self.inputs, self.targets, self.vocabulary, self.context = inputs, targets, vocabulary, inputs.shape[1]

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        return Batch(self.inputs[indices], self.targets[indices])


@pytest.fixture(scope="session")
def rows() -> Callable[..., Examples]:
    """Make samples of inputs and targets [N, T], or of one text [N + 1] whose every pair is a sample."""

    def make(inputs: np.ndarray, targets: np.ndarray | None = None, *, vocabulary: int) -> Examples:
        if targets is None:
            inputs, targets = inputs[:-1, None], inputs[1:, None]
        return Rows(inputs.astype(np.int64), targets.astype(np.int64), vocabulary)

    return make
