"""What every recipe of a model has in common, however the model came to be; the recipes of one brought in, of one that
reads another text, and of texts that a model writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from etude.core.errors import EtudeError, UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.spec import AUTO, cosmetic
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.sampling import Sampling
from etude.models.sources import Source, fetched_folder, is_hub_name, opened
from etude.text.corpora.base import Corpus
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.file import File
from etude.text.tokenizers.gpt2 import Gpt2


@dataclass(frozen=True)
class ModelRecipe(Recipe):
    """A recipe whose run holds a model and its tokenizer: a training, a checkpoint of one, a model brought in."""

    @property
    @abstractmethod
    def text(self) -> Tokens:
        """The tokens that the model was trained on, and on which instruments look at it."""

    @property
    @abstractmethod
    def context(self) -> int:
        """Positions that the model reads at once."""

    @property
    def needs(self) -> tuple[Recipe, ...]:
        """Recipes whose runs the samples that it learned from are made of, beside the text: neighbours, say."""
        return ()

    @property
    def shape(self) -> Architecture | None:
        """The model's architecture where it is known before there is a model, or None where only its run tells."""
        return None


def shape_in(done: Mapping[Recipe, Run], model: ModelRecipe) -> Architecture | None:
    """Return a model's architecture, from the run of one brought in where it is done: its files may be gone by then."""
    model = model.of if isinstance(model, OnText) else model
    run = done.get(model) if isinstance(model, Imported) else None
    return model.shape if run is None else Architecture.from_json(run.result["architecture"])


def _own_tokens() -> Tokens:
    return Tokens(tokenizer=File())


@dataclass(frozen=True)
class Imported(ModelRecipe, kind="imported", does="etude.models.work:imported"):
    """Bring in a model from outside: a Hugging Face folder of GPT-2, GPT-NeoX (Pythia), Llama, Mistral, BERT or
    DistilBERT, with safetensors; a `.bin` of llama2.c; or the name of one on the hub.

    Attributes:
        path: the folder, file or hub name. It does not enter the fingerprint: the content does.
        sha256: identity of configuration and weights. Left at auto, it is taken from what is there; set, what is there
            must have it.
        dtype: precision of the weights that are kept; `file` has them as they come.
        positions: how many positions instruments give it at once; 0 is as many as it reads.
        data: the text on which instruments look at it, in tokens of its own. A tokenizer without a path is the one
            beside the weights.
    """

    path: str = cosmetic("")
    sha256: str = AUTO
    dtype: Literal["fp32", "bf16", "fp16", "file"] = "fp32"
    positions: int = 0
    data: Tokens = field(default_factory=_own_tokens)

    def check(self) -> None:
        if self.positions < 0:
            raise UsageError(f"positions = {self.positions}: give 0 for as many as the model reads, or a number")
        if not isinstance(self.data.tokenizer, File | Gpt2):
            raise UsageError(
                f"an imported model reads with its own tokenizer, and {self.data.tokenizer.name} makes another: use"
                " --data.tokenizer file, or gpt2"
            )

    def resolve(self) -> Self:
        tokenizer = self.data.tokenizer
        if isinstance(tokenizer, File | Gpt2) and not tokenizer.path and tokenizer.sha256 == AUTO:
            found = beside(self._place(), tokenizer)
            return replace(self, data=replace(self.data, tokenizer=found)).resolve()
        return super().resolve()

    def settle(self) -> Self:
        if self.sha256 != AUTO and self.positions:
            return self
        source = self.source()
        reads = source.reading.spec.context
        if self.positions > reads:
            raise UsageError(f"positions = {self.positions} is more than the {reads} that the model reads")
        sha256 = source.identity() if self.sha256 == AUTO else self.sha256
        return replace(self, sha256=sha256, positions=self.positions or reads)

    def source(self) -> Source:
        """Return the model's files, opened, and fetched where a hub name asks for that."""
        if not self.path:
            raise UsageError("imported needs to know what: --path FOLDER, a .bin of llama2.c, or OWNER/NAME on the hub")
        return opened(self.path)

    def _place(self) -> Path:
        """Return the folder in which the tokenizer is."""
        place = Path(self.path).expanduser()
        if not place.exists() and is_hub_name(self.path):
            return fetched_folder(self.path)[0]
        return self.source().folder

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return ()  # the text is for those who look at the model later

    def estimate(self) -> Estimate:
        try:
            reading = self.source().reading
        except EtudeError:  # the files may be gone from where a run was made of them
            return Estimate()
        parameters = reading.spec.parameters(reading.vocabulary)
        return Estimate(parameters, disk_bytes=parameters * (4 if self.dtype in ("fp32", "file") else 2))

    @property
    def text(self) -> Tokens:
        return self.data

    @property
    def context(self) -> int:
        return self.data.openings or self.positions or self.source().reading.spec.context

    @property
    def shape(self) -> Architecture | None:
        try:
            return self.source().reading.spec
        except EtudeError:  # the files may be gone from where a run was made of them
            return None


