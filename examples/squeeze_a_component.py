"""Put a narrow bottleneck in place of one component of a trained model, and see what the loss says.

Run it anywhere: python examples/squeeze_a_component.py
"""

import etude
from etude.compress.methods.infovae import Infovae
from etude.compress.methods.mean import Mean
from etude.compress.methods.pca import Pca
from etude.compress.recipes import Compress
from etude.models.architectures.decoder import Decoder
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.train.recipes import Train


def main() -> None:
    fables = Tokens(corpus=Fable(stories=500), tokenizer=BytePair(vocabulary=512))
    model = Train(data=fables, model=Decoder(layers=2, width=64, feedforward=256, context=64), steps=200, batch=16)

    methods = [Mean(), *(m for n in (1, 4, 16) for m in (Pca(n), Infovae(n, steps=200)))]
    recipes = [Compress(model, "L0.mlp.out", m, fit_tokens=4096, evaluate_tokens=4096) for m in methods]
    runs = etude.Lab("runs").run_all(recipes)  # trains the model once, records its activations once

    print("method    numbers   rise in loss (nats per token, 95%)")
    for run in runs:
        rise = run.result["harm"]["increase"]
        size = run.result["size"]
        print(f"{run.result['method']:9} {size:7}   {rise['mean']:+.4f} [{rise['low']:+.4f}, {rise['high']:+.4f}]")


if __name__ == "__main__":
    main()
