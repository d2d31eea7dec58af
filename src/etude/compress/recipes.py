"""Recipes of compression: a component compressed, and what its latents respond to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import ClassVar, Literal

from etude.compress.checks import check_compress, check_course, check_method, check_moving, require_units_at
from etude.compress.component import input_of
from etude.compress.methods.base import Method
from etude.compress.methods.pca import Pca
from etude.core.errors import UsageError
from etude.core.recipe import Estimate, Recipe
from etude.core.run import Run
from etude.core.site import Site
from etude.evals.recipes import Record
from etude.evals.sites import is_glob, require_site, shape_of
from etude.models.recipes import ModelRecipe, shape_in
from etude.train.recipes import At, Train

ROOM = 1 << 20
"""Bytes for what a run holds besides tensors whose size is known beforehand."""


@dataclass(frozen=True)
class Compress(Recipe, kind="compress", does="etude.compress.work:compress"):
    """Compress components of a model and score the model with the compressors in place.

    It runs on the CPU, as every instrument does: only a training has a device.

    Attributes:
        of: the model, a decoder.
        site: the activation or weight that is compressed; or several, with commas between them or a glob of layers, as
            in `L*.mlp.out`. Each then has a codec of its own, fitted to the unharmed model, and all stand together.
        method: how.
        precision: bits that each number of a continuous code is held in: 32, 16, 8, 4 or 2.
        fit_tokens: positions of the training split that the compressor is fitted to; 0 all of it.
        evaluate_tokens: tokens of the validation split that the harm is measured on; 0 all of it.
        sequences: random sequences that repeat themselves on which the harm to induction is measured; 0 is none.
        seed: of whatever the method draws.
    """

    version: ClassVar[int] = 2  # 2: harm in parts of the text, costs in full

    of: ModelRecipe
    site: str = "L0.attn.out"
    method: Method = field(default_factory=Pca)
    precision: int = 32
    fit_tokens: int = 32768
    evaluate_tokens: int = 16384
    sequences: int = 32
    seed: int = 0

    def check(self) -> None:
        check_compress(self)

    def sites(self, done: Mapping[Recipe, Run]) -> tuple[Site, ...]:
        """Return the sites that are named, in the order of the layers.

        Raises:
            UsageError: a glob is of more than layers, or names none.
        """
        return tuple(dict.fromkeys(site for named in self.site.split(",") for site in self._named(named, done)))

    def _named(self, named: str, done: Mapping[Recipe, Run]) -> list[Site]:
        if not is_glob(named):
            return [require_site(self.of, named)]
        layer, _, part = named.partition(".")
        shape = shape_in(done, self.of)
        layers = [f"L{n}" for n in range(shape.layers if shape else 0)]
        found = [f"{one}.{part}" for one in layers if fnmatch(one, layer)]
        if is_glob(part) or (shape and not found):
            raise UsageError(
                f"site = {named!r} names no layers of {len(layers)}: a glob stands for layers, as in L*.mlp.out"
            )
        return [check_method(self.of, Site(site), self.method) for site in found]

    def recording(self, site: Site) -> Record:
        """Return the recording of an activation that compressors are fitted to."""
        return Record(self.of, site, self.fit_tokens)

    def reads(self, site: Site, done: Mapping[Recipe, Run]) -> Site | None:
        """Return the activation that a method reads beside or in place of what is at a site, or None."""
        if self.method.target == "component" or self.method.reads_input:
            shape = shape_in(done, self.of)
            return None if shape is None else input_of(site, shape)
        return None

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        sites = self.sites(done)
        if len(sites) > 1:
            return (self.of, self.of.text, *self.alone(done))
        read = [at for site in sites for at in (site, self.reads(site, done)) if at and not at.is_weight]
        return (self.of, self.of.text, *(self.recording(at) for at in read))

    def alone(self, done: Mapping[Recipe, Run]) -> tuple[Compress, ...]:
        """Return the compression of each site by itself, whose codecs stand together where there are several."""
        return tuple(replace(self, site=site) for site in self.sites(done))

    def estimate(self) -> Estimate:
        shape = shape_of(self.of)
        return Estimate(disk_bytes=ROOM + self.method.disk_bytes(max(shape.width, shape.feedforward) if shape else 0))


@dataclass(frozen=True)
class Composed(Recipe, kind="composed", does="etude.compress.work:composed"):
    """Put several compressions of one model into it together, each as it was fitted to the unharmed model.

    Attributes:
        parts: the compressions; of one model, no two of one site.
        evaluate_tokens: tokens of the validation split that the harm is measured on; 0 all of it.
        sequences: random sequences that repeat themselves on which the harm to induction is measured; 0 is none.
    """

    parts: tuple[Compress, ...]
    evaluate_tokens: int = 16384
    sequences: int = 32

    def check(self) -> None:
        if not self.parts or len({part.of for part in self.parts}) > 1:
            raise UsageError(f"{len(self.parts)} compressions of different models: give one or more, of one model")
        named = [site for part in self.parts for site in part.site.split(",")]
        twice = [site for site in named if named.count(site) > 1]
        if twice or any(map(is_glob, named)):
            raise UsageError(f"{(twice or named)[0]} stands for several compressors of one site: name each site once")

    @property
    def of(self) -> ModelRecipe:
        """The model."""
        return self.parts[0].of

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text, *self.parts)


@dataclass(frozen=True)
class Latents(Recipe, kind="latents", does="etude.compress.latents_work:latents"):
    """Show what each unit of a compressor's code responds to on held-out text, and what moving it does to the model. A
    unit is one number of the code, or one entry of a codebook.

    Attributes:
        of: the compression; of an activation or a component, at one site.
        contexts: how many contexts where a unit is highest, lowest, and between.
        reach: tokens shown on each side.
        most: greatest number of units that are shown: those of the greatest variance, or the entries most used.
        evaluate_tokens: tokens of the validation split that are searched; 0 all of it.
        traverse: windows of them on which units are moved, to see which logits change; 0 is none.
        clean: a prompt, in which single numbers of the code are exchanged at its last position; nothing leaves it out.
        corrupted: the prompt that they are taken from, at its last position.
        right: the token that answers the first; nothing is the likeliest there, with the code in place.
        wrong: the token that answers the second; nothing is the likeliest there.
    """

    version: ClassVar[int] = 2  # 2: units of codebooks too, middle contexts, controls, and what moving a unit does

    of: Compress
    contexts: int = 4
    reach: int = 8
    most: int = 20
    evaluate_tokens: int = 16384
    traverse: int = 4
    clean: str = ""
    corrupted: str = ""
    right: str = ""
    wrong: str = ""

    def check(self) -> None:
        require_units_at(self.of)
        for name in ("contexts", "most", "evaluate_tokens", "reach", "traverse"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is 0 or more")
        if bool(self.clean) != bool(self.corrupted):
            raise UsageError("clean and corrupted go together: give both prompts, or neither")

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.of, self.of.of.text)


@dataclass(frozen=True)
class Meaning(Recipe, kind="meaning", does="etude.compress.meaning_work:meaning"):
    """Judge whether the units of a compressor's code are easier to understand than those of what it codes, by a rule
    that is fixed beforehand (see `etude.compress.verdict`).

    Attributes:
        of: the compression; of an activation or a component, at one site.
        draws: random rotations that the units are compared with.
        evaluate_tokens: tokens of the validation split: on half of them is learned, on a quarter chosen what foretells
            a unit, and on a quarter judged; 0 all of it.
        seed: of what is drawn.
    """

    of: Compress
    draws: int = 4
    evaluate_tokens: int = 16384
    seed: int = 0

    def check(self) -> None:
        require_units_at(self.of)
        if self.draws < 1 or self.evaluate_tokens < 0:
            raise UsageError(
                f"draws = {self.draws}, evaluate_tokens = {self.evaluate_tokens}: give 1 or more, and 0 or more"
            )

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.of, self.of.of.text)


@dataclass(frozen=True)
class SeedMatch(Recipe, kind="seed-match", does="etude.compress.meaning_work:seed_match"):
    """Fit a compressor with several seeds, and match the units that each found on held-out text.

    Attributes:
        of: the compression with the first seed; of a method that draws something.
        seeds: how many, from that one up.
        draws: of each baseline.
        evaluate_tokens: tokens of the validation split that they are matched on; 0 all of it.
        seed: of the baselines.
    """

    of: Compress
    seeds: int = 3
    draws: int = 3
    evaluate_tokens: int = 16384
    seed: int = 0

    def check(self) -> None:
        require_units_at(self.of)
        if not self.of.method.drawn:
            raise UsageError(
                f"{self.of.method.name} draws nothing: every seed gives the same code; choose another method"
            )
        if self.seeds < 2 or self.draws < 1 or self.evaluate_tokens < 0:
            raise UsageError(
                f"seeds = {self.seeds}, draws = {self.draws}, evaluate_tokens = {self.evaluate_tokens}: give 2 or more,"
                " 1 or more, and 0 or more"
            )

    @property
    def fits(self) -> tuple[Compress, ...]:
        """The compression with each seed."""
        return tuple(replace(self.of, seed=self.of.seed + n) for n in range(self.seeds))

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of.of, self.of.of.text, *self.fits)


@dataclass(frozen=True)
class Tune(Recipe, kind="tune", does="etude.compress.tuned_work:tuned"):
    """Train a compressor on in its place, the model around it, or both, and score what comes of it against the model as
    it was before. Dropout is off.

    What moves begins as it was fitted. The codec moves by Adam, and so does the model. Where it is the model that
    learns the next token, it is scored beside the same model trained on for as many steps with nothing in it: what
    those steps alone do (`Continue`).

    Attributes:
        of: the compression that it goes on from; of one site or several.
        trains: what moves: the `codec`, while the model stays as it is; the `host`, the model around it; or `both`.
        objective: what is brought down: the divergence (`kl`) from the unharmed model's predictions; the `loss` of the
            next token; or, of codecs alone, the share of what stands at their sites that is lost (`activation`).
        steps: training steps; 0 is the compression itself.
        batch: windows of the training split in a step.
        rate: peak learning rate; it rises over a twentieth of the steps and falls to 0 along half a cosine.
        prior: weight, against the objective, of the discrepancy between an InfoVAE's latents and their prior; 0 lets
            them go.
        seed: of the order of the windows.
    """

    of: Compress
    trains: Literal["codec", "host", "both"] = "codec"
    objective: Literal["kl", "loss", "activation"] = "kl"
    steps: int = 300
    batch: int = 16
    rate: float = 1e-3
    prior: float = 0.0
    seed: int = 0

    def check(self) -> None:
        check_course(self.steps, self.batch, self.rate)
        check_moving(self.of, self.trains, self.prior)
        if self.objective == "activation" and self.trains != "codec":
            raise UsageError(
                f"objective = activation says nothing of what a model predicts, and trains = {self.trains} would let it"
                " forget that: choose kl or loss, or train the codec alone"
            )

    def control(self) -> Continue | None:
        """Return what the steps alone do to the model, or None where it does not move, or would not: it is at no
        distance from its own predictions."""
        if self.trains == "codec" or self.objective != "loss":
            return None
        how = {name: getattr(self, name) for name in ("steps", "batch", "rate", "seed")}
        return Continue(self.of.of, **how, evaluate_tokens=self.of.evaluate_tokens, sequences=self.of.sequences)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        control = self.control()
        return (self.of, self.of.of, self.of.of.text, *([control] if control else []))

    def estimate(self) -> Estimate:
        return self.of.estimate() if self.trains == "codec" else room_for(self.of.of)


@dataclass(frozen=True)
class Continue(Recipe, kind="continue", does="etude.compress.tuned_work:continued"):
    """Train a model on, with nothing in it, on the next token: the control of a model that was tuned around a
    compressor. It is scored against the model as it was before.

    Attributes:
        of: the model, a decoder.
        steps: training steps.
        batch: windows of the training split in a step.
        rate: peak learning rate; it rises over a twentieth of the steps and falls to 0 along half a cosine.
        seed: of the order of the windows.
        evaluate_tokens: tokens of the validation split that it is scored on; 0 all of it.
        sequences: random sequences that repeat themselves that it is scored on too; 0 is none.
    """

    of: ModelRecipe
    steps: int = 300
    batch: int = 16
    rate: float = 1e-3
    seed: int = 0
    evaluate_tokens: int = 16384
    sequences: int = 32

    def check(self) -> None:
        check_course(self.steps, self.batch, self.rate)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        return (self.of, self.of.text)

    def estimate(self) -> Estimate:
        return room_for(self.of)


@dataclass(frozen=True)
class TrainSqueezed(Recipe, kind="train-squeezed", does="etude.compress.tuned_work:trained_squeezed"):
    """Train a model anew with a compressor in it from the first step, and score it against the model that was trained
    without one: same weights at the start, same batches, schedule, optimiser and steps.

    The codec begins as its method fits it to the untrained model. It moves with the model, by Adam, at the same rate.

    Attributes:
        of: the compression of the trained model, which says where the compressor stands and how it is fitted. Its model
            is a training.
        trains: what moves: `both`, or the `host` alone around a codec that stays as it was fitted to the untrained
            model.
        prior: weight, against the loss in nats, of the discrepancy between an InfoVAE's latents and their prior.
    """

    of: Compress
    trains: Literal["both", "host"] = "both"
    prior: float = 0.0

    def check(self) -> None:
        check_moving(self.of, self.trains, self.prior)
        train = self.of.of
        if not isinstance(train, Train) or train.objective.name != "next-token":
            raise UsageError(
                "a model is trained anew from the recipe of a training on the next token: give one as --of.of"
            )
        if train.average or train.patience or train.extend:
            raise UsageError(
                "a training with average, patience or extend gives other weights than those of its last step, and is"
                " not repeated with a compressor in it: leave these out"
            )

    @property
    def train(self) -> Train:
        """The training that is repeated."""
        assert isinstance(self.of.of, Train)  # `check` saw to it
        return self.of.of

    @property
    def untrained(self) -> Compress:
        """The compression of the untrained model, whose codec it begins with."""
        return replace(self.of, of=At(self.train, 0), sequences=0)

    def plan(self, done: Mapping[Recipe, Run]) -> Iterable[Recipe]:
        started = [self.train.start] if self.train.start is not None else []
        return (self.untrained, self.train, self.train.data, *started)

    def estimate(self) -> Estimate:
        return self.train.estimate()


def room_for(model: ModelRecipe) -> Estimate:
    """Return the room that a model takes while it is trained: itself, and three checkpoints with two moments each."""
    parameters = model.estimate().parameters
    return Estimate(parameters, disk_bytes=ROOM + 4 * parameters * 10)
