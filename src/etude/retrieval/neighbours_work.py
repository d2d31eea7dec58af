"""The work of finding neighbours: every chunk of a text embedded and searched for in a library, block by block."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors.numpy import load_file, save_file

from etude.core.errors import UsageError
from etude.core.files import read_json, replacing, write_json
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.retrieval.database import Database
from etude.retrieval.duplicates import Duplicate, documents, near_duplicates
from etude.retrieval.embedders.base import LiveEmbedder
from etude.retrieval.exact import Found, Keys, exact, pieces
from etude.retrieval.index import ABOVE, AT_ONCE, Inverted, fewest_probes
from etude.retrieval.libraries import chunks_of, database_of, embedder_of
from etude.retrieval.lists import kept
from etude.retrieval.recipes import Library, Neighbours
from etude.retrieval.same_tokens import hash_of
from etude.retrieval.shown import EXAMPLES, written_out
from etude.text.chunks import Chunks, Volumes
from etude.text.data import TextData

SAMPLE = 1024
"""Chunks, spread evenly over the splits, by which it is chosen how many lists are looked through."""

LISTS, PROBES, DUPLICATES = "lists.safetensors", "probes.json", "duplicates.json"
"""What is kept in scratch beside the blocks, so that a work that goes on goes on with the same."""

NAMED = 5
"""Near-duplicates that the result names."""


@dataclass(frozen=True, eq=False)
class Split:
    """The chunks of one split that are looked for.

    Attributes:
        name: train, valid or test.
        chunks: all of them.
        whole: numbers of those that are complete. A shorter one ends its document, and nothing reads its neighbours.
        before: documents of the library before this text, where the split is one of its volumes; else None.
        first: chunks of the library before it, likewise.
    """

    name: str
    chunks: Chunks
    whole: Int[np.ndarray, " W"]
    before: int | None = None
    first: int | None = None

    def own(self, numbers: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Return the library's document that each chunk is of, -1 for none."""
        if self.before is None:
            return np.full(len(numbers), -1)
        return self.chunks.document[numbers] + self.before


