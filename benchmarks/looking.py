"""Looking inside: time and memory against TransformerLens on the same weights.

A GPT-2-shaped decoder is looked at by both, each in its own way of saying it, in fp32 without gradients. The sides
alternate run by run, so that a busy machine slows both; each round gives one ratio (our time over the peer's: below 1
is faster), and the median of the rounds is reported with the least and the most. Memory is what the resident set of a
fresh process grows by while the one thing is done (Linux), as a ratio too.

    PYTHONPATH=src python benchmarks/looking.py [--rounds 7] [--shape small] [--threads 1]

The peer is no dependency of Etude: run this in an environment of its own, with torch, transformers 5.23.0 and
transformer-lens 4.3.0 beside Etude's libraries. Without it the script says so and ends.
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etude.core.machine import keep_freed_memory
from etude.interp.ablation import ablate_heads
from etude.interp.metrics import LogitDifference
from etude.interp.patching import patch_map
from etude.models.architectures.decoder import Decoder
from etude.models.decoder_model import DecoderModel
from etude.nn.look import look
from etude.nn.taps import Tap


class Shape(NamedTuple):
    """A model and a text: batch and length of what is read; length of the prompt that is patched."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    batch: int
    length: int
    prompt: int


SHAPES = {"small": Shape(4, 128, 8, 2000, 4, 128, 64), "gpt2": Shape(12, 768, 12, 50257, 1, 256, 32)}
LONG = ("ablation of each head", "patching, layer by position")
"""What takes the peer minutes at GPT-2's shape: done in fewer rounds there, and its memory is not measured."""

LEFT_OUT = "head_out"
"""What each head writes by itself is H times the stream; the peer makes it only when told to."""


def ours(shape: Shape) -> DecoderModel:
    spec = Decoder(
        layers=shape.layers,
        width=shape.width,
        heads=shape.heads,
        feedforward=4 * shape.width,
        context=max(shape.length, shape.prompt),
        activation="gelu-tanh",
    )
    model = spec.build(shape.vocabulary, seed=0)
    assert isinstance(model, DecoderModel)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0) if weight.ndim > 1 else None  # so that patterns are not all alike
    return model.eval()


def peer(model: DecoderModel) -> Any:
    """Return TransformerLens' own model with the same weights."""
    config_of = import_module("transformer_lens.config").TransformerBridgeConfig
    build = import_module("transformer_lens.model_bridge.sources._bridge_builder").build_bridge_from_module
    native_of = import_module("transformer_lens.model_bridge.sources.native").NativeModel
    spec = model.spec
    config = config_of(
        n_layers=spec.layers,
        d_model=spec.width,
        n_ctx=spec.context,
        d_head=spec.head_width,
        n_heads=spec.heads,
        d_mlp=spec.feedforward,
        d_vocab=model.vocabulary,
        act_fn="gelu_new",
        normalization_type="LN",
        positional_embedding_type="standard",
    )
    native = native_of(config).eval()
    native.load_state_dict(dict(their_weights(model)), strict=False)
    return build(native, architecture="TransformerLensNative", tl_config=config)


def their_weights(model: DecoderModel) -> Any:
    """Yield the weights under the peer's names and in its layout."""
    plain = {"embed.W_E": "tok_embed.weight", "embed.W_pos": "pos.weight", "unembed.W_U": "head.weight"}
    parts = {"attn_norm": "ln1", "mlp_norm": "ln2"}
    for name, value in model.state_dict().items():
        *path, last = name.split(".")
        kind = "weight" if last.startswith("W_") or last == "w" else "bias"
        if name in plain:
            theirs = plain[name]
        elif path == ["final_norm"]:
            theirs = f"ln_out.{kind}"
        else:
            layer, part = path[1], path[2]
            if part in parts:
                theirs = f"layers.{layer}.{parts[part]}.{kind}"
            else:
                letter = last.partition("_")[2]
                theirs = f"layers.{layer}.{part}." + (f"fc_{letter}" if part == "mlp" else letter.lower()) + f".{kind}"
        if last in ("W_Q", "W_K", "W_V"):
            value = value.flatten(1)
        elif last == "W_O":
            value = value.flatten(0, 1)
        elif last.startswith("b_"):
            value = value.flatten()
        yield theirs, (value.T if last.startswith("W_") and last not in ("W_E", "W_pos") else value).contiguous()


Task = Callable[[], object]


