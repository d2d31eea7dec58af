"""What a search for the neighbours of a text is made ready with: the library opened, the documents that nobody finds,
and an index. What takes long to make is kept in a folder, so that whoever goes on, here or on another machine, goes on
with the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from etude.core.errors import UsageError
from etude.core.files import read_json, write_json
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.retrieval import lance_index, lists
from etude.retrieval.approximate import Approximate
from etude.retrieval.database import Database
from etude.retrieval.duplicates import Duplicate, documents, near_duplicates
from etude.retrieval.embedders.base import LiveEmbedder
from etude.retrieval.exact import Found, Keys, exact, pieces
from etude.retrieval.index import ABOVE, Inverted, fewest_probes
from etude.retrieval.lance_index import Each
from etude.retrieval.libraries import chunks_of, database_of, embedder_of
from etude.retrieval.recipes import Library, Neighbours
from etude.retrieval.same_tokens import hash_of
from etude.text.chunks import Chunks, Volumes
from etude.text.data import TextData

SAMPLE = 1024
"""Chunks, spread evenly over the splits, by which it is chosen how many lists are looked through."""

LISTS, LANCE, PROBES, DUPLICATES = "lists.safetensors", "lance", "probes.json", "duplicates.json"
"""What is kept."""

Kind = Literal["exact", "ivf", "lance"]
"""Of a search: with every key, with lists in memory, or with lists on disk."""


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
    index: Approximate | None
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


@dataclass(frozen=True, eq=False)
class Opened:
    """A library and the text whose chunks are looked for in it.

    Attributes:
        text: the text.
        volumes: the library's chunks.
        database: its keys.
        embedder: what made them.
        doubles: documents of the library that nobody finds.
        keys: the same keys, to be searched.
        splits: those that are asked for.
    """

    text: TextData
    volumes: Volumes
    database: Database
    embedder: LiveEmbedder
    doubles: list[Duplicate]
    keys: Keys
    splits: list[Split]

    @property
    def documents(self) -> int:
        """How many the library has."""
        return documents_in(self.volumes)


def opened(
    recipe: Neighbours,
    inputs: Mapping[Recipe, Run],
    scratch: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    verify: bool = True,
) -> Opened:
    """Open what a recipe names. The near-duplicates are kept in `scratch`.

    Args:
        recipe: what is looked for in what.
        inputs: the runs that the recipe needs.
        scratch: see above.
        progress: called with documents compared and in all.
        verify: read the keys through.

    Raises:
        UsageError: the text has other tokens than the library, or what an option needs is not installed.
        DamagedError: a file is not what was written.
    """
    text, volumes = TextData.open(inputs[recipe.text]), chunks_of(recipe.of, inputs)
    database, embedder = _library(recipe.of, inputs, text)
    if verify:
        database.verify()
    doubles = _duplicates(recipe, text, volumes, scratch / DUPLICATES, progress)
    keys = Keys([part for _, part in database.shards()], volumes.document, _banned(doubles, volumes))
    splits = [_split(name, text, volumes) for name in recipe.splits]
    return Opened(text, volumes, database, embedder, doubles, keys, splits)


def documents_in(volumes: Volumes) -> int:
    """Return how many documents a library has."""
    return sum(len(part.first) - 1 for part in volumes.parts)


def kind_of(recipe: Neighbours, opened: Opened) -> Kind:
    """Return how the library is searched."""
    by_size: Kind = "ivf" if len(opened.keys) >= ABOVE else "exact"
    return by_size if recipe.index == "by-size" else recipe.index


def made_index(
    recipe: Neighbours, opened: Opened, kind: Kind, scratch: Path, each: Each, say: Callable[[str], None]
) -> tuple[Approximate | None, dict[str, Any]]:
    """Return the index to search and what is said of it; None, where the search is exact. Both are kept.

    Args:
        recipe: what is looked for in what.
        opened: the same, opened.
        kind: what `kind_of` returned.
        scratch: where index and number of lists are kept.
        each: makes the parts of an index on disk.
        say: told where what was kept could not be trusted.
    """
    if kind == "exact":
        return None, {"kind": "exact", "recall": 1.0}
    keys, identity = opened.keys, opened.database.identity
    if kind == "lance":
        index: Approximate = lance_index.kept(scratch / LANCE, keys, identity, each, say)
    else:
        index = Inverted(keys, lists.kept(scratch / LISTS, keys, identity, say), probes=1)
    path = scratch / PROBES
    if not path.exists():
        found = fewest_probes(index, *_sample(opened), recipe.recall)
        write_json(path, dict(zip(("probes", "recall"), found, strict=True)))
    measured = read_json(path)
    index.probes = measured["probes"]
    return index, {"kind": kind, "lists": index.most, **measured}


def kept_index(opened: Opened, kind: Kind, scratch: Path) -> Approximate | None:
    """Return the index that `made_index` made, taking an index on disk to be as it was."""
    if kind == "exact":
        return None
    probes = read_json(scratch / PROBES)["probes"]
    if kind == "lance":
        return lance_index.OnDisk(opened.keys, scratch / LANCE, probes)
    return Inverted(opened.keys, lists.kept(scratch / LISTS, opened.keys, opened.database.identity), probes)


def _library(library: Library, inputs: Mapping[Recipe, Run], text: TextData) -> tuple[Database, LiveEmbedder]:
    """Return a library's keys and its embedder."""
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
    return database, embedder


def _duplicates(
    recipe: Neighbours, text: TextData, volumes: Volumes, path: Path, progress: Callable[[int, int], None]
) -> list[Duplicate]:
    """Return the library's documents that are nearly one of the validation or test split; `of` counts through both."""
    if not recipe.near_duplicates:
        return []
    if not path.exists():
        end, count = text.tokenizer.end, documents_in(volumes)
        found = near_duplicates(
            (tokens for part in volumes.parts for tokens in documents(part.store, part.end)),
            (tokens for name in ("valid", "test") for tokens in documents(text.store(name), end)),
            recipe.near_duplicates,
            lambda done: progress(done, count),
        )
        write_json(path, [asdict(double) for double in found])
    return [Duplicate(**double) for double in read_json(path)]


def _banned(doubles: list[Duplicate], volumes: Volumes) -> Bool[np.ndarray, " documents"]:
    banned = np.zeros(documents_in(volumes), bool)
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


def _sample(opened: Opened) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
    """Return some of what is looked for, and the documents of the library that it is of."""
    splits = opened.splits
    share = SAMPLE / max(1, sum(len(split.whole) for split in splits))
    chosen = [(split, split.whole[_spread(len(split.whole), share)]) for split in splits]
    queries = [queries_of(opened.keys, opened.embedder, split, numbers) for split, numbers in chosen]
    return np.concatenate(queries), np.concatenate([split.own(numbers) for split, numbers in chosen])


def _spread(count: int, share: float) -> Int[np.ndarray, " n"]:
    """Return numbers spread evenly over the first `count`, about a share of them and at most all."""
    return np.linspace(0, count - 1, min(count, int(np.ceil(count * share)))).round().astype(np.int64)
