"""Inverted file search on disk: a Lance dataset of the keys, each shard a fragment, whose index `IVF_FLAT` has segments
of several fragments. Fragments and segments are made each by itself, here or on any machine that sees the folder.

The centroids are those of `lists`, the same in every segment, so that it does not matter how many segments there are.
Everything is a cache of the shards, which may be removed at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from etude.core.errors import DamagedError, UsageError
from etude.core.files import read_json, sha256_of, write_json
from etude.retrieval import lists
from etude.retrieval.exact import ROUNDING, SPARE, Found, Keys, checked, completed, in_order, joined, padded, pieces
from etude.retrieval.over_ray import Part

AT_ONCE = 4096
"""Queries that are asked together."""

IN_SEGMENT = 32
"""Shards of a segment, as long as there are not too many segments."""

SEGMENTS = 64
"""Most segments: each query looks into all of them, and few large ones are searched up to twice as fast as many."""

VERSION = 1
"""Of how the index is made. What another version kept is made again."""

DATA, CENTROIDS, STAMP = "keys.lance", "centroids.npy", "stamp.json"
"""In the folder of an index: the dataset, its centroids, and what says that it is whole, written last."""

KEY, INDEX = "key", "lists"
"""The column of keys, and the name of its index."""

Each = Callable[[list[Part]], Iterable[Part]]
"""Makes parts of an index by `make`, here or elsewhere, in any order."""


class OnDisk:
    """Keys in lists on disk, to be searched.

    A query's own document and the banned ones are passed over behind Lance, which is asked for more than is wanted, and
    again for those of which too few are left: with a filter of its own it takes queries only one by one.

    Args:
        keys: what is searched.
        folder: of the index.
        probes: lists that each query looks through.
    """

    def __init__(self, keys: Keys, folder: Path, probes: int = 1) -> None:
        self.keys, self.probes = keys, probes
        self._data = _lance().dataset(str(folder / DATA))
        self._lists = len(np.load(folder / CENTROIDS, mmap_mode="r"))

    @property
    def most(self) -> int:
        """How many lists there are."""
        return self._lists

    def search(self, queries: Float[np.ndarray, "Q d"], k: int, own: Int[np.ndarray, " Q"] | None = None) -> Found:
        """Return nearly the k nearest keys of each query, as `Approximate.search` does."""
        own = checked(self.keys, queries, k, own)
        parts = [self._nearest(queries[at], k, own[at], k + SPARE) for at in pieces(len(queries), AT_ONCE)]
        return completed(joined(parts, k), self.keys, queries, own)

    def _nearest(self, queries: Float[np.ndarray, "Q d"], k: int, own: Int[np.ndarray, " Q"], fetch: int) -> Found:
        """Fetch keys, leave out those that may not be found, and fetch twice as many for the queries of which more
        could be as near as the last."""
        numbers, behind = self._fetched(queries, fetch)
        numbers[self.keys.barred[numbers] | (self.keys.document[numbers] == own[:, None])] = -1
        found = padded(in_order(self.keys, queries, numbers, k), k)
        doubt = 1 + 4 * self.keys.dimension * ROUNDING  # Lance sums the squares in another order
        unsure = np.flatnonzero(np.isfinite(behind) & (found.distances[:, -1] * doubt >= behind))
        if len(unsure) and fetch < len(self.keys):
            again = self._nearest(queries[unsure], k, own[unsure], min(2 * fetch, len(self.keys)))
            found.distances[unsure], found.numbers[unsure] = again
        return found

    def _fetched(
        self, queries: Float[np.ndarray, "Q d"], fetch: int
    ) -> tuple[Int[np.ndarray, "Q n"], Float[np.ndarray, " Q"]]:
        """Return the numbers of the nearest keys, -1 where the lists hold fewer, and the distance behind which nothing
        was fetched, infinite where all was."""
        nearest = {"column": KEY, "q": queries, "k": fetch, "nprobes": self.probes}
        found = self._data.scanner(columns=["_distance"], nearest=nearest, with_row_id=True).to_table()
        of, row = (found[name].to_numpy().astype(np.int64) for name in ("query_index", "_rowid"))
        order = np.argsort(of, kind="stable")  # within a query, nearest first as they come
        of, row, away = of[order], row[order], found["_distance"].to_numpy()[order]
        counts = np.bincount(of, minlength=len(queries))
        at = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
        numbers = np.full((len(queries), fetch), -1)
        numbers[of, at] = self.keys.first[row >> 32] + (row & 0xFFFFFFFF)
        behind = np.full(len(queries), np.inf, np.float32)
        behind[of[at == fetch - 1]] = away[at == fetch - 1]
        return numbers, behind


def lists_for(keys: int) -> int:
    """Return how many lists so many keys are put in: the power of two nearest to twice their root, as long as a list
    has enough of them. They are fewer and longer than those in memory, since each that is looked through is read by
    itself, once for each segment."""
    return max(1, min(2 ** round(np.log2(2 * keys**0.5)), keys // lists.LEAST_IN_LIST))


def kept(folder: Path, keys: Keys, identity: str, each: Each, say: Callable[[str], None] = lambda text: None) -> OnDisk:
    """Return the index that a folder keeps, or make it and keep it there. The folder may be removed at any time.

    Args:
        folder: where it is kept.
        keys: what is searched.
        identity: hash of the keys (`Database.identity`).
        each: makes parts of it.
        say: told where something was there and could not be trusted.

    Raises:
        UsageError: pylance or faiss is not installed.
    """
    lance = _lance()
    of = hashlib.sha256(f"{VERSION} {lists.VERSION} {lists_for(len(keys))} {identity}".encode()).hexdigest()
    if folder.exists():
        if _is_whole(folder, of):
            return OnDisk(keys, folder)
        if (folder / STAMP).exists():  # else a kill left it half made
            say(f"the index {folder.name} is damaged, or of other keys: it is made again")
        shutil.rmtree(folder)
    folder.mkdir()
    np.save(folder / CENTROIDS, lists.placed(keys, lists_for(len(keys))))
    made = sorted(each([{"fragment": n} for n in range(len(keys.parts))]), key=lambda part: part["fragment"])
    fragments = [part["made"] for part in made]
    uri = str(folder / DATA)
    lance.LanceDataset.commit(uri, lance.LanceOperation.Overwrite(_schema(keys), fragments))
    made = sorted(each(_segments(len(fragments))), key=lambda part: part["segment"])
    lance.dataset(uri).commit_existing_index_segments(INDEX, KEY, [part["made"] for part in made])
    write_json(folder / STAMP, {"of": of, "files": _files(folder)})
    return OnDisk(keys, folder)


def make(keys: Keys, folder: Path, part: Part) -> Part:
    """Make a part of an index: a fragment of the dataset, or, of a dataset that is committed, a segment of its index.

    Args:
        keys: what is searched.
        folder: of the index.
        part: which one.
    """
    made = _segment(folder, **part) if "segment" in part else _fragment(keys, folder, **part)
    return {**part, "made": made}


def _fragment(keys: Keys, folder: Path, fragment: int) -> Any:
    """Write a shard as a fragment, and return what Lance needs to know of it."""
    import pyarrow as pa

    _lance()
    from lance.fragment import write_fragments

    numbers = np.arange(keys.first[fragment], keys.first[fragment + 1])
    flat = pa.array(np.ascontiguousarray(keys.parts[fragment]).reshape(-1))
    columns = [pa.FixedSizeListArray.from_arrays(flat, keys.dimension), keys.document[numbers], numbers]
    table = pa.table(columns, schema=_schema(keys))
    (found,) = write_fragments(table, str(folder / DATA), schema=table.schema, max_rows_per_file=max(1, len(table)))
    return found


def _segment(folder: Path, segment: int, first: int, stop: int) -> Any:
    """Put the keys of some fragments in lists, and return what Lance needs to know of these."""
    centroids = np.load(folder / CENTROIDS)
    return (
        _lance()
        .dataset(str(folder / DATA))
        .create_index_uncommitted(
            KEY,
            "IVF_FLAT",
            name=INDEX,
            metric="L2",
            num_partitions=len(centroids),
            ivf_centroids=centroids,
            fragment_ids=list(range(first, stop)),
        )
    )


def _segments(fragments: int) -> list[Part]:
    """Return the segments of so many fragments."""
    size = max(IN_SEGMENT, -(-fragments // SEGMENTS))
    return [
        {"segment": n, "first": first, "stop": min(first + size, fragments)}
        for n, first in enumerate(range(0, fragments, size))
    ]


def _schema(keys: Keys) -> Any:
    import pyarrow as pa

    return pa.schema([(KEY, pa.list_(pa.float32(), keys.dimension)), ("document", pa.int64()), ("chunk", pa.int64())])


def _files(folder: Path) -> dict[str, str]:
    """Return the hash of every file of an index, the stamp excepted."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / STAMP]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}


def _is_whole(folder: Path, of: str) -> bool:
    """Return whether a folder keeps an index of these keys, and all of it as it was written."""
    try:
        said = read_json(folder / STAMP)
    except DamagedError:
        return False
    return isinstance(said, dict) and said.get("of") == of and said.get("files") == _files(folder)


def _lance() -> Any:
    """Return Lance, which says nothing by itself, with as many threads as PyTorch has.

    Raises:
        UsageError: it is not installed.
    """
    os.environ.setdefault("LANCE_LOG", "error")  # of every list that is empty in a segment, else
    os.environ.setdefault("LANCE_CPU_THREADS", str(torch.get_num_threads()))
    try:
        import lance
    except ImportError:
        raise UsageError("--index lance needs pylance: pip install 'etude[lance]', or use --index ivf") from None
    return lance
