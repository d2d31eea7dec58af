"""Recording activations: tokens a second of `record`, as a share of those of the bare forward pass.

`record` writes what passes at one site, with a row for each token, to the disk. It is compared with the model reading
the same windows and nothing else: as far as the site, where a hook ends the pass, and to the scores. The sides
alternate, and what is measured is the processor's time of this process, so that a busy machine tells the same; what the
disk takes while nothing is computed is not in it. Each round gives one ratio, and the median is printed with the least
and the most. Weights are drawn. One thread, fp32.

    python benchmarks/squeeze_recording.py [--rounds 7]

21 November 2026, a busy 2-core machine, torch 2.13.0+cpu: as far as the site 0.91 (0.85 to 0.95) at width 128 and 0.87
(0.86 to 0.88) at distilGPT-2's shape, in which one of nine windows is the one more that `record` reads to know the
widths; to the scores 1.47 (1.42 to 1.50) and 2.14 (2.05 to 2.21), since a recording stops at its site.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from etude.core.machine import keep_freed_memory
from etude.core.site import Site
from etude.evals.loss import batch_for, batches
from etude.evals.recording import record
from etude.models.architectures.decoder import Decoder
from etude.models.transformer import Transformer
from etude.text.batches import Batch

CASES = {
    "4 layers, width 128": (Decoder(layers=4, width=128, heads=4, feedforward=512, context=128), 2048, 256),
    "distilGPT-2's shape": (
        Decoder(layers=6, width=768, heads=12, feedforward=3072, context=1024, activation="gelu-tanh", tied=True),
        50257,
        8,
    ),
}
"""Shape, vocabulary, windows."""


class Enough(Exception):
    """Ends a forward pass at a site."""


class Drawn:
    """Random windows."""

    def __init__(self, windows: int, context: int, vocabulary: int) -> None:
        self.context, self.vocabulary = context, vocabulary
        self.tokens = np.random.default_rng(0).integers(0, vocabulary, (windows, context + 1))

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        return Batch(self.tokens[indices, :-1], self.tokens[indices, 1:])


def forward(model: Transformer, examples: Drawn) -> None:
    """Read the windows to the scores."""
    size = batch_for(examples.vocabulary, examples.context)
    for tokens, _, _ in batches(examples, np.arange(len(examples)), torch.device("cpu"), size):
        model(tokens)


def forward_until(model: Transformer, examples: Drawn, site: str) -> None:
    """Read the windows as far as a site."""
    size = batch_for(examples.vocabulary, examples.context)

    def stop(*_: object) -> Tensor:
        raise Enough

    hook = model.get_submodule(Site(site).path).register_forward_hook(stop)
    for tokens, _, _ in batches(examples, np.arange(len(examples)), torch.device("cpu"), size):
        with suppress(Enough):
            model(tokens)
    hook.remove()


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@torch.no_grad()
def compare(spec: Decoder, vocabulary: int, windows: int, site: str, rounds: int) -> dict[str, list[float]]:
    """Return each round's share of the speed of the bare pass: 1 is as fast."""
    model, examples = spec.build(vocabulary, seed=1).eval(), Drawn(windows, spec.context, vocabulary)
    found: dict[str, list[float]] = {"as far as the site": [], "to the scores": []}
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, Callable[[], object]] = {
            "ours": lambda: record(model, examples, np.arange(windows), site, Path(folder)),
            "as far as the site": lambda: forward_until(model, examples, site),
            "to the scores": lambda: forward(model, examples),
        }
        for number in range(rounds + 1):
            order = list(sides)[:: 1 if number % 2 else -1]
            spent = {name: seconds(sides[name]) for name in order}
            for name in found:
                found[name].append(spent[name] / spent["ours"])
    return {name: ratios[1:] for name, ratios in found.items()}  # the first round warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"torch {torch.__version__}, {asked.rounds} rounds; tokens a second, as a share of the bare forward pass")
    print(f"{'':58} {'median':>7} {'least':>7} {'most':>7}")
    for name, (spec, vocabulary, windows) in CASES.items():
        site = f"L{spec.layers // 2}.mlp.out"
        for against, ratios in compare(spec, vocabulary, windows, site, asked.rounds).items():
            row = f"{name}, {site}, {against}"
            print(f"{row:58} {statistics.median(ratios):7.2f} {min(ratios):7.2f} {max(ratios):7.2f}", flush=True)


if __name__ == "__main__":
    main()
