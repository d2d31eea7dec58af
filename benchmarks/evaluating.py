"""Asking a model many questions: against lm-evaluation-harness's Hugging Face path on the same weights and requests.

A decoder with random weights is exported to a Hugging Face folder, which both sides load. The requests are those of
`etude run evaluate`: ARC-Easy and COPA as they are, and a subject of MMLU whose answers are letters, after five
examples. Each side gets the same pairs of texts and returns the log-likelihood of each continuation, from text to
number, without loading the model: the harness's `HFLM.loglikelihood` (fp32, its fused attention, each of some batch
sizes; it reads one-token answers to the same question once), and Etude's adapter, which asks as `evaluate` does. The
answers are compared. Sides take turns, each round gives one ratio (peer's time over ours) of the clock and of the
processor's time, which a busy machine changes less; medians are printed with the least and the most. One thread.

    python benchmarks/evaluating.py [--data ../shared/data] [--shape small] [--batch 16 64] [--rounds 7]

The peer is no dependency of Etude and needs an environment of its own, `.venv-lm-eval` of `make oracles`. Without it
the script says so and ends.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch

from etude.core.machine import keep_freed_memory
from etude.evals.lm_eval import register
from etude.evals.prompting import Prompt, Prompter
from etude.evals.tasks.base import Task
from etude.evals.tasks.mmlu import Mmlu
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.models.architectures.decoder import Decoder
from etude.models.outgoing import export
from etude.text.tokenizers.bpe import BytePair

FOUNDRY = "eval-tasks/llm-foundry"
TASKS: dict[str, tuple[type[Task], str, Prompt, int]] = {
    "ARC-Easy": (MultipleChoice, f"{FOUNDRY}/world_knowledge/arc_easy.jsonl", Prompt(), 150),
    "COPA": (MultipleChoice, f"{FOUNDRY}/commonsense_reasoning/copa.jsonl", Prompt(), 100),
    "MMLU, letters, 5 examples": (Mmlu, "eval-tasks/mmlu/test/anatomy_test.csv", Prompt(shots=5), 60),
}
SHAPES = {
    "small": Decoder(layers=4, width=128, heads=4, feedforward=512, context=1024, activation="gelu-tanh", tied=True),
    "middle": Decoder(layers=6, width=384, heads=6, feedforward=1536, context=1024, activation="gelu-tanh", tied=True),
}
VOCABULARY = 8192

Pairs = list[tuple[int, tuple[str, str]]]
Side = Callable[[], list[tuple[float, bool]]]


def pairs_of(name: str, data: Path, most: int) -> Pairs:
    """Return what is asked, each with its item's number."""
    cls, path, prompt, count = TASKS[name]
    task = cls(path=str(data / path))
    read, shown = task.read(), task.examples()
    prompter = Prompter(prompt, task.wording, read.items, shown.items if shown else None)
    chosen = read.items[: min(count, most or count)]
    return [(n, pair) for n, item in enumerate(chosen) for pair in prompter.asked(item).pairs()]


def sides_of(folder: Path, pairs: Pairs, batches: Sequence[int]) -> dict[str, Side]:
    """Return what answers the requests: ours, and theirs at each batch size."""
    instance, harness = import_module("lm_eval.api.instance").Instance, import_module("lm_eval.models.huggingface").HFLM
    requests = [instance("loglikelihood", {}, args, 0, metadata=("task", n, 1)) for n, args in pairs]
    ours = register()(run=str(folder))

    def theirs(batch: int) -> Side:
        model = harness(pretrained=str(folder), device="cpu", dtype="float32", batch_size=batch)
        return lambda: model.loglikelihood(requests, disable_tqdm=True)

    mine: Side = lambda: ours.loglikelihood(requests, disable_tqdm=True)  # noqa: E731
    return {"Etude": mine} | {f"batch {size}": theirs(size) for size in batches}


def seconds(run: Side) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def compare(name: str, sides: dict[str, Side], asked: int, rounds: int) -> None:
    """Print the ratios of one task."""
    ours, *theirs = sides
    found = {side: run() for side, run in sides.items()}  # and warms up
    worst = max(abs(a[0] - b[0]) / abs(b[0]) for side in theirs for a, b in zip(found[ours], found[side], strict=True))
    spent: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for n in range(rounds):
        for side in list(sides)[:: 1 if n % 2 else -1]:
            spent[side].append(seconds(sides[side]))
    rate = asked / statistics.median(busy for _, busy in spent[ours])
    print(f"{name}: {asked} requests, answers differ by {worst:.0e}; Etude {rate:,.0f} a processor second")
    for side in theirs:
        told = []
        for kind in range(2):
            ratios = [t[kind] / o[kind] for o, t in zip(spent[ours], spent[side], strict=True)]
            told.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print(f"  over theirs at {side:9} processor {told[1]}, clock {told[0]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64], help="of the peer")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--items", type=int, default=0, help="of each task at most; 0 is all that are meant")
    asked = parser.parse_args()
    if not all(map(importlib.util.find_spec, ("lm_eval", "transformers"))):
        print("lm-eval with transformers is not here: run this in .venv-lm-eval, which make oracles makes")
        return
    if not (asked.data / FOUNDRY).is_dir():
        print(f"no {asked.data / FOUNDRY}: name the folder of public data with --data")
        return
    torch.set_num_threads(1)
    keep_freed_memory()
    logging.disable(logging.WARNING)
    pairs = {name: pairs_of(name, asked.data, asked.items) for name in TASKS}
    everything = [(n, pair) for n, pair in enumerate(pair for found in pairs.values() for _, pair in found)]
    texts = [text for _, (context, answer) in everything for text in (context, answer)]
    tokenizer = BytePair(vocabulary=VOCABULARY).build(lambda: iter(texts))
    model = SHAPES[asked.shape].build(tokenizer.vocabulary).eval()
    with tempfile.TemporaryDirectory(prefix="etude-evaluating-") as folder:
        export(model, tokenizer, Path(folder) / "hf", "# A model\n")
        print(f"{asked.shape}: {SHAPES[asked.shape].parameters(tokenizer.vocabulary):,} parameters,"
              f" vocabulary {tokenizer.vocabulary}, torch {torch.__version__}")  # fmt: skip
        for name, found in pairs.items():
            compare(name, sides_of(Path(folder) / "hf", found, asked.batch), len(found), asked.rounds)
        numbered = [((task, n), pair) for task, found in enumerate(pairs.values()) for n, pair in found]
        joined = [(task * 10**6 + n, pair) for (task, n), pair in numbered]
        compare("all three", sides_of(Path(folder) / "hf", joined, asked.batch), len(joined), asked.rounds)


if __name__ == "__main__":
    main()
