"""Compression against the loops that one would write first: the ratio of the times, part by part.

    python benchmarks/squeeze.py [sweep] [--steps 100] [--rounds 7]

`sweep`: InfoVAEs of seven sizes at one component of a trained model of width 128, on 32,768 recorded activations. The
plain loop takes the same steps from the same start, on layers of the same widths: it runs the model for the activations
of each batch, draws a sample of the prior, and makes all three kernel matrices, each by one product (by differences of
all pairs, as in much published code, they take ten to a hundred times as long). Recording is in Etude's time. A round
runs both, one after the other, on one thread. A compression takes 600 steps by default; here it is fewer, which counts
against Etude, whose start is in its time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from etude.compress.autoencoder import Affine, Autoencoder
from etude.compress.material import Material
from etude.compress.methods.infovae import Infovae
from etude.compress.prior import mmd_to_normal
from etude.core.lab import Lab
from etude.core.machine import keep_freed_memory
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.loss import chosen_windows
from etude.evals.recipes import Record
from etude.evals.recording import Recording, record
from etude.evals.splits import windows_of
from etude.models.architectures.decoder import Decoder
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.text.batches import Examples
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train
from etude.train.schedule import Schedule

SIZES = (1, 5, 10, 20, 50, 100, 120)
SITE, WIDTH, CONTEXT, TOKENS = Site("L1.mlp.out"), 128, 64, 32768
TRAIN = Train(
    data=Tokens(Fable(stories=2000), Byte()),
    model=Decoder(layers=4, width=WIDTH, heads=4, feedforward=512, context=CONTEXT),
    schedule=Schedule(peak=2e-3, warmup=20),
    batch=16,
    steps=200,
    evaluate_every=0,
)


@cache
def trained() -> tuple[Transformer, Examples, Path]:
    """Return a model, its training text, and a folder for what is written."""
    folder = Path(tempfile.mkdtemp(prefix="etude-squeeze-"))
    lab = Lab(folder / "runs", threads=1, quiet=True)
    model, _ = load(lab.run(TRAIN))
    return model, windows_of(TRAIN, TextData.open(lab.run(TRAIN.data)), "train"), folder


class Plain(nn.Module):
    """The same maps in PyTorch's own layers, begun where Etude's begin."""

    def __init__(self, start: Autoencoder) -> None:
        super().__init__()
        self.read, self.encode_in, self.encode_out = map(layer, (start.read, start.encode_in, start.encode_out))
        self.write, self.decode_in, self.decode_out = map(layer, (start.write, start.decode_in, start.decode_out))

    def encode(self, x: Tensor) -> Tensor:
        return self.read(x) + self.encode_out(gelu(self.encode_in(x)))

    def decode(self, z: Tensor) -> Tensor:
        return self.write(z) + self.decode_out(gelu(self.decode_in(z)))


def layer(of: Affine) -> nn.Linear:
    inputs, outputs = of.W.shape
    made = nn.Linear(inputs, outputs)
    made.weight.data.copy_(of.W.T)
    made.bias.data.copy_(of.b)
    return made


def kernel(a: Tensor, b: Tensor, variance: float) -> Tensor:
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return torch.exp(-squared / (2 * variance))


def plain_sweep(
    starts: dict[int, Autoencoder], methods: dict[int, Infovae], recorded: Tensor | None = None
) -> dict[int, Plain]:
    """Train one size after the other, as one would at first; or on recorded activations, to compare the losses: rows of
    the same few windows are a noisier batch than rows of all."""
    model, examples, _ = trained()
    windows = chosen_windows(examples, TOKENS)
    found: dict[int, Plain] = {}
    seen: list[Tensor] = []

    def see(tap: nn.Module, args: tuple, out: Tensor) -> None:
        seen.append(out)

    hook = model.get_submodule(SITE.path).register_forward_hook(see)
    draw = torch.Generator().manual_seed(1)
    for size, method in methods.items():
        net, start = Plain(starts[size]), starts[size]
        optimiser = torch.optim.Adam(net.parameters(), lr=method.rate)
        warm = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n, of=method.steps: schedule(n, of))
        for _ in range(method.steps):
            if recorded is None:
                rows = windows[torch.randint(len(windows), (method.batch // CONTEXT,), generator=draw).numpy()]
                with torch.no_grad():
                    model(torch.from_numpy(examples.batch(rows).inputs))
                x = start.standard(seen.pop().flatten(0, 1))
            else:
                x = start.standard(recorded[torch.randint(len(recorded), (method.batch,), generator=draw)])
            z = net.encode(x)
            prior = torch.randn(z.shape, generator=draw)
            variance = method.bandwidth * size
            mmd = kernel(z, z, variance).mean() + kernel(prior, prior, variance).mean()
            loss = ((x - net.decode(z)) ** 2).mean() + mmd - 2 * kernel(z, prior, variance).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            warm.step()
            loss.item()  # as one logs it
        found[size] = net
    hook.remove()
    return found


def schedule(number: int, steps: int) -> float:
    return min(1.0, (number + 1) / 50) * 0.5 * (1 + math.cos(math.pi * number / steps))


def etude_sweep(methods: dict[int, Infovae], folder: Path, seed: int = 0) -> dict[int, Autoencoder]:
    """Record once and fit each size."""
    model, examples, _ = trained()
    folder.mkdir()
    values = record(model, examples, chosen_windows(examples, TOKENS), SITE, folder).activations(SITE)
    found: dict[int, Autoencoder] = {}
    for size, method in methods.items():
        codec = method.fit(Material(values), seed, Draft(folder / f"{size}.partial", Record(TRAIN, SITE).resolve()))
        found[size] = codec  # type: ignore[assignment]
    return found


def losses(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """Return the share of variance that is lost, and the discrepancy, by one measure for both."""
    with torch.no_grad():
        z = encode(x)
        return float(((x - decode(z)) ** 2).mean()), float(mmd_to_normal(z[:4096], 2.0))


def sweep(steps: int, rounds: int) -> None:
    """Print how many times as fast the seven sizes are as the plain loop, and the losses of both at the end."""
    _, _, folder = trained()
    methods = {size: Infovae(latent=size, steps=steps) for size in SIZES}
    starts = etude_sweep({size: Infovae(latent=size, steps=0) for size in SIZES}, folder / "starts")
    ratios: list[tuple[float, float]] = []
    fitted, plain = {}, {}
    for turn in range(rounds):
        began = clocks()
        fitted = etude_sweep(methods, folder / f"round-{turn}")
        between = clocks()
        plain = plain_sweep(starts, methods)
        pairs = list(zip(began, between, clocks(), strict=True))
        wall, processor = ((end - middle) / (middle - start) for start, middle, end in pairs)
        ratios.append((wall, processor))
        print(f"  round {turn + 1}: {wall:.2f} by the clock, {processor:.2f} by the processor", flush=True)
    print_losses(fitted, plain, starts, methods)
    for name, found in zip(("clock", "processor"), zip(*ratios, strict=True), strict=True):
        print(
            f"sweep of {len(SIZES)} InfoVAEs, {steps} steps each, against a plain loop, by the {name}:"
            f" {statistics.median(found):.1f}  ({min(found):.1f} to {max(found):.1f}, n = {len(found)})"
        )


def clocks() -> tuple[float, float]:
    """Return the time, and the processor's time of this process, which others on the machine touch less."""
    return time.perf_counter(), time.process_time()


