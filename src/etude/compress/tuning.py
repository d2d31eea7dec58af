"""Trains codecs that stand in a model, the model around them, or both: end to end, on what the model then says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from etude.compress.codec import Codec
from etude.compress.compressor import Compressor, Part
from etude.compress.methods.infovae import Infovae
from etude.compress.prior import mmd_to_normal
from etude.compress.rounded import Rounded
from etude.core.errors import UsageError
from etude.core.run import Draft
from etude.core.seeds import stream
from etude.core.site import Site
from etude.evals.loss import Live, batch_for, live
from etude.models.transformer import Transformer
from etude.nn.precision import autocast
from etude.text.batches import IGNORE, Examples, Sampler
from etude.train.checkpoint import State
from etude.train.loop import advance
from etude.train.optimisers.adamw import AdamW
from etude.train.optimisers.base import Optimiser
from etude.train.schedule import Schedule

MAPS = ("centre", "offset", "down", "up", "left", "right")
"""Buffers that are maps: what a codec without parameters of its own learns with. Others are statistics of the data."""


@dataclass(frozen=True)
class Course:
    """How a training goes.

    Attributes:
        trains: `codec`, `host` or `both`.
        objective: `loss` of the next token; `kl` from the teacher's predictions; or `activation`, the share of what
            stands at the sites that the codecs lose, which no model has a part in.
        steps: how many.
        batch: windows in a step.
        seed: of the order of the windows, and of dropout.
        schedule: the rate at each step, of all that moves.
        optimiser: of the host; codecs move by Adam.
        clip: greatest norm of the gradient; 0 does not clip.
        prior: weight, against the objective, of what a method asks of its code beside it.
        dropout: whether the host drops out as its shape says.
        precision: of matrix products, `fp32` or `bf16`.
    """

    trains: str
    objective: str
    steps: int
    batch: int
    seed: int
    schedule: Schedule
    optimiser: Optimiser = field(default_factory=lambda: AdamW(weight_decay=0.0))
    clip: float = 1.0
    prior: float = 0.0
    dropout: bool = False
    precision: str = "fp32"


def trainable(codec: Codec) -> list[Tensor]:
    """Return the tensors of a codec that training moves: its parameters or, where it has none, its buffers that are
    maps (`MAPS`).

    Raises:
        UsageError: its code is not of numbers, so that no gradient passes through it, or there is nothing to move.
    """
    if isinstance(codec, Rounded) or codec.cost().dimensions is None:
        raise UsageError(
            f"no gradient passes through the code of {type(codec).__name__}, which is not of numbers: tune the host"
            " around it, or a codec of numbers at a precision of 32"
        )
    named = list(codec.named_parameters()) or [
        (name, buffer) for name, buffer in codec.named_buffers() if name.rpartition(".")[2] in MAPS
    ]
    found = [tensor for _, tensor in named if tensor.is_floating_point() and tensor.numel()]
    if not found:
        raise UsageError(f"{type(codec).__name__} holds no map that a gradient could move: tune the host around it")
    return found


def divergence(certain: Float[Tensor, "N V"], scores: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """Return the Kullback–Leibler divergence in nats from the predictions of a teacher's scores to those of others."""
    before, after = certain.log_softmax(-1), scores.log_softmax(-1)
    return (before.exp() * (before - after)).sum(-1)


def lost_share(
    x: Float[Tensor, "*N D"], y: Float[Tensor, "*N D"], kept: Bool[Tensor, "*N"] | None
) -> Float[Tensor, ""]:
    """Return the share of an activation's variance about its mean, over the positions that are kept, that is lost in
    `y`; without positions, as of a weight, that of its squares. The gradient is that of `y` alone."""
    x = x.detach()
    x, y = (x, y) if kept is None else (x[kept], y[kept])
    about = x if kept is None else x - x.mean(0)
    return ((x - y) ** 2).sum() / (about**2).sum().clamp_min(torch.finfo(torch.float32).tiny)


