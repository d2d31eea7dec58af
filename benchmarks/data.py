"""The share of a training step that its batch takes, for each kind of sample; and what a large corpus costs.

    python benchmarks/data.py

For each shape and objective the batch is made and the step is taken in turns, `ROUNDS` times. `made` is the median time
to make a batch over that of a step, which is what a training on a CPU has; `waited` is how much of it would pass idle
if a thread made the next batch meanwhile, as on a GPU. The last row of each shape is of random windows of a
corpus of `LARGE` GB: a sparse file, so that the pages that are touched have to be mapped, and no disk has to be read.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROUNDS = int(os.environ.get("ROUNDS") or 15)
WARM = 3
LARGE = 4
SHAPES = {"width 128, 4 layers": (128, 4, 64, 12), "width 512, 4 layers": (512, 4, 128, 16)}
"""Width, layers, context and batch."""


def store(folder: Path, name: str, vocabulary: int, end: int, **labels: Any) -> Any:
    """Write a store of short random documents."""
    import numpy as np

    from etude.text.store import TokenStore
    from etude.text.store_writer import StoreWriter

    numbers = np.random.default_rng(0)
    with StoreWriter(folder / name, vocabulary, **labels) as writer:
        for number in range(4000):
            writer.add(numbers.integers(0, 250, numbers.integers(10, 60)), 30)
            writer.add([end], 0)
            writer.end_document(number % 2 if "classes" in labels else None)
    return TokenStore.open(folder / name)


def kinds(folder: Path, context: int) -> dict[str, tuple[Any, Any, Any]]:
    """Return, for each kind of sample, its architecture, its examples and its objective."""
    from etude.models.architectures.decoder import Decoder
    from etude.models.architectures.encoder import Encoder
    from etude.models.architectures.encoder_decoder import EncoderDecoder
    from etude.text.batches import Windows
    from etude.text.framing import Frame, Texts
    from etude.text.masking import Hiding, MaskedTexts
    from etude.text.pairs import Pairs
    from etude.text.tokenizers.live import ByteTokenizer
    from etude.train.objectives.classification import Classification
    from etude.train.objectives.masked import Masked
    from etude.train.objectives.next_token import NextToken
    from etude.train.objectives.sequence_to_sequence import SequenceToSequence

    tokenizer = ByteTokenizer(("mask", "first", "separator", "pad"))
    vocabulary, end = tokenizer.vocabulary, tokenizer.end
    plain = store(folder, "plain", vocabulary, end)
    labelled = store(folder, "labelled", vocabulary, end, classes=("no", "yes"))
    paired = store(folder, "paired", vocabulary, end, sides=("en", "de"))
    windows = Windows(plain, context, end)
    return {
        "next token": (Decoder(), windows, NextToken()),
        "documents apart": (Decoder(), Windows(plain, context, end, apart=True, restarted=True), NextToken(apart=True)),
        "masked": (Encoder(), MaskedTexts(windows, tokenizer, Hiding()), Masked()),
        "classification": (Encoder(classes=2), Texts(labelled, context, Frame.of(tokenizer)), Classification()),
        "translation": (EncoderDecoder(), Pairs(paired, context, end), SequenceToSequence()),
    }


def shares(shape: tuple[int, int, int, int], kind: tuple[Any, Any, Any]) -> tuple[float, float]:
    """Return which share of a step it takes to make its batch, and which share the step stands still for it."""
    from etude.train.ahead import Ahead
    from etude.train.recipes import Train
    from etude.train.trainer import Trainer

    width, layers, context, batch = shape
    architecture, examples, objective = kind
    model = replace(architecture, width=width, layers=layers, heads=4, feedforward=4 * width, context=context)
    recipe = Train(batch=batch, steps=10**9, evaluate_every=0).resolve()
    object.__setattr__(recipe, "model", model)  # the text is random, and no corpus has to fit the objective
    object.__setattr__(recipe, "objective", objective)
    trainer = Trainer(recipe, model.build(examples.vocabulary), examples, 0.0)
    ahead = Ahead(trainer.batch, recipe.steps)
    made, waits, steps = [], [], []
    for number in range(WARM + ROUNDS):
        made.append(seconds(lambda number=number: trainer.batch(number)))
        waits.append(seconds(lambda number=number: ahead.take(number)))
        steps.append(seconds(lambda number=number: trainer.step(number)))
    ahead.close()
    whole = statistics.median(steps[WARM:])
    return statistics.median(made[WARM:]) / whole, statistics.median(waits[WARM:]) / whole


def seconds(do: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def large(folder: Path, context: int) -> tuple[Any, Any, Any]:
    """Return next-token prediction from a corpus of `LARGE` GB."""
    from etude.models.architectures.decoder import Decoder
    from etude.text.batches import Windows
    from etude.text.store import Header, TokenStore
    from etude.train.objectives.next_token import NextToken

    count = LARGE * 10**9 // 2
    header = Header("<u2", count, 1, count, 261, 0, (), (), 4096, "0" * 64)
    path = folder / "large"
    with path.open("wb") as file:
        file.truncate(header.file_bytes)
    return Decoder(), Windows(TokenStore(path, header), context, 256), NextToken()


def main() -> None:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, shape in SHAPES.items():
            print(f"{title}, context {shape[2]}, batch {shape[3]}")
            all_kinds = {**kinds(folder, shape[2]), f"{LARGE} GB of text": large(folder, shape[2])}
            for kind, parts in all_kinds.items():
                made, waited = shares(shape, parts)
                print(f"  {kind:16} made {made:7.3%}   waited {waited:7.3%}", flush=True)


if __name__ == "__main__":
    main()
