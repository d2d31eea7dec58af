"""Raising: environment steps per second of the processor's time, learning and all.

One side is the default agent of `etude run raise` (compact view, gated recurrent units of 64, PPO over whole episodes)
in worlds of 4 goals; others change one part. They take turns within a round, a few updates each, on one thread; what is
measured is the processor's time, and the median over rounds is printed with the least and the most, and each side's
ratio to the first. Evaluations and checkpoints are not in it.

    PYTHONPATH=src python benchmarks/raising.py [--rounds 7] [--updates 8]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch

from etude.culture.memories.lstm import Lstm
from etude.culture.memories.transformer import Transformer
from etude.culture.memories.without import Without
from etude.culture.raising import Raising
from etude.culture.recipes import Raise
from etude.culture.rules.v_mpo import VMpo
from etude.culture.views.local import Local

WHOLE = Raise(ranks=1)
SIDES = {
    "default": WHOLE,
    "v-mpo": replace(WHOLE, rule=VMpo()),
    "lstm": replace(WHOLE, memory=Lstm()),
    "without memory": replace(WHOLE, memory=Without()),
    "local view": replace(WHOLE, view=Local()),
    "transformer": replace(WHOLE, memory=Transformer()),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=8)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    raised = {name: Raising(recipe) for name, recipe in SIDES.items()}
    each = WHOLE.worlds * WHOLE.setting.steps * chosen.updates
    rates: dict[str, list[float]] = {name: [] for name in raised}
    for number in range(chosen.rounds + 1):
        for name, raising in raised.items() if number % 2 else reversed(raised.items()):
            began = time.process_time()
            for update in range(chosen.updates):
                raising.step(number * chosen.updates + update)
            rates[name].append(each / (time.process_time() - began))
    found = {name: values[1:] for name, values in rates.items()}  # the first round warms up
    for name, values in found.items():
        ratios = [a / b for a, b in zip(values, found["default"], strict=True)]
        print(
            f"{name}: {statistics.median(values):,.0f} steps/s ({min(values):,.0f} to {max(values):,.0f}),"
            f" {statistics.median(ratios):.2f} of the default"
        )


if __name__ == "__main__":
    main()
