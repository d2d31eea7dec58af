"""The `seed` preset's model: its parameters against the arithmetic, 200 steps run here, and what the whole would cost.

    python benchmarks/seed.py TEXT GPT2_VOCABULARY [--openings 20] [--steps 200]

TEXT is any corpus of the member `files`; without `--openings` it is read in windows of 20 tokens, which cost what the
original samples do. The projection is for the English training split of wiki40b, 2,926,536 articles, in two passes.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

from etude.core.lab import Lab
from etude.core.progress import clock
from etude.studies.progress_report import ProgressReport
from etude.text.corpora.files import Files
from etude.text.recipes import Tokens
from etude.text.tokenizers.gpt2 import Gpt2
from etude.train.recipes import Train

ARTICLES = 2_926_536


def by_hand(train: Train, vocabulary: int) -> int:
    """Count the model's parameters from its shape: embedding, layers of four maps and two, norms, unembedding."""
    shape = train.model
    D, F, L = shape.width, shape.feedforward, shape.layers
    attention = 4 * D * D + 4 * D
    feed_forward = D * F + F + F * D + D if F else 0
    norms = 2 * D * (2 if F else 1)
    return vocabulary * D + L * (attention + feed_forward + norms) + D * vocabulary


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("text")
    asked.add_argument("vocabulary")
    asked.add_argument("--openings", type=int, default=0)
    asked.add_argument("--steps", type=int, default=200)
    given = asked.parse_args()

    train = ProgressReport.preset("seed").train
    data = Tokens(Files(path=given.text), Gpt2(path=given.vocabulary), given.openings)
    train = replace(train, data=data, steps=given.steps, evaluate_every=0, evaluate_tokens=2560)
    run = Lab().run(train)

    found, counted = run.result["parameters"], by_hand(train, 50_257)
    print(f"parameters: {found:,} in the model, {counted:,} by hand")
    losses = [row["loss"] for row in run.record if "loss" in row]
    print(f"training loss: {losses[0]:.3f} at the first step, {losses[-1]:.3f} at step {given.steps}")
    speeds = [row["timing"]["per_second"] for row in run.record if "timing" in row]
    speed = statistics.median(speeds[len(speeds) // 4 :])
    steps = 2 * ARTICLES // train.batch
    per_step = train.batch * train.context
    flops = 3.0 * train.model.flops_per_token(50_257, train.context) * per_step
    threads, rate = run.provenance["threads"], flops * speed / per_step
    print(f"{speed:,.0f} tokens per second on {threads} threads, {rate / 1e9:,.0f} GFLOP/s")
    whole = clock(steps * per_step / speed)
    print(f"whole: {steps:,} steps, {flops * steps:.2e} FLOPs, {whole} (hours:minutes:seconds) at this rate")


if __name__ == "__main__":
    main()
