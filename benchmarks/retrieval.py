"""Searching a library: inverted lists against exact search, and what it costs to leave the own document out.

The keys are those of 200,000 overlapping chunks of real text, 64 byte-pair tokens every 8 within WikiText-2's articles,
as `tfidf` with 384 dimensions embeds them. A greater stride is harder: at 17 the ten nearest are no longer all chunks
that overlap, and others are nearly equally far in so many dimensions. Queries are keys spread evenly over the library,
as many at once as the neighbours of a corpus are found in. Throughput is in queries a second, as ratios: the sides take
turns on the same number of threads, and the median of the rounds is printed with the least and the most, elapsed and in
the processor's time of this process, which a busy machine disturbs less. Recall is of the ten nearest, on 1,024
queries, and the fewest lists that reach it are looked through.

    PYTHONPATH=src python benchmarks/retrieval.py WIKITEXT-2 [--rounds 7] [--threads 1] [--keys 200000] [--stride 8]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from etude.core.lab import Lab
from etude.core.machine import keep_freed_memory
from etude.retrieval.embedders._latent import Latent, fitted
from etude.retrieval.exact import AT_ONCE as EXACTLY
from etude.retrieval.exact import Keys, exact
from etude.retrieval.index import AT_ONCE, Inverted, fewest_probes
from etude.retrieval.lists import made
from etude.text.chunks import Chunks
from etude.text.corpora.wikitext import Wikitext
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair

CHUNK, DIMENSION, K = 64, 384, 10


def keys_of(folder: Path, count: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return keys [C d] of overlapping chunks, and the document of each."""
    with tempfile.TemporaryDirectory() as runs:
        text = TextData.open(Lab(runs, quiet=True).run(Tokens(Wikitext(path=str(folder)), BytePair())))
        store, end = text.store("train"), text.tokenizer.end
        embed = Latent(fitted(Chunks(store, CHUNK, end), DIMENSION, 16_384))
        bounds = store.documents.astype(np.int64)
        starts = [np.arange(low, max(low + 1, high - CHUNK), stride) for low, high in pairwise(bounds)]
        document = np.repeat(np.arange(len(starts)), [len(each) for each in starts])[:count]
        at = np.concatenate(starts)[:count, None] + np.arange(CHUNK)
        tokens, present = store.tokens[np.minimum(at, store.count - 1)].astype(np.int64), np.ones_like(at, bool)
        return np.concatenate(
            [embed(tokens[n : n + 1024], present[n : n + 1024]) for n in range(0, len(at), 1024)]
        ), document


def seconds(task: Callable[[], object]) -> np.ndarray:
    """Return how long a call takes, elapsed and of the processor."""
    start = np.array([time.perf_counter(), time.process_time()])
    task()
    return np.array([time.perf_counter(), time.process_time()]) - start


def told(name: str, ratios: list[np.ndarray]) -> None:
    for kind, each in zip(("elapsed", "processor"), np.array(ratios).T, strict=True):
        middle, low, high = statistics.median(each), min(each), max(each)
        print(f"  {name:36} {kind:9} {middle:6.2f}  ({low:.2f} to {high:.2f}, n = {len(each)})")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--keys", type=int, default=200_000)
    asked.add_argument("--stride", type=int, default=8)
    given = asked.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()

    held, document = keys_of(given.folder, given.keys, given.stride)
    keys = Keys([held], document)
    spread = np.linspace(0, len(keys) - 1, min(AT_ONCE, len(keys))).round().astype(np.int64)
    queries, own = held[spread], document[spread]
    few, mine = queries[:: len(queries) // EXACTLY or 1], own[:: len(own) // EXACTLY or 1]
    sample = queries[:: max(1, len(queries) // 1024)]
    search = Inverted(keys, made(keys), probes=1)
    print(f"{len(keys):,} keys of {keys.dimension}, {len(search.lists.centroids)} lists, every {given.stride} tokens")
    probes = {wanted: fewest_probes(search, sample, None, wanted) for wanted in (0.93, 0.98)}

    def lists(wanted: float, apart: bool) -> np.ndarray:
        search.probes = probes[wanted][0]
        return seconds(lambda: search.search(queries, K, own if apart else None)) / len(queries)

    faster: dict[float, list[np.ndarray]] = {wanted: [] for wanted in probes}
    slower: dict[str, list[np.ndarray]] = {name: [] for name in ("exact", *map(str, probes))}
    for _ in range(given.rounds):
        whole = seconds(lambda: exact(keys, few, K)) / len(few)
        slower["exact"].append(seconds(lambda: exact(keys, few, K, mine)) / len(few) / whole)
        for wanted in probes:
            each = lists(wanted, apart=False)
            faster[wanted].append(whole / each)
            slower[str(wanted)].append(lists(wanted, apart=True) / each)
    print("throughput over that of exact search")
    for wanted, (number, share) in probes.items():
        told(f"recall {share:.4f} (wanted {wanted}), {number} lists", faster[wanted])
    print("time with the own document left out, over time with it")
    for name, ratios in slower.items():
        told(name if name == "exact" else f"lists, recall {name}", ratios)


if __name__ == "__main__":
    main()