@dataclass(frozen=True)
class Planted(ModelRecipe, kind="planted", does="etude.models.work:planted_model"):
    """Make a transformer with a known circuit, its weights written by hand: a previous-token head (L0H0) and an
    induction head (L1H0) that together continue whatever was read before. What an instrument says of it can be checked.

    Attributes:
        length: the longest text, in bytes, each of which is a token.
        back: how far back L0H1 looks, which passes for induction where every period is one more; 0 has it look at all
            alike.
        data: the text on which instruments look at it, in bytes.
    """

    length: int = 48
    back: int = 0
    data: Tokens = field(default_factory=lambda: Tokens(Fable(), Byte()))

    def check(self) -> None:
        if self.length < 4 or not 0 <= self.back < self.length:
            raise UsageError(
                f"length = {self.length}, back = {self.back}: give at least 4 positions, and look back fewer than these"
            )
        if not isinstance(self.data.tokenizer, Byte):
            raise UsageError(f"the planted model reads bytes, and {self.data.tokenizer.name} makes other tokens")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return ()  # the text is for those who look at the model later

    @property
    def text(self) -> Tokens:
        return self.data

    @property
    def context(self) -> int:
        return self.data.openings or self.length

    @property
    def shape(self) -> Architecture:
        return planted_shape(self.data.tokenizer.expected_vocabulary(), self.length)


def planted_shape(vocabulary: int, context: int) -> Decoder:
    """Return the shape of a planted circuit: a stream with room for three tokens and a position side by side, and half
    of it, a head's width, for a position."""
    width = max(3 * vocabulary + context, 2 * context)
    return Decoder(
        layers=2, width=width + width % 2, heads=2, feedforward=0, context=context, norm="none", biases=False
    )


@dataclass(frozen=True)
class OnText(ModelRecipe, kind="on-text", does="etude.models.work:on_text"):
    """Have a model looked at on another text than its own, in its own tokens: whatever instrument is given this recipe
    in place of the model reads that text.

    Attributes:
        of: the model.
        corpus: the text.
    """

    of: ModelRecipe
    corpus: Corpus = field(default_factory=Fable)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of,)

    @property
    def needs(self) -> tuple[Recipe, ...]:
        return self.of.needs

    @property
    def text(self) -> Tokens:
        own = self.of.text
        return Tokens(self.corpus, own.tokenizer, own.openings, like=own)

    @property
    def context(self) -> int:
        return self.of.context

    @property
    def shape(self) -> Architecture | None:
        return self.of.shape


def beside(folder: Path, tokenizer: File | Gpt2) -> File | Gpt2:
    """Return the tokenizer in a folder: of the kind that was asked for, or GPT-2's where only its two files are."""
    has_two = all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))
    if has_two and not (folder / "tokenizer.json").is_file():
        return Gpt2(path=str(folder))
    return replace(tokenizer, path=str(folder))


@dataclass(frozen=True)
class Generate(Recipe, kind="generate", does="etude.models.written:generated"):
    """Write texts with a model: a decoder continues the prompt, an encoder-decoder writes what follows from it.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model.
        prompt: what it goes on from, or reads. Empty, it writes from nothing.
        texts: how many are written from it, each drawn by itself.
        sampling: how the next token is chosen.
        precision: `fp32`; or `bf16`, which is faster with a large model on a processor that multiplies it, and now and
            then chooses another token.
        batch: texts that are written at once.
    """

    of: ModelRecipe
    prompt: str = ""
    texts: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    precision: Literal["fp32", "bf16"] = "fp32"
    batch: int = cosmetic(16)

    def check(self) -> None:
        for name in ("texts", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is 1 or more")
        if self.texts > 1 and self.sampling.greedy:
            raise UsageError(f"texts = {self.texts} would be the same: set sampling.temperature above 0, or texts to 1")
        wrong = next((c for c in self.prompt if "\ud800" <= c <= "\udfff"), None)
        if wrong is not None:  # what a shell hands over for a byte that it cannot read
            raise UsageError(f"the prompt has {wrong!r}, which is not UTF-8; give --prompt in UTF-8")
