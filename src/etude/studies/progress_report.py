"""The progress report: what do small decoders learn, where, and how far can their parts be squeezed?

Two decoders of two layers, one attention-only and one with feed-forward layers, learn the same text. They are compared
with what a transformer has to beat; each component is compressed by several methods over a range of sizes; their heads
are tested for previous-token and induction attention, with a one-layer model as control.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

from etude.compress.methods.base import Method
from etude.compress.methods.infovae import Infovae
from etude.compress.recipes import Compress, Latents
from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Baselines, Heads
from etude.interp.recipes import Patterns
from etude.models.architectures.decoder import Decoder
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.text.corpora.files import Files
from etude.text.corpora.pylib import Pylib
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.gpt2 import Gpt2
from etude.train.optimisers.adamw import AdamW
from etude.train.recipes import Train
from etude.train.schedule import Schedule

COMPARED = ("infovae", "kmeans", "mean", "pca", "random", "svd", "zero")

SAMPLE = (
    "The iterator returns the next item from the iterator. If the iterator has no next item,"
    " the iterator raises StopIteration."
)


@dataclass(frozen=True)
class ProgressReport(Study):
    """What do two small decoders learn from a text, in which components, and how far do these compress?

    Attributes:
        train: the decoder with feed-forward layers and how it is trained; the attention-only one differs in that alone.
        epochs: passes over the training split, in place of `train.steps`; 0 takes the steps.
        sizes: numbers of dimensions; those under a component's width are swept.
        codes: codebook sizes.
        compared: the methods of compression, by name; `compress-map` compares all there are.
        infovae: the InfoVAE, but for its size.
        fit_tokens: positions that each compressor is fitted to.
        harm_tokens: positions of the validation split that its harm is measured on.
        shown: the latent size whose latents are shown in contexts.
        sample: the text whose attention is drawn.
    """

    version: ClassVar[int] = 3  # 3: compressions are judged in parts of the text; 2: duplicate tokens, off the period

    train: Train = field(default_factory=Train)
    epochs: float = 0.0
    sizes: tuple[int, ...] = (1, 5, 10, 20, 50, 100, 200)
    codes: tuple[int, ...] = (8, 64, 512)
    compared: tuple[str, ...] = COMPARED
    infovae: Infovae = field(default_factory=Infovae)
    fit_tokens: int = 32768
    harm_tokens: int = 16384
    shown: int = 5
    sample: str = SAMPLE

    @classmethod
    def presets(cls) -> dict[str, Self]:
        short = Infovae(steps=300, batch=256)
        return {
            "quick": cls(train=_quick(), codes=(8, 32, 128), infovae=short),
            "seed": cls(train=_seed(), epochs=2.0),
        }

    def check(self) -> None:
        model = self.train.model
        if model.feedforward == 0 or model.layers < 2:
            raise UsageError(
                f"layers = {model.layers}, feedforward = {model.feedforward}: the study compares decoders of 2 or more"
                " layers, one of them with feed-forward layers; set --train.model.layers and --train.model.feedforward"
            )
        for name, given in (("sizes", self.sizes), ("codes", self.codes)):
            if len(set(given)) < len(given):
                raise UsageError(f"{name} = {given} names one twice; name each once")
        missing = {"mean", "zero", "pca", "infovae"} - set(self.compared)
        if missing:
            raise UsageError(f"compared = {self.compared} leaves out {min(missing)}, which the others are held against")
        if self.shown not in self.sizes:
            raise UsageError(f"shown = {self.shown} is not among the sizes {self.sizes}; choose one of them")
        if min(self.sizes) >= model.width:
            raise UsageError(f"sizes = {self.sizes} are none under the width of {model.width}; name a smaller one")
        context = self.train.context
        fitted = max(1, self.fit_tokens // context) * context
        if self.fit_tokens and max(self.codes, default=0) > fitted:
            raise UsageError(
                f"codes = {self.codes} are more than the {fitted} positions that they are fitted to; name fewer, or"
                f" raise fit_tokens"
            )
        read = {"harm_tokens": self.harm_tokens, "train.evaluate_tokens": self.train.evaluate_tokens}
        for name, tokens in read.items():
            if tokens and tokens < 2 * context:
                raise UsageError(
                    f"{name} = {tokens} is less than two samples of {context}, and one gives no interval;"
                    f" read {2 * context} or more, or 0 for all"
                )

    # What is wanted

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        if self.epochs and self.train.data not in done:
            return [self.train.data]
        models = self.models(done)
        # So that no core waits for the longest at the end.
        asked: list[Recipe] = [
            self.train.data,
            *sorted(models.values(), key=lambda m: -m.estimate().flops),
            self.baselines,
        ]
        asked += [Heads(model) for model in models.values()]
        for model in self.compressed(done).values():
            asked += [Patterns(model, self.sample), *self.compressions(model), *self.latents(model)]
        return asked

    def models(self, done: Mapping[Recipe, Run]) -> dict[str, Train]:
        """Return the trainings by the names that the report gives them; the last is the control."""
        full = replace(self.train, steps=self.steps(done))
        bare = replace(full, model=replace(full.model, feedforward=0))
        control = replace(bare, model=replace(bare.model, layers=1))
        return {"attention-only": bare, "with feed-forward": full, "one layer": control}

    def compressed(self, done: Mapping[Recipe, Run]) -> dict[str, Train]:
        """Return the trainings whose components are compressed."""
        return {name: model for name, model in self.models(done).items() if name != "one layer"}

    def steps(self, done: Mapping[Recipe, Run]) -> int:
        """Return the number of steps: as given, or what the epochs come to on this corpus."""
        if not self.epochs:
            return self.train.steps
        split = done[self.train.data].result["splits"]["train"]
        samples = split["documents"] if self.train.data.openings else (split["tokens"] - 1) // self.train.context
        return max(1, round(self.epochs * samples / self.train.batch))

    @property
    def baselines(self) -> Baselines:
        """The baselines, on the windows that the models are scored on."""
        return Baselines(self.train.data, self.train.context, self.train.evaluate_tokens)

    def sites(self, model: Train) -> dict[str, str]:
        """Return the activations that are compressed, each with the weight that writes it."""
        found = {f"L{i}.attn.out": f"L{i}.attn.W_O" for i in range(model.model.layers)}
        if model.model.feedforward:
            found |= {f"L{i}.mlp.out": f"L{i}.mlp.W_out" for i in range(model.model.layers)}
        return found

    def compressions(self, model: Train) -> list[Compress]:
        """Return every compression of a model: each compared method at each site, in each size that fits."""
        found = []
        for site, weight in self.sites(model).items():
            rank = model.model.width if ".attn." in site else model.model.feedforward  # the greatest of the weight
            for method in self.methods(model.model.width):
                read = {"fit_tokens": self.fit_tokens, "evaluate_tokens": self.harm_tokens}
                if method.target == "activation":
                    found.append(Compress(model, site, method, **read))
                elif method.size <= rank:
                    found.append(Compress(model, weight, method, **read))
        return found

    def methods(self, width: int) -> list[Method]:
        """Return the compared methods in each of their sizes under a width; a floor, which has none, once."""
        found = []
        for kind in (cast(type[Method], Family("compress/methods").member(name)) for name in self.compared):
            given: Method | None = self.infovae if kind is Infovae else None
            swept = self.codes if kind.counts == "codes" else [size for size in self.sizes if size < width]
            if not kind.sized:
                found.append(kind())
            else:
                found += [replace(given, **{kind.sized: n}) if given else kind(**{kind.sized: n}) for n in swept]
        return found

    def latents(self, model: Train) -> list[Latents]:
        """Return what is asked about the latents of each site's InfoVAE of the shown size."""
        wanted = replace(self.infovae, latent=self.shown)
        if self.shown >= model.model.width:
            return []
        squeezed = [c for c in self.compressions(model) if c.method == wanted]
        return [Latents(c, evaluate_tokens=self.harm_tokens) for c in squeezed]

    # What came of it

    def answer(self, done: Mapping[Recipe, Run]) -> dict[str, Any]:
        from etude.studies.sections.numbers import numbers

        return numbers(self, done)

    def tell(self, done: Mapping[Recipe, Run]) -> Report:
        from etude.studies.sections.progress import page

        return page(self, done)


