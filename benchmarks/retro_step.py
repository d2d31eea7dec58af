"""How long a training step of a decoder that retrieves takes, against the plain decoder of equal width.

    python benchmarks/retro_step.py [ROUNDS]

Both take the same windows; k = 2 neighbours of 128 tokens for each chunk of 64. The rounds are interleaved, and the
ratio of each is printed with their median.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from etude.models.architectures.retro import Retro
from etude.models.transformer import Transformer
from etude.nn.precision import autocast
from etude.train.losses import summed
from etude.train.optimisers.adamw import AdamW

VOCABULARY, BATCH, STEPS, CPU = 2048, 8, 3, torch.device("cpu")

SHAPES = {
    "6 layers of 256, read in 2": Retro(layers=6, width=256, heads=8, feedforward=1024, context=512),
    "12 layers of 256, read in 3 (the paper's layers)": Retro(
        layers=12, width=256, heads=8, feedforward=1024, context=512, cross_from=5
    ),
    "6 layers of 128, read in 2": Retro(layers=6, width=128, heads=4, feedforward=512, context=512),
}


def seconds(
    model: Transformer, optimiser: torch.optim.Optimizer, given: dict[str, torch.Tensor], precision: str
) -> float:
    """Return the seconds of a step: loss, gradient, optimiser."""
    tokens = torch.randint(VOCABULARY, (BATCH, model.spec.context))
    began = time.perf_counter()
    for _ in range(STEPS):
        optimiser.zero_grad(set_to_none=True)
        with autocast(CPU, precision):
            loss = summed(model, tokens, tokens.roll(-1, 1), given).loss
        (loss / tokens.numel()).backward()
        optimiser.step()
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    """Print the ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    torch.manual_seed(0)
    for name, spec in SHAPES.items():
        retro, plain = spec.build(VOCABULARY), spec.plain.build(VOCABULARY)
        chunks = spec.context // spec.chunk
        given = {"neighbours": torch.randint(VOCABULARY, (BATCH, chunks, 2, spec.length))}
        given["neighbours_present"] = torch.ones_like(given["neighbours"], dtype=torch.bool)
        movers = [AdamW().build(model) for model in (retro, plain)]
        counted = 1 + spec.retrieval_flops(2) / spec.flops_per_token(VOCABULARY, spec.context)
        for precision in ("fp32", "bf16"):
            ratios = []
            for _ in range(rounds + 1):  # the first is not counted
                ours = seconds(retro, movers[0], given, precision)
                ratios.append(ours / seconds(plain, movers[1], {}, precision))
            told = sorted(ratios[1:])
            print(
                f"{name}, {precision}: {statistics.median(told):.2f} ({told[0]:.2f} to {told[-1]:.2f}) of a plain step;"
                f" {counted:.2f} by FLOPs"
            )


if __name__ == "__main__":
    main()
