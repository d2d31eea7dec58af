"""Which part of a mix each target belongs to, against a walk through the documents by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.text.batches import Openings, Windows
from etude.text.framing import Frame, Texts
from etude.text.parts import Parts
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter

END, NAMES = 9, ("a", "b", "c")


def store_of(path: Path, documents: Sequence[tuple[int, int]], openings: int = 0, labelled: bool = True) -> TokenStore:
    """Write documents of a length and a label each."""
    with StoreWriter(path, END + 1, openings, NAMES if labelled else ()) as writer:
        for length, label in documents:
            writer.add(list(range(length)), length)
            if not openings:
                writer.add([END], 0)
            writer.end_document(label if labelled else None)
    return TokenStore.open(path)


def test_windows_by_hand(tmp_path: Path):
    """Three documents with their separators, `00. 1. 2222.`, in windows of 3 targets, the first token being none."""
    parts = Parts(Windows(store_of(tmp_path / "s", [(2, 0), (1, 1), (4, 2)]), 3, END))
    assert parts.names == NAMES
    assert parts.of(np.array([0, 1, 2])).tolist() == [[0, 0, 1], [1, 2, 2], [2, 2, 2]]
    assert parts.of(np.array([2, 0])).tolist() == [[2, 2, 2], [0, 0, 1]]


@settings(max_examples=50, deadline=None)
@given(
    documents=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=3, max_size=12),
    context=st.integers(1, 3),
)
def test_windows_against_a_walk(
    documents: list[tuple[int, int]], context: int, tmp_path_factory: pytest.TempPathFactory
):
    documents = [(5, 0), *documents]
    store = store_of(tmp_path_factory.mktemp("walk") / "s", documents)
    owner = [label for length, label in documents for _ in range(length + 1)]
    windows = Windows(store, context, END)
    found = Parts(windows).of(np.arange(len(windows)))
    assert found.ravel().tolist() == owner[1 : 1 + found.size]


def test_openings(tmp_path: Path):
    openings = Openings(store_of(tmp_path / "s", [(3, 2), (1, 0), (2, 1)], openings=3), 4, END)
    assert Parts(openings).of(np.array([1, 0])).tolist() == [[0, 0, 0], [2, 2, 2]]


def test_what_has_no_parts(tmp_path: Path):
    plain, framed = store_of(tmp_path / "p", [(5, 0)], labelled=False), store_of(tmp_path / "f", [(5, 0)])
    for examples in (Windows(plain, 2, END), Texts(framed, 5, Frame(END, END, END))):
        with pytest.raises(UsageError, match="only windows and openings of a labelled text have parts"):
            Parts(examples)