def tasks(shape: Shape, model: DecoderModel, bridge: Any) -> dict[str, tuple[Task, Task]]:
    """Return each thing that is looked at, as we do it and as the peer does it."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(shape.vocabulary, (shape.batch, shape.length), generator=draw)
    clean = torch.randint(shape.vocabulary, (1, shape.prompt), generator=draw)
    corrupted = clean.clone()
    corrupted[0, shape.prompt // 3] = (corrupted[0, shape.prompt // 3] + 1) % shape.vocabulary
    metric = LogitDifference(5, 7)
    folder = tempfile.mkdtemp(prefix="etude-looking-")
    atexit.register(shutil.rmtree, folder)
    every = [site for site, place in model.places().items() if isinstance(place, Tap) and LEFT_OUT not in site]

    def cached(wanted: Callable[[str], bool] | None = None, **more: Any) -> object:
        return bridge.run_with_cache(tokens, names_filter=wanted, **more)

    def their_ablations() -> object:
        found = []
        for layer in range(shape.layers):
            for head in range(shape.heads):

                def zero(z: Tensor, hook: Any, head: int = head) -> Tensor:
                    z = z.clone()
                    z[:, :, head] = 0
                    return z

                logits = bridge.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", zero)])
                found.append(metric(logits))
        return torch.stack(found)

    def their_map() -> object:
        _, cache = bridge.run_with_cache(clean, names_filter=lambda name: name.endswith("hook_resid_pre"))
        found = []
        for layer in range(shape.layers):
            name = f"blocks.{layer}.hook_resid_pre"
            for place in range(shape.prompt):

                def patch(x: Tensor, hook: Any, name: str = name, place: int = place) -> Tensor:
                    x = x.clone()
                    x[:, place] = cache[name][:, place]
                    return x

                found.append(metric(bridge.run_with_hooks(corrupted, fwd_hooks=[(name, patch)])))
        return torch.stack(found)

    streams = ["L*.resid.pre", f"L{shape.layers - 1}.resid.post"]
    last = f"blocks.{shape.layers - 1}.hook_resid_post"
    low, their_low = "L0.attn.out", "blocks.0.hook_attn_out"
    return {
        "all attention patterns": (
            partial(look, model, tokens, "L*.attn.pattern"),
            partial(cached, lambda name: name.endswith("hook_pattern")),
        ),
        "all residual streams": (
            partial(look, model, tokens, streams),
            partial(cached, lambda name: name.endswith("hook_resid_pre") or name == last),
        ),
        "everything": (partial(look, model, tokens, every), cached),
        "everything, ours kept in files": (partial(look, model, tokens, every, folder=folder), cached),
        "one site near the bottom": (
            partial(look, model, tokens, low),
            partial(cached, lambda name: name == their_low),
        ),
        "the same, the peer told where to stop": (
            partial(look, model, tokens, low),
            partial(cached, lambda name: name == their_low, stop_at_layer=1),
        ),
        "ablation of each head": (partial(ablate_heads, model, tokens, metric, "zero"), their_ablations),
        "patching, layer by position": (partial(patch_map, model, clean, corrupted, metric, "resid"), their_map),
    }


def seconds(run: Task) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(name: str, rounds: int) -> None:
    shape = SHAPES[name]
    model = ours(shape)
    bridge = peer(model)
    every = tasks(shape, model, bridge)
    tokens = torch.arange(shape.prompt)[None]
    apart = float((model(tokens) - bridge(tokens)).abs().max())
    print(f"{name}: {shape}\n  greatest difference of the logits {apart:.1e}", flush=True)
    for what, (we, they) in every.items():
        long = what in LONG and name == "gpt2"
        for task in (we, they):
            task()  # warms up
        ratios = []
        for n in range(max(3, rounds // 2) if long else rounds):
            spent = {side: seconds(side) for side in ((we, they) if n % 2 else (they, we))}
            ratios.append(spent[we] / spent[they])
        print(f"  {what:40} {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    for what in every:
        if what in LONG and name == "gpt2":
            continue
        spent = [statistics.median(memory(name, what, side) for _ in range(3)) for side in ("ours", "peer")]
        ratio = spent[0] / max(1, spent[1])
        print(f"  memory: {what:32} {ratio:5.2f} ({spent[0]:,.0f} to {spent[1]:,.0f} MiB)", flush=True)


def memory(name: str, what: str, side: str) -> float:
    """Return by how many MiB a fresh process grows while it does one thing."""
    command = [sys.executable, __file__, "--shape", name, "--grow", what, "--side", side]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def grow(name: str, what: str, side: str) -> None:
    shape = SHAPES[name]
    model = ours(shape)
    bridge = peer(model)
    we, they = tasks(shape, model, bridge)[what]
    task = we if side == "ours" else they
    with torch.no_grad():
        few = torch.zeros(1, 2, dtype=torch.long)
        for read in (model, bridge):
            read(few)  # what libraries allocate once
    ctypes.CDLL(None).malloc_trim(0)  # what making the models left behind would be used again
    Path("/proc/self/clear_refs").write_text("5")  # begins the high-water mark anew
    before = resident("VmRSS")
    kept = task()
    print(resident("VmHWM") - before)
    del kept


def resident(field: str) -> float:
    """Return a line of the process's status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--grow", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.filterwarnings("ignore")
    try:
        import_module("transformer_lens")
    except ImportError:
        print("transformer-lens is not here, so there is nothing to compare with: run this where it is installed too")
        return
    with torch.no_grad():
        if asked.grow:
            grow(asked.shape, asked.grow, asked.side)
            return
        keep_freed_memory()  # both sides gain from it
        print(f"torch {torch.__version__}, transformer-lens {version('transformer-lens')}, {asked.rounds} rounds")
        for name in [asked.shape] if asked.shape else SHAPES:
            compare(name, asked.rounds)


if __name__ == "__main__":
    main()
