"""Two ranks of one thread each against one rank of one thread, on the same batch: the ratio of the times of a step.

    python benchmarks/ranks.py

Both sides go through the Trainer, in one start of torchrun: in each round the first rank takes steps alone while the
second waits in an exchange, which costs no processor time, and then both take steps together (DDP on gloo). Printed are
the median ratio and its extremes; 2 is perfect. The machine needs two cores that nobody else uses.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np

from etude.text.batches import Batch

ROUNDS = 7
STEPS = 1
WIDTH, LAYERS, CONTEXT, BATCH = 512, 4, 256, 64


class Noise:
    """Random tokens, the same for the same samples."""

    context = CONTEXT

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __len__(self) -> int:
        return 65536

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        tokens = np.random.default_rng(int(indices[0])).integers(0, self.vocabulary, (len(indices), CONTEXT + 1))
        return Batch(tokens[:, :-1], tokens[:, 1:])


def measure() -> None:
    """Take turns, as one of the ranks, and print the ratios as the first of them."""
    import torch
    import torch.distributed as dist

    from etude.core.machine import keep_freed_memory
    from etude.core.world import world
    from etude.models.architectures.decoder import Decoder
    from etude.text.recipes import Tokens
    from etude.text.tokenizers.byte import Byte
    from etude.train.recipes import Train
    from etude.train.together import Together
    from etude.train.trainer import Trainer

    torch.set_num_threads(1)
    keep_freed_memory()
    shape = Decoder(layers=LAYERS, width=WIDTH, heads=8, feedforward=4 * WIDTH, context=CONTEXT)
    recipe = Train(data=Tokens(tokenizer=Byte()), model=shape, batch=BATCH, steps=10**9, evaluate_every=0)
    recipe = replace(recipe, precision=os.environ.get("PRECISION", "auto")).settle()
    examples = Noise(257)
    dist.init_process_group("gloo")
    others = Together(world())
    alone = Trainer(recipe, shape.build(examples.vocabulary), examples, 0.0)
    both = Trainer(recipe, shape.build(examples.vocabulary), examples, 0.0, others)

    def seconds(trainer: Trainer, first: int) -> float:
        began = time.perf_counter()
        for number in range(first, first + STEPS):
            trainer.step(number)
        return time.perf_counter() - began

    ratios = []
    for turn in range(ROUNDS + 1):
        single = seconds(alone, turn * STEPS) if others.first else 0.0
        others.wait()
        double = seconds(both, turn * STEPS)
        others.wait()
        if turn and others.first:  # the first turn makes the buffers
            ratios.append(single / double)
    if others.first:
        print(
            f"2 ranks against 1, {recipe.precision}, width {WIDTH}, {LAYERS} layers, {BATCH * CONTEXT:,} tokens a step:"
            f" {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)})"
        )
    dist.destroy_process_group()


def main() -> None:
    if "RANK" in os.environ:
        measure()
        return
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    subprocess.run(torchrun, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)


if __name__ == "__main__":
    main()
