"""What makes a training step on a CPU faster: ratios of the time without each measure to the time with it.

    python benchmarks/step.py

The two sides of each pair take turns, `ROUNDS` times; printed are the median ratio and its extremes. Over 1, the
measure pays. The shape is that of the quick preset, one thread, bf16 matrix products (as the preset has where the
processor multiplies bf16).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import unittest.mock
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

ROUNDS = 9
STEPS = 6


def shape_of_step() -> Callable[[int], None]:
    """Return a function that takes one training step of the quick preset's shape on random tokens."""
    import numpy as np
    import torch

    from etude.studies.progress_report import ProgressReport
    from etude.text.batches import Batch
    from etude.train.trainer import Trainer

    torch.set_num_threads(1)
    # No row of the record falls on these steps, so that accuracy is not computed unless a measure asks for it.
    train = replace(ProgressReport.preset("quick").train, precision="bf16", steps=10**9, evaluate_every=0, batch=16)
    vocabulary = train.data.tokenizer.expected_vocabulary()

    class Noise:
        context = train.context

        def __init__(self) -> None:
            self.vocabulary = vocabulary

        def __len__(self) -> int:
            return 4096

        def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
            drawn = np.random.default_rng(int(indices[0]))
            tokens = drawn.integers(0, vocabulary, (len(indices), self.context + 1))
            return Batch(tokens[:, :-1], tokens[:, 1:])

    trainer = Trainer(train, train.model.build(vocabulary), Noise(), 0.0)

    def step(number: int) -> None:
        trainer.step(number)

    return step


def seconds(step: Callable[[int], None], first: int) -> float:
    """Return the time of `STEPS` steps."""
    began = time.perf_counter()
    for number in range(first, first + STEPS):
        step(number)
    return time.perf_counter() - began


def attention_by_the_kernel() -> AbstractContextManager[Any]:
    """Let PyTorch's fused kernel attend, in fp32, in place of products in bf16 that make the pattern."""
    return unittest.mock.patch("etude.nn.dot_product.SHORT", 0)


@contextmanager
def attention_in_bf16() -> Iterator[None]:
    """Let the fused kernel work in the precision of what it is given."""
    from torch import Tensor
    from torch.nn import functional as F

    import etude.nn.multi_head as multi_head

    def plainly(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, causal: bool, scale: float | None
    ) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale)

    with unittest.mock.patch.object(multi_head, "fused_attention", plainly):
        yield


@contextmanager
def accuracy_at_every_step() -> Iterator[None]:
    """Find the likeliest token of every position in every step."""
    from etude.train.recipes import Train

    with unittest.mock.patch.object(Train, "is_logged", return_value=True):
        yield


def in_process(without: Callable[[], AbstractContextManager[Any]]) -> list[float]:
    """Return the ratios for a measure that can be taken back in this process."""
    step = shape_of_step()
    seconds(step, 0)
    ratios = []
    for turn in range(1, ROUNDS + 1):
        with without():
            slow = seconds(step, turn * STEPS)
        ratios.append(slow / seconds(step, turn * STEPS))
    return ratios


def allocator() -> list[float]:
    """Return the ratios for the allocator, whose settings last as long as a process."""
    ratios = []
    for _ in range(ROUNDS):
        times = {}
        for side in ("plain", "kept"):
            command = [sys.executable, __file__, side]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            times[side] = float(told)
        ratios.append(times["plain"] / times["kept"])
    return ratios


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if sys.argv[1:]:
        if sys.argv[1] == "kept":
            from etude.core.machine import keep_freed_memory

            keep_freed_memory()
        step = shape_of_step()
        seconds(step, 0)
        print(seconds(step, STEPS))
        return
    rows = {
        "attention by products, over the kernel in fp32": in_process(attention_by_the_kernel),
        "attention by products, over the kernel in bf16": in_process(attention_in_bf16),
        "accuracy only where it is logged": in_process(accuracy_at_every_step),
        "freed memory kept": allocator(),
    }
    for name, ratios in rows.items():
        print(f"{name:46} {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)})")


if __name__ == "__main__":
    main()
