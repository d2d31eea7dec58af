"""Sparse autoencoders against SAELens: what is recovered of a model's loss with as many latents, and tokens a second.

A site of a trained model is recorded once, and both sides train top-k autoencoders with eight times as many latents as
the site has dimensions on the same rows, in fp32, for the same number of tokens, on one thread. SAELens's weights are
then put into Etude's codec, and both are judged by the same measures on text that neither has seen: variance explained
about the mean, the rise in the model's loss, and the share of the loss that is recovered, against the mean activation
in its place and against zeros. Latents that are not zero, and those that never are, are counted over the recorded rows.

Etude is as it comes. SAELens is trained in two settings: as it comes (4,096 tokens a step, a rate of 3e-4 that stays),
with the length of the training alone changed; and tuned, with Etude's batch, a warm-up of 50 steps, a linear fall over
the last fifth, latents that count as dead after 32 steps, and of several rates the one that recovers most here with the
first seed, which favours it. In both its inputs are scaled to one mean norm (`expected_average_only_in`).
Speed is measured at the tuned setting, and with SAELens's own 1,000 steps before a latent is dead, by which it never
revives one here; in rounds in which the sides take turns. It is the ratio of the times of whole trainings; that of the
processor's times is changed little by a busy machine.

    python benchmarks/squeeze_saelens.py --peer PYTHON [--of RUN --runs FOLDER] [--site L0.mlp.out]

The peer is no dependency of Etude and needs an environment of its own:

    python -m venv peer && peer/bin/pip install torch==2.13.0 sae-lens==6.54.12    # then --peer peer/bin/python
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from etude.compress.codec import Codec
from etude.compress.compressor import Compressor
from etude.compress.host import Host
from etude.compress.linear import constant
from etude.compress.material import Material
from etude.compress.methods.topk_sae import TopkSae
from etude.compress.score import harm
from etude.compress.sparse import Sparse
from etude.core.lab import Lab
from etude.core.machine import keep_freed_memory
from etude.core.run import Draft, Run
from etude.core.shelf import Shelf
from etude.core.site import Site
from etude.evals.loss import chosen_windows
from etude.evals.recipes import Record
from etude.evals.recording import record
from etude.evals.splits import windows_of
from etude.models.architectures.decoder import Decoder
from etude.models.load import load
from etude.models.recipes import ModelRecipe
from etude.models.transformer import Transformer
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train
from etude.train.schedule import Schedule

TRAIN = Train(
    data=Tokens(Fable(stories=8000), Byte()),
    model=Decoder(layers=2, width=128, heads=4, feedforward=512, context=128),
    schedule=Schedule(peak=2e-3, warmup=50),
    batch=16,
    steps=600,
    evaluate_every=0,
)
"""What is looked into where no run is given."""

TIMES = 8
"""Latents for each dimension."""

AS_IT_COMES = {"batch": 4096, "rate": 3e-4, "warm": 0, "decay": 0.0, "dead": 1000}
TUNED = {"batch": TopkSae.batch, "warm": 50, "decay": 0.2, "dead": 32}


class Setting(NamedTuple):
    """What both sides work on.

    Attributes:
        of: recipe of the model.
        model: the model.
        site: in it.
        rows: [N D] recorded there on the training split.
        file: that holds them for the peer.
        host: that judges, with the validation split.
        folder: for what is written.
    """

    of: ModelRecipe
    model: Transformer
    site: Site
    rows: Tensor
    file: Path
    host: Host
    folder: Path


def setting(run: Run, runs: Path, site: Site, folder: Path, tokens: int) -> Setting:
    """Record a site of a model."""
    of, model = run.recipe, load(run)[0].float()
    assert isinstance(of, ModelRecipe)
    text = TextData.open(Run(runs / of.text.resolve().id))
    train, valid = windows_of(of, text, "train"), windows_of(of, text, "valid")
    rows = record(model, train, chosen_windows(train, tokens), site, folder).activations(site).float()
    file = folder / "rows.safetensors"
    save_file({"rows": rows.contiguous()}, file)
    host = Host(model, valid, chosen_windows(valid, 16384))
    return Setting(of, model, site, rows, file, host, folder)


def has_saelens(python: str) -> bool:
    """Return whether there is such a Python, with SAELens."""
    found = shutil.which(python)
    return bool(found) and not subprocess.run([found, "-c", "import sae_lens"], capture_output=True).returncode


class Peer:
    """SAELens, in a process of its own."""

    def __init__(self, python: str) -> None:
        worker = Path(__file__).with_name("squeeze_saelens_peer.py")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [python, str(worker)], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self.versions = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the peer's process has ended: run squeeze_saelens_peer.py by itself to see why")
        return json.loads(line)

    def train(self, told: dict[str, Any]) -> dict[str, float]:
        """Train, and return the seconds that it took."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return self._answer()