def print_losses(
    fitted: dict[int, Autoencoder],
    plain: dict[int, Plain],
    starts: dict[int, Autoencoder],
    methods: dict[int, Infovae],
) -> None:
    folder = trained()[-1]
    values = Recording.open(folder / "round-0").activations(SITE)
    x = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]
    other = etude_sweep(methods, folder / "other-seed", seed=1)
    same = plain_sweep(starts, methods, values)
    print("size: lost and MMD of Etude, of another seed, of the plain loop on recorded activations, of the plain loop")
    for size in SIZES:
        read = starts[size].standard(x)
        told = [losses(codec.squeeze, codec.expand, read) for codec in (fitted[size], other[size])]
        told += [losses(net.encode, net.decode, read) for net in (same[size], plain[size])]
        print(f"  {size:4d}: " + "   ".join(f"{lost:.5f} {mmd:+.5f}" for lost, mmd in told))


PARTS = {"sweep": sweep}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one or more of {', '.join(PARTS)}; default all")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as in any work of Etude's; the plain loop has it too
    for name in given.parts or PARTS:
        if name not in PARTS:
            parser.error(f"{name!r} is no part: choose from {', '.join(PARTS)}")
        PARTS[name](given.steps, given.rounds)


if __name__ == "__main__":
    main()
