"""How long a training step of a decoder that retrieves takes, against the plain decoder of equal width.

    python benchmarks/retro_step.py [ROUNDS]

Both take the same windows; k = 2 neighbours of 128 tokens for each chunk of 64. The rounds are interleaved, and the
ratios of each, of elapsed time and of the processor's, are printed with their medians. Three rounds are not counted:
the first dozen steps of 1.5 GB take their memory from the system, and those after them have it.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from etude.core.machine import keep_freed_memory
from etude.models.architectures.retro import Retro
from etude.models.transformer import Transformer
from etude.nn.precision import autocast
from etude.train.losses import summed
from etude.train.optimisers.adamw import AdamW

VOCABULARY, BATCH, STEPS, SETTLING, CPU = 2048, 8, 3, 3, torch.device("cpu")

SHAPES = {
    "6 layers of 256, read in 2": Retro(layers=6, width=256, heads=8, feedforward=1024, context=512),
    "12 layers of 256, read in 3 (the paper's layers)": Retro(
        layers=12, width=256, heads=8, feedforward=1024, context=512, cross_from=5
    ),
    "6 layers of 128, read in 2": Retro(layers=6, width=128, heads=4, feedforward=512, context=512),
}


def seconds(
    model: Transformer, optimiser: torch.optim.Optimizer, given: dict[str, torch.Tensor], precision: str
) -> tuple[float, float]:
    """Return the seconds of a step, elapsed and of the processor: loss, gradient, optimiser."""
    tokens = torch.randint(VOCABULARY, (BATCH, model.spec.context))
    began, busy = time.perf_counter(), time.process_time()
    for _ in range(STEPS):
        optimiser.zero_grad(set_to_none=True)
        with autocast(CPU, precision):
            loss = summed(model, tokens, tokens.roll(-1, 1), given).loss
        (loss / tokens.numel()).backward()
        optimiser.step()
    return (time.perf_counter() - began) / STEPS, (time.process_time() - busy) / STEPS


def main() -> None:
    """Print the ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    torch.set_num_threads(1)
    keep_freed_memory()  # as in any work of Etude's
    torch.manual_seed(0)
    for name, spec in SHAPES.items():
        retro, plain = spec.build(VOCABULARY), spec.plain.build(VOCABULARY)
        chunks = spec.context // spec.chunk
        given = {"neighbours": torch.randint(VOCABULARY, (BATCH, chunks, 2, spec.length))}
        given["neighbours_present"] = torch.ones_like(given["neighbours"], dtype=torch.bool)
        movers = [AdamW().build(model) for model in (retro, plain)]
        counted = 1 + spec.retrieval_flops(2) / spec.flops_per_token(VOCABULARY, spec.context)
        for precision in ("fp32", "bf16"):
            pairs = []
            for _ in range(rounds + SETTLING):
                ours = seconds(retro, movers[0], given, precision)
                pairs.append((ours, seconds(plain, movers[1], {}, precision)))
            for at, kind in enumerate(("elapsed", "processor")):
                told = sorted(ours[at] / theirs[at] for ours, theirs in pairs[SETTLING:])
                print(
                    f"{name}, {precision}, {kind}: {statistics.median(told):.2f} ({told[0]:.2f} to {told[-1]:.2f}) of a"
                    f" plain step; {counted:.2f} by FLOPs",
                    flush=True,
                )


if __name__ == "__main__":
    main()
