"""Writing with a cache: tokens per second against Hugging Face `generate` on the same weights, greedy.

GPT-2's shape (width 768, 12 layers, vocabulary 50,257) and a small one (width 128, 4 layers, vocabulary 2,048), a
prompt of 64 tokens and 128 new ones, one text and 16 at once. Both in fp32, and each in the faster of fp32 and bf16:
the peer with its weights in bf16, as it is told to; Etude with `precision="bf16"`. The sides alternate run by run, so
that a busy machine slows both; each round gives one ratio (peer's time over ours), and the median of the rounds is
reported with the least and the most. What a side makes of its weights before it writes is not counted.

    python benchmarks/generating.py [--rounds 7] [--shape small] [--texts 1] [--threads 1]

The peer is no dependency of Etude: install transformers 5.23.0 beside it in an environment of its own. Without it the
script says so and ends.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from etude.core.machine import keep_freed_memory
from etude.models.architectures.decoder import Decoder
from etude.models.formats.gpt2 import Gpt2
from etude.models.generation import generate
from etude.models.prepared import prepared
from etude.models.sampling import Sampling
from etude.models.transformer import Transformer

PROMPT, NEW = 64, 128
SHAPES = {"gpt2": (768, 12, 12, 50257), "small": (128, 4, 4, 2048)}
PRECISIONS = ("fp32", "bf16")


class Ids:
    """Stands for a tokenizer: tokens go in and out as they are, and no token ends a text."""

    end, specials, by_piece, lossless = -1, dict[str, int](), True, True

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def decode_bytes(self, ids: Any) -> bytes:
        return b"." * len(list(ids))


def peer(model: Transformer, transformers: Any) -> Any:
    """Return transformers' GPT-2 with a model's weights."""
    spec = model.spec
    config = transformers.GPT2Config(**{k: v for k, v in Gpt2().write(spec, model.vocabulary).items() if k[0] != "m"})
    config.eos_token_id = config.bos_token_id = None
    theirs = transformers.GPT2LMHeadModel(config).eval()
    ours = model.state_dict()
    state = {row.theirs: row.give(tuple(ours[name] for name in row.ours)) for row in Gpt2().table(spec)}
    theirs.load_state_dict(state, strict=False)
    theirs.tie_weights()
    return theirs


def their_tokens(model: Any, prompts: Tensor) -> list[list[int]]:
    with torch.inference_mode():
        written = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            pad_token_id=0,
        )
    return written[:, PROMPT:].tolist()


def our_tokens(model: Transformer, prompts: Tensor, ready: Any) -> list[list[int]]:
    sampling = Sampling(temperature=0, max_tokens=NEW)
    texts: list[list[int]] = prompts.tolist()
    done = generate(model, Ids(model.vocabulary), texts, sampling, ready=ready)  # type: ignore[arg-type]
    return [list(text.ids) for text in done]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(name: str, texts: int, rounds: int, transformers: Any) -> None:
    width, layers, heads, vocabulary = SHAPES[name]
    spec = Decoder(
        layers=layers,
        width=width,
        heads=heads,
        feedforward=4 * width,
        context=256,
        activation="gelu-tanh",
        tied=True,
    )
    model = spec.build(vocabulary).eval()
    theirs = {"fp32": peer(model, transformers), "bf16": peer(model, transformers).to(torch.bfloat16)}
    prompts = torch.randint(vocabulary, (texts, PROMPT), generator=torch.Generator().manual_seed(0))
    runs: dict[tuple[str, str], Callable[[], list[list[int]]]] = {}
    for p in PRECISIONS:
        runs["peer", p] = lambda p=p: their_tokens(theirs[p], prompts)
        runs["ours", p] = partial(our_tokens, model, prompts, prepared(model, p, texts))
    same = runs["peer", "fp32"]() == runs["ours", "fp32"]()  # and warms up
    spent: dict[tuple[str, str], list[float]] = {side: [] for side in runs}
    for n in range(rounds):
        for side in list(runs)[:: 1 if n % 2 else -1]:
            spent[side].append(seconds(runs[side]))
    best = {who: min(PRECISIONS, key=lambda p: statistics.median(spent[who, p])) for who in ("peer", "ours")}
    print(f"{name}, {texts} at once; fp32 writes {'the same tokens' if same else 'OTHER TOKENS'}")
    pairs = {"fp32 against fp32": ("fp32", "fp32"), "bf16 against bf16": ("bf16", "bf16")}
    pairs[f"best against best ({best['ours']}, {best['peer']})"] = (best["ours"], best["peer"])
    for what, (our, their) in pairs.items():
        ratios = [t / o for o, t in zip(spent["ours", our], spent["peer", their], strict=True)]
        rate = texts * NEW / statistics.median(spent["ours", our])
        print(
            f"  {what:36} {statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f}) {rate:8,.0f}/s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--texts", type=int, choices=(1, 16))
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()  # both sides gain from it
    try:
        transformers: Any = import_module("transformers")
    except ImportError:
        print("transformers is not here, so there is nothing to compare with: run this where it is installed too")
        return
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {asked.rounds} rounds, new tokens {NEW}"
    )
    for name in [asked.shape] if asked.shape else ["small", "gpt2"]:
        for texts in [asked.texts] if asked.texts else [1, 16]:
            compare(name, texts, asked.rounds, transformers)


if __name__ == "__main__":
    main()
