"""The work of finding neighbours: every chunk of a text embedded and searched for in a library, block by block."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from etude.core.engines.arrival import require_shown
from etude.core.files import replacing, write_json
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.retrieval import lance_index
from etude.retrieval.approximate import Approximate
from etude.retrieval.duplicates import Duplicate
from etude.retrieval.exact import Found, pieces
from etude.retrieval.index import AT_ONCE
from etude.retrieval.lance_index import Each
from etude.retrieval.over_ray import Part, joined_for, over_ray, reachable
from etude.retrieval.prepared import (
    LANCE,
    Kind,
    Opened,
    Search,
    Split,
    documents_in,
    kept_index,
    kind_of,
    made_index,
    opened,
)
from etude.retrieval.recipes import Neighbours
from etude.retrieval.shown import EXAMPLES, written_out
from etude.text.chunks import Volumes

NAMED = 5
"""Near-duplicates that the result names."""


def neighbours(recipe: Neighbours, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Find the neighbours of each complete chunk of each split, `SPLIT.neighbours.npy` and `SPLIT.distances.npy`, and
    keep some in words in `examples.json`. Killed, it goes on from the block where it was.

    Raises:
        UsageError: the text has other tokens than the library, or what an option needs is not installed.
        DamagedError: a shard of the library is not what was written.
    """
    started = time.perf_counter()
    found = opened(recipe, inputs, run.scratch, partial(run.progress, unit="documents", note="near-duplicates"))
    volumes, keys, splits, kind = found.volumes, found.keys, found.splits, kind_of(recipe, found)
    maker = Maker(found, kind, recipe.k, run.scratch)
    arguments = (recipe, reachable(inputs), kind, run.scratch.absolute())
    each = partial(map, maker) if recipe.through == "here" else partial(over_ray, run.scratch, elsewhere, arguments)
    with nullcontext() if recipe.through == "here" else joined_for(torch.get_num_threads()):
        maker.index, measured = made_index(recipe, found, kind, run.scratch, partial(_told_each, each, run), run.say)
        prepared = time.perf_counter()
        _search(splits, each, run)
    tables = {split.name: _table(split, recipe.k, run) for split in splits}
    told = {split.name: _told(split, tables[split.name]) for split in splits}
    write_json(run.path / EXAMPLES, written_out(splits, tables, volumes, found.text.tokenizer))
    notices = _notices(told, volumes, found.doubles)
    for notice in notices:
        run.say(notice)
    return {
        "k": recipe.k,
        "library": {"chunks": len(volumes), "documents": documents_in(volumes), "identity": found.database.identity},
        "near_duplicates": {
            "documents": len(found.doubles),
            "chunks": int(keys.barred.sum()),
            "first": [asdict(double) for double in found.doubles[:NAMED]],
        },
        "index": measured,
        "splits": told,
        "notices": notices,
        "timing": {"prepare_seconds": prepared - started, "search_seconds": time.perf_counter() - prepared},
    }


class Maker:
    """Makes parts of the work, each by itself: those of an index on disk, and blocks of neighbours.

    Args:
        found: what the recipe names, opened.
        kind: how it is searched.
        k: neighbours of each chunk.
        scratch: where index and blocks are kept.

    Attributes:
        index: what is searched; none before there is one, and where the search is exact.
    """

    def __init__(self, found: Opened, kind: Kind, k: int, scratch: Path) -> None:
        self.found, self.k, self.scratch = found, k, scratch
        self.kind: Kind = kind
        self.index: Approximate | None = None

    def __call__(self, part: Part) -> Part:
        """Make a part."""
        if "split" not in part:
            return lance_index.make(self.found.keys, self.scratch / LANCE, part)
        if self.kind != "exact" and self.index is None:  # in a worker, where another made it
            self.index = kept_index(self.found, self.kind, self.scratch)
        (split,) = (split for split in self.found.splits if split.name == part["split"])
        search = Search(self.found.keys, self.found.embedder, self.index, self.k)
        found = search.of(split, split.whole[part["start"] : part["stop"]])
        with replacing(_block(part, self.scratch)) as temporary:
            save_file({name: np.ascontiguousarray(values) for name, values in found._asdict().items()}, temporary)
        return part


def elsewhere(recipe: Neighbours, inputs: Mapping[Recipe, Run], kind: Kind, scratch: Path) -> Maker:
    """Return what makes parts on a machine of a cluster, from the folder where the work was started."""
    return Maker(opened(recipe, inputs, scratch, verify=False), kind, recipe.k, scratch)


def _told_each(each: Each, run: Draft, parts: list[Part]) -> Iterator[Part]:
    """Yield the parts of an index as they are made, and say how far that is."""
    for done, made in enumerate(each(parts), 1):
        run.progress(done, len(parts), unit="parts", note="index")
        yield made


def _search(splits: Sequence[Split], each: Each, run: Draft) -> None:
    """Find the neighbours of all chunks, in blocks of which each is kept, those excepted that are kept already."""
    parts = [part for split in splits for part in _parts(split)]
    missing = [part for part in parts if not _block(part, run.scratch).exists()]
    total = sum(len(split.whole) for split in splits)
    done = total - sum(part["stop"] - part["start"] for part in missing)
    for part in each(missing):
        require_shown(_block(part, run.scratch))
        done += part["stop"] - part["start"]
        run.progress(done, total, unit="chunks", note=part["split"])


def _parts(split: Split) -> list[Part]:
    """Return the blocks of a split."""
    count = len(split.whole)
    return [
        {"split": split.name, "number": number, "start": at.start, "stop": min(at.stop, count)}
        for number, at in enumerate(pieces(count, AT_ONCE))
    ]


def _block(part: Part, scratch: Path) -> Path:
    return scratch / f"{part['split']}-{part['number']:05}.safetensors"


def _table(split: Split, k: int, run: Draft) -> Found:
    """Put the blocks of a split together as files of the run, and return them, mapped."""
    shape = (len(split.chunks), k)
    places = [run.path / f"{split.name}.{what}.npy" for what in ("distances", "neighbours")]
    distances = np.lib.format.open_memmap(places[0], "w+", np.float32, shape)
    numbers = np.lib.format.open_memmap(places[1], "w+", np.int64, shape)
    distances[:], numbers[:] = np.inf, -1
    for part in _parts(split):
        found, at = load_file(_block(part, run.scratch)), split.whole[part["start"] : part["stop"]]
        distances[at], numbers[at] = found["distances"], found["numbers"]
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
    found, held = [], documents_in(volumes)
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
