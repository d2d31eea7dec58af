"""The other side of `squeeze_saelens.py`: SAELens in an environment of its own, told by lines of JSON what to train.

It imports nothing of Etude. A line names the rows (a safetensors file with `rows` [N M]), the settings and a folder for
the weights; the answer is a line with the seconds that the training took, by the clock and by the processor.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig, __version__
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file, save_file
from torch import Tensor

PROBED = 256
"""Rows whose reconstruction is written beside the weights, for whoever reads those to compare with."""


def drawn(rows: Tensor, batch: int, seed: int) -> Iterator[Tensor]:
    """Yield batches drawn with replacement, as the other side does."""
    draw = torch.Generator().manual_seed(seed)
    while True:
        yield rows.index_select(0, torch.randint(len(rows), (batch,), generator=draw))


def train(rows: Tensor, told: dict[str, Any]) -> dict[str, float]:
    """Train one top-k autoencoder, and write it into the folder that is named."""
    torch.manual_seed(told["seed"])
    steps, batch = told["tokens"] // told["batch"], told["batch"]
    how = SAETrainerConfig(
        total_training_samples=steps * batch,
        train_batch_size_samples=batch,
        lr=told["rate"],
        lr_end=told["rate"] / 10,
        lr_warm_up_steps=told["warm"],
        lr_decay_steps=round(told["decay"] * steps),
        dead_feature_window=told["dead"],
        n_batches_for_norm_estimate=16,
        logger=LoggingConfig(log_to_wandb=False),
    )
    shape = TopKTrainingSAEConfig(
        k=told["k"],
        d_in=rows.shape[1],
        d_sae=told["features"],
        normalize_activations="expected_average_only_in",
    )
    clock, processor = time.perf_counter(), time.process_time()
    sae = SAETrainer(how, TopKTrainingSAE(shape), drawn(rows, batch, told["seed"])).fit()
    spent = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
    if told["folder"]:
        sae.save_inference_model(told["folder"])
        with torch.no_grad():
            save_file({"made": sae(rows[:PROBED])}, Path(told["folder"]) / "made.safetensors")
    return spent


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    held: dict[str, Tensor] = {}
    print(json.dumps({"sae-lens": __version__, "torch": torch.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        rows = held.get(told["rows"])
        if rows is None:
            rows = held[told["rows"]] = load_file(told["rows"])["rows"]
        print(json.dumps(train(rows, told)), file=answers, flush=True)


if __name__ == "__main__":
    main()