class Tuner:
    """Trains the codecs of a compressor in a host, the host, or both. A codec's tensors keep their names.

    Args:
        host: the model that they stand in. It is changed where the course trains it, and else as it was.
        compressor: the codecs, which are changed where the course trains them; without any the host is trained alone.
        examples: the training split.
        course: how.
        teacher: the unharmed model, in evaluation mode, for the objective `kl`; it may be the host where that is not
            trained.

    Raises:
        UsageError: a codec cannot be trained, none has a prior where one is weighed, or the teacher is missing.
    """

    def __init__(
        self,
        host: Transformer,
        compressor: Compressor,
        examples: Examples,
        course: Course,
        teacher: Transformer | None = None,
    ) -> None:
        self.host, self.compressor, self.examples, self.course, self.teacher = (
            host,
            compressor,
            examples,
            course,
            teacher,
        )
        self.codecs = nn.ModuleList(part.codec for part in compressor.parts.values())
        self.moving: list[Tensor] = []
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        if course.trains != "codec":
            self.optimisers["host"] = course.optimiser.build(host)
            self.moving += host.parameters()
        if course.trains != "host":
            maps = [tensor for part in compressor.parts.values() for tensor in trainable(part.codec)]
            self.optimisers["codec"] = torch.optim.Adam(maps, lr=0.0, fused=True)
            self.moving += maps
        if course.prior and not any(isinstance(part.method, Infovae) for part in compressor.parts.values()):
            raise UsageError(f"prior = {course.prior}: none of these codecs has a prior; set it to 0, or use infovae")
        if course.objective == "kl" and teacher is None:
            raise UsageError("the objective kl is a distance from the unharmed model: give it as the teacher")
        self.sampler = Sampler(len(examples), course.batch, stream(course.seed, "order"))
        self._sites: dict[Site, tuple[Tensor, Tensor]] = {}

    def step(self, number: int) -> dict[str, Any]:
        """Take one step: the gradient of the batch's mean objective, clipped, then each optimiser at the step's rate.

        Returns:
            `loss`, the objective before the step, in nats or as a share.
        """
        course, device = self.course, next(self.host.parameters()).device
        batch = live(self.examples.batch(self.sampler.indices(number), draw=number), device)
        count = max(1, int((batch.targets != IGNORE).sum()))
        torch.manual_seed(stream(course.seed, "dropout", number))
        self.host.train(course.dropout)
        for tensor in self.moving:
            tensor.grad = None
        loss = 0.0
        for part in _parts(batch, batch_for(self.host.vocabulary, self.examples.context)):
            found = self._objective(part, count)
            found.backward()
            loss += found.item()
        self.host.eval()
        norm, rate = self._clipped(), course.schedule.rate(number, course.steps, self.host.spec.width)
        if math.isfinite(norm) and math.isfinite(loss):  # else the loop stops, and what moves is still whole
            self._move(rate)
        return {"loss": loss, "gradient_norm": norm, "learning_rate": rate}

    def _objective(self, text: Live, count: int) -> Float[Tensor, ""]:
        """Return a part of a batch's share of the objective; `count` is of the whole batch."""
        scored = text.targets != IGNORE
        certain = None
        if self.course.objective == "kl" and self.teacher is not None:
            with torch.no_grad():
                certain = self.teacher(text.inputs, **text.given)[scored].float()
        self._sites.clear()
        with (
            self.compressor.standing(self.host, self._observe),
            autocast(text.inputs.device, self.course.precision),
        ):
            scores = self.host(text.inputs, **text.given)[scored].float()
        share = scored.sum() / count
        if self.course.objective == "activation":
            lost = [lost_share(x, y, None if at.is_weight else scored) for at, (x, y) in self._sites.items()]
            return torch.stack(lost).sum() * share + self._prior(scored) * share
        each = divergence(certain, scores) if certain is not None else _surprise(scores, text.targets[scored])
        return each.sum() / count + self._prior(scored) * share

    def _observe(self, site: Site, before: Tensor, after: Tensor) -> None:
        self._sites[site] = before, after

    def _prior(self, scored: Bool[Tensor, "B T"]) -> Tensor | float:
        """Return what the codes owe to their priors, weighed."""
        if not self.course.prior:
            return 0.0
        parts = ((site, part) for site, part in self.compressor.parts.items() if isinstance(part.method, Infovae))
        return self.course.prior * torch.stack([_owed(part, self._sites[s][0][scored]) for s, part in parts]).sum()

    def _clipped(self) -> float:
        """Clip the gradients of all that moves, and return their norm before that."""
        given = [tensor for tensor in self.moving if tensor.grad is not None]
        norm = nn.utils.get_total_norm([tensor.grad for tensor in given if tensor.grad is not None])
        if self.course.clip:
            nn.utils.clip_grads_with_norm_(given, self.course.clip, norm)
        return float(norm)

    def _move(self, rate: float) -> None:
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate * group.get("multiplier", 1.0)
            optimiser.step()

    def state(self) -> State:
        """Return what moves, and the optimisers' state. Batches, dropout and the rate follow from a step's number."""
        parts = {name: State.of(optimiser, it=self._module(name)) for name, optimiser in self.optimisers.items()}
        return State({f"{name}/{key}": value for name, state in parts.items() for key, value in state.tensors.items()})

    def load(self, state: State) -> None:
        """Go back to a state."""
        for name, optimiser in self.optimisers.items():
            State(state.under(f"{name}/")).load_into(optimiser, it=self._module(name))

    def _module(self, name: str) -> nn.Module:
        return self.host if name == "host" else self.codecs

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Have what moves ask for gradients while the context is open, and nothing else; then nothing does that did not
        before."""
        held = [*self.host.parameters(), *self.codecs.parameters(), *self.moving]
        asked = [tensor.requires_grad for tensor in held]
        try:
            for tensor in held:
                tensor.requires_grad_(False)
            for tensor in self.moving:
                tensor.requires_grad_(True)
            yield
        finally:
            for tensor, before in zip(held, asked, strict=True):
                tensor.requires_grad_(before)
                tensor.grad = None


def tune(tuner: Tuner, run: Draft) -> None:
    """Take a tuner through its course. A run that was stopped goes on exactly.

    Args:
        tuner: what is trained.
        run: where rows and checkpoints go.
    """
    course = tuner.course
    with tuner.asking():
        advance(
            tuner,
            run,
            steps=course.steps,
            log_every=max(1, course.steps // 50),
            per_step=course.batch * tuner.examples.context,
        )


def _surprise(scores: Float[Tensor, "N V"], targets: Tensor) -> Float[Tensor, " N"]:
    return nn.functional.cross_entropy(scores, targets, reduction="none")


def _owed(part: Part, x: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return how far an InfoVAE's code is from its prior."""
    assert isinstance(part.method, Infovae)
    return mmd_to_normal(part.codec.encode(x), part.method.bandwidth)


def _parts(batch: Live, size: int) -> Iterator[Live]:
    """Yield a batch in parts, so that no more scores are held at once than in an evaluation."""
    for start in range(0, len(batch.inputs), size):
        rows = slice(start, start + size)
        yield Live(batch.inputs[rows], batch.targets[rows], {name: t[rows] for name, t in batch.given.items()})
