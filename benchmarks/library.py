"""Building a library: chunks a second of `build`, as a share of those of the bare embedder.

`build` reads the chunks from the token store, embeds them, writes and hashes the shards and keeps the manifest. It is
compared with the embedder given the same batches from memory, and nothing else. The sides alternate and each round
gives one ratio, of wall time, since a thread writes while the next shard is embedded, and of the processor's time of
this process, which a busy machine disturbs less; the medians are printed with the least and the most. The text is the
corpus pylib in its own byte pairs; the model is drawn, of 4 layers and width 128. One thread beside the one that
writes. The bar is 90%.

    python benchmarks/library.py [--rounds 7] [--embedders tfidf hidden]

21 November 2026, a 2-core machine with 3 to 5 processes that wanted a core: hidden 0.99 (wall) and 0.98 (processor) at
690 chunks/s; tfidf 0.71 to 0.75 (wall) and 0.74 (processor) at 135,000 chunks/s, so that its bar is missed where no
core is free. Of a shard of 8,192 that tfidf takes 41 ms for, reading takes 2.5 ms, hashing 2.4 and writing 1.3 to 3.
22 November, 4,096 chunks at once: see `retrieval.md`.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from etude.core.lab import Lab
from etude.core.machine import keep_freed_memory
from etude.models.architectures.decoder import Decoder
from etude.retrieval.building import build, planned
from etude.retrieval.embedders._averaged import HiddenStates
from etude.retrieval.embedders._latent import Latent, fitted
from etude.retrieval.embedders.base import LiveEmbedder
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.manifest import SHARD
from etude.text.chunks import Chunks
from etude.text.data import TextData
from etude.text.recipes import Tokens

CHUNK, BAR = 64, 0.9
MODEL = Decoder(layers=4, width=128, heads=4, feedforward=512, context=128)
SHARDS = {"tfidf": 6, "hidden": 1}


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the wall time and the processor's time of a call."""
    wall, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - busy


def measure(name: str, chunks: Chunks, embedder: LiveEmbedder, shards: int, rounds: int) -> None:
    """Print the ratios of one embedder."""
    count = min(len(chunks), shards * SHARD)
    starts = range(0, count, embedder.at_once)
    batches = [chunks.read(np.arange(at, min(at + embedder.at_once, count))) for at in starts]
    plan = planned(chunks, embedder, Tfidf(), tokenizer="")
    plan = dataclasses.replace(plan, chunks=count, shards=(None,) * -(-count // SHARD))

    def bare() -> None:
        for batch in batches:
            embedder(*batch)

    pairs = []
    bare()  # what the first call alone pays
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            whole = partial(build, Path(folder), chunks, embedder, plan)
            pairs.append((seconds(bare), seconds(whole)))
    for kind, at in (("wall", 0), ("processor", 1)):
        ratios = sorted(one[at] / other[at] for one, other in pairs)
        rate = count / statistics.median(other[at] for _, other in pairs)
        middle = statistics.median(ratios)
        met = "met" if middle >= BAR else "missed"
        print(
            f"{name:<6} {kind:<9} {middle:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) of the bare embedder,"
            f" {rate:,.0f} chunks/s; the bar of {BAR:.0%} is {met}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Chunks a second of a library's build.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--embedders", nargs="+", choices=SHARDS, default=list(SHARDS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        text = TextData.open(Lab(folder, threads=1, quiet=True).run(Tokens()))
        chunks = Chunks(text.store("train"), CHUNK, text.tokenizer.end)
        print(f"{len(chunks):,} chunks of {CHUNK} tokens, {len(chunks.first) - 1:,} documents")
        embedders = {
            "tfidf": Latent(fitted(chunks, 128, 8192)),
            "hidden": HiddenStates(MODEL.build(text.vocabulary).eval(), MODEL.layers - 1, "drawn"),
        }
        for name in asked.embedders:
            measure(name, chunks, embedders[name], SHARDS[name], asked.rounds)


if __name__ == "__main__":
    main()
