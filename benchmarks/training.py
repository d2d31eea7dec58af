"""Training speed against nanoGPT's model in the same shape and batch: ratios of tokens per second.

    python benchmarks/training.py                             # Hugging Face's GPT-2 class as the peer
    NANOGPT=path/to/nanoGPT python benchmarks/training.py     # nanoGPT's own model.py

`PEER_PYTHON` names the Python of the peer's environment (by default this one). Each side is a process of its own that
takes a few steps when it is told to; they take turns, so that what else the machine does falls on all alike. Printed
are, for each shape, the median over the rounds of Etude's speed over the peer's, with the extremes, and Etude's share
of the machine's peak of bf16 (or fp32) matrix products, measured in the same rounds.

Etude runs as it does by default: every choice that it leaves to the machine is left to it. The peer runs as its README
says for a CPU (fp32, not compiled, AdamW), and in the best setting that its script can be given (bf16 autocast, fused
AdamW, compiled), without and with the C allocator told, from outside, to keep freed memory and take huge pages.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROUNDS = int(os.environ.get("ROUNDS") or 9)
THREADS = int(os.environ.get("THREADS") or 2)
KEEPING = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
    "THP_MEM_ALLOC_ENABLE": "1",
}


@dataclass(frozen=True)
class Shape:
    """What both sides train."""

    width: int
    layers: int
    heads: int
    context: int
    batch: int
    vocabulary: int
    steps: int

    @property
    def flops(self) -> float:
        """Matrix products of one step, forwards and backwards, with the whole square of attention scores."""
        each = self.layers * (24 * self.width**2 + 4 * self.context * self.width) + 2 * self.width * self.vocabulary
        return 3.0 * each * self.context * self.batch


SHAPES = {
    "width 768, 2 layers": Shape(768, 2, 12, 128, 16, 50_257, 2),
    "width 128, 4 layers": Shape(128, 4, 4, 64, 12, 65, 60),
}


def etude(shape: Shape) -> Any:
    """Return a function that takes one step with Etude's trainer."""
    import numpy as np
    import torch

    from etude.core.machine import keep_freed_memory
    from etude.models.architectures.decoder import Decoder
    from etude.text.batches import Batch
    from etude.text.recipes import Tokens
    from etude.text.tokenizers.bpe import BytePair
    from etude.train.recipes import Train
    from etude.train.trainer import Trainer

    keep_freed_memory()
    model = Decoder(
        layers=shape.layers, width=shape.width, heads=shape.heads, feedforward=4 * shape.width, context=shape.context,
        tied=True,
    )  # fmt: skip
    data = Tokens(tokenizer=BytePair(vocabulary=max(257, shape.vocabulary)))
    recipe = Train(data, model, batch=shape.batch, steps=10**9, evaluate_every=0).resolve()
    print(recipe.precision, recipe.compiled, recipe.chunked, file=sys.stderr)

    class Noise:
        context, vocabulary = shape.context, shape.vocabulary

        def __len__(self) -> int:
            return 1 << 16

        def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
            tokens = np.random.default_rng(draw).integers(0, shape.vocabulary, (len(indices), shape.context + 1))
            return Batch(tokens[:, :-1], tokens[:, 1:])

    torch.manual_seed(0)
    trainer = Trainer(recipe, model.build(shape.vocabulary), Noise(), 0.0)
    return trainer.step


def peer(shape: Shape, best: bool) -> Any:
    """Return a function that takes one step with nanoGPT's model, or Hugging Face's GPT-2, in nanoGPT's loop."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    if folder := os.environ.get("NANOGPT"):
        sys.path.insert(0, folder)
        nanogpt: Any = import_module("model")
        config = nanogpt.GPTConfig(
            block_size=shape.context, vocab_size=shape.vocabulary, n_layer=shape.layers, n_head=shape.heads,
            n_embd=shape.width, dropout=0.0, bias=True,
        )  # fmt: skip
        model: Any = nanogpt.GPT(config)
        call = lambda x, y: model(x, y)[1]  # noqa: E731
    else:
        transformers: Any = import_module("transformers")
        config = transformers.GPT2Config(
            n_positions=shape.context, vocab_size=shape.vocabulary, n_layer=shape.layers, n_head=shape.heads,
            n_embd=shape.width, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)

        def call(x: Any, y: Any) -> Any:
            logits = model(x).logits
            return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), **({"fused": True} if best else {}))
    if best:
        model = torch.compile(model)

    def step(number: int) -> None:
        tokens = np.random.default_rng(number).integers(0, shape.vocabulary, (shape.batch, shape.context + 1))
        x, y = torch.from_numpy(tokens[:, :-1].copy()), torch.from_numpy(tokens[:, 1:].copy())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=best):
            loss = call(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def peak(low: bool) -> Any:
    """Return a function that multiplies matrices of 2,048 by 2,048 as often as takes about a second."""
    import torch

    dtype = torch.bfloat16 if low else torch.float32
    a, b = torch.randn(2048, 2048, dtype=dtype), torch.randn(2048, 2048, dtype=dtype)
    out = torch.empty_like(a)

    def step(number: int) -> None:
        for _ in range(20):
            torch.mm(a, b, out=out)

    return step


def child(side: str, shape: Shape) -> None:
    """Take `shape.steps` steps each time a line comes, and answer with the seconds that they took."""
    import torch

    torch.set_num_threads(THREADS)
    makers = {
        "etude": lambda: etude(shape),
        "readme": lambda: peer(shape, best=False),
        "best": lambda: peer(shape, best=True),
        "best, keeping memory": lambda: peer(shape, best=True),
        "peak bf16": lambda: peak(True),
        "peak fp32": lambda: peak(False),
    }
    with contextlib.redirect_stdout(sys.stderr):  # the peer says how many parameters it has
        step, taken = makers[side](), 0
    for _ in range(3):
        step(taken)
        taken += 1
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(shape.steps if not side.startswith("peak") else 1):
            step(taken)
            taken += 1
        print(json.dumps(time.perf_counter() - began), flush=True)


SIDES = ("etude", "readme", "best", "best, keeping memory", "peak bf16", "peak fp32")


def start(side: str, name: str) -> subprocess.Popen[str]:
    """Start one side and wait until it is warm."""
    python = os.environ.get("PEER_PYTHON", sys.executable) if side[0] in "rb" else sys.executable
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)} | (KEEPING if "keeping" in side else {})
    words = [python, str(Path(__file__).resolve()), side, name]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"{side} could not start; see above")
    return process


def turn(process: subprocess.Popen[str]) -> float:
    """Let one side take its steps and return the seconds."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    for name, shape in SHAPES.items():
        sides = {side: start(side, name) for side in SIDES}
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(ROUNDS):
            for side, process in sides.items():
                times[side].append(turn(process))
        for process in sides.values():
            process.terminate()
        print(f"{name}: context {shape.context}, batch {shape.batch}, vocabulary {shape.vocabulary:,}, {ROUNDS} rounds")
        for side in ("readme", "best", "best, keeping memory"):
            ratios = [theirs / ours for theirs, ours in zip(times[side], times["etude"], strict=True)]
            middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
            print(f"  Etude over the peer, {side}: {middle:.2f} ({least:.2f} to {most:.2f})")
        for side in ("peak bf16", "peak fp32"):
            rates = [20 * 2 * 2048.0**3 / theirs for theirs in times[side]]
            done = shape.flops * shape.steps
            shares = [done / ours / rate for ours, rate in zip(times["etude"], rates, strict=True)]
            print(f"  of the {side} of matrix products: {statistics.median(shares):.0%}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(sys.argv[1], SHAPES[sys.argv[2]])
    else:
        main()
