"""Memory and time of compressing a component of a larger model: distilGPT-2's shape, weights drawn.

The model is written as another library would have written it, brought in, and compressed at L3.mlp.out, with PCA and
with an InfoVAE, each in a process of its own, whose greatest resident set is printed (Linux: `ru_maxrss`). The text is
WikiText-2 in GPT-2's tokens, of which there are 50,257: the scores of one window of 1,024 take 206 MB.

    python benchmarks/squeeze_memory.py [--data ../shared/data] [--fit-tokens 8192] [--evaluate-tokens 4096]

21 November 2026, torch 2.13.0+cpu: PCA 1.73 GiB; InfoVAE 1.73 GiB (4,096 tokens fitted, 2,048 and 4 sequences scored).
What took memory before: the repeated sequences were scored all at once, which is 6.6 GB of scores for 32 of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAR_GIB = 4.0


def written(folder: Path, data: Path) -> Path:
    """Write a model of distilGPT-2's shape with GPT-2's tokenizer into a folder, in Hugging Face's format."""
    from safetensors.torch import save_file

    from etude.models.architectures.decoder import Decoder
    from etude.models.outgoing import format_for, weights_of

    spec = Decoder(layers=6, width=768, heads=12, feedforward=3072, context=1024, activation="gelu-tanh", tied=True)
    chosen, config = format_for(spec, 50257)
    save_file(weights_of(spec.build(50257, seed=1), chosen), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    for ours, theirs in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        (folder / ours).write_bytes((data / "gpt2-bpe" / theirs).read_bytes())
    return folder


def compress(model: Path, data: Path, runs: Path, method: str, numbers: dict[str, int]) -> None:
    """Compress in this process, and print what it took."""
    from etude.compress.methods.infovae import Infovae
    from etude.compress.methods.pca import Pca
    from etude.compress.recipes import Compress
    from etude.core.lab import Lab
    from etude.models.recipes import Imported
    from etude.text.corpora.wikitext import Wikitext
    from etude.text.recipes import Tokens
    from etude.text.tokenizers.gpt2 import Gpt2

    text = Tokens(Wikitext(path=str(data / "wikitext-2")), Gpt2(path=str(model)))
    how = Pca(20) if method == "pca" else Infovae(latent=20)
    host = Imported(path=str(model), data=text)
    recipe = Compress(host, "L3.mlp.out", how, **numbers)
    began = time.perf_counter()
    run = Lab(runs, threads=1, quiet=True).run(recipe)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    harm = run.result["harm"]
    print(
        f"{method:8} {peak:5.2f} GiB  {time.perf_counter() - began:6.1f} s  KL {harm['kl']['mean']:.2e} nats",
        flush=True,
    )
    if peak > BAR_GIB:
        raise SystemExit(f"{method}: {peak:.2f} GiB is over the bar of {BAR_GIB}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--fit-tokens", type=int, default=8192)
    parser.add_argument("--evaluate-tokens", type=int, default=4096)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--methods", nargs="+", default=["pca", "infovae"])
    parser.add_argument("--inside", nargs=3, metavar=("MODEL", "RUNS", "METHOD"))
    asked = parser.parse_args()
    numbers = {name: getattr(asked, name) for name in ("fit_tokens", "evaluate_tokens", "sequences")}
    if asked.inside:
        model, runs, method = asked.inside
        compress(Path(model), asked.data, Path(runs), method, numbers)
        return
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as runs:
        written(Path(model), asked.data)
        given = [word for name, n in numbers.items() for word in (f"--{name.replace('_', '-')}", str(n))]
        for method in asked.methods:
            inside = ["--inside", model, runs, method]
            subprocess.run([sys.executable, __file__, "--data", str(asked.data), *given, *inside], check=True)


if __name__ == "__main__":
    main()
