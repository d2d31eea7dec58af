"""Recipes of looking inside. All run on the CPU, as every instrument does: only a training has a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Drawn
from etude.evals.sites import require_activations
from etude.models.recipes import ModelRecipe

SAMPLE = "The cat sat on the mat. The cat sat on the mat."


def check_text(text: str, flag: str = "text") -> None:
    """Raise UsageError where a text is empty, or is not UTF-8."""
    if not text.strip():
        raise UsageError(f'the {flag} is empty; give one with --{flag} "…"')
    check_utf8(text, flag)


def check_utf8(text: str, flag: str) -> None:
    """Raise UsageError where a text holds what a shell hands over for a byte that it cannot read."""
    wrong = next((c for c in text if "\ud800" <= c <= "\udfff"), None)
    if wrong is not None:
        raise UsageError(f"the {flag} has {wrong!r}, which is not UTF-8; give --{flag} in UTF-8")


def check_prompts(recipe: PatchMap | PathPatches) -> None:
    """Raise UsageError where two prompts and their answers leave nothing to patch."""
    for flag in ("clean", "corrupted"):
        check_text(getattr(recipe, flag), flag)
    for flag in ("right", "wrong"):
        check_utf8(getattr(recipe, flag), flag)
    if recipe.clean == recipe.corrupted:
        raise UsageError("clean and corrupted are the same text: change what matters in one of them")


@dataclass(frozen=True)
class Patterns(Recipe, kind="patterns", does="etude.interp.work:patterns"):
    """Read what every head attends to on a text. It runs on the CPU, as every instrument does.

    Attributes:
        of: the model.
        text: what it reads; of a text longer than its context, the beginning. An encoder reads it framed, as when it
            was trained on documents; an encoder-decoder is read as it writes it.
        source: what an encoder-decoder reads to write the text; nothing for any other model.
    """

    of: ModelRecipe
    text: str = SAMPLE
    source: str = ""

    def check(self) -> None:
        check_text(self.text)
        if self.source:
            check_text(self.source, "source")


@dataclass(frozen=True)
class TunedLens(Recipe, kind="tuned-lens", does="etude.interp.lens_work:tuned_lens"):
    """Train the tuned lens of a decoder: an affine translator for each layer, so that reading a layer by the final norm
    and the unembedding says what the model will predict (Belrose et al. 2023).

    Attributes:
        of: the model.
        steps: of the training.
        batch: windows of the training split in a step.
        rate: Adam's, which falls to 0 over the steps.
        evaluate_tokens: tokens of the validation split that the lenses are compared on; 0 all of it.
        seed: of the order of the windows.
    """

    of: ModelRecipe
    steps: int = 300
    batch: int = 16
    rate: float = 1e-3
    evaluate_tokens: int = 8192
    seed: int = 0

    def check(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.rate <= 0 or self.evaluate_tokens < 0:
            raise UsageError(
                f"steps = {self.steps}, batch = {self.batch}, rate = {self.rate}, evaluate_tokens ="
                f" {self.evaluate_tokens}: the first two are 1 or more, the rate is above 0, the last 0 or more"
            )

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)


@dataclass(frozen=True)
class Lens(Recipe, kind="lens", does="etude.interp.lens_work:lens_table"):
    """Read a text's every layer through a lens: what the model would predict if it ended there.

    Attributes:
        of: the model.
        text: what it reads.
        top: how many of the likeliest tokens are kept for each layer and position.
        tuned: steps of training of a tuned lens; 0 is the logit lens, which needs none.
    """

    of: ModelRecipe
    text: str = SAMPLE
    top: int = 3
    tuned: int = 0

    def check(self) -> None:
        check_text(self.text)
        if self.top < 1 or self.tuned < 0:
            raise UsageError(f"top = {self.top}, tuned = {self.tuned}: give 1 or more tokens, and 0 or more steps")

    @property
    def lens(self) -> TunedLens | None:
        """The tuned lens, where one is asked for."""
        return TunedLens(self.of, steps=self.tuned) if self.tuned else None

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return tuple(r for r in (self.of, self.lens) if r is not None)


@dataclass(frozen=True)
class Attribute(Recipe, kind="attribute", does="etude.interp.lens_work:attributed"):
    """Divide one logit among all that wrote it: embedding, position, heads by where they looked, neurons, biases
    (direct logit attribution). Beside it, how much each token of the text moved it (integrated gradients).

    Attributes:
        of: the model.
        text: what it reads.
        position: where the prediction is made; negative ones count from the end.
        token: whose logit, as text; nothing is the likeliest there.
        versus: a token whose logit is subtracted, as text; nothing subtracts the mean logit of the vocabulary.
        neurons: how many of the strongest neurons are named.
    """

    of: ModelRecipe
    text: str = SAMPLE
    position: int = -1
    token: str = ""
    versus: str = ""
    neurons: int = 10

    def check(self) -> None:
        check_text(self.text)
        check_utf8(self.token, "token")
        check_utf8(self.versus, "versus")
        if self.neurons < 0:
            raise UsageError(f"neurons = {self.neurons}: give 0 or more")


PatchKind = Literal["resid", "attn", "mlp", "head", "head-position"]


@dataclass(frozen=True)
class PatchMap(Recipe, kind="patch-map", does="etude.interp.patch_work:mapped"):
    """Exchange one activation after the other between two runs, and measure how far each brings the answer back
    (activation patching).

    Attributes:
        of: the model.
        clean: a prompt that the model answers rightly.
        corrupted: the same with what matters changed: as many tokens.
        right: the token that answers the clean prompt; nothing is the likeliest there.
        wrong: the token that answers the corrupted one; nothing is the likeliest there.
        what: `resid`, `attn`, `mlp` by layer and position; `head` by layer and head; `head-position` by all three.
        noising: put corrupted activations into the clean run, instead of clean ones into the corrupted run.
        estimated: also estimate the map from one gradient (attribution patching).
        measure: `difference` of the two answers' logits; `probability`, the log-probability of the right one; or `kl`,
            the divergence from the clean run's prediction.
    """

    of: ModelRecipe
    clean: str
    corrupted: str
    right: str = ""
    wrong: str = ""
    what: PatchKind = "resid"
    noising: bool = False
    estimated: bool = False
    measure: Literal["difference", "probability", "kl"] = "difference"

    def check(self) -> None:
        check_prompts(self)
        if self.measure == "kl" and self.noising and self.estimated:
            raise UsageError(
                "the divergence from the clean run has no slope at the clean run itself, so noising cannot be estimated"
                " by it: set --measure difference, or leave out --estimated"
            )


@dataclass(frozen=True)
class PathPatches(Recipe, kind="path-patches", does="etude.interp.patch_work:paths"):
    """Exchange what one head wrote on its way to one reader alone, all else held still (path patching).

    Attributes:
        of: the model.
        clean: a prompt that the model answers rightly.
        corrupted: the same with what matters changed: as many tokens.
        receiver: what reads: `q`, `k` or `v` of a head as in `L1H0.k`, or `logits`. Heads that share their keys and
            values read the change together.
        right: the token that answers the clean prompt; nothing is the likeliest there.
        wrong: the token that answers the corrupted one; nothing is the likeliest there.
        noising: put corrupted activations into the clean run, instead of clean ones into the corrupted run.
    """

    of: ModelRecipe
    clean: str
    corrupted: str
    receiver: str = "logits"
    right: str = ""
    wrong: str = ""
    noising: bool = False

    def check(self) -> None:
        check_prompts(self)


@dataclass(frozen=True)
class HeadCircuits(Recipe, kind="head-circuits", does="etude.interp.circuit_work:circuits"):
    """Read every head's circuits off the weights, made plain first: copying scores, the token pairs that QK and OV join
    most, singular values, and Q-, K- and V-composition beside random heads.

    Attributes:
        of: the model.
        pairs: how many token pairs of each circuit are kept.
        draws: random heads that the composition's baseline is the mean of.
        seed: of the random heads.
    """

    of: ModelRecipe
    pairs: int = 8
    draws: int = 16
    seed: int = 0

    def check(self) -> None:
        if self.pairs < 1 or self.draws < 1:
            raise UsageError(f"pairs = {self.pairs}, draws = {self.draws}: both are 1 or more")


@dataclass(frozen=True)
class Paths(Recipe, kind="paths", does="etude.interp.circuit_work:paths"):
    """Divide an attention-only model's predictions among its paths: the direct one, each head alone, virtual heads of
    several (path expansion), on held-out windows.

    Attributes:
        of: the model.
        windows: how many of the validation split.
        most: paths beyond which it is refused.
    """

    of: ModelRecipe
    windows: int = 16
    most: int = 4096

    def check(self) -> None:
        if self.windows < 1 or self.most < 1:
            raise UsageError(f"windows = {self.windows}, most = {self.most}: both are 1 or more")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)


@dataclass(frozen=True)
class HeadAblation(Recipe, kind="head-ablation", does="etude.interp.circuit_work:ablation"):
    """Take each head out, and a chosen set together, and measure the loss on repeated random tokens where the answer
    has been seen.

    Attributes:
        of: the model.
        how: what stands in for the head: zeros, its mean over texts and positions, or what it did on another text. A
            large model reads some texts at a time, and both are then of these.
        group: heads that are taken out at once, as in `L1H0`; beside them as many others, as a placebo.
        sequences: how many random sequences.
        drawn: tokens that they are made of, as for `heads`.
        seed: of the sequences, the resampling and the placebo.
    """

    version: ClassVar[int] = 1

    of: ModelRecipe
    how: Literal["zero", "mean", "resample"] = "mean"
    group: tuple[str, ...] = ()
    sequences: int = 128
    drawn: Drawn = "vocabulary"
    seed: int = 0

    def check(self) -> None:
        if self.sequences < 2:
            raise UsageError(f"sequences = {self.sequences} is too small: it is 2 or more")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text) if self.drawn == "text" else (self.of,)


@dataclass(frozen=True)
class Steer(Recipe, kind="steer", does="etude.interp.steer_work:steered"):
    """Add the direction from one group of prompts to another at a site, ever more strongly, and measure an answer,
    beside random directions of the same length (activation addition; difference of means).

    Attributes:
        of: the model.
        towards: prompts whose activations are steered towards, read at their last position.
        away: prompts that are steered away from.
        texts: what is answered while the direction is added at every position; as many tokens each.
        right: the token whose logit is measured there, as text.
        wrong: the token whose logit is subtracted; nothing subtracts the mean of all.
        site: where, as in `L0.resid.post`.
        strengths: what the direction is multiplied by.
        placebos: how many random directions.
        seed: of these.
    """

    of: ModelRecipe
    towards: tuple[str, ...]
    away: tuple[str, ...]
    texts: tuple[str, ...]
    right: str
    wrong: str = ""
    site: str = "L0.resid.post"
    strengths: tuple[float, ...] = (-2.0, -1.0, 0.5, 1.0, 2.0, 4.0)
    placebos: int = 20
    seed: int = 0

    def check(self) -> None:
        for flag in ("towards", "away", "texts"):
            if not getattr(self, flag):
                raise UsageError(f'no {flag}: give one or more texts with --{flag} "…"')
            for one in getattr(self, flag):
                check_text(one, flag)
        check_utf8(self.right, "right")
        check_utf8(self.wrong, "wrong")
        require_activations(self.of, self.site)
        if self.placebos < 1 or not self.strengths:
            raise UsageError(f"placebos = {self.placebos}, strengths = {self.strengths}: give at least one of each")
