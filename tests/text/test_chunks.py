from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.text.batches import IGNORE
from etude.text.chunks import Chunks, Volumes
from etude.text.neighbours import DocumentWindows, Neighboured, NeighbourTable, check_k
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter

END = 99


def store(folder: Path, documents: list[list[int]], name: str = "a", openings: int = 0) -> TokenStore:
    """Write documents as a tokens run does: each with the separator behind it."""
    with StoreWriter(folder / f"{name}.tokens", 100, openings) as writer:
        for document in documents:
            writer.add([*document, END], len(document))
            writer.end_document()
    return TokenStore.open(folder / f"{name}.tokens")


def pieces(document: list[int], size: int) -> list[list[int]]:
    """Return a document's chunks by plain slicing."""
    opened = [END, *document]
    return [opened[start : start + size] for start in range(0, len(opened), size)]


documents_ = st.lists(st.lists(st.integers(0, 98), min_size=1, max_size=13), min_size=1, max_size=6)


@given(documents_, st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_chunks_are_the_slices_of_each_document(tmp_path_factory, documents: list[list[int]], size: int) -> None:
    chunks = Chunks(store(tmp_path_factory.mktemp("s"), documents), size, END)
    expected = [(d, piece) for d, document in enumerate(documents) for piece in pieces(document, size)]
    assert len(chunks) == len(expected) and chunks.document.tolist() == [d for d, _ in expected]
    tokens, present = chunks.read(np.arange(len(chunks)), pieces=2)
    for number, (document, piece) in enumerate(expected):
        follows = expected[number + 1][1] if number + 1 < len(expected) and expected[number + 1][0] == document else []
        there = [*piece, *follows]
        assert tokens[number].tolist() == there + [END] * (2 * size - len(there))
        assert present[number].tolist() == [True] * len(there) + [False] * (2 * size - len(there))
        assert chunks.at(document, (number - int(chunks.first[document])) * size) == number


def test_no_chunk_reads_as_nothing_and_one_too_many_is_an_error(tmp_path: Path) -> None:
    chunks = Chunks(store(tmp_path, [[1, 2, 3], [4]]), 2, END)
    tokens, present = chunks.read(np.array([[-1, 0]]))
    assert tokens.tolist() == [[[END, END], [END, 1]]] and present.tolist() == [[[False, False], [True, True]]]
    with pytest.raises(IndexError, match="chunk 3 asked of 3"):
        chunks.read(np.array([3]))
    with pytest.raises(UsageError, match="chunk = 0 is too small"):
        Chunks(chunks.store, 0, END)
    with pytest.raises(UsageError, match="whole documents"):
        Chunks(store(tmp_path, [[1, 2]], "b", openings=4), 2, END)


def test_volumes_number_on(tmp_path: Path) -> None:
    one, two = (Chunks(store(tmp_path, d, n), 2, END) for n, d in (("a", [[1, 2, 3]]), ("b", [[4], [5, 6]])))
    both = Volumes([one, two])
    assert len(both) == 5 and both.document.tolist() == [0, 0, 1, 2, 2]
    tokens, present = both.read(np.array([[1, 2], [-1, 4]]), pieces=2)
    assert tokens[0].tolist() == [[2, 3, END, END], [END, 4, END, END]]
    assert present[1].tolist() == [[False] * 4, [True, False, False, False]]
    for wrong in ([5], [-1, 7]):
        with pytest.raises(IndexError, match="asked of 5"):
            both.read(np.array(wrong))
    with pytest.raises(UsageError, match=r"chunks of one size, not of \[2, 3\]"):
        Volumes([one, Chunks(two.store, 3, END)])


@given(documents_, st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_windows_within_documents_predict_every_token_once(
    tmp_path_factory, documents: list[list[int]], context: int
) -> None:
    windows = DocumentWindows(store(tmp_path_factory.mktemp("s"), documents), context, END)
    batch = windows.batch(np.arange(len(windows)))
    assert batch.targets[batch.targets != IGNORE].tolist() == [t for d in documents for t in (*d, END)]
    found = [list(row[there]) for row, there in zip(batch.inputs, batch.targets != IGNORE, strict=True)]
    assert found == [piece for document in documents for piece in pieces(document, context)]
    assert (batch.inputs[batch.targets == IGNORE] == END).all()


def test_windows_come_with_the_neighbours_of_their_chunks(tmp_path: Path) -> None:
    text, library = store(tmp_path, [[1, 2, 3, 4, 5, 6], [7, 8]]), store(tmp_path, [[10, 11, 12], [20]], "b")
    volumes = Volumes([Chunks(library, 2, END)])  # (END 10) (11 12) | (END 20)
    numbers = np.array([[0, 2], [1, -1], [2, 0], [-1, -1], [2, 1], [0, -1]])
    samples = Neighboured(text, 4, END, NeighbourTable(numbers, np.zeros((6, 2), np.float32)), volumes, k=2)
    assert len(samples) == 3  # (END 1 2 3) (4 5 6) | (END 7 8)
    given_ = samples.batch(np.array([1, 2])).given
    tokens, present = given_["neighbours"], given_["neighbours_present"]
    assert tokens.shape == present.shape == (2, 2, 2, 4)
    assert tokens[0, 0].tolist() == [[END, 20, END, END], [END, 10, 11, 12]]  # chunk 2, (4 5)
    assert not present[0, 1].any()  # chunk 3, (6), has none
    assert tokens[1, 0].tolist() == [[END, 20, END, END], [11, 12, END, END]]  # chunk 4, (END 7)
    assert present[1, 1].tolist() == [[True] * 4, [False] * 4]  # chunk 5, (8)
    first = Neighboured(text, 4, END, NeighbourTable(numbers, np.zeros((6, 2), np.float32)), volumes, k=1)
    assert (first.batch(np.array([1, 2])).given["neighbours"] == tokens[:, :, :1]).all()


def test_chunks_behind_a_documents_end_have_no_neighbours(tmp_path: Path) -> None:
    """A short document's window is longer than it: the next document's chunks are not its own."""
    text = store(tmp_path, [[1], [2, 3, 4, 5, 6]])
    volumes = Volumes([Chunks(text, 2, END)])
    numbers = np.arange(4)[:, None]
    given_ = Neighboured(text, 4, END, NeighbourTable(numbers, numbers.astype(np.float32)), volumes, 1).batch(
        np.array([0])
    )
    assert given_.given["neighbours_present"][0, :, 0].any(-1).tolist() == [True, False]


def test_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    text = store(tmp_path, [[1, 2, 3]])
    volumes, zeros = Volumes([Chunks(text, 2, END)]), np.zeros((2, 1), np.float32)
    table = NeighbourTable(np.zeros((2, 1), np.int64), zeros)
    with pytest.raises(UsageError, match="a context of 5 is no multiple of the library's chunks of 2"):
        Neighboured(text, 5, END, table, volumes, 1)
    with pytest.raises(UsageError, match="k = 2 neighbours of 1 that are stored"):
        Neighboured(text, 4, END, table, volumes, 2)
    with pytest.raises(UsageError, match="neighbours of 3 chunks are not of this text, which has 2"):
        Neighboured(text, 4, END, NeighbourTable(np.zeros((3, 1), np.int64), np.zeros((3, 1), np.float32)), volumes, 1)
    with pytest.raises(UsageError, match="choose 1 to 4"):
        check_k(0, 4)


def test_a_model_may_be_given_the_neighbour_or_its_continuation_alone(tmp_path: Path) -> None:
    text = store(tmp_path, [[1, 2, 3, 4, 5, 6, 7]])
    volumes, table = (
        Volumes([Chunks(text, 2, END)]),
        NeighbourTable(np.array([[3], [2], [0], [1]]), np.zeros((4, 1), np.float32)),
    )
    seen = {
        reads: Neighboured(text, 8, END, table, volumes, 1, reads).batch(np.array([0])).given["neighbours_present"]
        for reads in ("both", "neighbour", "continuation")
    }
    assert seen["both"][0, :, 0].tolist() == [[True, True, False, False], *[[True] * 4] * 3]
    assert seen["neighbour"][0, :, 0].tolist() == [[True, True, False, False]] * 4
    assert seen["continuation"][0, :, 0].tolist() == [[False] * 4, *[[False, False, True, True]] * 3]