def _quick() -> Train:
    """The demo: the best validation bits per byte that two cores reach with the whole study under five minutes.

    See `benchmarks/quick.md` for what was tried.
    """
    return Train(
        data=Tokens(Pylib(), BytePair(vocabulary=2048)),
        model=Decoder(layers=2, width=128, heads=4, feedforward=512, context=64, positions="rotary"),
        optimiser=AdamW(beta2=0.99),
        schedule=Schedule(peak=2e-3, warmup=160, floor=0.05),
        batch=8,
        steps=3200,
        precision="auto",
        evaluate_every=400,
    )


def _seed() -> Train:
    """The original experiment. Give it wiki40b with `--train.data.corpus.path`, GPT-2's vocabulary with
    `--train.data.tokenizer.path`; with `--train.data.openings 0` it reads windows of any other corpus."""
    return Train(
        data=Tokens(Files(), Gpt2(), openings=20),
        model=Decoder(
            layers=2,
            width=768,
            heads=12,
            feedforward=3072,
            context=20,
            positions="sinusoidal",
            norm_at="post",
            activation="relu",
            scaled_embeddings=True,
            dropout=0.1,
        ),
        optimiser=AdamW(beta1=0.9, beta2=0.98, epsilon=1e-9, weight_decay=0.0),
        schedule=Schedule(shape="noam", peak=1.0, warmup=4000),
        batch=64,
        clip=0.0,
    )
