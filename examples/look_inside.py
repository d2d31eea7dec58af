"""Train a small decoder on fables, look at its attention, and see what its parts are for.

Run it anywhere: python examples/look_inside.py
"""

import math

import torch

import etude
from etude.models.architectures.decoder import Decoder
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.train.recipes import Train


def main() -> None:
    fables = Tokens(corpus=Fable(stories=500), tokenizer=BytePair(vocabulary=512))
    recipe = Train(data=fables, model=Decoder(layers=2, width=64, feedforward=256, context=64), steps=200, batch=16)
    run = etude.Lab("runs").run(recipe)  # done once; the second time it is there
    print(f"{run.id}: {run.result['validation']['bits_per_byte']['mean']:.3f} bits per byte")

    model, tokenizer = etude.load(run)
    ids = tokenizer.encode("Once upon a time there was a small fox. The small fox")[:64]
    tokens = torch.tensor([ids])

    for site, shape in model.sites("L1.attn.*").items():
        print(site, *shape)

    pattern = etude.look(model, tokens, "L1.attn.pattern")["L1.attn.pattern"]
    strongest = pattern[0, :, -1].argmax(-1)  # for each head, where the last token looks
    for head, source in enumerate(strongest.tolist()):
        print(f"L1H{head} looks from {tokenizer.piece(ids[-1])!r} to {tokenizer.piece(ids[source])!r}")

    def loss() -> float:
        logits = model(tokens)[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()

    with torch.no_grad():
        whole = loss()
        print(f"the whole model: {whole:.3f} nats per token (even guessing: {math.log(tokenizer.vocabulary):.3f})")
        for site in model.sites("L*.*.out"):
            if "norm" not in site:
                with model.tapped({site: torch.zeros_like}):
                    print(f"without {site}: {loss() - whole:+.3f}")


if __name__ == "__main__":
    main()
