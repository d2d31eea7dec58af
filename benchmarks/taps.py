"""What taps cost: untapped, against the same model without any; and reading one site, against a plain forward pass.

Width 128, 4 layers, context 64, batch 12, one thread, eager. The two sides alternate step by step, so that a busy
machine slows both; each round gives one ratio, and the median of the rounds is reported with the least and the most.

    python benchmarks/taps.py [--rounds 11] [--steps 40]

21 November 2026, 2-core Intel Xeon, torch 2.13.0+cpu, quiet (the same model against itself: 1.00). Medians, with the
least and the most: untapped 1.01 (1.00 to 1.04) for forward and backward, 1.01 (1.01 to 1.02) for a forward pass, 1.07
(1.06 to 1.08) for that of one text; reading a stream site 1.04, attn.z 1.04, mlp.post 1.07, attn.pattern 1.09 (1.08 to
1.10; the plain path and a larger copy), a norm's scale 1.06. What moved it: a tap that nobody watches leaves out what
nn.Module does around a forward pass (one text: 1.09 before), and addresses are kept between looks (reading: 1.08 to
1.12 before).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.models.architectures.decoder import Decoder
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.nn.taps import Tap

SPEC = Decoder(layers=4, width=128, heads=4, feedforward=512, context=64)
VOCABULARY, BATCH = 65, 12

Step = Callable[[], object]


class Nothing:
    """Stands where a tap stood, and is no module: what the model would call if it had no sites."""

    watched = False

    def __call__(self, x: Tensor) -> Tensor:
        return x


def without_taps(model: Transformer) -> Transformer:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Tap):
                delattr(module, name)
                object.__setattr__(module, name, Nothing())
    return model


def training(model: Transformer, tokens: Tensor) -> Step:
    def step() -> None:
        logits: Tensor = model(tokens)
        F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        model.zero_grad()

    return step


def forward(model: nn.Module, tokens: Tensor) -> Step:
    return torch.no_grad()(lambda: model(tokens))


def seconds(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def compare(one: Step, other: Step, rounds: int, steps: int) -> list[float]:
    """Return the ratio of each round's time: `one` over `other`."""
    ratios = []
    for _ in range(rounds + 1):
        spent = [0.0, 0.0]
        for n in range(steps):
            for side in ((0, 1), (1, 0))[n % 2]:
                spent[side] += seconds((one, other)[side])
        ratios.append(spent[0] / spent[1])
    return ratios[1:]  # the first round warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_args()
    torch.set_num_threads(1)

    model, bare = SPEC.build(VOCABULARY), without_taps(SPEC.build(VOCABULARY))
    tokens = torch.randint(VOCABULARY, (BATCH, SPEC.context), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(tokens), bare(tokens))
    one_text = tokens[:1]

    plain = forward(model, tokens)
    cases: dict[str, tuple[Step, Step]] = {
        "the same model twice (the noise)": (training(model, tokens), training(model, tokens)),
        "untapped, forward and backward": (training(model, tokens), training(bare, tokens)),
        "untapped, forward": (plain, forward(bare, tokens)),
        "untapped, forward of one text": (forward(model, one_text), forward(bare, one_text)),
        "reading L2.resid.mid": (lambda: look(model, tokens, "L2.resid.mid"), plain),
        "reading L2.attn.z": (lambda: look(model, tokens, "L2.attn.z"), plain),
        "reading L2.mlp.post": (lambda: look(model, tokens, "L2.mlp.post"), plain),
        "reading L2.attn.pattern": (lambda: look(model, tokens, "L2.attn.pattern"), plain),
        "reading L2.attn_norm.scale": (lambda: look(model, tokens, "L2.attn_norm.scale"), plain),
    }
    print(f"torch {torch.__version__}, {asked.rounds} rounds of {asked.steps} alternating steps")
    print(f"{'':36} {'median':>7} {'least':>7} {'most':>7}")
    for name, (one, other) in cases.items():
        ratios = compare(one, other, asked.rounds, asked.steps)
        print(f"{name:36} {statistics.median(ratios):7.3f} {min(ratios):7.3f} {max(ratios):7.3f}")


if __name__ == "__main__":
    main()
