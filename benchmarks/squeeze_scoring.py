"""Scoring compressors: `harm` of 40 codecs at a late layer, against 40 full forward passes with loss and KL.

The other side is what is written first: for each codec a whole forward pass with it in place, `cross_entropy`, and the
KL from the unharmed model by `kl_div` of log-probabilities. Those of the unharmed model are made once and kept, which
is the fair reading, and are read in the batches that `evaluate` takes (64 MB of scores). Nothing else is measured on
that side, where `harm` also tells accuracy and explained variance. Codecs are PCA of ranks from 1 up, at the last
layer's mlp.out; weights are drawn. The sides alternate codec by codec, and what is measured is the processor's time of
this process, so that a busy machine tells the same; each round gives one ratio, and the median is printed with the
least and the most. What each side makes once counts too. One thread, fp32.

21 November 2026, a busy 2-core machine, torch 2.13.0+cpu, 1,024 tokens: 2.53 times faster (2.44 to 2.59) at 4 layers
and width 128, 7.91 (7.83 to 8.03) at 12 layers and width 256. What moved the former, from 1.7: a codec in the place of
a feed-forward is added to the stream before it, so that its layer is not read again.

    python benchmarks/squeeze_scoring.py [--rounds 7] [--variants 40] [--tokens 2048]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from etude.compress.codec import Linear
from etude.compress.compressor import Compressor
from etude.compress.host import Host
from etude.compress.linear import principal_directions
from etude.compress.score import harm
from etude.core.machine import keep_freed_memory
from etude.evals.loss import batch_for
from etude.models.architectures.decoder import Decoder
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import Batch

SHAPES = {
    "4 layers, width 128": Decoder(layers=4, width=128, heads=4, feedforward=512, context=128),
    "12 layers, width 256": Decoder(
        layers=12, width=256, heads=8, feedforward=1024, context=128, activation="gelu-tanh"
    ),
}
VOCABULARY = 2048

Side = TypeVar("Side")


class Drawn:
    """Random windows: what is measured does not depend on what they say."""

    context, vocabulary = 128, VOCABULARY

    def __init__(self, windows: int) -> None:
        self.tokens = np.random.default_rng(0).integers(0, VOCABULARY, (windows, self.context + 1))

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        return Batch(self.tokens[indices, :-1], self.tokens[indices, 1:])


class Told(NamedTuple):
    loss: float
    kl: float


class Plain:
    """Full forward passes, with the unharmed model's log-probabilities kept."""

    def __init__(self, model: Transformer, examples: Drawn) -> None:
        self.model = model
        size = batch_for(VOCABULARY, examples.context)
        starts = range(0, len(examples), size)
        found = [examples.batch(np.arange(start, min(start + size, len(examples)))) for start in starts]
        self.batches = [(torch.from_numpy(b.inputs), torch.from_numpy(b.targets)) for b in found]
        self.clean = [model(inputs).log_softmax(-1) for inputs, _ in self.batches]

    def score(self, site: str, codec: Linear) -> Told:
        loss = kl = count = 0.0
        for (inputs, targets), clean in zip(self.batches, self.clean, strict=True):
            with self.model.tapped({site: codec}):
                logits: Tensor = self.model(inputs)
            loss += float(cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
            kl += float(kl_div(logits.log_softmax(-1), clean, reduction="sum", log_target=True))
            count += targets.numel()
        return Told(loss / count, kl / count)


def codecs(model: Transformer, examples: Drawn, site: str, count: int) -> list[Linear]:
    """Return PCA codecs of ranks from 1 up."""
    seen = look(model, torch.from_numpy(examples.tokens[:16, :-1]), site)[site].flatten(0, 1)
    centre, directions, _ = principal_directions(seen)
    ranks = [1 + n * (seen.shape[1] - 1) // count for n in range(count)]
    bases = [directions[:, :rank].float() for rank in ranks]
    return [Linear(centre.float(), basis, basis.T) for basis in bases]


class Made(NamedTuple, Generic[Side]):
    """One side, and the seconds that it took to make."""

    side: Side
    seconds: float


def timed(make: Callable[[], Side]) -> Made[Side]:
    began = time.process_time()
    return Made(make(), time.process_time() - began)


def seconds(work: Callable[[], object]) -> float:
    return timed(work).seconds


@torch.no_grad()
def compare(spec: Decoder, variants: int, tokens: int, rounds: int) -> list[float]:
    """Return each round's ratio, plain over ours: above 1, ours is faster."""
    examples = Drawn(tokens // 128)
    model, site = spec.build(VOCABULARY, seed=1).eval(), f"L{spec.layers - 1}.mlp.out"
    made = codecs(model, examples, site, variants)
    check(model, examples, site, made[variants // 2])

    ratios = []
    for _ in range(rounds + 1):
        host = timed(lambda: Host(model, examples, np.arange(len(examples))))
        plain = timed(lambda: Plain(model, examples))
        spent = [host.seconds, plain.seconds]
        for number, codec in enumerate(made):
            sides = (partial(harm, host.side, Compressor.of(site, codec)), partial(plain.side.score, site, codec))
            for side in ((0, 1), (1, 0))[number % 2]:
                spent[side] += seconds(sides[side])
        ratios.append(spent[1] / spent[0])
    return ratios[1:]  # the first round warms up


def check(model: Transformer, examples: Drawn, site: str, codec: Linear) -> None:
    """Raise AssertionError where the two sides do not find the same."""
    host = Host(model, examples, np.arange(len(examples)))
    found, told = harm(host, Compressor.of(site, codec)).to_json(), Plain(model, examples).score(site, codec)
    assert abs(found["loss"]["mean"] - told.loss) < 1e-4 and abs(found["kl"]["mean"] - told.kl) < 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=2048)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as in a lab, for both sides
    print(f"torch {torch.__version__}, {asked.variants} codecs, {asked.tokens} tokens, {asked.rounds} rounds")
    print(f"{'times faster':24} {'median':>7} {'least':>7} {'most':>7}")
    for name, spec in SHAPES.items():
        ratios = compare(spec, asked.variants, asked.tokens, asked.rounds)
        print(f"{name:24} {statistics.median(ratios):7.2f} {min(ratios):7.2f} {max(ratios):7.2f}", flush=True)


if __name__ == "__main__":
    main()
