"""What Ray Data costs a library's build: seconds of the same build in this process and through a Ray of this machine.

The library is made of hidden states, of a model of 4 layers and width 128 that took one step, with one thread. The
sides alternate: this process; Ray with one worker, which says what Ray itself takes; Ray with two. The time is that of
embedding alone, as the run tells it, in which Ray starts, its workers open what they need, and Ray ends. The keys of
all sides are compared. A Ray of two nodes on loopback is started for each round.

    python benchmarks/retrieval_over_ray.py [--rounds 3] [--chunk 32]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")

from etude.core.lab import Lab
from etude.core.run import Run
from etude.models.architectures.decoder import Decoder
from etude.retrieval.embedders.hidden import Hidden
from etude.retrieval.library_recipes import Library
from etude.retrieval.manifest import SHARD
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.train.recipes import Train

TEXT = Tokens(Fable(stories=3000))
MODEL = Decoder(layers=4, width=128, heads=4, feedforward=512, context=128)
TRAIN = Train(data=TEXT, model=MODEL, steps=1, batch=1, evaluate_tokens=256, precision="fp32")


@contextmanager
def cluster(workers: int) -> Iterator[None]:
    """Run a Ray on loopback, a node for each worker, and name it in the environment."""
    from ray.cluster_utils import Cluster

    one: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**one, "include_dashboard": False})
    for _ in range(workers - 1):
        made.add_node(**one)
    os.environ["RAY_ADDRESS"] = str(made.address)
    try:
        yield
    finally:
        made.shutdown()


def shards(run: Run) -> dict[str, str]:
    """Return the hashes of a library's keys."""
    return {name: told["sha256"] for name, told in run.files.items() if name.startswith("keys-")}


def main() -> None:
    parser = argparse.ArgumentParser(description="What Ray Data costs a library's build.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=32)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(folder, threads=1, quiet=True)
        library = Library(TEXT, asked.chunk, Hidden(TRAIN))
        lab.run_all([TEXT, TRAIN])
        took: dict[int, list[float]] = {0: [], 1: [], 2: []}
        found = []
        for _ in range(asked.rounds):
            for workers, times in took.items():
                if workers:
                    with cluster(workers):
                        run = lab.run(dataclasses.replace(library, through="ray"))
                else:
                    run = lab.run(library)
                times.append(run.result["timing"]["embed_seconds"])
                found.append(shards(run))
                run.path.rename(Path(folder) / f"aside-{len(found)}")
                print(f"workers {workers}: {times[-1]:.1f} s", flush=True)
        print(
            f"{len(found[0])} shards of up to {SHARD:,} chunks; keys equal: {all(each == found[0] for each in found)}"
        )
        for workers, times in took.items():
            where = f"Ray, {workers} worker(s)" if workers else "this process"
            print(f"{where:<18} {statistics.median(times):6.1f} s ({min(times):.1f} to {max(times):.1f})")


if __name__ == "__main__":
    main()