@dataclass(frozen=True, eq=False)
class Search:
    """A library, opened to be searched for the chunks of a text."""

    keys: Keys
    embedder: LiveEmbedder
    index: Inverted | None
    k: int

    def of(self, split: Split, numbers: Int[np.ndarray, " n"]) -> Found:
        """Return the neighbours of chunks of a split."""
        queries, own = self.queries(split, numbers), split.own(numbers)
        if self.index is not None:
            return self.index.search(queries, self.k, own)
        return exact(self.keys, queries, self.k, own)

    def queries(self, split: Split, numbers: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """Return the keys of chunks: those that the library has already, or new ones."""
        return queries_of(self.keys, self.embedder, split, numbers)


def queries_of(
    keys: Keys, embedder: LiveEmbedder, split: Split, numbers: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n d"]:
    """Return what chunks are looked for by. Those of the library's own text have their keys already.

    Raises:
        UsageError: a number is not finite.
    """
    if split.first is not None:
        return keys.take(numbers + split.first)
    made = [embedder(*split.chunks.read(numbers[at])) for at in pieces(len(numbers), embedder.at_once)]
    found = np.concatenate([np.empty((0, keys.dimension), np.float32), *made])
    if not np.isfinite(found).all():
        raise UsageError("an embedding is not finite: the embedder's model has diverged; take another")
    return found


def neighbours(recipe: Neighbours, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Find the neighbours of each complete chunk of each split, `SPLIT.neighbours.npy` and `SPLIT.distances.npy`, and
    keep some in words in `examples.json`. Killed, it goes on from the block where it was.

    Raises:
        UsageError: the text has other tokens than the library, or what an option needs is not installed.
        DamagedError: a shard of the library is not what was written.
    """
    started = time.perf_counter()
    text, volumes = TextData.open(inputs[recipe.text]), chunks_of(recipe.of, inputs)
    database, embedder = _opened(recipe.of, inputs, text)
    doubles = _duplicates(recipe, text, volumes, run)
    keys = Keys([part for _, part in database.shards()], volumes.document, _banned(doubles, volumes))
    splits = [_split(name, text, volumes) for name in recipe.splits]
    index, measured = _index(recipe, keys, database.identity, embedder, splits, run)
    prepared = time.perf_counter()
    search = Search(keys, embedder, index, recipe.k)
    total, done, told, tables = sum(len(split.whole) for split in splits), 0, {}, {}
    for split in splits:
        for number, at in enumerate(pieces(len(split.whole), AT_ONCE)):
            _block(search, split, split.whole[at], run.scratch / f"{split.name}-{number:05}.safetensors")
            done += len(split.whole[at])
            run.progress(done, total, unit="chunks", note=split.name)
        tables[split.name] = _table(split, recipe.k, run)
        told[split.name] = _told(split, tables[split.name])
    write_json(run.path / EXAMPLES, written_out(splits, tables, volumes, text.tokenizer))
    notices = _notices(told, volumes, doubles)
    for notice in notices:
        run.say(notice)
    return {
        "k": recipe.k,
        "library": {"chunks": len(volumes), "documents": _documents(volumes), "identity": database.identity},
        "near_duplicates": {
            "documents": len(doubles),
            "chunks": int(keys.barred.sum()),
            "first": [asdict(double) for double in doubles[:NAMED]],
        },
        "index": measured,
        "splits": told,
        "notices": notices,
        "timing": {"prepare_seconds": prepared - started, "search_seconds": time.perf_counter() - prepared},
    }


def _opened(library: Library, inputs: Mapping[Recipe, Run], text: TextData) -> tuple[Database, LiveEmbedder]:
    """Return a library's keys, read through once, and its embedder."""
    database, embedder = database_of(library, inputs), embedder_of(library, inputs)
    if (found := hash_of(text.tokenizer)) != database.tokenizer:
        raise UsageError(
            f"the text has another tokenizer ({found[:12]}) than the library ({database.tokenizer[:12]}): make its"
            " tokens with --data.like the library's data"
        )
    if embedder.identity != database.fitted:
        raise UsageError(
            f"the library's keys are of another embedder ({database.fitted[:12]}) than the one at hand"
            f" ({embedder.identity[:12]}): make the library again"
        )
    database.verify()
    return database, embedder


def _documents(volumes: Volumes) -> int:
    return sum(len(part.first) - 1 for part in volumes.parts)


def _duplicates(recipe: Neighbours, text: TextData, volumes: Volumes, run: Draft) -> list[Duplicate]:
    """Return the library's documents that are nearly one of the validation or test split; `of` counts through both."""
    if not recipe.near_duplicates:
        return []
    path = run.scratch / DUPLICATES
    if not path.exists():
        end, count = text.tokenizer.end, _documents(volumes)
        found = near_duplicates(
            (tokens for part in volumes.parts for tokens in documents(part.store, part.end)),
            (tokens for name in ("valid", "test") for tokens in documents(text.store(name), end)),
            recipe.near_duplicates,
            lambda done: run.progress(done, count, unit="documents", note="near-duplicates"),
        )
        write_json(path, [asdict(double) for double in found])
    return [Duplicate(**double) for double in read_json(path)]


def _banned(doubles: list[Duplicate], volumes: Volumes) -> Bool[np.ndarray, " documents"]:
    banned = np.zeros(_documents(volumes), bool)
    banned[[double.document for double in doubles]] = True
    return banned


def _split(name: str, text: TextData, volumes: Volumes) -> Split:
    """Return a split. It is one of the library's volumes where it has the same tokens, whatever the recipes say."""
    chunks = Chunks(text.store(name), volumes.size, text.tokenizer.end)
    whole = np.flatnonzero(chunks.stops - chunks.starts >= chunks.size)
    before = 0
    for part, first in zip(volumes.parts, volumes.first.tolist(), strict=False):
        if part.store.sha256 == chunks.store.sha256:
            return Split(name, chunks, whole, before, first)
        before += len(part.first) - 1
    return Split(name, chunks, whole)


def _index(
    recipe: Neighbours, keys: Keys, identity: str, embedder: LiveEmbedder, splits: list[Split], run: Draft
) -> tuple[Inverted | None, dict[str, Any]]:
    """Return the lists to search and what is said of them; None, where the search is exact."""
    if recipe.index == "exact" or (recipe.index == "by-size" and len(keys) < ABOVE):
        return None, {"kind": "exact", "recall": 1.0}
    index = Inverted(keys, kept(run.scratch / LISTS, keys, identity, run.say), probes=1)
    path = run.scratch / PROBES
    if not path.exists():
        share = SAMPLE / max(1, sum(len(split.whole) for split in splits))
        chosen = [split.whole[_spread(len(split.whole), share)] for split in splits]
        queries = np.concatenate([queries_of(keys, embedder, *each) for each in zip(splits, chosen, strict=True)])
        own = np.concatenate([split.own(numbers) for split, numbers in zip(splits, chosen, strict=True)])
        write_json(
            path, dict(zip(("probes", "recall"), fewest_probes(index, queries, own, recipe.recall), strict=True))
        )
    measured = read_json(path)
    index.probes = measured["probes"]
    return index, {"kind": "ivf", "lists": len(index.lists.centroids), **measured}


def _spread(count: int, share: float) -> Int[np.ndarray, " n"]:
    """Return numbers spread evenly over the first `count`, about a share of them and at most all."""
    return np.linspace(0, count - 1, min(count, int(np.ceil(count * share)))).round().astype(np.int64)


def _block(search: Search, split: Split, numbers: Int[np.ndarray, " n"], path: Path) -> None:
    """Find the neighbours of some chunks, unless they are kept already."""
    if not path.exists():
        found = search.of(split, numbers)
        with replacing(path) as temporary:
            save_file({name: np.ascontiguousarray(part) for name, part in found._asdict().items()}, temporary)


def _table(split: Split, k: int, run: Draft) -> Found:
    """Put the blocks of a split together as files of the run, and return them, mapped."""
    shape = (len(split.chunks), k)
    places = [run.path / f"{split.name}.{what}.npy" for what in ("distances", "neighbours")]
    distances = np.lib.format.open_memmap(places[0], "w+", np.float32, shape)
    numbers = np.lib.format.open_memmap(places[1], "w+", np.int64, shape)
    distances[:], numbers[:] = np.inf, -1
    for number, at in enumerate(pieces(len(split.whole), AT_ONCE)):
        found = load_file(run.scratch / f"{split.name}-{number:05}.safetensors")
        distances[split.whole[at]], numbers[split.whole[at]] = found["distances"], found["numbers"]
    distances.flush()
    numbers.flush()
    return Found(distances, numbers)


def _told(split: Split, table: Found) -> dict[str, Any]:
    """Return what is said of a split: how many chunks came out short, and how far the nearest and the last are."""
    away, counts = table.distances[split.whole], (table.numbers[split.whole] >= 0).sum(1)
    k = table.numbers.shape[1]

    def mean(column: int) -> float | None:
        there = away[np.isfinite(away[:, column]), column]
        return float(there.mean(dtype=np.float64)) if len(there) else None

    return {
        "chunks": len(split.chunks),
        "whole": len(split.whole),
        "short": int((counts < k).sum()),
        "empty": int((counts == 0).sum()),
        "nearest": mean(0),
        "furthest": mean(k - 1),
    }


def _notices(told: Mapping[str, Mapping[str, Any]], volumes: Volumes, doubles: list[Duplicate]) -> list[str]:
    """Return what a person should know of what was not found."""
    found, held = [], _documents(volumes)
    if doubles:
        those = "one document is" if len(doubles) == 1 else f"{len(doubles)} documents are"
        found.append(
            f"{those} nearly in the validation or test split, and left out of the {held} of the library: "
            + ", ".join(str(double.document) for double in doubles[:NAMED])
            + (", ..." if len(doubles) > NAMED else "")
        )
    for name, split in told.items():
        if not split["whole"]:
            found.append(f"{name}: no document has a whole chunk of {volumes.size} tokens, so that none has neighbours")
        elif split["empty"] == split["whole"]:
            found.append(
                f"{name}: no chunk has a neighbour: none of the library's documents ({held}) is left that is neither"
                " its own nor a near-duplicate; give the library more"
            )
        elif split["short"]:
            found.append(
                f"{name}: {split['short']} of {split['whole']} chunks have fewer neighbours than were asked for"
            )
    return found