def read_saelens(folder: Path) -> Sparse:
    """Return the codec in a folder that SAELens wrote. What its bias takes from the input is our centre."""
    config, weights = json.loads((folder / "cfg.json").read_text()), load_file(folder / "sae_weights.safetensors")
    assert (config["architecture"], config["normalize_activations"]) == ("topk", "none"), config
    torch.testing.assert_close(weights["W_dec"].norm(dim=1), torch.ones(len(weights["b_enc"])))  # so nothing rescales
    centre = weights["b_dec"] if config["apply_b_dec_to_input"] else torch.zeros_like(weights["b_dec"])
    rate = torch.zeros(len(weights["b_enc"]), dtype=torch.float64)
    return Sparse.of({**weights, "centre": centre, "rate": rate}, config["k"])


def ours(at: Setting, k: int, seed: int, tokens: int) -> Sparse:
    """Return the autoencoder that Etude trains."""
    method = TopkSae(k=k, features=TIMES * at.rows.shape[1], steps=tokens // TopkSae.batch)
    draft = Draft(Path(tempfile.mkdtemp(dir=at.folder)) / "fit.partial", Record(at.of, at.site).resolve())
    codec = method.fit(Material(at.rows, at.site), seed, draft)
    assert isinstance(codec, Sparse)
    return codec


def orders(at: Setting, k: int, seed: int, tokens: int, **how: float) -> dict[str, Any]:
    """Return what the peer is told to do."""
    made = {"rows": str(at.file), "features": TIMES * at.rows.shape[1], "k": k, "seed": seed, "tokens": tokens}
    return {**made, "folder": "", **how}


def theirs(at: Setting, peer: Peer, k: int, seed: int, tokens: int, **how: float) -> Sparse:
    """Return the autoencoder that SAELens trains."""
    folder = Path(tempfile.mkdtemp(dir=at.folder))
    peer.train({**orders(at, k, seed, tokens, **how), "folder": str(folder)})
    codec, made = read_saelens(folder), load_file(folder / "made.safetensors")["made"]
    torch.testing.assert_close(codec(at.rows[: len(made)]), made, atol=1e-4, rtol=1e-4)  # read back as it was meant
    return codec


class Score(NamedTuple):
    """How an autoencoder does.

    Attributes:
        explained: share of the variance about the mean, on unseen text.
        rise: of the loss, in nats.
        of_mean: share of what the mean in its place costs that is recovered.
        of_zero: the same of zeros.
        active: latents that are not zero, on average.
        dead: latents that are never other than zero.
    """

    explained: float
    rise: float
    of_mean: float
    of_zero: float
    active: float
    dead: float


class Judge:
    """Scores autoencoders at a site, whoever trained them."""

    def __init__(self, at: Setting) -> None:
        self.at = at
        self.mean = self._rise(constant(at.rows.double().mean(0).float()))[0]
        self.zero = self._rise(constant(torch.zeros(at.rows.shape[1])))[0]

    def _rise(self, codec: Codec) -> tuple[float, float]:
        found = harm(self.at.host, Compressor.of(self.at.site, codec)).to_json()
        return found["increase"]["mean"], found["explained"]

    def score(self, codec: Sparse) -> Score:
        rise, explained = self._rise(codec)
        codec.measure_rate(self.at.rows)
        return Score(explained, rise, 1 - rise / self.mean, 1 - rise / self.zero, codec.active, codec.dead)


def in_words(scores: list[Score]) -> str:
    """Return the means over seeds; of what is recovered against the mean, with the least and the most."""
    mean = Score(*(statistics.fmean(values) for values in zip(*scores, strict=True)))
    least, most = min(s.of_mean for s in scores), max(s.of_mean for s in scores)
    return (
        f"{mean.active:6.2f} {mean.explained:8.4f} {mean.rise:8.4f}  {mean.of_mean:.4f} ({least:.4f} to {most:.4f})"
        f"  {mean.of_zero:.4f} {mean.dead:7.0f}"
    )


def compare(at: Setting, peer: Peer, sizes: list[int], rates: list[float], seeds: int, tokens: int) -> None:
    """Print how each side does at each size."""
    judge = Judge(at)
    print(f"rise of the loss with the mean in its place {judge.mean:.4f} nats, with zeros {judge.zero:.4f}")
    print(
        f"{'k':>3} {'':20} {'L0':>6} {'variance':>8} {'rise':>8}  {'recovered of the mean':25} {'of 0':>6} {'dead':>7}"
    )
    for k in sizes:
        tried = {rate: judge.score(theirs(at, peer, k, 0, tokens, rate=rate, **TUNED)) for rate in rates}
        best = max(tried, key=lambda rate: tried[rate].of_mean)
        sides: dict[str, Callable[[int], Sparse]] = {
            "Etude": lambda seed, k=k: ours(at, k, seed, tokens),
            "SAELens as it comes": lambda seed, k=k: theirs(at, peer, k, seed, tokens, **AS_IT_COMES),
            "SAELens tuned": lambda seed, k=k, best=best: theirs(at, peer, k, seed, tokens, rate=best, **TUNED),
        }
        for name, side in sides.items():
            print(f"{k:3} {name:20} {in_words([judge.score(side(seed)) for seed in range(seeds)])}", flush=True)
        print("    tuned, by rate: " + ", ".join(f"{rate:g} {score.of_mean:.4f}" for rate, score in tried.items()))


def speed(at: Setting, peer: Peer, k: int, how: dict[str, float], rounds: int, tokens: int) -> None:
    """Print how many tokens a second each side trains on, as ratios of rounds in which they take turns."""

    def us() -> dict[str, float]:
        clock, processor = time.perf_counter(), time.process_time()
        ours(at, k, 0, tokens)
        return {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}

    def them() -> dict[str, float]:
        return peer.train(orders(at, k, 0, tokens, **how))

    ratios: dict[str, list[float]] = {"processor": [], "clock": []}
    for number in range(rounds):
        sides = (us, them) if number % 2 else (them, us)
        spent = {side.__name__: side() for side in sides}
        for name, found in ratios.items():
            found.append(spent["them"][name] / spent["us"][name])
    for name, found in ratios.items():
        told = f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f}, n = {len(found)})"
        print(f"tokens a second over SAELens's, k = {k}, {how}, by the {name}: {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default="", help="Python of an environment with sae-lens")
    parser.add_argument("--of", default="", help="a run of a training; without one, a small model is trained")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where that run is")
    parser.add_argument("--site", type=Site, default=Site("L0.mlp.out"))
    parser.add_argument("--k", type=int, nargs="+", default=[4, 16, 32])
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[2e-3, 4e-3, 8e-3], help="that the peer is tuned over"
    )
    parser.add_argument("--seeds", type=int, default=3, help="0 leaves out the scores")
    parser.add_argument("--rows", type=int, default=262144, help="tokens that are recorded")
    parser.add_argument("--tokens", type=int, default=512000, help="tokens of each training, drawn from these")
    parser.add_argument("--rounds", type=int, default=5, help="of the speed; 0 leaves it out")
    asked = parser.parse_args()
    if not has_saelens(asked.peer):
        print(
            "sae-lens is not here, so there is nothing to compare with: see --help for an environment, and give --peer"
        )
        return
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="etude-saelens-") as name:
        folder = Path(name)
        runs = asked.runs if asked.of else folder / "runs"
        run = Shelf(runs).find(asked.of) if asked.of else Lab(runs, threads=1, quiet=True).run(TRAIN)
        at, peer = setting(run, runs, asked.site, folder, asked.rows), Peer(asked.peer)
        print(f"torch {torch.__version__}; the peer {peer.versions}; {len(at.rows)} rows of {asked.site}")
        if asked.seeds:
            compare(at, peer, asked.k, asked.rates, asked.seeds, asked.tokens)
        for dead in (TUNED["dead"], AS_IT_COMES["dead"]) if asked.rounds else ():
            how = {**TUNED, "rate": asked.rates[0], "dead": dead}
            speed(at, peer, asked.k[len(asked.k) // 2], how, asked.rounds, asked.tokens // 2)


if __name__ == "__main__":
    main()
